"""What the branches of an own class save by the clock: ONNX Runtime leaves out what an image does.

    python tests/bench/own_branches.py [--width 32] [--size 32] [--images 24] [--rounds 9]

`Branchy` (tests/support/own_branches.py) has dynamic kernels, gates and exits in the middle of ordinary code.
Its graph for one image, in which these are `If`s, stands beside the graph in which everything is computed,
and beside the same network whose images all leave at the last exit. In each round all run on the same
images, one right after the other, in an order that turns; told are medians over rounds of the mean over
images, for all of them and by exit, and the share of the multiply-adds that images run.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.own_branches import Branchy, undecided

from dynnas.latency.dependent import ways_of
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork


def network_of(width: int, size: int) -> PlainNetwork:
    """Return a network that is of two minds at every gate and exit."""
    torch.manual_seed(0)
    images = torch.randn(64, 3, size, size)
    return PlainNetwork(undecided(Branchy(width=width), images), (3, size, size), 5).eval()


def timed(run: Callable[[np.ndarray], object], images: list[np.ndarray]) -> np.ndarray:
    """Return the milliseconds of the processor for every image: other programs do not count."""
    found = []
    for image in images:
        start = time.thread_time()
        run(image)
        found.append(1000 * (time.thread_time() - start))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    network = network_of(args.width, args.size)
    pixels = torch.randn(args.images, 3, args.size, args.size, generator=torch.Generator().manual_seed(1))
    ways = ways_of(network, pixels)
    last = copy.deepcopy(network)
    last.module.exits.thresholds = (2.0,) * len(last.module.exits.thresholds)
    models = {
        "branches, packed": to_packed_onnx(network),
        "branches": to_onnx(network),
        "everything": to_onnx_batch(network),
        "no exits taken": to_onnx(last),
    }
    runners = {name: OnnxRunner(model.SerializeToString(), threads=1) for name, model in models.items()}
    images = [image[None].numpy() for image in pixels]
    for runner in runners.values():
        timed(runner, images)
    rounds: dict[str, list[np.ndarray]] = {name: [] for name in runners}
    for number in range(args.rounds):
        names = [*runners][number % 4 :] + [*runners][: number % 4]
        for name in names:
            rounds[name].append(timed(runners[name], images))
    macs = np.array(ways.image_macs)
    print(
        f"multiply-adds: {macs.mean() / cost_of(network).macs:.0%} of all in the mean; {args.rounds} rounds"
    )
    print(f"{'':18}" + "".join(f"{name:>14}" for name in ("all images", *ways.names)))
    print(f"{'images':18}{len(images):14}" + "".join(f"{share * len(images):14.0f}" for share in ways.shares))
    for name, found in rounds.items():
        times = np.stack(found)
        cells = [statistics.median(times.mean(1))]
        for way in range(len(ways.names)):
            here = times[:, np.array(ways.taken) == way]
            cells.append(statistics.median(here.mean(1)) if here.size else float("nan"))
        print(f"{name:18}" + "".join(f"{cell:11.3f} ms" for cell in cells))


if __name__ == "__main__":
    main()
