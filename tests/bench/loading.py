"""Throughput of streamed pictures beside torchvision's `ImageFolder` and torch's `DataLoader`.

    python tests/bench/loading.py [--data FOLDER] [--images 1500] [--side 64] [--workers 0 1 2] [--rounds 5]

Without a folder of class folders, JPEG files of 128 x 96 with smoothed noise are written to a temporary one.
All ways bring every picture to the same square by the same bicubic filter and give normalised float batches
in random order. With each number of workers a round reads them all once: by `ImageFolder` and a `DataLoader`
whose workers stay, by a `DataLoader` over the function with which we decode, by our workers, and by them from
the cache that an epoch before has filled. Ours read the training split alone. Ratios are of neighbours in a
round; above 1 ours is faster. 0 if no way of ours is slower than `ImageFolder` by more than a tenth.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dynnas.data.load import load_data
from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.settings.settings import DataSettings

BATCH = 64
SLOWER = 0.1
MEAN = STD = (0.5, 0.5, 0.5)

Batches = Callable[[], Iterable[torch.Tensor]]


class Files(torch.utils.data.Dataset):
    """The same files as a torch data set, decoded as ours are."""

    def __init__(self, paths: Sequence[Path], form: Form) -> None:
        self.paths, self.form = paths, form

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        pixels = torch.tensor(pictures.read(self.paths[index], self.form))
        return (pixels / 255 - 0.5) / 0.5


def write(folder: Path, count: int) -> None:
    """Write pictures of 128 x 96 in two folders of classes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(path, quality=90)


def rate(batches: Batches) -> float:
    """Images a second."""
    begun, images = time.perf_counter(), 0
    for batch in batches():
        images += len(batch)
    return images / (time.perf_counter() - begun)


def loader(data: torch.utils.data.Dataset, workers: int) -> torch.utils.data.DataLoader:
    """A loader in random order whose workers stay from epoch to epoch."""
    return torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )


def image_folder(root: Path, side: int) -> torch.utils.data.Dataset:
    """The folder as torchvision reads it."""
    if importlib.util.find_spec("torchvision") is None:
        raise SystemExit("torchvision is not installed, and this bench needs it: pip install torchvision")
    with torch.library._scoped_library("torchvision", "FRAGMENT") as operators:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            # Built for another torch, it has no operators, and imports only where they are at least declared.
            for name in ("nms", "qnms"):
                operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import datasets, transforms

    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize((side, side), bicubic), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return datasets.ImageFolder(root, transforms.Compose(steps))


def ways_of(root: Path, side: int, workers: int) -> dict[str, Batches]:
    """The ways to read a folder by some workers, by name."""
    folder = image_folder(root, side)
    paths = [Path(path) for path, _ in folder.samples]
    files = Files(paths, Form(side, side, fit="stretch"))
    torch.testing.assert_close(files[0], folder[0][0])  # the same work
    theirs, decoded = loader(folder, workers), loader(files, workers)

    def ours(cache_gb: float) -> Batches:
        given = DataSettings(
            source=str(root),
            size=(side,),
            fit="stretch",
            augment="none",
            workers=workers,
            memory_gb=0.0,
            cache_gb=cache_gb,
        )
        data = load_data(given)
        epochs = iter(range(10**9))

        def batches() -> Iterator[torch.Tensor]:
            return (batch for batch, _ in data.training_batches(0, next(epochs), BATCH))

        return batches

    return {
        "ImageFolder": lambda: (batch for batch, _ in theirs),
        "DataLoader, our decoding": lambda: decoded,
        "streamed": ours(0.0),
        "streamed, from the cache": ours(10.0),
    }


def compare(root: Path, side: int, workers: int, rounds: int) -> float:
    """Print the median throughputs and ratios by some workers; return the least ratio of ours."""
    ways = ways_of(root, side, workers)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for batches in ways.values():
        rate(batches)  # workers are started, and the cache is filled
    for number in range(rounds):
        turned = list(ways.items())
        for name, batches in turned if number % 2 else reversed(turned):
            found[name].append(rate(batches))
    least = float("inf")
    print(f"{workers} workers")
    for name, rates in found.items():
        ratios = [rate / other for rate, other in zip(rates, found["ImageFolder"], strict=True)]
        middle = statistics.median(ratios)
        print(
            f"  {name:26} {statistics.median(rates):7.0f} images/s   {middle:5.2f} times ImageFolder "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
        least = min(least, middle) if name.startswith("streamed") else least
    return least


def main() -> int:
    """Print the throughput of each way; 0 if none of ours is slower."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, help="a folder of class folders of pictures")
    options.add_argument("--images", type=int, default=1500, help="how many to write without --data")
    options.add_argument("--side", type=int, default=64)
    options.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DYNNAS_CACHE"] = f"{folder}/cache"
        root = given.data
        if root is None:
            root = Path(folder, "pictures")
            root.mkdir()
            write(root, given.images)
        least = min(compare(root, given.side, workers, given.rounds) for workers in given.workers)
    return int(least < 1 - SLOWER)


if __name__ == "__main__":
    raise SystemExit(main())
