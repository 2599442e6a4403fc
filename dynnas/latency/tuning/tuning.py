"""The measurement of the fastest way to run each mixed convolution, kept in a file (`dynnas tune`)."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dynnas.files import atomic_write
from dynnas.latency.lock import device_lock
from dynnas.nn.dynamic_conv.mixing import run_each, run_way
from dynnas.nn.dynamic_conv.selection import by_rule
from dynnas.nn.dynamic_conv.tuned import Measured, Problem, TunedFile, Way
from dynnas.progress import Progress
from dynnas.threads import use_threads

ROUNDS = 7
SECONDS = 0.5
"""A problem's rounds end after this long, but not before the third."""

MARGIN = 0.95
"""A way must take less than this part of the rule's time to be chosen instead: a tie keeps the rule."""

HOPELESS = 3.0
"""A way that takes this many times as long as the fastest in the first round is not tried again."""

MOST_BYTES = 2**32
"""Ways whose kernels or columns need more are not tried."""


@dataclass(frozen=True)
class Tuned:
    """The measurements of a problem.

    Attributes:
        problem: the convolution.
        rule: the way that it runs without a measurement.
        measured: the way that won, and the milliseconds of all.
    """

    problem: Problem
    rule: Way
    measured: Measured

    @property
    def gain(self) -> float:
        """Return the speed-up of the way that won over the rule's way."""
        return self.measured.ms[self.rule] / self.measured.ms[self.measured.way]


def tune(problems: Iterable[Problem], path: Path, progress: Progress | None = None) -> Iterator[Tuned]:
    """Measure each problem and write it to the file, one by one: an interruption keeps what was measured.

    Other processes may tune into the same file meanwhile; what they measured stays as well. What this process
    has read of the file before stands, as its networks may be half-way through training.

    Args:
        problems: on this machine's devices. path: of the file. progress: is told.
    """
    problems = list(problems)
    progress = progress or Progress()
    if refused := TunedFile.load(path).refused:
        progress.message(f"{path} {refused}: starting again")
    with progress.task("tuning kernels", len(problems)) as task:
        for problem in problems:
            with device_lock(problem.device):
                tuned = measure_problem(problem)
            remember({problem.key: tuned.measured}, path)
            task.advance(note=f"{tuned.measured.way} {tuned.gain:.2f} times the rule's speed")
            yield tuned


def remember(ways: dict[str, Measured], path: Path) -> None:
    """Add `ways` to the file, all or nothing; what other processes added meanwhile is kept.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with device_lock("kernels", path.parent):
        known = TunedFile.load(path).ways
        atomic_write(path, TunedFile({**known, **ways}).to_json())


def measure_problem(problem: Problem) -> Tuned:
    """Run all ways in turns on random tensors, and compare the medians."""
    with use_threads(problem.threads), torch.set_grad_enabled(problem.backward):
        tensors = _tensors(problem)
        rule = by_rule(problem.shape, problem.batch, problem.size, problem.experts, problem.device)
        times = {way: [_seconds(problem, way, tensors)] for way in _candidates(problem, rule)}
        for way in times:  # the first run warmed up
            times[way] = [_seconds(problem, way, tensors)]
        fastest = min(times.values())[0]
        times = {way: first for way, first in times.items() if way == rule or first[0] < HOPELESS * fastest}
        begin = time.perf_counter()
        for turn in range(1, ROUNDS):
            if turn >= 3 and time.perf_counter() - begin > SECONDS:
                break
            order = list(times)
            for way in order[turn % len(order) :] + order[: turn % len(order)]:
                times[way].append(_seconds(problem, way, tensors))
    medians = {way: statistics.median(seconds) for way, seconds in times.items()}
    best = min(medians, key=medians.__getitem__)
    won = best if medians[best] < MARGIN * medians[rule] else rule
    return Tuned(problem, rule, Measured(won, {way: 1e3 * seconds for way, seconds in medians.items()}))


def _candidates(problem: Problem, rule: Way) -> list[Way]:
    """Return the rule's way first, and all others that are possible and fit into memory."""
    shape, batch = problem.shape, problem.batch
    if batch == 1:
        return [rule]
    kernels, pixels = math.prod(shape.weight), math.prod(problem.size)
    need: dict[Way, int] = {
        "whole": 2 * kernels * batch,
        "pieces": 0,
        "images": 0,
        "unfold": (kernels + shape.in_channels * shape.kernel**2 * pixels) * batch,
        "wide": problem.experts * shape.out_channels * pixels * batch,
    }
    if shape.pointwise:
        del need["unfold"]  # it is the same product
    if shape.depthwise or not problem.experts:
        del need["wide"]
    fits = [way for way, floats in need.items() if 4 * floats <= MOST_BYTES]
    return [rule, *(way for way in fits if way != rule)]


def _tensors(problem: Problem) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return images, bank (or kernels), and coefficients if there is a bank."""
    generator = torch.Generator().manual_seed(0)
    shape, batch = problem.shape, problem.batch

    def make(*size: int) -> Tensor:
        values = torch.randn(size, generator=generator)
        return values.to(problem.device, getattr(torch, problem.dtype))

    x = make(batch, shape.in_channels, *problem.size)
    if not problem.channels_first:
        x = x.contiguous(memory_format=torch.channels_last)
    bank = make(problem.experts or batch, *shape.weight)
    per_channel = (shape.out_channels,) if problem.per_channel else ()
    coefficients = make(batch, *per_channel, problem.experts) if problem.experts else None
    for tensor in (x, bank, coefficients):
        if tensor is not None:
            tensor.requires_grad_(problem.backward)
    return x, bank, coefficients


def _seconds(problem: Problem, way: Way, tensors: tuple[Tensor, Tensor, Tensor | None]) -> float:
    x, bank, coefficients = tensors
    start = _clock(problem.device)
    if coefficients is None:
        y = run_each(way, x, bank, None, problem.shape)
    else:
        y = run_way(way, x, bank, coefficients, None, problem.shape)
    if problem.backward:
        wanted = [tensor for tensor in tensors if tensor is not None]
        torch.autograd.grad(y, wanted, torch.ones_like(y))
    return _clock(problem.device) - start


def _clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
