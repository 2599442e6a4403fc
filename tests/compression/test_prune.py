"""Pruned networks against the whole one with the dropped channels set to zero."""

from dataclasses import replace

import pytest
import torch
from support.gated import gated_config
from support.networks import config, finished, images

from dynnas.compression.prune import _places, channel_groups, choose_channels, prune, size_of
from dynnas.errors import TrainingError
from dynnas.nn.networks.cost import cost


@torch.no_grad()
def without(network, groups, kept):
    """A copy in which all that belongs to a dropped channel is zero."""
    copy = finished(network.config)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for name, axes in groups.items():
        gone = sorted(set(range(size_of(network.config, axes[0]))) - set(kept[name].tolist()))
        for path, axis in _places(network, axes):
            state[path].index_fill_(axis, torch.tensor(gone, dtype=torch.int64), 0.0)
    copy.load_state_dict(state)
    return copy.eval()


@pytest.mark.parametrize("kind", ["mbconv", "fused_mbconv", "conv", "dwsep"])
@pytest.mark.parametrize("op", ["static", "condconv", "dynet"])
def test_a_pruned_network_is_the_whole_one_without_the_dropped_channels(kind, op):
    network = finished(config(kind, op, exits=1, width=2))
    groups = channel_groups(network.config)
    kept = choose_channels(network, groups, 0.5)
    pruned = prune(network, groups, kept)
    assert cost(pruned.config).params < 0.75 * cost(network.config).params
    x = images(8, seed=3)
    with torch.no_grad():
        for ours, theirs in zip(pruned.logits(x), without(network, groups, kept).logits(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_nothing_dropped_changes_nothing():
    network = finished(config("mbconv", "dyconv", attention="se"))
    groups = channel_groups(network.config)
    whole = {name: torch.arange(size_of(network.config, axes[0])) for name, axes in groups.items()}
    pruned = prune(network, groups, whole)
    assert pruned.config == network.config
    torch.testing.assert_close(pruned(images(4)), network(images(4)), rtol=0, atol=0)


def test_channels_tied_by_a_residual_are_one_group():
    """stage1.1 is residual, so that its input (of stage1.0) and its output are counted together."""
    groups = channel_groups(config("mbconv", exits=1))
    assert {(axis.slot, axis.part) for axis in groups["stage1.0"]} == {
        ("stage1.0", "out"), ("stage1.1", "in"), ("stage1.1", "out"), ("stage2.0", "in"),
        ("exits.stage1.0", "in"),
    }  # fmt: skip
    assert "stage1.1" not in groups
    assert [name for name in groups if name.endswith("hidden")] == [
        "stage1.0 hidden", "stage1.1 hidden", "stage2.0 hidden",
    ]  # fmt: skip


def test_the_smallest_filters_go():
    network = finished(config("conv"))
    groups = {"head width": channel_groups(network.config)["head width"]}
    head = network.slots["head"]
    with torch.no_grad():
        head.widen.conv.weight[[1, 5, 6, 7, 8, 9, 10, 11]] *= 1e-3
        head.classifier.weight[:, [1, 5, 6, 7, 8, 9, 10, 11]] *= 1e-3
    kept = choose_channels(network, groups, 0.5)
    assert kept["head width"].tolist() == [0, 2, 3, 4, 12, 13, 14, 15]


def test_blocks_with_groups_are_left_whole():
    groups = channel_groups(config("basic"))
    assert set(groups) == {"head width"}
    narrow = config("basic")
    with pytest.raises(TrainingError, match="no channels of this network can be dropped"):
        channel_groups(replace(narrow, head=replace(narrow.head, width=0)))


def test_no_residual_appears_by_accident():
    """8 to 12 channels without a residual; if 4 of each were left, there would be one."""
    made = config("mbconv")
    blocks = tuple((slot, replace(block, stride=1)) for slot, block in made.blocks)
    network = finished(replace(made, blocks=blocks))
    groups = channel_groups(network.config)
    kept = choose_channels(network, groups, 0.7)
    pruned = prune(network, groups, kept)
    residual = [
        (before.in_channels == before.out_channels, after.in_channels == after.out_channels)
        for (_, before), (_, after) in zip(network.config.blocks, pruned.config.blocks, strict=True)
    ]
    assert all(before == after for before, after in residual)


def test_a_network_with_gates_is_refused():
    with pytest.raises(TrainingError, match=r"blocks with gates \(stage1.1\) cannot be dropped"):
        channel_groups(gated_config(("skip", "width")))
