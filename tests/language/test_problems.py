"""Every way in which a space file can be wrong: what is said, and where."""

from pathlib import Path

import pytest
from support.refusals import problems_in

from dynnas.language.parser import load_space, parse_space
from dynnas.language.problems import SpaceFileError

NETWORK = """
input: {INPUT}
stem: {STEM}
stages:
  - {STAGE}
  - {LAST}
head: {HEAD}
"""
LEGAL = {
    "INPUT": "resolutions: 8",
    "STEM": "width: 8",
    "STAGE": "width: [8, 16]",
    "LAST": "width: 16",
    "HEAD": "width: 32",
}


def network(extra: str = "", **changes: str) -> str:
    text = NETWORK
    for name, section in {**LEGAL, **changes}.items():
        text = text.replace(f"{{{name}}}", f"{{{section}}}")
    return text + extra


def test_the_legal_text_is_legal() -> None:
    assert parse_space(network()).size == 2


def check_problems(marked: str, *messages: str) -> None:
    """The text without its marks has these problems, beginning so, one at each `@`."""
    lines = marked.split("\n")
    places = [(row, column) for row, line in enumerate(lines, 1) for column in _columns(line)]
    found = problems_in(marked.replace("@", ""), "f.yaml")
    expected = [
        f"f.yaml:{row}:{column}: {text}" for (row, column), text in zip(places, messages, strict=True)
    ]
    assert [problem[: len(start)] for problem, start in zip(found, expected, strict=True)] == expected


def _columns(line: str) -> list[int]:
    """Where the `@` of a line stand once all of them are taken out."""
    marks = [index for index, letter in enumerate(line) if letter == "@"]
    return [index - number + 1 for number, index in enumerate(marks)]


WIDTH = "allowed: a whole number from 1 to 8192"


@pytest.mark.parametrize(
    ("section", "text", "message"),
    [
        # names
        ("STEM", "width: 8, @knl: 3", "stem: unknown key 'knl' (did you mean 'kernel'?); allowed: width, "),
        (
            "STAGE",
            "width: 8, @width: 16",
            "the key 'width' is given twice, first in line 5; keep one of them",
        ),
        (
            "STAGE",
            "width: 8, op: [static, @condcnv]",
            "stage1.op: found 'condcnv' (did you mean 'condconv'?); allowed: static, ",
        ),
        # types and limits
        ("STEM", "width: @wide", f"stem.width: found 'wide'; {WIDTH}"),
        ("STEM", "width: @'8'", f"stem.width: found '8'; {WIDTH}"),
        ("STEM", "width: @true", f"stem.width: found true; {WIDTH}"),
        ("STEM", "width: @8.5", f"stem.width: found 8.5; {WIDTH}"),
        ("STEM", "width: @.nan", f"stem.width: found .nan; {WIDTH}"),
        ("STEM", "width: @1e999", f"stem.width: found 1e999; {WIDTH}"),
        ("STEM", "width: @~", f"stem.width: found nothing; {WIDTH}"),
        (
            "STEM",
            "width: @[]",
            "stem.width: found an empty list; allowed: a list of values, each a whole number",
        ),
        ("STEM", "width: [8, 16, @8.0]", "stem.width: 8.0 is listed twice"),
        ("STEM", "width: [@[8]]", f"stem.width: found a list; {WIDTH}"),
        (
            "STEM",
            "width: 8, kernel: [3, @4]",
            "stem.kernel: found 4; allowed: an odd whole number from 1 to 31",
        ),
        (
            "STEM",
            "width: 8, activation: @{from: 1}",
            "stem.activation: found a mapping; allowed: sign, relu, relu6, ",
        ),
        ("HEAD", "width: 8, dropout: @1", "head.dropout: found 1; allowed: a number from 0 to 0.95"),
        (
            "STAGE",
            "width: 8, op: dynet, group: @0",
            "stage1.group: found 0; allowed: a whole number from 1 to 64",
        ),
        (
            "INPUT",
            "resolutions: 8, channels: @[1, 3]",
            "input.channels: found a list; allowed: a whole number",
        ),
        # ranges
        ("STEM", "width: @{from: 8, to: 16}", "stem.width: 'step' is missing"),
        (
            "STEM",
            "width: {from: 16, to: @8, step: 8}",
            "stem.width.to: found 8; allowed: at least `from`, which is 16",
        ),
        ("STEM", "width: {from: 8, to: 16, step: @0}", f"stem.width.step: found 0; {WIDTH}"),
        (
            "STEM",
            "width: @{from: 1, to: 8000, step: 1}",
            "stem.width: the range has 8000 values; allowed: at most 1000",
        ),
        (
            "STEM",
            "width: 8, kernel: @{from: 3, to: 7, step: 1}",
            "stem.kernel: the range contains 4; allowed: an odd",
        ),
        (
            "HEAD",
            "dropout: {from: 0, to: 0.5, step: @1e-300}",
            "head.dropout.step: found 1e-300; allowed: a number",
        ),
        # knobs that could never be active
        (
            "STAGE",
            "width: 8, op: [static, dynet], experts: @4",
            "stage1.experts: never used; it applies only where op is condconv or dyconv",
        ),
        (
            "STAGE",
            "width: 8, block: conv, expand: @4",
            "stage1.expand: never used; it applies only where block is ghost or mbconv or fused_mbconv",
        ),
        (
            "STAGE",
            "width: 8, op: dynet, layers: {0: {op: static, group: @2}}",
            "stage1.0.group: never used; it applies only where op is dynet",
        ),
        ("HEAD", "activation: @silu", "head.activation: never used; it applies only where width is not 0"),
        # layers
        (
            "STAGE",
            "width: 8, depth: [1, 2], layers: {@2: {kernel: 3}}",
            "stage1.layers: found 2; allowed: a layer number from 0 to 1",
        ),
        (
            "STAGE",
            "width: 8, layers: {@first: {kernel: 3}}",
            "stage1.layers: found 'first'; allowed: a layer number from 0 to 0",
        ),
        (
            "STAGE",
            "width: 8, layers: {0: {@width: 3}}",
            "stage1.layers.0: unknown key 'width'; allowed: block, kernel, ",
        ),
        (
            "STAGE",
            "width: 8, layers: @0",
            "stage1.layers: found 0; allowed: a mapping from layer numbers to knobs",
        ),
    ],
)
def test_problems_of_networks(section: str, text: str, message: str) -> None:
    check_problems(network(**{section: text}), message)


