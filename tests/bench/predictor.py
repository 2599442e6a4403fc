"""A latency predictor of a device from few networks, held against networks that it was not fitted to.

    python tests/bench/predictor.py mobile --runtime openvino [--networks 10 20 50] [--seconds 60]

Times 50 networks of a space, their layers, and 20 others by a runtime, and fits predictors to the first 10,
20 and 50 with the layers of as many. The 20 are timed twice: no predictor can seem better than that.
Whether times of other devices help: `transfer.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from predictor_times import CHANNELS, CLASSES, ways_of

from dynnas.language.parser import load_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.fitting import PIECES_FOR_EACH
from dynnas.latency.predictor.layers import ExitPath, piece_workload
from dynnas.latency.predictor.predictor import Agreement, LatencyPredictor
from dynnas.latency.rounds import TimingPlan
from dynnas.nn.networks.layer_features import Piece
from dynnas.settings.settings import TargetSettings

HELD_OUT = 20


def pieces_in(ways: Sequence[ExitPath]) -> list[Piece]:
    return list(dict.fromkeys(piece for way in ways for piece in way.pieces))[: PIECES_FOR_EACH * len(ways)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space")
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    space = load_space(args.space)
    target = TargetSettings(runtime=args.runtime, threads=args.threads)
    meter = LatencyMeter(target, build_anchors(space, target, CHANNELS, CLASSES))
    most = max(args.networks)
    every = ways_of(space, most + HELD_OUT, args.seed)
    ways, others = every[:most], every[most:]
    pieces = pieces_in(ways)
    held_out = [way.workload(target) for way in others]
    workloads = [piece_workload(piece, target) for piece in pieces] + [way.workload(target) for way in ways]
    times = meter.time([*workloads, *held_out], TimingPlan(args.seconds))
    again = meter.time(held_out, TimingPlan(args.seconds / 4, seed=1))
    alone, truth = dict(zip(pieces, times, strict=False)), times[-HELD_OUT:]
    print("| networks | layers | Kendall's tau | within 10% | median error |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in args.networks:
        chosen = [piece for piece in pieces_in(ways[:count]) if piece in alone]
        piece_times = np.array([alone[piece] for piece in chosen])
        way_times = times[len(pieces) : len(pieces) + count]
        fitted = LatencyPredictor.fit(chosen, piece_times, ways[:count], way_times, "bench")
        predicted = np.array([fitted.predict(way.config)[way.exit] for way in others])
        show(str(count), str(len(chosen)), Agreement.of(predicted, np.sqrt(truth * again)))
    show("measured again", "", Agreement.of(again, truth))


def show(networks: str, layers: str, found: Agreement) -> None:
    cells = (f"{found.kendall_tau:.3f}", f"{found.within_10:.0%}", f"{found.median_error:.1%}")
    print("|", " | ".join((networks, layers, *cells)), "|")


if __name__ == "__main__":
    main()
