"""What gates cost: counted for each image on what it really runs."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from support import networks
from support.combinations import combinations
from support.contexts import decisions
from support.gated import gated_config, macs_of_runs, undecided
from support.slot_configs import gated

from dynnas.metrics.accuracy import accuracy
from dynnas.nn.exits.exits import select_confident
from dynnas.nn.gates.costs import alternative_macs
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse

GATES = (("skip", "width"), ("channels", "skip"), ("width", "channels"), ("skip", "moe"))
CASES = [*product(GATES, ("static", "dyconv", "dynet")), (("positions", "moe"), "static")]


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("case", "exits"), combinations(CASES, [0, 1], every=2))
@torch.no_grad()
def test_an_image_costs_what_it_runs(case, exits):
    gates, op = case
    network = undecided(gated_config(gates, op=op, exits=exits), seed=1)
    x = networks.images(24)
    with decisions(network) as found:
        logits = network.logits(x)
    thresholds = [place.threshold for place in network.config.exits]
    _, left = select_confident(logits, thresholds)
    use = GateUse.of(cost(network.config), left, found)
    assert list(use.image_macs) == macs_of_runs(network, x, left.tolist())
    assert max(use.image_macs) <= cost(network.config).macs
    if set(gates) != {"channels"}:
        assert len(set(use.image_macs)) > 1


def test_a_width_costs_what_a_block_of_that_width_does_and_the_gate():
    config = networks.block("mbconv", "static", 8, 8)
    names, macs, full = alternative_macs(gated(config, "width"), 12)
    assert names == ("0.25", "0.5", "0.75", "1")
    pixels = 12 * 12
    gate = 8 * 4 + 4 * 4
    # Expand 8 -> h, 3x3 depthwise, project h -> 8.
    assert list(macs) == [pixels * (8 * h + 9 * h + h * 8) + gate for h in (4, 8, 12, 16)]
    assert full == macs[-1] - gate


def test_a_skipped_block_costs_its_gate():
    config = gated(networks.block("conv", "static", 8, 8), "skip")
    _, macs, full = alternative_macs(config, 12)
    assert macs == (8 * 4 + 4 * 2, 8 * 4 + 4 * 2 + 8 * 8 * 9 * 144)
    assert full == 8 * 8 * 9 * 144


def test_channels_cost_the_same_for_every_image():
    config = gated(networks.block("basic", "static", 8, 8), "channels", 0.4)
    _, macs, _ = alternative_macs(config, 12)
    gate = 8 * 4 + 4 * 8
    assert macs == (144 * 9 * 2 * 8 * 3 + gate, 144 * 9 * 2 * 8 * 8 + gate)


def test_shares_are_of_the_images_that_get_there_and_policies_are_counted():
    network = undecided(gated_config(("skip", "width"), exits=1))
    dataset = networks.noise()
    score = accuracy(network, dataset, "search")
    assert score.gates is not None
    assert list(score.gates.shares) == ["stage1.1", "stage2.0"]
    for shares in score.gates.shares.values():
        assert sum(shares.values()) == pytest.approx(1)
    assert 2 <= score.gates.policies <= 1 + 2 * 4
    # Those that leave first have decided nothing.
    early = replace(network.config.exits[0], threshold=0.0)
    network.config = replace(network.config, exits=(early,))
    score = accuracy(network, dataset, "search")
    assert score.gates.policies == 1
    assert set(score.gates.image_macs) == {cost(network.config).exit_macs[0]}
    assert set(score.gates.shares["stage1.1"].values()) == {0.0}


def test_a_network_without_gates_has_no_such_figures():
    network = networks.finished(networks.config(exits=1))
    assert accuracy(network, networks.noise()).gates is None
    assert cost(network.config).gates == ()
