"""How ops are found and named."""

import inspect

import pytest
from support.slot_configs import block

from dynnas.errors import SpaceError
from dynnas.nn.by_name import activation
from dynnas.nn.config.vocabulary import DENSE_BLOCK, layer_knobs, operators, refused
from dynnas.nn.facts import HIDDEN_CHANNELS
from dynnas.nn.gates.family import GATES
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.networks.network import build
from dynnas.nn.operators import OPERATORS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.registry import Registry

ORDER = {
    "block": "shuffle_v1 shuffle_v2 fire lowrank conv dwsep sepconv bottleneck ghost mbconv basic "
    "fused_mbconv",
    "op": "static hypernet deformable pac dfn condconv dyconv dynet dynet_layer weightnet",
    "attention": "none eca se cbam",
    "activation": "sign relu relu6 hswish silu dyrelu_a dyrelu_b",
    "gate": "skip halt positions tree routes width channels moe none",
}


@pytest.mark.parametrize("kind", ORDER)
def test_operators_are_in_the_order_of_capacity(kind):
    """`smallest` takes the first of what a space allows, and `largest` the last."""
    expected = ORDER[kind].split()
    assert [name for name in operators(kind) if name in expected] == expected  # others may stand between
    (knob,) = (knob for knob in layer_knobs() if knob.name == kind)
    assert knob.rule.choices == operators(kind)


def test_the_knobs_of_a_layer_are_those_of_its_operators():
    found = {knob.name: knob.when.values for knob in layer_knobs() if knob.when and not knob.when.excluded}
    expected = {
        "expand": ("ghost", "mbconv", "fused_mbconv"),
        "rank": ("lowrank",),
        "experts": ("condconv", "dyconv"),
        "group": ("dynet", "dynet_layer", "weightnet"),
        "splits": ("weightnet",),
        "gate_reads": ("skip", "halt", "tree", "routes", "width", "channels"),
        "gate_experts": ("moe",),
        "gate_tiles": ("positions",),
    }
    for name, users in expected.items():
        assert [user for user in found[name] if user in users] == list(users)


def test_what_makes_no_sense_follows_from_what_operators_require():
    dynamic = set(operators("op")) - {"static"}
    assert {op for op in operators("op") if refused("block", DENSE_BLOCK, "op", op)} == dynamic
    undepthwise = {"fire", "lowrank", "conv", "bottleneck", "basic", "fused_mbconv", DENSE_BLOCK}
    assert {block for block in operators("block") if refused("block", block, "op", "dfn")} == undepthwise
    hidden = {"bottleneck", "mbconv", "basic", "fused_mbconv"}
    for gate in ("tree", "routes", "width", "channels", "moe"):
        allowed = {block for block in operators("block") if not refused("block", block, "gate", gate)}
        assert allowed == hidden
    assert {op for op in KERNELS if not refused("op", op, "gate", "positions")} == {"static", "hypernet"}
    assert {name for name in ACTIVATIONS if refused("activation", name, "gate", "positions")} == {
        "dyrelu_a",
        "dyrelu_b",
    }
    refused_attentions = {name for name in ATTENTIONS if refused("attention", name, "gate", "positions")}
    assert refused_attentions == {*ATTENTIONS} - {"none"}


def test_facts_agree_with_what_the_classes_have():
    for name, kind in BLOCKS.items():
        assert (HIDDEN_CHANNELS in kind.provides) == hasattr(kind, "hidden_channels"), name
    papers = {name for kind in OPERATORS for name, each in OPERATORS[kind].items() if not each.paper}
    assert papers == {"conv", "static", "none", "relu", "relu6", "silu"}
    assert all(gate.paper for gate in GATES.values())


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
