"""How many operators an image starts in networks that decide for it, in the graph that ships.

    python tests/bench/gate_operators.py [--saving 0.4] [--width 4] [--families skip width exits]

The networks are those of `gates.py`. Counted is what ONNX Runtime's profiler sees run, in the mean over the
images: convolutions, `If`s, and all others (what decides, masks, gathers and resizes). The profiler's times
are not told: where operators are that small, they are mostly the profiler's own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from deciding import FAMILIES, deciding_network, generator, set_saving, undecided

from dynnas.nn.networks.network import Network
from dynnas.runtimes.onnx.graph import to_packed_onnx

IMAGES = 64
KINDS = ("convolutions", "Ifs", "others")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saving", type=float, default=0.4, help="share of the multiply-adds left out")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--width", type=int, default=1, help="times the channels")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--blocks", nargs="+", default=["mbconv", "basic"])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    images = torch.randn(IMAGES, 3, args.resolution, args.resolution, generator=generator(1))
    print(f"| block | family | {' | '.join(KINDS)} |\n| --- | --- |{' ---: |' * len(KINDS)}")
    for kind in args.blocks:
        for number, family in enumerate(args.families):
            network = deciding_network(kind, family, args.resolution, args.width)
            set_saving(network, images, args.saving)
            rows = {"none": undecided(network)} if number == 0 else {}
            for name, each in {**rows, family: network}.items():
                counts = operators_run(each, images.numpy())
                print(f"| {kind} | {name} | {' | '.join(f'{counts[k]:.0f}' for k in KINDS)} |", flush=True)
    return 0


def operators_run(network: Network, images: np.ndarray) -> dict[str, float]:
    """Of each of the `KINDS`, for an image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        model = to_packed_onnx(network).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for image in images:
            session.run(None, {"image": image[None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    names = Counter(e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time"))
    found = Counter[str]()
    for name, count in names.items():
        found["convolutions" if "Conv" in name else "Ifs" if name == "If" else "others"] += count
    return {kind: found[kind] / len(images) for kind in KINDS}


if __name__ == "__main__":
    raise SystemExit(main())
