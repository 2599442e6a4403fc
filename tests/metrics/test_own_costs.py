"""What networks of one's own class cost, and when a search asks for it before an evaluation."""

import torch
from support.own_networks import ViT

from dynnas.pareto.objectives import Goal
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.search.evaluator import cheap_of


def test_the_products_of_attention_count_on_every_device():
    dim, depth, heads, ratio, patch, size, classes = 32, 2, 4, 2.0, 4, 16, 5
    tokens = (size // patch) ** 2 + 1
    layer = tokens * dim * (3 * dim + dim + 2 * int(dim * ratio)) + 2 * tokens**2 * dim
    expected = (tokens - 1) * 3 * patch**2 * dim + depth * layer + dim * classes
    for device in ("cpu", "meta"):
        with torch.device(device):
            network = PlainNetwork(ViT(dim, depth, heads, ratio, patch, size, classes).eval(), (3, 16, 16), 5)
        assert cost_of(network).macs == expected


class Evaluator:
    """Knows multiply-adds, for a price."""

    cheap_metrics = ("macs", "params")

    def cheap(self, architecture):
        return {"macs": 1.0, "params": 2.0}

    def evaluate(self, architecture):
        return {"accuracy": 0.5}


def test_multiply_adds_are_counted_only_where_they_are_asked_for():
    evaluator = Evaluator()
    assert cheap_of(evaluator, Goal.of(["accuracy", "macs"])) == evaluator.cheap
    assert cheap_of(evaluator, Goal.of(["accuracy", "latency_ms"], {"params": 10})) == evaluator.cheap
    assert cheap_of(evaluator, Goal.of(["accuracy", "latency_ms"])) is None
