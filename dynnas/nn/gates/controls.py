"""Controls for a learned gate: gates that say the same of every image, or something random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import Gated
from dynnas.nn.layers.naming import named
from dynnas.nn.networks.network import Network, slot_module
from dynnas.nn.networks.resolution import ResolutionGate

SURE = 20.0
"""A logit whose sigmoid is 1 within rounding."""


class ConstantLogits(nn.Module):
    """A module that gives the same logits for every image, and costs nothing."""

    logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        """Keep `logits` (..., L)."""
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, ..., L)."""
        return self.logits.expand(x.shape[0], *self.logits.shape).to(x)


class RandomLogits(ConstantLogits):
    """A module that draws one alternative by its softmax probability, whatever the image shows.

    An image always gets the same draw, which depends on the last digits of its mean: so both executions agree
    without a state, and so does an image alone with the same image in a batch. Gates of one network need
    different salts: the gate after a skipped block sees what that of the block saw.
    """

    def __init__(self, logits: Tensor, salt: int) -> None:
        """Keep `logits` (..., L)."""
        super().__init__(logits)
        self.salt = salt

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, ..., L)."""
        # Rounded, as layouts differ in the last bits.
        mean = (x.mean((1, 2, 3)).double() * 1e5).round().long()
        places = torch.arange(1, self.logits.numel() + 1, device=x.device).view_as(self.logits)
        numbers = mean.view(-1, *(1 for _ in places.shape)) * 1_000_003 + places + self.salt * 2**40
        uniform = _scrambled(numbers).clamp(1e-9, 1 - 1e-9)
        return (self.logits - torch.log(-torch.log(uniform))).to(x)


class Stopping(nn.Module):
    """The single logit of a gate that halts, made from a draw of two: go on, or stop."""

    def __init__(self, drawn: nn.Module) -> None:
        """`drawn` gives two logits."""
        super().__init__()
        self.drawn = drawn

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 1)."""
        go_on, stop = self.drawn(x).split(1, dim=1)
        return SURE * (stop - go_on).sign()


def _scrambled(numbers: Tensor) -> Tensor:
    """Hash integers to uniform values in 0..1 (splitmix64: Steele et al. 2014)."""
    # Factors as signed numbers; torch's shift to the right brings the sign along, which is masked away.
    numbers = numbers * -0x61C8864680B583EB
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        numbers = (numbers ^ ((numbers >> shift) & (2 ** (64 - shift) - 1))) * factor
    return ((numbers >> 11) & (2**53 - 1)).double() / 2**53


def hold_gates(network: Network, shares: Mapping[str, Tensor | Sequence[float]], random: bool) -> None:
    """Replace what gates see by a constant, or by draws that do not look at the image.

    Args:
        network: with its gates, changed in place.
        shares: for gated blocks, how often each of their logits is to be the largest: of `skip`, `width`
            and `routes` the alternatives, of `channels` the hidden channels, of `moe` the experts, of
            `positions` for each tile (tiles, 2) not to run and to run it; of `resolution` the sizes. Of
            `halt`, how often the block is not run, and is: of a run of blocks all must be told. Others keep
            their gates.
        random: draw so; else every image gets the most frequent, or the most frequent channels.
    """
    told = {slot: torch.as_tensor(wanted, dtype=torch.float64) for slot, wanted in shares.items()}
    told |= _stops(network.config, told)
    for salt, (slot, wanted) in enumerate(told.items()):
        gated = network.slots[slot_module(slot)]
        logits = wanted.clamp(min=1e-9).log()
        logits = logits.to(next(network.parameters()).device)
        control = RandomLogits(logits, salt) if random else ConstantLogits(logits)
        if isinstance(gated, ResolutionGate):
            gated.look = nn.Sequential(control)
            continue
        assert isinstance(gated, Gated)
        gated.gate = named(gated.config.gate.name, Stopping(control) if gated.ends_runs else control)


def _stops(config: NetworkConfig, shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return how often to go on and to stop, so that the later blocks of a run are run as often as before."""
    halting = {slot for slot, block in config.gated if GATES[block.gate.name].ends_runs and slot in shares}
    found = {slot: torch.tensor([1.0, 0.0], dtype=torch.float64) for slot in halting}  # where a run ends
    for (slot, _), (following, _) in pairwise(config.blocks):
        if slot in halting and following in halting:
            go_on = (shares[following][1] / shares[slot][1].clamp(min=1e-9)).clamp(0, 1)
            found[slot] = torch.stack([go_on, 1 - go_on])
    return {slot: found[slot] for slot in shares if slot in halting}