@pytest.mark.parametrize(
    ("section", "missing"),
    [("INPUT", "input: 'resolutions'"), ("STEM", "stem: 'width'"), ("STAGE", "stage1: 'width'")],
)
def test_required_knobs_are_missed_at_their_section(section: str, missing: str) -> None:
    (problem,) = problems_in(network(**{section: ""}), "f.yaml")
    line = 2 + ["INPUT", "STEM", "", "STAGE"].index(section)
    assert problem.startswith(f"f.yaml:{line}:")
    assert problem.endswith(f"{missing} is missing")


PLACE = "allowed: stage1, a block that every depth has (as stage1.0), but not the network's last"


@pytest.mark.parametrize(
    ("exits", "message"),
    [
        ("@{}", "exits: 'positions' is missing"),
        ("{positions: @[]}", "exits.positions: found an empty list; allowed: a list of positions"),
        ("{positions: @stage2}", f"exits.positions: found 'stage2' (did you mean 'stage1'?); {PLACE}"),
        ("{positions: [@stage2.0]}", f"exits.positions: found 'stage2.0' (did you mean 'stage1'?); {PLACE}"),
        ("{positions: [@stage1.1]}", f"exits.positions: found 'stage1.1' (did you mean 'stage1'?); {PLACE}"),
        ("{positions: [@7]}", f"exits.positions: found 7; {PLACE}"),
        ("{positions: [@{a: b}]}", f"exits.positions: found a mapping; {PLACE}"),
        ("{positions: [stage1, @stage1]}", "exits.positions: 'stage1' is listed twice"),
        (
            "{positions: @[stage1, stage1.0]}",
            "exits.positions: stage1.0 and stage1 are the same place where depth is 1",
        ),
        (
            "{positions: @[a, b, c, d, e, f, g, h, i]}",
            "exits.positions: found 9 positions; allowed: at most 8",
        ),
        ("{positions: [stage1], count: @2}", "exits.count: found 2; allowed: up to 1, one a position"),
        (
            "{positions: [stage1], count: 0, width: @8}",
            "exits.width: never used; it applies only where count is not 0",
        ),
        (
            "{positions: [stage1], thresholds: [0.5, @1.5]}",
            "exits.thresholds: found 1.5; allowed: a number from 0 to 1",
        ),
    ],
)
def test_problems_of_exits(exits: str, message: str) -> None:
    check_problems(network(f"exits: {exits}"), message)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("train: {epochs: @0}", "train.epochs: found 0; allowed: a whole number of at least 1"),
        ("train: {lr: @fast}", "train.lr: found 'fast'; allowed: a number of at least 0"),
        ("train: {momentum: @1}", "train.momentum: found 1; allowed: a number from 0 to 0.999"),
        ("train: @3", "train: found 3; allowed: a mapping with epochs, batch, "),
        (
            "data: {search_images: @0}",
            "data.search_images: found 0; allowed: a whole number of at least 1, or null",
        ),
        ("data: {source: @3}", "data.source: found 3; allowed: text"),
        ("search: {controls: @yes}", "search.controls: found 'yes'; allowed: true or false"),
        (
            "search: {sampler: @nsga}",
            "search.sampler: found 'nsga' (did you mean 'nsga3'?); allowed: guided, evolution",
        ),
        (
            "search: {constraints: {@latency: 5}}",
            "search.constraints: unknown key 'latency' (did you mean 'latency_ms'?); ",
        ),
        (
            "search: {constraints: {macs: @.inf}}",
            "search.constraints.macs: found .inf; allowed: a number of at least 0",
        ),
        ("search: {objectives: [macs, @macs]}", "search.objectives: 'macs' is listed twice"),
        (
            "search: {objectives: @[]}",
            "search.objectives: found an empty list; allowed: a list of accuracy, ",
        ),
        ("@serach: {}", "space: unknown key 'serach' (did you mean 'search'?); allowed: name, "),
        ("name: @2026", "name: found 2026; allowed: up to 100 letters, digits"),
        ("name: @../up", "name: found '../up'; allowed: up to 100 letters, digits"),
    ],
)
def test_problems_of_settings(section: str, message: str) -> None:
    check_problems(network(section), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@- 1", "space: found a list; allowed: a mapping with name, model, "),
        ("@7", "space: found 7; allowed: a mapping with "),
        ("choices: @{}", "choices: found an empty mapping; allowed: a mapping from names"),
        ("choices: @[a]", "choices: found a list; allowed: a mapping from names"),
        ("choices: {a: @[]}", "choices.a: found an empty list; allowed: a list of values"),
        ("choices: {a: [x, @x]}", "choices.a: 'x' is listed twice"),
        ("choices: {a: [1, @1.0]}", "choices.a: 1.0 is listed twice"),
        ("choices: {a: [x, @null]}", "choices.a: found nothing; allowed: a finite number or text"),
        ("choices: {a: [x, @.inf]}", "choices.a: found .inf; allowed: a finite number or text"),
        ("choices: {a: [x, @[y]]}", "choices.a: found a list; allowed: a finite number or text"),
        ("choices: {a: @{b: c}}", "choices.a: found a mapping; allowed: a list of values"),
        ("choices: {@'': [x, y]}", "choices: found '' as a name; allowed: visible text"),
        ("choices: {a: [1]}\nstem: @{}", "stem: a space of `choices` has no network"),
    ],
)
def test_problems_of_whole_files(text: str, message: str) -> None:
    check_problems(text, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (network("exits: {positions: [stage9], width: 8}"), ["exits.positions"]),
        (network("exits: {positions: [stage1], width: 8}", STAGE="width: 8, depth: 0"), ["stage1.depth"]),
        ("input: {resolutions: 8}\nexits: {positions: [stage1]}", ["space", "space"]),
        (network(STAGE="width: 8, op: stat, experts: 4"), ["stage1.op"]),
        (network(STAGE="width: 8, depth: x, layers: {7: {op: dynet}}"), ["stage1.depth"]),
    ],
)
def test_one_slip_is_not_reported_as_several(text: str, expected: list[str]) -> None:
    assert [problem.split(": ")[1] for problem in problems_in(text, "f.yaml")] == expected


