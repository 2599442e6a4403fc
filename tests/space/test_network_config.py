"""From architectures to networks, and the configs that cover them."""

import random
from dataclasses import replace

import pytest

from dynnas.language.parser import parse_space
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig, ExitConfig, HeadConfig, SlotConfig, StemConfig
from dynnas.space.moves import enumerate_all, largest, sample, smallest
from dynnas.space.space import Space


def test_the_largest_network_written_out() -> None:
    space = parse_space(
        """
        input: {channels: 1, classes: 4, resolutions: [8, 16]}
        stem: {width: [4, 8], stride: 2, activation: silu}
        stages:
          - {block: dwsep, depth: [1, 2], width: [8, 16], stride: 2, kernel: 5, op: condconv, experts: 3}
          - {width: 32, expand: 2, op: dynet, group: 2, attention: se, activation: hswish}
        head: {width: 64, dropout: 0.1}
        exits: {positions: stage1, count: 1, thresholds: 0.7, width: 24}
        """
    )
    network = space.network_config(largest(space))
    first = BlockConfig(Choice("dwsep"), 8, 16, 2, 5, Choice.of("condconv", experts=3))
    assert (network.channels, network.classes, network.resolution) == (1, 4, 16)
    assert network.stem == StemConfig(1, 8, 3, 2, "silu")
    assert network.blocks == (
        ("stage1.0", first),
        ("stage1.1", replace(first, in_channels=16, stride=1)),
        (
            "stage2.0",
            BlockConfig(
                Choice.of("mbconv", expand=2.0),
                *(16, 32, 1, 3),
                Choice.of("dynet", group=2),
                Choice("se"),
                Choice("hswish"),
            ),
        ),
    )
    assert [(place.slot, place.after, place.threshold) for place in network.exits] == [
        ("exits.stage1", "stage1.1", 0.7)
    ]
    assert network.exits[0].config == ExitConfig(16, 24, "relu", 4)
    assert network.head == HeadConfig(32, 64, "relu", 0.1, 4)
    assert network.dynamic


def test_an_exit_follows_its_stages_last_active_block(everything: Space) -> None:
    values = {**largest(everything), "exits.at": "stage1+stage3.0", "stage1.depth": 1}
    values |= {"exits.stage1.threshold": 0.9, "exits.stage3.0.threshold": 0.7}
    network = everything.network_config(everything.architecture(values))
    assert [(place.after, place.threshold) for place in network.exits] == [
        ("stage1.0", 0.9),
        ("stage3.0", 0.7),
    ]


def test_channels_and_classes_come_from_the_caller_then_the_file_then_the_defaults(everything: Space) -> None:
    architecture = smallest(everything)
    assert everything.network_config(architecture).stem.in_channels == 1
    assert everything.network_config(architecture, channels=4, classes=7).head.classes == 7
    open_space = parse_space("input: {resolutions: 8}\nstem: {width: 8}\nstages: [{width: 16}]")
    network = open_space.network_config(largest(open_space))
    assert (network.channels, network.classes) == (3, 10)


NUMBERS = ("in_channels", "out_channels", "width", "kernel")


def covers(large: SlotConfig, small: SlotConfig) -> bool:
    """Whether `large` is of the same kind, and no number that sizes a weight is less than in `small`."""
    if type(large) is not type(small):
        return False
    if (
        isinstance(large, HeadConfig)
        and isinstance(small, HeadConfig)
        and bool(large.width) != bool(small.width)
    ):
        return False
    for name, value in vars(small).items():
        other = getattr(large, name)
        if name in NUMBERS and value is not None:
            if other is None or other < value:
                return False
        elif isinstance(value, Choice):
            if other.name != value.name or any(other[knob] < number for knob, number in value.params):
                return False
        elif name not in ("stride", "dropout") and other != value:
            return False
    return True


def test_covering_configs_cover_every_network(everything: Space) -> None:
    covering = everything.covering_configs(1, 10)
    rng = random.Random(0)
    seen: set[str] = set()
    for _ in range(300):
        for slot, config in everything.network_config(sample(everything, rng), 1, 10).slots():
            assert any(covers(large, config) for large in covering[slot]), (slot, config)
            seen.add(slot)
    assert seen == set(covering)


def test_covering_configs_hold_only_what_can_occur(everything: Space) -> None:
    covering = everything.covering_configs(1, 10)
    kinds = {(config.block.name, config.op.name) for config in covering["stage1.0"]}
    assert kinds == {("conv", "static")}  # by the override of the layer
    knobs = {(config.block.get("expand"), *config.op.params) for config in covering["stage1.2"]}
    assert knobs == {
        (expand, *own) for expand in (None, 2.0) for own in ((), (("experts", 8),), (("group", 3),))
    }
    assert len(covering["stage1.2"]) == 3 * 4 * 2
    assert [config.width for config in covering["head"]] == [64, 64, 0]


def test_a_restricted_space_covers_less(everything: Space) -> None:
    static = everything.restrict({"op": ["static"], "exits.at": ["none", "stage1"]})
    covering = static.covering_configs(1, 10)
    assert {config.op.name for config in covering["stage2.1"]} == {"static"}
    assert [slot for slot in covering if slot.startswith("exits")] == ["exits.stage1"]


@pytest.mark.parametrize("count", [0, 1, 2, [0, 2]])
def test_the_number_of_exits_is_one_of_those_allowed(count: int | list[int]) -> None:
    space = parse_space(
        f"""
        input: {{resolutions: 8}}
        stem: {{width: 8}}
        stages: [{{width: 8, depth: 2}}, {{width: 8, depth: 2}}]
        exits: {{positions: [stage2.0, stage1, stage1.0], count: {count}}}
        """
    )
    found = {len(space.network_config(architecture).exits) for architecture in enumerate_all(space)}
    assert found == set(count if isinstance(count, list) else [count])
