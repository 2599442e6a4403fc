"""The arithmetic of training: memory layout, precision and threads, the fastest by trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dynnas.nn.context import PLAIN
from dynnas.nn.gradients.fast import FastGradients
from dynnas.threads import TRIAL_SHARE, candidate_counts, fastest_count, most_threads, use_threads
from dynnas.training.algorithm import Pass
from dynnas.training.models import Model

TRIALS = 3
MARGIN = 0.9
"""Share of the plain way's time below which another way is chosen: a tie keeps float32."""


@dataclass(frozen=True)
class Execution:
    """The arithmetic of a training step.

    Attributes:
        layout: memory layout, `channels_first` or `channels_last`.
        precision: `float32`, or `bfloat16` by autocast.
        threads: threads of torch on a processor.
    """

    layout: str
    precision: str
    threads: int = 1

    def prepare(self, images: Any) -> Any:
        """Return images (B, C, H, W) in this layout, and other inputs as they are."""
        if not isinstance(images, Tensor) or images.ndim != 4:
            return images
        channels_last = self.layout == "channels_last"
        return images.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )

    @contextmanager
    def arithmetic(self, device: torch.device) -> Iterator[None]:
        """Return the context in which networks run forward."""
        with ExitStack() as stack:
            if device.type == "cpu":
                stack.enter_context(FastGradients())
            if self.precision == "bfloat16":
                stack.enter_context(torch.autocast(device.type, torch.bfloat16))
            yield


Trial = Callable[[Execution], None]
"""A function that does the arithmetic of a step, and changes nothing."""


def choose_execution(
    trial: Trial,
    layouts: Sequence[str],
    precisions: Sequence[str],
    device: torch.device,
    measure: bool,
    steps: int,
) -> Execution:
    """Choose among layouts and precisions, the plain ones first, the fastest by timing a step.

    With all of its networks, since what is faster for the largest network may be slower for the small ones.
    The number of threads is chosen first. A short training takes the plain layout and precision: trials
    would take more than `TRIAL_SHARE` of its time.

    Args:
        device: where the step runs.
        measure: whether to measure the number of threads: a rank of several takes its part of the cores, as
            its time depends on the others.
        steps: that the training has left.
    """
    open_choices = [ways for ways in (layouts, precisions) if len(ways) > 1]
    if (1 + TRIALS) * sum(map(len, open_choices)) > TRIAL_SHARE * steps:
        layouts, precisions = layouts[:1], precisions[:1]
    plain = Execution(layouts[0], precisions[0])
    threads = choose_threads(trial, plain, device, measure)

    def seconds(execution: Execution) -> float:
        start = _clock(device)
        trial(execution)
        return _clock(device) - start

    with use_threads(threads):
        layout = _faster(seconds, [replace(plain, layout=layout) for layout in layouts]).layout
        chosen = _faster(seconds, [Execution(layout, precision) for precision in precisions])
    return replace(chosen, threads=threads)


def choose_threads(trial: Trial, execution: Execution, device: torch.device, measure: bool) -> int:
    """Choose the fastest number of threads for a step, on a processor, where `measure` asks for it."""
    if device.type != "cpu" or not measure:
        return most_threads()
    return fastest_count(lambda: trial(execution), candidate_counts(most_threads()))


def run_trial(
    model: Model, networks: Sequence[Pass], inputs: Any, device: torch.device, execution: Execution
) -> None:
    """Run a step's networks forward and backward; gradients are gone afterwards."""
    model.module.train()
    for network in networks:
        with execution.arithmetic(device):
            outputs = model.forward(
                execution.prepare(inputs), network.architecture, PLAIN, network.open_gates
            )
        torch.stack([output.float().square().mean() for output in outputs]).sum().backward()
    model.module.zero_grad(set_to_none=True)


def _faster(step: Callable[[Execution], float], executions: list[Execution]) -> Execution:
    if len(executions) == 1:
        return executions[0]
    times = dict.fromkeys(executions, float("inf"))
    for trial in range(1 + TRIALS):
        for execution in executions:
            seconds = step(execution)
            if trial > 0:  # the first round warms up
                times[execution] = min(times[execution], seconds)
    plain = executions[0]
    best = min(executions, key=times.__getitem__)
    return best if times[best] < MARGIN * times[plain] else plain


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
