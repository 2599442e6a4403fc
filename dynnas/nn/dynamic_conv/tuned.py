"""The ways to run mixed convolutions that were measured on this machine, and the file that remembers them.

`kernels.json` in the user's cache folder, written by `dynnas tune`, is a JSON object:

- version: of this format;
- environment: processor and torch that it was measured with;
- ways: for each `Problem.key` the way that won and the milliseconds of all that were tried.

A file that is damaged, of another version, or measured in another environment counts as absent, and the next
`dynnas tune` says so and replaces it. Threads, device and precision are in the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from dynnas.files import cache_folder, processor
from dynnas.nn.layers.conv_shape import HALF_THE_KERNEL, ConvShape

VERSION = 1

Way = Literal["plain", "whole", "pieces", "images", "unfold", "wide", "experts"]
"""A way to run a mixed convolution:

- plain: an ordinary convolution, for one image;
- whole: one batched product if pointwise, else one convolution with the images as groups;
- pieces: the same, some images at a time; images: one at a time;
- unfold: what the taps see as a matrix, and a batched product;
- wide: one convolution with all experts' filters, then the weighted sum; experts: one for each expert.
"""


@dataclass(frozen=True)
class Problem:
    """The facts on which the fastest way depends.

    Attributes:
        shape: the geometry of the convolution.
        batch: number of images.
        size: height and width of the images.
        experts: kernels in the bank; 0 for kernels that come without a bank.
        per_channel: whether every output channel has coefficients of its own.
        backward: whether gradients are computed as well.
        channels_first: the images' layout in memory.
        dtype: as in `torch.float32`.
        device: torch's type of device.
        threads: of torch.
    """

    shape: ConvShape
    batch: int
    size: tuple[int, int]
    experts: int
    per_channel: bool = False
    backward: bool = False
    channels_first: bool = True
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1

    @property
    def key(self) -> str:
        """Return all fields in one readable line.

        Such as `cpu 2 threads float32: 64->64 k3 s1 g1 14x14, 16 images, ...`.
        """
        shape = self.shape
        geometry = (
            f"{shape.in_channels}->{shape.out_channels} k{shape.kernel} s{shape.stride} g{shape.groups}"
        )
        if shape != replace(shape, dilation=1, padding=HALF_THE_KERNEL):
            geometry += f" d{shape.dilation} p{shape.padding}"
        parts = (
            f"{self.device} {self.threads} threads {self.dtype}: {geometry} {self.size[0]}x{self.size[1]}",
            f"{self.batch} images",
            "no bank" if not self.experts else f"{self.experts} experts",
            *(["per channel"] if self.per_channel else []),
            "forward and backward" if self.backward else "forward",
            *([] if self.channels_first else ["channels last"]),
        )
        return ", ".join(parts)


@dataclass(frozen=True)
class Measured:
    """The way that won for a problem, and the median milliseconds of every way that was tried."""

    way: Way
    ms: Mapping[str, float]


@dataclass(frozen=True)
class TunedFile:
    """The content of the file; `refused` says why a file does not count."""

    ways: Mapping[str, Measured] = field(default_factory=dict)
    refused: str = ""

    @staticmethod
    def path() -> Path:
        """Return the path of the file."""
        return cache_folder() / "kernels.json"

    @staticmethod
    def load(path: Path) -> TunedFile:
        """Read it; never raises, as a file that cannot be used counts as absent."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                return TunedFile(refused=f"is of version {content['version']}, not {VERSION}")
            if content["environment"] != environment():
                return TunedFile(refused="was measured with another processor or torch")
            return TunedFile({key: _measured(entry) for key, entry in content["ways"].items()})
        except FileNotFoundError:
            return TunedFile()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return TunedFile(refused="is damaged")

    def to_json(self) -> str:
        """Return a document that `load` reads."""
        ways = {key: asdict(self.ways[key]) for key in sorted(self.ways)}
        content = {"version": VERSION, "environment": environment(), "ways": ways}
        return json.dumps(content, indent=1) + "\n"


def environment() -> dict[str, str]:
    """Return the environment that all measurements in a file share."""
    return {"processor": processor(), "torch": str(torch.__version__)}


@cache
def tuned_ways() -> Mapping[str, Way]:
    """Return the ways by `Problem.key`, read once in a process; none where `dynnas tune` never ran."""
    return {key: measured.way for key, measured in TunedFile.load(TunedFile.path()).ways.items()}


def _measured(entry: Any) -> Measured:
    """Read one measurement, or raise ValueError, KeyError, TypeError or AttributeError."""
    if entry["way"] not in get_args(Way):
        raise ValueError(f"{entry['way']!r} is no way to run a convolution")
    return Measured(entry["way"], {str(way): float(ms) for way, ms in entry["ms"].items()})
