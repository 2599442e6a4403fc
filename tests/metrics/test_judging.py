"""Every exit of a network of one's own class, against the network with other thresholds."""

import pytest
import torch
from support.own_branches import Branchy, undecided

from dynnas.data.given import dataset_of
from dynnas.metrics.accuracy import answers
from dynnas.metrics.budgeted import spend
from dynnas.metrics.judging import judge_network
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork, exits_of


def test_exits_of_ones_own_class_are_judged_with_what_follows_them():
    generator = torch.Generator().manual_seed(0)
    parts = [(torch.rand(40, 3, 16, 16, generator=generator), torch.arange(40) % 5) for _ in range(3)]
    data = dataset_of(tuple(parts))
    torch.manual_seed(0)
    module = undecided(Branchy(op="static"), data.normalise(data.search.images))
    module.scale.data.copy_(
        torch.tensor([3.0, 0.1, -1.0, 1.0, 2.0])
    )  # what an exit says is changed behind it
    network = PlainNetwork(module, (3, 16, 16), 5).eval()
    size = cost_of(network)
    found = judge_network(network, data, data.search, size)
    thresholds = module.exits.thresholds
    assert [place.threshold for place in exits_of(network)] == list(thresholds)

    whole = answers(network, data, data.search)
    spent = spend(found, thresholds, size.exit_macs)
    assert len(set(whole.exits.tolist())) > 1
    assert spent.accuracy == pytest.approx(data.task.score(whole.outputs, data.search.targets)["accuracy"])
    assert list(spent.shares) == pytest.approx((torch.bincount(whole.exits, minlength=3) / 40).tolist())
    used = GateUse.of(size, whole.exits, whole.decided).image_macs
    assert spent.macs == pytest.approx(sum(used) / len(used))

    for number, accuracy in enumerate(found.accuracies):  # all images leave at one exit
        module.exits.thresholds = tuple(0.0 if place == number else 2.0 for place in range(2))
        alone = answers(network, data, data.search)
        assert set(alone.exits.tolist()) == {number}
        assert accuracy == pytest.approx(data.task.score(alone.outputs, data.search.targets)["accuracy"])
