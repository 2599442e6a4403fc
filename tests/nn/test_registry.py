"""How ops are found and named."""

import inspect

import pytest
from support.slot_configs import block

from dynnas.errors import SpaceError
from dynnas.nn.by_name import activation
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.networks.network import build
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.registry import Registry
from dynnas.space.config import vocabulary
from dynnas.space.knob import names


def test_space_files_may_name_what_is_registered():
    assert set(vocabulary.BLOCKS) == set(BLOCKS)
    assert set(vocabulary.OPS) == set(KERNELS)
    assert set(vocabulary.ATTENTIONS) == set(ATTENTIONS)
    assert set(vocabulary.ACTIVATIONS) == set(ACTIVATIONS)


def test_space_files_size_the_banks_as_the_ops_do():
    fields = {name: names(kernel.knobs) for name, kernel in KERNELS.items()}
    assert {name for name, own in fields.items() if "experts" in own} == set(vocabulary.EXPERT_OPS)
    assert {name for name, own in fields.items() if "group" in own} == set(vocabulary.GROUP_OPS)


@pytest.mark.parametrize("op", [op for op, kernel in KERNELS.items() if kernel.knobs])
def test_knobs_are_the_arguments_of_the_constructor_and_of_the_router(op):
    kernel = KERNELS[op]
    knobs = {knob.name: knob.default for knob in kernel.knobs}
    for function in (kernel.__init__, kernel.router):
        arguments = list(inspect.signature(function).parameters.values())[2:]
        assert {each.name: each.default for each in arguments if each.kind is not each.VAR_KEYWORD} in (
            knobs,
            {},  # an op whose layers have routers of their own
        )


def test_ops_are_in_the_order_of_capacity():
    assert tuple(KERNELS) == vocabulary.OPS


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