def test_missing_sections_are_named() -> None:
    assert problems_in("name: x", "f.yaml") == [
        f"f.yaml:1:1: space: '{section}' is missing" for section in ("input", "stem", "stages")
    ]


def test_all_problems_are_reported_together_in_the_order_of_the_file() -> None:
    text = network("train: {epochs: -1}", STEM="width: 0", STAGE="depht: 3, op: statik", HEAD="dropout: 2")
    found = problems_in(text, "f.yaml")
    assert [problem.split(": ")[1] for problem in found] == [
        *("stem.width", "stage1", "stage1", "stage1.op", "head.dropout", "train.epochs")
    ]


def test_a_problem_in_a_repeated_stage_is_reported_for_each_stage_at_its_one_place() -> None:
    text = "input: {resolutions: 8}\nstem: {width: 8}\nstages: [&s {width: 0}, *s]"
    assert [problem.split(": ")[:2] for problem in problems_in(text, "f.yaml")] == [
        ["f.yaml:3:21", "stage1.width"],
        ["f.yaml:3:21", "stage2.width"],
    ]


def test_a_long_report_is_cut_but_its_problems_are_kept() -> None:
    text = "choices:\n" + "".join(f"  a{index}: []\n" for index in range(80))
    with pytest.raises(SpaceFileError, match=r"\n\.\.\. and 30 more$") as caught:
        parse_space(text)
    assert len(caught.value.problems) == 80


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.yaml", None, ":1:1: the space file cannot be read: No such file or directory"),
        ("latin.yaml", "name: é".encode("latin-1"), ":1:7: not a text file in UTF-8"),
        ("binary.yaml", b"\x7fELF\x00\x00", ":1:1: not a text file: character 0x7f"),
        ("empty.yaml", b"", ":1:1: the file is empty"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SpaceFileError, match=message) as caught:
        load_space(tmp_path / name)
    assert caught.value.problems[0].file == str(tmp_path / name)


def test_a_folder_is_not_a_space_file(tmp_path: Path) -> None:
    with pytest.raises(SpaceFileError, match="cannot be read: Is a directory"):
        load_space(tmp_path)
    with pytest.raises(SpaceFileError, match="cannot be read: embedded null byte"):
        load_space("a\0b")
