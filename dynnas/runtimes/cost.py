"""The cost of a finished network: a staged one is counted by its config, any other class in runs."""

from __future__ import annotations

import torch

from dynnas.nn.context import Context, supplied
from dynnas.nn.early_exits import ExitMode
from dynnas.nn.gates.costs import GateCost, gate_costs_of
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.cost import Cost, cost
from dynnas.nn.networks.network import Network
from dynnas.runtimes.images import blank_images
from dynnas.runtimes.plain import PlainNetwork


def cost_of(network: Network | PlainNetwork) -> Cost:
    """Return the cost of a finished network, staged or of any class; that of a class is counted in runs.

    Weights that modules share count once.
    """
    return _counted(network) if isinstance(network, PlainNetwork) else cost(network.config)


@torch.no_grad()
def _counted(network: PlainNetwork) -> Cost:
    """Run it on a blank image up to every exit, with all gates open."""
    like = next(network.parameters(), torch.empty(0))
    image = blank_images(network.config).to(like.device, like.dtype)
    params = sum(parameter.numel() for parameter in network.parameters())
    early = len(network.config.ways) - 1
    exit_macs: list[int] = []
    gates: tuple[GateCost, ...] = ()
    stretches: list[int] = []
    for number in range(early + 1):
        leaving = ExitMode(number if early else None)
        with supplied(network, Context(GateMode(choice="all"), leaving)):
            _, macs = count_macs(network.eval(), image)
        if network.config.gated:
            gates = gate_costs_of(network, lambda: network(image), Context(leaving))
            macs += sum(max(gate.macs) - gate.full for gate in gates)
            stretches += [number] * (len(gates) - len(stretches))
        exit_macs.append(macs)
    return Cost(exit_macs[-1], params, tuple(exit_macs), gates, tuple(stretches))
