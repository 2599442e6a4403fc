"""The mixed convolutions that a space runs, and their batches: `dynnas tune` measures these."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import torch

from dynnas.language.study_space import StudySpace
from dynnas.nn.context import tracing
from dynnas.nn.dynamic_conv.tuned import Problem
from dynnas.nn.layers.conv_shape import ConvShape, depthwise, pointwise
from dynnas.nn.networks.network import Network
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space
from dynnas.training.batchnorm.calibrate import SCORING_BATCH

SAMPLED = 16
"""Random networks whose convolutions are measured, beside the smallest and the largest."""

BATCHES, EXPERTS = (16, 128), 4
PLACES = ((16, 56), (64, 28), (64, 14), (128, 14), (256, 14), (256, 7), (512, 7))


def default_problems(threads: int) -> list[Problem]:
    """Return typical problems: channels and sizes of mobile networks, 4 experts, batches of 16 and 128."""
    return [
        Problem(shape, batch, (size, size), EXPERTS, backward=backward, threads=threads)
        for channels, size in PLACES
        for shape in (
            pointwise(channels, channels),
            depthwise(channels, 3, 1),
            ConvShape(channels, channels, 3),
        )
        for batch in BATCHES
        for backward in (False, True)
    ]


def problems_of(space: StudySpace, threads: int, seed: int = 0) -> list[Problem]:
    """Return the mixed convolutions of the smallest, the largest and some random networks of `space`.

    For training, forward and backward in its batches, in each layout and precision that it may choose; and
    forward in the batches in which candidates are calibrated and scored.

    Args:
        space: with a network. threads: of torch. seed: draws the random networks.
    """
    rng = random.Random(seed)
    networks: list[Architecture] = [
        smallest(space),
        largest(space),
        *(sample(space, rng) for _ in range(SAMPLED)),
    ]
    return list(dict.fromkeys(p for network in networks for p in _problems(space, network, threads)))


def _problems(space: StudySpace, architecture: Architecture, threads: int) -> Iterator[Problem]:
    train = space.settings.train
    layouts = ("channels_first", "channels_last") if train.layout == "auto" else (train.layout,)
    precisions = ("float32", "bfloat16") if train.precision == "auto" else (train.precision,)
    for layout in layouts:
        for problem in _traced(space, architecture, backward=True, channels_last=layout == "channels_last"):
            for precision in precisions:
                yield replace(problem, batch=train.batch, dtype=precision, threads=threads)
    # `calibrate` and `predict_logits` run channels-last float32.
    for problem in _traced(space, architecture, backward=False, channels_last=True):
        yield replace(problem, batch=SCORING_BATCH, threads=threads)


def _traced(
    space: Space, architecture: Architecture, *, backward: bool, channels_last: bool
) -> list[Problem]:
    """Return the convolutions that a network runs, recorded by running it on two images."""
    config = space.network_config(architecture)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.zeros(2, *config.shape)
    with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(backward):
        network = Network(config).train()
        with tracing(network, Problem) as trace:
            network.logits(x.contiguous(memory_format=layout))
    return trace.of(Problem)
