"""How ops are found and named."""

import pytest
from slot_configs import block

from dynnas.errors import SpaceError
from dynnas.ops import ATTENTIONS, BLOCKS, KERNELS, build
from dynnas.ops.layers import activation
from dynnas.ops.registry import Registry


def test_what_space_files_may_name_is_registered():
    assert set(BLOCKS) == {"conv", "dwsep", "mbconv"}
    assert set(KERNELS) == {"static", "condconv", "dyconv", "dynet"}
    assert set(ATTENTIONS) == {"none", "se"}


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(
        SpaceError, match="unknown block 'mbcon': known are conv, dwsep, mbconv; did you mean 'mbconv'"
    ):
        build(block("mbcon"))
    with pytest.raises(SpaceError, match="unknown activation 'gelu': known are relu, relu6, hswish, silu"):
        activation("gelu")


def test_a_name_is_registered_once():
    registry = Registry("dish")
    registry.register("soup")(1)
    with pytest.raises(ValueError, match="dish 'soup' is already registered: 1"):
        registry.register("soup")(2)
