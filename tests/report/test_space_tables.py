"""The tables of a design space."""

from dynnas.language.parser import parse_space
from dynnas.nn.networks.cost import cost
from dynnas.report.tables.space import costs_table, genes_table, size_text
from dynnas.report.tables.table import count
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.moves import largest, smallest

SPACE = parse_space(
    """
name: small
input: {channels: 1, classes: 10, resolutions: [8, 12]}
stem: {width: {from: 8, to: 48, step: 8}}
stages:
  - block: mbconv
    depth: [1, 2, 3]
    width: 16
    expand: [2, 4.5]
    stride: 2
    layers: {0: {op: [static, dynet]}}
  - {block: dwsep, width: 16}
head: {width: 16}
exits: {positions: [stage1.0], count: [0, 1], thresholds: [0.5, 0.9]}
"""
)


def test_parts_that_are_alike_share_a_row() -> None:
    table = genes_table(SPACE)
    choices = {part: choices for part, choices, _ in table.rows}
    assert choices == {
        "input": "resolution 8 12",
        "stem": "width 8..48 step 8",
        "stage1": "depth 1 2 3",
        "stage1.0": "expand 2 4.5, op static dynet",
        "stage1.1 to stage1.2": "expand 2 4.5",
        "stage2": "",
        "stage2.0": "",
        "head": "",
        "exits": "at none stage1.0",
        "exits.stage1.0": "threshold 0.5 0.9",
    }
    fixed = {part: fixed for part, _, fixed in table.rows}
    assert fixed["stage1"] == "width 16, stride 2"
    assert fixed["head"] == "width 16, activation relu, dropout 0"
    assert table.title == "small: 1,008 architectures"


def test_costs_are_those_of_the_module() -> None:
    rows = costs_table(SPACE).rows
    assert [row[0] for row in rows] == ["smallest", "median of 15 random", "largest"]
    for row, network in ((rows[0], smallest(SPACE)), (rows[2], largest(SPACE))):
        config = SPACE.network_config(network)
        size = cost(config)
        assert row[1:] == (
            str(config.resolution),
            str(len(config.blocks)),
            count(size.macs),
            count(size.params),
        )


def test_rectangles_and_heads_of_maps_are_shown_with_their_costs() -> None:
    space = parse_space(
        "input: {resolutions: [[8, 12], [16, 24]]}\nstem: {width: 8, stride: 2}\n"
        "stages: [{width: 8}, {width: 8}]\nhead: {kind: pyramid, neck: 8, finest: 2}\n"
        "exits: {positions: stage1, count: 1, thresholds: [0.5, 0.9], width: 4}\n"
        "data: {task: segmentation}"
    )
    parts = {part: choices for part, choices, _ in genes_table(space).rows}
    assert parts["input"] == "resolution 8 x 12 16 x 24"
    assert parts["exits.stage1"] == "threshold 0.5 0.9"
    smallest_row, _, largest_row = costs_table(space).rows
    network = space.build(largest(space)).eval()
    worst = PlainNetwork(network, (3, 16, 24))
    assert largest_row[1:] == ("16 x 24", "2", *map(count, (cost_of(worst).macs, cost_of(worst).params)))
    assert smallest_row[1] == "8 x 12"


def test_sizes_are_exact_as_long_as_they_can_be_read() -> None:
    assert size_text(1_226_086_968_960) == "1,226,086,968,960"
    assert size_text(1_577_000_000_000_000_000) == "1.58e+18"
