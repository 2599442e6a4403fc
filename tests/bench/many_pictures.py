"""A search over a folder of very many pictures: resident size, time and throughput.

    python tests/bench/many_pictures.py [--pictures 200000] [--files 2000] [--side 64] [--workers 1]

`--files` JPEG files of smoothed noise in ten classes are written to a temporary folder and linked until there
are `--pictures` of them. A small space is trained for one epoch over all of them, searched and finished, in
this process. Printed are the seconds after which each part had ended, and the largest resident size of this
process and of the largest one beside it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from dynnas.language.parser import load_space
from dynnas.progress import Progress, Task
from dynnas.workflows.run import run_study

CLASSES = 10
SPACE = """
input: {{resolutions: [{half}, {side}]}}
stem: {{width: 8, stride: 2}}
stages:
  - {{block: mbconv, width: [8, 12], stride: 2, expand: 2}}
  - {{block: mbconv, width: [16, 24], stride: 2, expand: 2, depth: [1, 2]}}
data:
  {{source: {folder}, size: [{side}], workers: {workers}, memory_gb: {memory}, search_images: {ranked}}}
train: {{epochs: 1, batch: 256, calibration_images: 512}}
search: {{trials: 4, controls: false}}
target: {{seconds: 0.05, images: 4}}
"""


class Spoken(Progress):
    """Prints every message, and every piece of work when it has ended, with the seconds since the start."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def message(self, text: str) -> None:
        """Print it."""
        print(f"{time.perf_counter() - self.begun:8.1f} s  {text}", flush=True)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """Print the name and the number of steps at the end."""
        yield Task()
        self.message(f"{name}: {total - done:,} steps")


def write(folder: Path, files: int, pictures: int) -> None:
    """Write `files` pictures and links to them, `pictures` in all, in folders of classes."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    for number in range(pictures):
        path = folder / f"class{number % CLASSES}" / f"{number:07}.jpg"
        if number >= files:
            first = number % files
            os.link(folder / f"class{first % CLASSES}" / f"{first:07}.jpg", path)
            continue
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        small[..., number % 3] //= 1 + number % CLASSES
        Image.fromarray(small).resize((128, 96), Image.Resampling.BICUBIC).save(path, quality=90)


def main() -> None:
    """Write the pictures, search, and print what it took."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--pictures", type=int, default=200_000)
    options.add_argument("--files", type=int, default=2000)
    options.add_argument("--side", type=int, default=64)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument(
        "--memory", type=float, default=1.0, help="GB up to which pictures are held in memory"
    )
    given = options.parse_args()
    if given.files % CLASSES:
        raise SystemExit(f"--files must be a multiple of {CLASSES}, so that links stay in their class")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DYNNAS_CACHE"] = f"{folder}/cache"
        progress = Spoken()
        write(Path(folder, "pictures"), given.files, given.pictures)
        progress.message(f"{given.pictures:,} pictures lie there, {given.files:,} of them files")
        space = Path(folder, "space.yaml")
        space.write_text(
            SPACE.format(
                half=given.side // 2,
                side=given.side,
                folder=f"{folder}/pictures",
                workers=given.workers,
                memory=given.memory,
                ranked=min(2000, given.pictures // 10),
            )
        )
        study = run_study(load_space(space), folder=Path(folder, "study"), progress=progress)
        progress.message(f"finished; the front has {len(study.front)} members")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"largest resident size: {own:.2f} GiB, of a process beside it {child:.2f} GiB")


if __name__ == "__main__":
    main()
