"""Accuracy of a finished network, each image leaving where it would leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dynnas.data import Dataset, resize
from dynnas.measure.cost import cost
from dynnas.ops import Decision, Network, decisions, leave
from dynnas.runtime import Finished
from dynnas.space import NetworkConfig
from dynnas.training.calibrate import SCORING_BATCH


@dataclass(frozen=True)
class Accuracy:
    """Accuracy, and what images run.

    Attributes:
        top1: share of images labelled right (0..1).
        exit_shares: share that leaves at each exit, then at the head.
        gates: what a gated network's images run; None for one without gates.
    """

    top1: float
    exit_shares: tuple[float, ...]
    gates: GateUse | None = None


@dataclass(frozen=True)
class GateUse:
    """What images run of a gated network.

    Attributes:
        image_macs: multiply-adds of each image, by the exit that it leaves by and what gates say of it.
        shares: for each gated block's slot, how often each alternative is run, by its name, among the images
            that get there (0..1).
        policies: how many different ways images take: by exit and all decisions before it.
    """

    image_macs: tuple[int, ...]
    shares: Mapping[str, Mapping[str, float]]
    policies: int

    @staticmethod
    def of(config: NetworkConfig, exits: Tensor, decided: Sequence[Decision]) -> GateUse:
        """Of images that leave by `exits` (N,), with what each gate decided on all of them."""
        size = cost(config)
        shares = {}
        signs = [exits[:, None]]
        for gate, stretch, decision in zip(size.gates, size.stretches, decided, strict=True):
            there = exits >= stretch
            mean = decision.usage[there].double().mean(0).nan_to_num(0.0)  # no image may get there
            shares[gate.slot] = dict(zip(gate.alternatives, mean.tolist(), strict=True))
            signs.append((decision.choice & there[:, None]).to(exits.dtype))
        macs = size.image_macs(exits, [decision.usage for decision in decided])
        policies = len(torch.cat(signs, dim=1).unique(dim=0))
        return GateUse(tuple(macs.round().long().tolist()), shares, policies)


def prepare_images(network: Finished, dataset: Dataset, images: Tensor) -> Tensor:
    """Images uint8 [B, C, H, W] as `network` takes them: float32, normalised, resized, on its device."""
    device = next(network.parameters()).device
    return resize(dataset.normalise(images.to(device)), network.config.resolution)


@torch.inference_mode()
def predict_logits(
    network: Network, dataset: Dataset, images: Tensor, batch: int = SCORING_BATCH
) -> tuple[Tensor, ...]:
    """What every exit, then the head, says of images uint8 [N, C, H, W]: logits as `Network.logits`.

    The network must be in eval mode, its batch norm calibrated.
    """
    return predict(network, dataset, images, batch)[0]


@torch.inference_mode()
def predict(
    network: Network, dataset: Dataset, images: Tensor, batch: int = SCORING_BATCH
) -> tuple[tuple[Tensor, ...], tuple[Decision, ...]]:
    """As `predict_logits`, and what every gate decides on all images, those that have left too."""
    batches, decided = [], []
    for part in images.split(batch):
        x = prepare_images(network, dataset, part)
        with decisions() as found:
            # Three times as fast on a CPU.
            batches.append(network.logits(x.contiguous(memory_format=torch.channels_last)))
        decided.append(found)
    return (
        tuple(torch.cat(logits) for logits in zip(*batches, strict=True)),
        tuple(Decision.joined(gate) for gate in zip(*decided, strict=True)),
    )


def accuracy(
    network: Network, dataset: Dataset, split: Literal["train", "search", "test"] = "search"
) -> Accuracy:
    """Accuracy in float32 on a split of `dataset`; thresholds of exits are those of the network's config.

    The network must be in eval mode, its batch norm calibrated.
    """
    part = getattr(dataset, split)
    logits, decided = predict(network, dataset, part.images)
    chosen, exits = leave(logits, network.config.exits)
    right = chosen.argmax(dim=1) == part.labels.to(chosen.device)
    counts = torch.bincount(exits, minlength=len(logits))
    return Accuracy(
        top1=right.float().mean().item(),
        exit_shares=tuple((counts / len(exits)).tolist()),
        gates=GateUse.of(network.config, exits, decided) if decided else None,
    )
