"""How the arithmetic of training is done: memory layout, precision and threads, the fastest by trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynnas.settings.settings import TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.threads import candidate_counts, fastest_count, most_threads, use_threads
from dynnas.training.loss import sandwich

if TYPE_CHECKING:
    from dynnas.supernet.supernet import Supernet

TRIALS = 3
MARGIN = 0.9
"""Another way must take less than this part of the plain way's time: a tie keeps float32."""


@dataclass(frozen=True)
class Execution:
    """How the arithmetic of a training step is done.

    Attributes:
        layout: memory layout, `channels_first` or `channels_last`.
        precision: `float32`, or `bfloat16` by autocast.
        threads: threads of torch on a processor.
    """

    layout: str
    precision: str
    threads: int = 1

    def prepare(self, images: Tensor) -> Tensor:
        """`images` in this layout."""
        channels_last = self.layout == "channels_last"
        return images.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context in which networks run forward."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def choose_execution(supernet: Supernet, images: Tensor, settings: TrainSettings) -> Execution:
    """What `settings` ask for; where they say auto, the faster by timing one step's networks on `images`.

    All of them, since what is faster for the largest network may be slower for the small ones. The number of
    threads is chosen first.
    """
    networks = sandwich(supernet.space, settings.random_networks, settings.seed, step=0)
    layouts = ("channels_first", "channels_last") if settings.layout == "auto" else (settings.layout,)
    precisions = ("float32", "bfloat16") if settings.precision == "auto" else (settings.precision,)
    step = partial(_seconds, supernet, networks, images)
    plain = Execution(layouts[0], precisions[0])
    threads = choose_threads(supernet, images, settings, plain)
    with use_threads(threads):
        layout = _faster(step, [replace(plain, layout=layout) for layout in layouts]).layout
        chosen = _faster(step, [Execution(layout, precision) for precision in precisions])
    return replace(chosen, threads=threads)


def choose_threads(supernet: Supernet, images: Tensor, settings: TrainSettings, execution: Execution) -> int:
    """The fastest number of threads for one step's networks on `images`.

    A rank of several takes its part of the cores: its time depends on the others.
    """
    if images.device.type != "cpu" or settings.processes > 1:
        return most_threads()
    networks = sandwich(supernet.space, settings.random_networks, settings.seed, step=0)
    step = partial(_seconds, supernet, networks, images, execution)
    return fastest_count(step, candidate_counts(most_threads()))


def _faster(step: Callable[[Execution], float], ways: list[Execution]) -> Execution:
    if len(ways) == 1:
        return ways[0]
    times = {way: float("inf") for way in ways}
    for trial in range(1 + TRIALS):
        for way in ways:
            seconds = step(way)
            if trial > 0:  # the first round warms up
                times[way] = min(times[way], seconds)
    plain = ways[0]
    best = min(ways, key=times.__getitem__)
    return best if times[best] < MARGIN * times[plain] else plain


def _seconds(supernet: Supernet, networks: Sequence[Architecture], images: Tensor, way: Execution) -> float:
    start = _clock(images.device)
    for architecture in networks:
        with way.autocast(images.device):
            outputs = supernet(way.prepare(images), architecture)
        torch.stack([logits.float().square().mean() for logits in outputs]).sum().backward()
    seconds = _clock(images.device) - start
    supernet.zero_grad(set_to_none=True)
    return seconds


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
