"""A tree of channels: whose are whose, and that an image runs one path alone."""

import pytest
import torch
from support.contexts import executed
from support.gated import of_channels, with_gate
from support.slot_configs import block

from dynnas.errors import SpaceError
from dynnas.nn.gates.costs import alternative_macs
from dynnas.nn.gates.families.tree import PARENTS, paths
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively


def branching(kind="mbconv", **more):
    return with_gate(block(kind, **{"expand": 10.5, **more}), "tree")  # 84 hidden channels


@pytest.mark.parametrize("hidden", range(7, 40))
def test_paths_share_a_trunk_and_then_part(hidden):
    *some, every = paths(hidden)
    by_node = dict(zip(PARENTS, some, strict=True))
    assert every == tuple(range(hidden))
    for node, parent in PARENTS.items():
        if parent:
            assert set(by_node[parent]) < set(by_node[node])
    assert set(by_node["a"]) & set(by_node["b"]) == set(by_node["root"])
    assert set(by_node["aa"]) & set(by_node["ab"]) == set(by_node["a"])
    leaves = [set(by_node[node]) for node in ("aa", "ab", "ba", "bb")]
    assert set().union(*leaves) == set(every)
    sizes = [len(own) for own in some]
    assert sizes == sorted(sizes)
    wider = paths(hidden + 1)
    assert all(mine == theirs[: len(mine)] for mine, theirs in zip(paths(hidden), wider, strict=True))


@pytest.mark.parametrize("hidden", range(1, 7))
def test_no_path_is_empty_in_a_narrow_block(hidden):
    assert all(paths(hidden))


@pytest.mark.parametrize("node", range(8))
@torch.no_grad()
def test_each_path_is_a_block_of_its_own_channels(node):
    """By hand: a narrower block with the weights of these channels."""
    config = branching()
    module = lively(build(config)).eval()
    module = executed(module, "real")
    module.gate[0].expand.weight.zero_()
    module.gate[0].logits_by_target.zero_()
    module.gate[0].expand.bias.copy_(torch.eye(8)[node])
    own = torch.tensor(paths(84)[node])
    narrow = of_channels(module, own)
    x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), narrow(x))


def test_what_paths_cost():
    names, macs, full = alternative_macs(branching(), 4)
    assert names == ("root", "a", "b", "aa", "ab", "ba", "bb", "all")
    gate = macs[-1] - full
    seventh = 12 * 16 * (8 + 9 + 8)
    assert [cost - gate for cost in macs] == [seventh * count for count in (1, 2, 2, 3, 3, 3, 3, 7)]


def test_a_block_without_hidden_channels_has_no_tree():
    with pytest.raises(SpaceError, match="gate 'tree': block 'conv' has no hidden channels"):
        build(branching("conv"))
