"""Branches of a block: whose channels are whose, and that an image runs one of them alone."""

import pytest
import torch
from support.contexts import decisions, executed
from support.gated import of_channels, with_gate
from support.slot_configs import block, pictures

from dynnas.errors import SpaceError
from dynnas.nn.gates.costs import alternative_macs
from dynnas.nn.gates.families.routes import branches
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively


def routed(kind="mbconv", **more):
    return with_gate(block(kind, **{"expand": 3.0, **more}), "routes")


def always(module, alternative):
    """`module`, executed for real, whose gate says the same of every image."""
    module = executed(module, "real")
    with torch.no_grad():
        module.gate[0].expand.weight.zero_()
        module.gate[0].logits_by_target.zero_()
        module.gate[0].expand.bias.copy_(torch.eye(4)[alternative])
    return module


@pytest.mark.parametrize("hidden", range(1, 40))
def test_branches_share_out_the_channels_and_grow(hidden):
    *some, every = branches(hidden)
    assert every == tuple(range(hidden))
    sizes = [len(own) for own in some]
    assert sizes == sorted(sizes)
    assert min(sizes) > 0
    if hidden >= 3:
        assert sorted(place for own in some for place in own) == list(every)
    if hidden % 7 == 0:
        assert sizes == [hidden // 7, 2 * hidden // 7, 4 * hidden // 7]
    wider = branches(hidden + 1)
    if hidden >= 3:  # a narrower block has the leading channels of each
        assert all(mine == theirs[: len(mine)] for mine, theirs in zip(branches(hidden), wider, strict=True))


@pytest.mark.parametrize("alternative", range(4))
@torch.no_grad()
def test_each_branch_is_a_block_of_its_own_channels(alternative):
    """By hand: a narrower block with the weights of these channels, which no other branch's matter to."""
    config = routed()
    module = always(lively(build(config)).eval(), alternative)
    own = torch.tensor(branches(24)[alternative])
    narrow = of_channels(module, own)
    x = pictures(3)
    found = module(x)
    torch.testing.assert_close(found, narrow(x))
    others = [place for place in range(24) if place not in own.tolist()]
    module.block.expand.conv.weight[others] = 9.0
    module.block.project.conv.weight[:, others] = 9.0
    torch.testing.assert_close(module(x), found)


def test_what_branches_cost_and_that_their_gate_tells_images_apart():
    config = routed(expand=3.5)  # 28 hidden channels: 4, 8, 16 and all
    names, macs, full = alternative_macs(config, 4)
    assert names == ("1/7", "2/7", "4/7", "all")
    channel = 16 * (8 + 9 + 8)
    assert full == 28 * channel
    gate = macs[3] - full
    assert [cost - gate for cost in macs] == [4 * channel, 8 * channel, 16 * channel, 28 * channel]
    torch.manual_seed(0)
    module = build(config).eval()
    with torch.no_grad():
        module.gate[0].expand.weight.mul_(9)
        module.gate[0].expand.bias.zero_()
        with decisions(module) as found:
            module(pictures(60))
    assert len(found[0].choice.unique(dim=0)) > 1


def test_a_block_without_hidden_channels_has_no_branches():
    with pytest.raises(SpaceError, match="gate 'routes': block 'conv' has no hidden channels"):
        build(routed("conv"))
