"""Times of the layers and networks of spaces on unlike devices, for comparing ways to calibrate another one.

    python tests/bench/predictor_times.py mobile fashion cifar10 --out studies/latency/results-devices.json

Each runtime counts as a device. Networks and layers are random but always the same ones, so that the file
holds times alone; `transfer.py` reads it. Each device is timed by itself, in two turns: layers and networks
in the same rounds, as multiples of two anchors of the space. What a runtime cannot run is `null`.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.errors import DynnasError
from dynnas.files import atomic_write
from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.latency.anchors import build_anchors
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.layers import ExitPath, piece_workload
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.nn.networks.layer_features import Piece
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import sample

NETWORKS, MOST_PIECES = 72, 200
CHANNELS, CLASSES = 3, 10
TURNS = 2

DEVICES = {
    "onnxruntime": TargetSettings(runtime="onnxruntime"),
    "onnxruntime_portable": TargetSettings(runtime="onnxruntime_portable"),
    "openvino": TargetSettings(runtime="openvino"),
    "torch": TargetSettings(runtime="torch"),
    "torch, bfloat16": TargetSettings(runtime="torch", dtype="bfloat16"),
    "ncnn": TargetSettings(runtime="ncnn"),
}


@dataclass
class Timed:
    """A space with the times of its parts on several devices, in milliseconds; NaN is what could not run.

    Attributes:
        ways: paths through its networks. pieces: layers of theirs.
        piece_ms: (pieces,) by device. way_ms: (turns, ways) by device.
    """

    ways: list[ExitPath]
    pieces: list[Piece]
    piece_ms: dict[str, np.ndarray] = field(default_factory=dict)
    way_ms: dict[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def of(space: StudySpace) -> Timed:
        """The networks and layers of a space that are timed."""
        ways = ways_of(space, NETWORKS, seed=0)
        return Timed(ways, list(dict.fromkeys(piece for way in ways for piece in way.pieces))[:MOST_PIECES])


def ways_of(space: StudySpace, count: int, seed: int) -> list[ExitPath]:
    """Paths through different random networks, each by one of its exits."""
    rng = random.Random(seed)
    drawn = dict.fromkeys(sample(space, rng) for _ in range(20 * count))
    configs = [space.network_config(each, CHANNELS, CLASSES) for each in list(drawn)[:count]]
    return [ExitPath.of(config, rng.randint(0, len(config.exits))) for config in configs]


def load_times(path: Path) -> dict[str, Timed]:
    """The spaces of a file that `main` wrote, by name."""
    found = {}
    for name, devices in json.loads(path.read_text()).items():
        timed = found[name] = Timed.of(load_space(f"spaces/{name}.yaml"))
        for device, ms in devices.items():
            timed.piece_ms[device] = np.array(ms["layers"], dtype=float)
            timed.way_ms[device] = np.array(ms["networks"], dtype=float)
    return found


def time_device(space: StudySpace, timed: Timed, target: TargetSettings, seconds: float) -> dict[str, Any]:
    """Milliseconds of the layers and of the networks, the latter once in each turn."""
    workloads = [_built(part, target) for part in (*timed.pieces, *timed.ways)]
    runnable = [each for each in workloads if each is not None]
    meter = LatencyMeter(target, build_anchors(space, target, CHANNELS, CLASSES))
    turns = []
    for turn in range(TURNS):
        ratios = iter(meter.time(runnable, TimingPlan(seconds / TURNS, seed=turn)))
        scaled = [None if each is None else next(ratios) * meter.reference.anchor_ms for each in workloads]
        turns.append(np.array(scaled, dtype=float))
    count = len(timed.pieces)
    layers = np.exp(np.mean(np.log([turn[:count] for turn in turns]), axis=0))
    return {"layers": _rounded(layers), "networks": [_rounded(turn[count:]) for turn in turns]}


def _built(part: Piece | ExitPath, target: TargetSettings) -> Workload | None:
    try:
        return part.workload(target) if isinstance(part, ExitPath) else piece_workload(part, target)
    except DynnasError:
        return None


def _rounded(ms: Sequence[float] | np.ndarray) -> list[float | None]:
    return [float(f"{each:.4g}") if np.isfinite(each) else None for each in ms]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spaces", nargs="+")
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=list(DEVICES))
    parser.add_argument("--seconds", type=float, default=20.0, help="for a space on a device")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.spaces:
        space = load_space(f"spaces/{name}.yaml")
        timed = Timed.of(space)
        for device in args.devices:
            print(f"{name}: {len(timed.pieces)} layers, {len(timed.ways)} networks by {device}", flush=True)
            ms = time_device(space, timed, DEVICES[device], args.seconds)
            found.setdefault(name, {})[device] = ms
            atomic_write(args.out, json.dumps(found))


if __name__ == "__main__":
    main()
