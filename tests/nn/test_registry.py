"""How ops are found and named."""

import pytest
from support.slot_configs import block

from dynnas.errors import SpaceError
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.layers import activation
from dynnas.nn.networks.network import build
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.registry import Registry
from dynnas.space.config import vocabulary


def test_space_files_may_name_what_is_registered():
    assert set(vocabulary.BLOCKS) == set(BLOCKS)
    assert set(vocabulary.OPS) == set(KERNELS)
    assert set(vocabulary.ATTENTIONS) == set(ATTENTIONS)
    assert set(vocabulary.ACTIVATIONS) == set(ACTIVATIONS)


def test_space_files_size_the_banks_as_the_ops_do():
    fields = {name: kernel.bank_field for name, kernel in KERNELS.items()}
    assert {name for name, field in fields.items() if field == "experts"} == set(vocabulary.EXPERT_OPS)
    assert {name for name, field in fields.items() if field == "group"} == set(vocabulary.GROUP_OPS)


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(SpaceError, match=r"unknown block 'mbcon' \(did you mean 'mbconv'\?\); known: "):
        build(block("mbcon"))
    with pytest.raises(SpaceError, match=r"unknown activation 'gelu' \(did you mean 'relu'\?\); known: "):
        activation("gelu", 8)


def test_a_name_is_registered_once():
    registry = Registry("dish")
    registry.register("soup")(1)
    with pytest.raises(ValueError, match="dish 'soup' is already registered by 1; 2 must have another name"):
        registry.register("soup")(2)
