"""Networks of one supernet that see an image at a glance first."""

import random

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.space.moves import sample
from dynnas.supernet.staged import staged_supernet

SPACE = parse_space("""
input: {channels: 2, classes: 5, resolutions: [6, 8, 12], choose: [fixed, glance]}
stem: {width: [4, 8]}
stages:
- {block: mbconv, depth: [1, 2], width: [8, 12], stride: 2, kernel: [3, 5], expand: [1, 2], op: [static,
   dyconv], attention: [none, se]}
head: {width: [0, 8]}
""")  # fmt: skip


def drawn(count):
    rng = random.Random(0)
    looking = SPACE.restrict({"resolution.choose": ["glance of 12"]})
    return [SPACE.architecture(dict(sample(looking, rng))) for _ in range(count)]


@pytest.mark.parametrize("architecture", drawn(5))
@pytest.mark.parametrize("training", [True, False])
def test_extracted_equals_elastic(architecture, training):
    supernet = staged_supernet(SPACE, channels=2, classes=5)
    with torch.no_grad():
        supernet.slots["focus"].get_parameter("score/weight").normal_(std=3.0)
    network = supernet.extract(architecture).train()
    # Norms of the batch in both; only the crop differs between training and use.
    network.training = supernet.training = training
    for slot in supernet.slots.values():
        slot.training = True
    x = torch.randn(12, 2, 12, 12)
    torch.manual_seed(1)
    elastic = supernet(architecture, x)
    torch.manual_seed(1)
    extracted = network.logits(x)
    for one, other in zip(elastic, extracted, strict=True):
        assert torch.equal(one, other)
    if training:
        for outputs in (elastic, extracted):
            sum(logits.square().sum() for logits in outputs).backward()
        own = network.slots["focus__stem"].conv.weight.grad
        shared = supernet.slots["focus__stem"].get_parameter("conv/weight").grad[: len(own)]
        torch.testing.assert_close(shared, own, rtol=1e-4, atol=1e-5)
        assert supernet.slots["focus"].get_parameter("score/weight").grad.abs().sum() > 0


def test_the_second_look_has_weights_of_its_own():
    supernet = staged_supernet(SPACE, channels=2, classes=5)
    network = supernet.extract(drawn(1)[0])
    assert not torch.equal(network.slots["stem"].conv.weight, network.slots["focus__stem"].conv.weight)
