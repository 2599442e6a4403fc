"""Where the time of networks goes that decide for each image, by ONNX Runtime's own profiler.

    python tests/bench/gate_profile.py [--saving 0.4] [--width 4] [--families skip width exits]

The networks are those of `gates.py`, one image at a time, from the graph that ships. Told are microseconds
an image: convolutions, all other operators (what decides, masks, gathers and resizes among them), and what is
left of the run: `If`s, and starting operators. Profiling itself takes some of it, more of many small ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from deciding import FAMILIES, deciding_network, generator, set_saving, undecided

from dynnas.ops import Network
from dynnas.runtime.onnx_graph import to_packed_onnx

IMAGES = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saving", type=float, default=0.4, help="share of the multiply-adds left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--width", type=int, default=1, help="times the channels")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--blocks", nargs="+", default=["mbconv", "basic"])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    images = torch.randn(IMAGES, 3, args.resolution, args.resolution, generator=generator(1))
    print("| block | family | convolutions | other operators | Ifs and starting | whole |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for kind in args.blocks:
        for number, family in enumerate(args.families):
            network = deciding_network(kind, family, args.resolution, args.width)
            set_saving(network, images, args.saving)
            rows = {"none": undecided(network)} if number == 0 else {}
            for name, each in {**rows, family: network}.items():
                times = profile(each, images.numpy(), args.rounds)
                print(f"| {kind} | {name} | {' | '.join(f'{time:.0f}' for time in times)} |", flush=True)
    return 0


def profile(network: Network, images: np.ndarray, rounds: int) -> tuple[float, float, float, float]:
    """Microseconds an image: convolutions, other operators, the rest, the sum of these."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        model = to_packed_onnx(network).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(rounds):
            for image in images:
                session.run(None, {"image": image[None]})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["dur"] for event in events if event["name"] == "model_run"]
    convolutions = others = 0.0
    for event in events:
        operator = event.get("args", {}).get("op_name", "If")
        if event["name"].endswith("_kernel_time") and operator != "If":
            convolutions += event["dur"] * ("Conv" in operator)
            others += event["dur"] * ("Conv" not in operator)
    whole = sum(runs) / len(runs)
    convolutions, others = convolutions / len(runs), others / len(runs)
    return convolutions, others, whole - convolutions - others, whole


if __name__ == "__main__":
    raise SystemExit(main())
