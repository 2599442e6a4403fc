"""The answers of every exit of a finished network to the images of a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from dynnas.data.dataset import Dataset, Split
from dynnas.data.streaming.images import in_batches
from dynnas.metrics.accuracy import predict
from dynnas.metrics.budgeted import Judged, judge
from dynnas.nn.context import Trace
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.cost import Cost
from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork, outputs_by_exit
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.training.batchnorm.calibrate import SCORING_BATCH


@torch.inference_mode()
def judge_network(network: Network | PlainNetwork, dataset: Dataset, split: Split, cost: Cost) -> Judged:
    """Judge what every exit, and at last the head, says of all images of a split.

    Args:
        network: with exits (`exits_of`), calibrated, in eval mode.
        dataset: the data of the split, whose task says what is right.
        split: of the data.
        cost: of the network.
    """
    if isinstance(network, PlainNetwork):
        sure, outputs, decided = _by_exit(network, dataset, split)
        right = [dataset.task.quality(output, split.targets) for output in outputs]
        found = Judged(torch.stack(sure), torch.stack(right))
    else:
        logits, decided, _ = predict(network, dataset, split.images)
        found = judge(logits, network.config.exits, split.targets, dataset.task)
    return replace(found, saved=cost.saved_macs([each.usage for each in decided])) if decided else found


_Said = tuple[list[Tensor], list[Tensor], tuple[Decision, ...]]
"""The confidence (N,) of every early exit, outputs (N, ...) of all exits, and what gates decide."""


def _by_exit(network: PlainNetwork, dataset: Dataset, split: Split) -> _Said:
    """Run a network of one's own class once for each exit, at which all images leave.

    What its forward pass does behind the exits is done to what each of them says.
    """
    parts = [
        _said(network, prepare_images(cast(Network, network), dataset, images))
        for images in in_batches(split.images, SCORING_BATCH)
    ]
    sure, outputs, decided = zip(*parts, strict=True)
    return (
        [torch.cat(each) for each in zip(*sure, strict=True)],
        [torch.cat(each) for each in zip(*outputs, strict=True)],
        tuple(Decision.joined(gate) for gate in zip(*decided, strict=True)),
    )


def _said(network: PlainNetwork, x: Tensor) -> tuple[list[Tensor], list[Tensor], Sequence[Decision]]:
    (container,) = (layer for layer in network.modules() if isinstance(layer, EarlyExits))
    trace = Trace(Decision)
    outputs, passed = list[Tensor](), 0
    with _heard(container) as heard:
        for output in outputs_by_exit(network, x, trace):
            outputs.append(output)
            decided, passed = trace.of(Decision)[passed:], len(trace.of(Decision))
    sure = list[Tensor]()
    memory: Mapping[str, Any] = {}
    for said in heard[:-1]:
        confident, memory = container.sure(said, memory)
        sure.append(confident)
    return sure, outputs, decided  # the last run passes all gates


@contextmanager
def _heard(container: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list of what a container of exits says meanwhile, before anything is done to it."""
    heard: list[Tensor] = []
    hook = container.register_forward_hook(lambda module, inputs, output: heard.append(output))
    try:
        yield heard
    finally:
        hook.remove()
