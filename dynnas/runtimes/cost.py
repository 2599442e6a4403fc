"""The cost of a finished network: a staged one is counted by its config, any other class in runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dynnas.nn.context import Context, supplied
from dynnas.nn.exits.early_exits import ExitMode
from dynnas.nn.gates.costs import GateCost, gate_costs_of
from dynnas.nn.gates.gate import Gated
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.cost import Cost, cost
from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork, blank_images


def cost_of(network: Network | PlainNetwork) -> Cost:
    """Return the cost of a finished network, staged or of any class; that of a class is counted in runs.

    Weights that modules share count once.
    """
    return _counted(network) if isinstance(network, PlainNetwork) else cost(network.config)


@torch.no_grad()
def _counted(network: PlainNetwork) -> Cost:
    """Return the cost by runs on a blank image up to every exit, with all gates open."""
    network.eval()
    like = next(network.parameters(), torch.empty(0))
    image = blank_images(network.config).to(like.device, like.dtype)
    gates: tuple[GateCost, ...] = ()
    if network.config.gated:
        gates = gate_costs_of(network, lambda: network(image))
    early = len(network.config.ways) - 1
    exit_macs: list[int] = []
    stretches: list[int] = []
    for number in range(early + 1):
        modes = Context(GateMode(choice="all"), ExitMode(number if early else None))
        with _calls_of_gates(network) as calls, supplied(network, modes):
            _, macs = count_macs(network, image)
        exit_macs.append(macs + sum(max(gate.macs) - gate.full for gate in gates[: len(calls)]))
        stretches += [number] * (len(calls) - len(stretches))
    params = sum(parameter.numel() for parameter in network.parameters())
    return Cost(exit_macs[-1], params, tuple(exit_macs), gates, tuple(stretches))


@contextmanager
def _calls_of_gates(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Yield a list of the gates that run meanwhile, in their order."""
    calls: list[nn.Module] = []
    gates = [module for module in network.modules() if isinstance(module, Gated)]
    handles = [gate.register_forward_pre_hook(lambda gate, _: calls.append(gate)) for gate in gates]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
