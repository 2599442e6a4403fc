"""How sure an exit is, by every criterion: values worked out by hand, decisions, and what a gate learns."""

import math

import pytest
import torch
from support.networks import config, finished, images, one_after_another
from torch.testing import assert_close

from dynnas.language.parser import parse_space
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.config.vocabulary import CRITERIA
from dynnas.nn.exits.exits import Gate, answers, leave, select_confident, sureness
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.space.moves import largest
from dynnas.supernet.staged import staged_supernet
from dynnas.tasks.builtin.classification import Classification
from dynnas.training.algorithms.exits.early_exits import criterion_loss

SPACE = """
input: {channels: 2, classes: 4, resolutions: 8}
stem: {width: 4}
stages: [{depth: 1, width: [4, 6], block: dwsep}, {depth: 1, width: 6, block: dwsep}]
exits: {positions: stage1, count: 1, thresholds: 0.7, width: [4, 8], criterion: [confidence, learned]}
"""
# Probabilities 1/2, 1/4, 1/8, 1/8: an entropy of 7/4 bits of 2; and four equal ones.
LOGITS = torch.tensor([[4.0, 2.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0]]).log()


def test_values_worked_out_by_hand():
    assert_close(sureness(LOGITS), torch.tensor([0.5, 0.25]))
    assert_close(sureness(LOGITS, "entropy"), torch.tensor([1 - 1.75 / 2, 0.0]))
    gated = torch.cat([LOGITS, torch.tensor([[0.0], [-math.log(3)]])], dim=1)
    assert_close(sureness(gated, "learned"), torch.tensor([0.5, 0.25]))


def test_a_gate_weighs_what_it_is_said_to():
    gate = Gate(4)
    with torch.no_grad():
        gate.weigh.weight.copy_(torch.tensor([[1.0, 10.0, 100.0]]))
        gate.weigh.bias.fill_(1000.0)
    expected = [1000 + 0.5 + 10 * (0.5 - 0.25) + 100 * 1.75 / 2, 1000 + 0.25 + 0 + 100]
    assert_close(gate(LOGITS)[:, 0], torch.tensor(expected))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_lies_between_the_thresholds_ends(criterion):
    output = 30 * torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    output[:3] = torch.tensor([0.0, 200.0, -200.0])[:, None]
    found = sureness(output, criterion)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_criteria_differ_from_exit_to_exit_and_the_gates_column_is_left_out():
    first = torch.tensor([[5.0, 0.0, -9.0], [0.0, 5.0, 9.0], [0.0, 5.0, -9.0]])  # the last column is a gate's
    second, last = torch.tensor([[9.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), torch.zeros(3, 2)
    logits, exits = select_confident((first, second, last), (0.9, 0.9), ("learned", "entropy"))
    assert exits.tolist() == [1, 0, 2]
    assert logits.tolist() == [[9.0, 0.0], [0.0, 5.0], [0.0, 0.0]]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_all_at_once_decides_as_one_by_one(criterion):
    network, batch = finished(config(op="dynet", exits=2, criterion=criterion)), images(40)
    with torch.no_grad():
        logits, exits = leave(network.logits(batch), network.config.exits)
        alone, taken = one_after_another(network, batch)
    assert set(exits.tolist()) == {0, 1, 2}
    assert exits.tolist() == taken
    assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    assert logits.shape == (40, 5)


def test_a_gate_costs_a_weighted_sum_of_three_numbers_and_a_policy_sixteen():
    costs = {
        criterion: count_macs(Network(config(exits=1, criterion=criterion)).eval(), images())[1]
        for criterion in CRITERIA
    }
    assert costs["entropy"] == costs["confidence"] == costs["learned"] - 3 == costs["policy"] - 16 * 3 - 16


def test_a_gate_learns_whether_its_exit_is_right_and_teaches_nothing_else():
    space = parse_space(SPACE)
    supernet = staged_supernet(space, 2, 4).train()
    architecture = largest(space)
    assert architecture["exits.criterion"] == "learned"
    outputs = supernet(architecture, torch.randn(16, 2, 8, 8))
    assert [output.shape for output in outputs] == [(16, 5), (16, 4)]
    labels = torch.arange(16) % 4
    exits = supernet.build.config(architecture).exits
    logits, loss = answers(outputs, exits), criterion_loss(Classification(), outputs, exits, labels)
    right = (logits[0].argmax(1) == labels).float()
    odds = outputs[0][:, -1].sigmoid()
    assert_close(loss, -(right * odds.log() + (1 - right) * (1 - odds).log()).mean())
    loss.backward()
    gradients = {name: weight.grad for name, weight in supernet.named_parameters()}
    learning = {name for name, gradient in gradients.items() if gradient is not None and gradient.any()}
    assert {name.rsplit(".", 1)[-1] for name in learning} == {"gate/weigh/weight", "gate/weigh/bias"}


def test_an_extracted_gate_says_what_the_supernets_does():
    space = parse_space(SPACE)
    supernet, x = staged_supernet(space, 2, 4).train(), torch.randn(8, 2, 8, 8)
    extracted = supernet.extract(largest(space)).train()
    for ours, theirs in zip(supernet(largest(space), x), extracted.logits(resize(x, 8)), strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_without_gates_nothing_is_lost():
    outputs = (torch.randn(3, 5, requires_grad=True), torch.randn(3, 5))
    exits = config(exits=1, criterion="entropy").exits
    assert criterion_loss(Classification(), outputs, exits, torch.zeros(3, dtype=torch.int64)) is None
    assert all(ours is theirs for ours, theirs in zip(answers(outputs, exits), outputs, strict=True))
    assert answers(outputs, ()) == [outputs[-1]]


@pytest.mark.parametrize("criterion", ["confidence", "learned"])
def test_networks_are_stored_with_their_criteria(criterion: str):
    network = config(exits=2, criterion=criterion)
    assert config_to_dict(network)["exits"][0]["config"]["criterion"] == criterion
    assert config_from_dict(config_to_dict(network)) == network


def test_a_space_without_other_criteria_keeps_its_genes_and_keys():
    plain = SPACE.replace(", criterion: [confidence, learned]", "")
    named = SPACE.replace("[confidence, learned]", "confidence")
    assert "exits.criterion" not in {gene.name for gene in parse_space(plain).genes}
    assert largest(parse_space(plain)).key == largest(parse_space(named)).key
    only = parse_space(SPACE.replace("[confidence, learned]", "entropy"))
    assert largest(only)["exits.criterion"] == "entropy"
    assert only.network_config(largest(only)).exits[0].criterion == "entropy"
