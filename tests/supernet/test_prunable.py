"""Channels dropped from modules of any class, against the modules with those channels set to zero."""

import copy

import pytest
import torch
from support.mynet import MyNet
from support.own_branches import Branchy, undecided
from support.textures import texture_net
from torch import nn

import dynnas as dn
from dynnas.errors import TrainingError
from dynnas.space.moves import largest
from dynnas.supernet.prunable import PrunableModule


def converted():
    """A member of a converted network with a gate and an exit, whose class is no longer its own."""
    space = dn.elastic(texture_net(), torch.zeros(1, 1, 16, 16), gates=(0.5,), exits="early")
    chosen = {"exits.at": "early", "exits.threshold": 0.5, "early.0.gate": "skip 0.5"}
    return space.build({**largest(space), **chosen})


def plain():
    torch.manual_seed(0)
    return MyNet(2, 16).eval()


@torch.no_grad()
def without(module, found, widths):
    """A copy of a module in which all that the dropped channels have is zero."""
    module = copy.deepcopy(module)
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    for name, group in found.groups.items():
        gone = torch.from_numpy(~group.kept(widths[name] * group.each))
        for place in group.places:
            if place.tensor in tensors and not place.tensor.endswith("running_var"):
                channels = torch.from_numpy(place.channels)
                rows = (channels >= 0) & gone[channels.clamp(min=0)]
                tensors[place.tensor].movedim(place.axis, 0)[rows] = 0
    return module


@pytest.mark.parametrize(("make", "shape"), [(plain, (1, 8, 8)), (converted, (1, 16, 16))])
def test_a_pruned_module_computes_what_is_left(make, shape):
    module = make()
    found = PrunableModule.of(module, shape)
    widths = found.widths(0.5)
    pruned = found.pruned(widths)
    assert type(pruned) is type(module)
    assert sum(each.numel() for each in pruned.parameters()) < sum(e.numel() for e in module.parameters())
    images = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), without(module, found, widths)(images))
    # Another module of the class gets the same shapes by the same numbers.
    like = PrunableModule.of(make(), shape).pruned(widths)
    like.load_state_dict(pruned.state_dict())
    assert not any(name.partition(".gate.")[1] for name in found.groups)


def test_counts_are_rounded_up_for_vector_registers():
    found = PrunableModule.of(plain(), (1, 8, 8))
    assert found.widths(0.3) == {"stem.0.width": 12}  # 11.2 of 16
    assert found.widths(0.9) == {"stem.0.width": 4}
    narrow = PrunableModule.of(MyNet(2, 8).eval(), (1, 8, 8))
    assert narrow.widths(0.3) == {"stem.0.width": 6}  # 5.6 of 8


def test_scores_decide_what_stays():
    module = plain()
    scores = {"stem.0.weight": torch.zeros(16, 1, 3, 3)}
    scores["stem.0.weight"][[2, 3, 5, 7, 11, 13, 14, 15]] = 1
    pruned = PrunableModule.of(module, (1, 8, 8)).ordered(scores).pruned({"stem.0.width": 8})
    assert torch.equal(pruned.stem[0].weight, module.stem[0].weight[[2, 3, 5, 7, 11, 13, 14, 15]])


def test_gates_banks_and_exits_stay():
    torch.manual_seed(0)
    module = undecided(Branchy(), torch.randn(16, 3, 16, 16))
    found = PrunableModule.of(module, (3, 16, 16))
    assert found.groups.keys() == {"exits.stages.0.0.width", "exits.stages.1.0.0.width"}
    pruned = found.pruned(found.widths(0.5))
    images = torch.randn(4, 3, 16, 16)
    assert pruned(images).shape == (4, 5)
    assert pruned.mix.conv.weight.shape == module.mix.conv.weight.shape


def test_what_has_no_channels_is_refused_with_the_reason():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 4)

        def forward(self, x):
            return self.fc(x.flatten(1))

    with pytest.raises(TrainingError, match=r"prune: no channels .* fc: is the network's output"):
        PrunableModule.of(Linear().eval(), (1, 8, 8))
    with pytest.raises(TrainingError, match=r"has no channels 'stem\.width'"):
        PrunableModule.of(plain(), (1, 8, 8)).pruned({"stem.width": 8})


def test_earlier_weights_lose_the_same_channels():
    module = plain()
    early = plain()
    with torch.no_grad():
        for value in early.parameters():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(7)))
    found = PrunableModule.of(module, (1, 8, 8))
    widths = found.widths(0.5)
    (group,) = found.groups.values()
    kept = torch.from_numpy(group.kept(8 * group.each))
    assert torch.equal(found.rewound(early).pruned(widths).stem[0].weight, early.stem[0].weight[kept])
    assert torch.equal(found.pruned(widths).stem[0].weight, module.stem[0].weight[kept])
