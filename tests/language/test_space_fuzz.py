"""Whatever the text, parsing ends in a space or in located problems."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_space_schema import plain

from dynnas.language.parser import parse_space
from dynnas.language.problems import Problems, SpaceFileError
from dynnas.language.schema import json_schema
from dynnas.language.yaml_events import read_tree
from dynnas.nn.config.vocabulary import STAGE, exit_knobs, head_knobs, layer_knobs, stem_knobs
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.space.knob import names
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space

EXAMPLES = [
    path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("examples/*.yaml"))
]
WORDS = [
    *(
        "name",
        "input",
        "stem",
        "stages",
        "head",
        "exits",
        "choices",
        "train",
        "search",
        "layers",
        "positions",
    ),
    *("from", "to", "step", "resolutions", "count", "stage1", "stage2.0", "constraints", "<<"),
    *(
        *names(stem_knobs()),
        *names(STAGE),
        *names(layer_knobs()),
        *names(head_knobs()),
        *names(exit_knobs()),
        *KERNELS,
    ),
]
VALIDATOR = Draft202012Validator(json_schema())


def check(text: str) -> None:
    """The text is a space that works and that the schema takes too, or it has problems inside of it."""
    result = parsed(text)
    if isinstance(result, Space):
        check_space(result)
        assert VALIDATOR.is_valid(plain(read_tree(text, Problems("f.yaml"))))
    else:
        check_error(result, lines=text.count("\n") + 1)


def parsed(text: str) -> Space | SpaceFileError:
    try:
        return parse_space(text, "f.yaml")
    except SpaceFileError as error:
        return error


def check_space(space: Space) -> None:
    assert space.size >= 1
    for architecture in (smallest(space), largest(space)):
        assert space.architecture(architecture) == architecture
        if space.network:
            space.network_config(architecture)


def check_error(error: SpaceFileError, lines: int) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert 1 <= problem.line <= lines + 1
        assert problem.column >= 1
        assert str(problem).startswith(f"f.yaml:{problem.line}:{problem.column}: ")
    assert str(error).encode()  # it can be printed


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    check(text)


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%#?\n\t 01.~", max_size=80))
@settings(max_examples=400, deadline=None)
def test_any_punctuation(text: str) -> None:
    check(text)


SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.integers(-3, 70),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), SCALARS), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_any_value(value: Any) -> None:
    check(yaml.safe_dump(value, allow_unicode=True))


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere_in_a_legal_file(text: str, data: st.DataObject) -> None:
    document = yaml.safe_load(text)
    for _ in range(data.draw(st.integers(1, 3))):
        _replace_something(document, data)
    check(yaml.safe_dump(document, allow_unicode=True, default_flow_style=data.draw(st.booleans())))


def _replace_something(document: Any, data: st.DataObject) -> None:
    """Walk down to some place of the document and delete, rename or replace what is there."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        child = document[key]
        if isinstance(child, dict | list) and data.draw(st.booleans()):
            document = child
            continue
        action = data.draw(st.sampled_from(["replace", "replace", "delete", "rename"]))
        if action == "replace":
            document[key] = data.draw(VALUES)
        elif action == "delete" or not isinstance(document, dict):
            del document[key]
        else:
            document[data.draw(st.sampled_from(WORDS))] = document.pop(key)
        return


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=200, deadline=None)
def test_any_slip_of_the_pen(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        piece = data.draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.text(max_size=5)))
        text = text[:start] + piece + text[end:]
    check(text)


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=100, deadline=None)
def test_any_order_of_the_lines(text: str, data: st.DataObject) -> None:
    lines = text.split("\n")
    a, b = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]
    check("\n".join(lines))
