"""The text of a space file that `dynnas init` drafts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dynnas.settings.settings import DataSettings, TargetSettings

_WIDTHS = (16, 24, 40, 80, 112, 160)
"""Channels of the stages at scale 1, about those of MobileNetV3."""

_SHARES = (0.5, 0.75, 1.0)
_LEAST_WIDTH, _MOST_WIDTH = 4, 1024
_IMAGES_SEEN = 150_000


@dataclass(frozen=True)
class Draft:
    """The facts that a space file is drafted from.

    Attributes:
        data: settings of the data that were read. target: where networks will run.
        summary: of the data, in a line.
        size: height and width of the images.
        answers: of the task, "image", "pixels" or "boxes". task: its name. score: its first metric.
        exits: whether images may leave networks early.
        train_images: how many there are.
        limits: upper limits by metric.
        scale: of all widths. shrunk: shares of the size that a network may see, the largest 1.
    """

    data: DataSettings
    target: TargetSettings
    summary: str
    size: tuple[int, int]
    answers: str
    task: str
    score: str
    exits: bool
    train_images: int
    limits: Mapping[str, float]
    scale: float = 1.0
    shrunk: tuple[float, ...] = (0.75, 1.0)

    @property
    def strides(self) -> tuple[int, tuple[int, ...]]:
        """Return the stride of the stem, and those of the stages."""
        side = min(self.size)
        stem = 1 if side < 48 else 2
        left, stages = side // stem, [1]
        while left >= 8 and len(stages) < 5:
            stages.append(2)
            left //= 2
        return stem, tuple(stages)

    def text(self, measured: str = "") -> str:
        """Return the space file.

        Args:
            measured: a line about the times of its networks.
        """
        lines = [
            "# Drafted by `dynnas init` from these data; every line may be changed.",
            "# `dynnas space FILE` shows what it spans, and `dynnas search FILE` searches it.",
            f"# {self.summary}",
            *([f"# {measured}"] if measured else []),
            "",
            *self._network(),
            "",
            *self._settings(),
        ]
        return "\n".join(lines) + "\n"

    def _network(self) -> list[str]:
        stem, strides = self.strides
        block = "basic" if min(self.size) < 48 else "mbconv"
        lines = [
            f"input: {{resolutions: {self._resolutions()}}}   # sizes that a network may see its images at",
            "",
            f"stem: {{width: {_listed(self._widths(_WIDTHS[0]))}, kernel: 3, stride: {stem}}}",
            "",
            "stages:   # depth and width are shared by a stage, the rest is chosen for each layer",
        ]
        for number, stride in enumerate(strides):
            width = self._widths(_WIDTHS[min(number, len(_WIDTHS) - 1)])
            facts = {
                "block": block,
                "depth": "1" if number == 0 else "[1, 2, 3]",
                "width": _listed(width),
                "stride": str(stride),
                "kernel": "3" if block == "basic" else "[3, 5]",
                **({"expand": "[2, 4]"} if block == "mbconv" else {}),
                "attention": "[none, se]" if number > 1 else "none",
                "op": "[static, condconv]" if number >= len(strides) - 2 else "static",
                **({"experts": "4"} if number >= len(strides) - 2 else {}),
            }
            lines.append(f"  - {{{', '.join(f'{name}: {value}' for name, value in facts.items())}}}")
        return [*lines, "", *self._head()]

    def _head(self) -> list[str]:
        neck = _listed(self._widths(64))
        if self.answers == "pixels":
            return [
                "# tells the class of each pixel",
                f"head: {{kind: [lraspp, pyramid], neck: {neck}, tower: [0, 1, 2], finest: [4, 8]}}",
            ]
        if self.answers == "boxes":
            return [
                "# an anchor-free detector",
                f"head: {{kind: boxes, neck: {neck}, tower: [1, 2], finest: [8, 16]}}",
            ]
        lines = [f"head: {{width: {_listed([0, *self._widths(128)])}}}"]
        before_last = f"stage{len(self.strides[1]) - 1}"
        if self.exits:
            lines += [
                "",
                "# where easy images may leave",
                f"exits: {{positions: [{before_last}], count: [0, 1], thresholds: [0.7, 0.9], width: 32}}",
            ]
        return lines

    def _settings(self) -> list[str]:
        batch = 64 if self.train_images >= 2000 else 16
        epochs = min(120, max(5, round(_IMAGES_SEEN / max(1, self.train_images))))
        data = {
            "source": json.dumps(self.data.source),
            "task": self.task,
            **({"size": str(list(self.data.size))} if self.data.size else {}),
            **({"fit": self.data.fit} if self.data.fit else {}),
        }
        limits = ", ".join(f"{name}: {limit:g}" for name, limit in self.limits.items())
        search = f"trials: 100, objectives: [{self.score}, latency_ms]"
        search += f", constraints: {{{limits}}}" if limits else ""
        return [
            f"data: {{{', '.join(f'{name}: {value}' for name, value in data.items())}}}",
            "# more epochs rank candidates better",
            f"train: {{epochs: {epochs}, batch: {batch}, optimizer: adamw, lr: 0.002}}",
            f"search: {{{search}}}",
            f"target: {{device: {json.dumps(self.target.device)}, threads: {self.target.threads}}}",
        ]

    def _resolutions(self) -> str:
        sizes = [
            tuple(max(4, round(side * share / 4) * 4) for side in self.size) for share in self.shrunk[:-1]
        ]
        sizes.append(self.size)
        distinct = sorted(dict.fromkeys(size for size in sizes if size <= self.size))
        square = all(height == width for height, width in distinct) and self.answers == "image"
        return str([height if square else [height, width] for height, width in distinct])

    def _widths(self, width: int) -> list[int]:
        step = 4 if self.scale * width < 48 else 8
        found = (max(_LEAST_WIDTH, round(share * self.scale * width / step) * step) for share in _SHARES)
        return sorted({min(_MOST_WIDTH, each) for each in found})


def _listed(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else str(list(values))
