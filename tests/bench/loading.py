"""Throughput of streamed pictures beside torch's `DataLoader`, which decodes the same files to the same form.

    python tests/bench/loading.py [--images 512] [--side 160] [--workers 1] [--rounds 5]

JPEG files of smoothed noise are written to a temporary folder. Each round reads them all once in each of four
ways, in turn: by a `DataLoader`, by our workers, by them with everything in the cache, and from memory.
Ours are varied and normalised besides.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dynnas.data.load import load_data
from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.settings.settings import DataSettings

BATCH = 32


class Files(torch.utils.data.Dataset):
    """The same files as a torch data set."""

    def __init__(self, paths: list[Path], form: Form) -> None:
        self.paths, self.form = paths, form

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(pictures.read(self.paths[index], self.form))


def write(folder: Path, count: int) -> list[Path]:
    """Write pictures of 256 x 320 in two folders of classes."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8))
        small.resize((320, 256), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def rate(batches: Callable[[], Iterable[torch.Tensor]]) -> float:
    """Images a second."""
    begun, images = time.perf_counter(), 0
    for batch in batches():
        images += len(batch)
    return images / (time.perf_counter() - begun)


def main() -> None:
    """Print the median throughput of each way, in images a second."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=512)
    options.add_argument("--side", type=int, default=160)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DYNNAS_CACHE"] = f"{folder}/cache"
        root = Path(folder, "pictures")
        root.mkdir()
        paths = write(root, given.images)
        loader = torch.utils.data.DataLoader(
            Files(paths, Form(given.side, given.side)),
            BATCH,
            num_workers=given.workers,
            persistent_workers=given.workers > 0,
        )

        def ours(**settings: float) -> Callable[[], Iterator[torch.Tensor]]:
            kept = {"memory_gb": 0.0, "cache_gb": 0.0, **settings}
            data = load_data(
                DataSettings(source=str(root), size=(given.side,), workers=given.workers, **kept)
            )
            return lambda: (batch for batch, _ in data.training_batches(0, 0, BATCH))

        ways: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
            "torch DataLoader": lambda: loader,
            "streamed": ours(),
            "streamed, all kept": ours(cache_gb=10.0),
            "in memory": ours(memory_gb=10.0),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for batches in ways.values():
            rate(batches)
        for _ in range(given.rounds):
            for name, batches in ways.items():
                found[name].append(rate(batches))
    for name, rates in found.items():
        print(f"{name:20} {statistics.median(rates):8.0f} images/s")


if __name__ == "__main__":
    main()
