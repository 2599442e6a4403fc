"""YAML to a located tree: scalars, aliases, and everything that cannot be read."""

import math

import pytest

from dynnas.language.problems import Mark, Problems, SpaceFileError
from dynnas.language.tree import Listing, Scalar, Table
from dynnas.language.yaml_events import read_tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-3", -3),
        ("007", 7),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("+2.5E+2", 250.0),
        ("-.inf", -math.inf),
        ("9" * 18, math.inf),
        ("1" + "0" * 400, math.inf),
        ("1e999", math.inf),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("on", "on"),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("2020-01-01", "2020-01-01"),
        ("'8'", "8"),
        ('"null"', "null"),
        ("٣", "٣"),
    ],
)
def test_scalars_follow_the_core_rules(text: str, value: object) -> None:
    node = read_tree(text, Problems("f"))
    assert isinstance(node, Scalar)
    assert node.value == value
    assert type(node.value) is type(value)


def test_every_node_knows_its_place() -> None:
    root = read_tree("# comment\na: 1\nb:\n  - x\n  - {c: y}\n", Problems("f"))
    assert isinstance(root, Table)
    (key, one), (_, listing) = root.entries
    assert (key.mark, one.mark) == (Mark(2, 1), Mark(2, 4))
    assert isinstance(listing, Listing)
    inner = listing.items[1]
    assert isinstance(inner, Table)
    assert inner.entries[0][1].mark == Mark(5, 9)


def test_aliases_repeat_what_they_name() -> None:
    root = read_tree("a: &x [1, 2]\nb: *x", Problems("f"))
    assert isinstance(root, Table)
    assert root.entries[0][1] is root.entries[1][1]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("a: [1\nb: 2", 2, 2, "not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n\tb: 2", 2, 1, "not valid YAML: while scanning for the next token, found character"),
        ("a: 'x", 1, 6, "not valid YAML: while scanning a quoted scalar, found unexpected end of stream"),
        ("ab\x00c", 1, 3, "not a text file: character 0x0 is not allowed"),
        ("a: 1\nb: \x07", 2, 4, "not a text file: character 0x7"),
        ("a: *x", 1, 4, "there is no &x before it"),
        ("a: &stage 1\nb: *stag", 2, 4, r"no &stag before it \(did you mean 'stage'\?\)"),
        ("a: &x [1, *x]", 1, 11, r"\*x stands inside of what it repeats"),
        ("a: &x {b: {c: *x}}", 1, 15, r"\*x stands inside of what it repeats"),
        ("[" * 100_000, 1, 22, "nested more than 20 deep"),
        ("- " * 100_000, 1, 43, "nested more than 20 deep"),
        ('a: "\\UFFFFFFFF"', 1, 1, "a number or escape after this place is out of range"),
        (f"%YAML {'9' * 5000}.1\n---\na", 1, 1, "a number or escape after this place is out of range"),
        ("x" * 300_000, 1, 1, "has 300000 characters; a space file has at most 200000"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_read_is_located(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(SpaceFileError, match=message) as caught:
        read_tree(text, Problems("f"))
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(line, column)]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "the key 'a' is given twice, first in line 1"),
        ("{x: 1, 'x': 2}", 1, 8, "the key 'x' is given twice"),
        ("? [a]\n: 1", 1, 3, "found a list as a key"),
        ("a: !!python/name:os.system 1", 1, 4, "found the tag 'tag:yaml.org,2002:python/name:os.system'"),
        ("a: !mine 1", 1, 4, "found the tag '!mine'"),
        ("a: 1\n---\nb: 2", 2, 1, "a second document begins here"),
    ],
)
def test_what_a_space_file_never_needs_is_noted(text: str, line: int, column: int, message: str) -> None:
    problems = Problems("f")
    read_tree(text, problems)
    with pytest.raises(SpaceFileError, match=f"^f:{line}:{column}: {message}"):
        problems.raise_if_any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &d {x: 1, y: 2}\nb: {<<: *d, y: 3}", {"x": 1, "y": 3}),
        ("a: &d {x: 1, y: 2}\nb: {y: 3, <<: *d}", {"x": 1, "y": 3}),
        ("a: [&d {x: 1}, &e {x: 2, z: 4}]\nb: {<<: [*d, *e], y: 3}", {"x": 1, "z": 4, "y": 3}),
        ("a: 0\nb: {'<<': 1}", {"<<": 1}),
    ],
)
def test_merge_keys_repeat_what_is_not_said(text: str, expected: dict) -> None:
    root = read_tree(text, Problems("f"))
    assert isinstance(root, Table)
    merged = root.entries[-1][1]
    assert isinstance(merged, Table)
    assert {key.text: getattr(node, "value", None) for key, node in merged.entries} == expected


def test_a_merge_key_takes_mappings() -> None:
    problems = Problems("f")
    read_tree("b: {<<: 3}", problems)
    with pytest.raises(SpaceFileError, match=r"1:5: '<<' repeats 3; it takes a mapping, as in '<<': \*name"):
        problems.raise_if_any()


def test_aliases_of_aliases_cost_nothing() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 15)]
    root = read_tree("\n".join(lines), Problems("f"))
    assert isinstance(root, Table)
    assert len(root.entries) == 15
