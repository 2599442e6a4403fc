"""How docstrings read: the part that can be checked by a machine.

The first paragraph is a sentence. It does not begin as an answer to a question that nobody asked ("Of the
front."), and no docstring uses the phrases that this project has dropped.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dynnas"
CHECKED = ("cli", "report", "study", "workflows")
FILES = [path for room in CHECKED for path in sorted((PACKAGE / room).rglob("*.py"))]

FRAGMENT = re.compile(r"(Of|As|By|In|That|With|On|What|Where|Which|Whether)\b")
DROPPED = re.compile(r"\b(anew|hangs? on|whoever|in vain|of which|so many)\b", re.IGNORECASE)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of every docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def wrong(text: str) -> str | None:
    """What is wrong with a docstring; None if nothing is."""
    first = text.split("\n\n")[0].replace("\n", " ")
    if not first.endswith((".", ":")):
        return "the first paragraph does not end with a full stop"
    if first[0].islower():
        return "it begins with a small letter"
    if FRAGMENT.match(first):
        return "it is no whole sentence; say what this is or does"
    found = DROPPED.search(text)
    return f"{found[0]!r} is a phrase that we do not use" if found else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_docstrings_are_plain_sentences(path: Path) -> None:
    problems = [f"{path}:{line}: {found}" for line, text in docstrings(path) if (found := wrong(text))]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Return the front.", None),
        ("Return the front", "the first paragraph does not end with a full stop"),
        ("the front.", "it begins with a small letter"),
        ("Of the front.", "it is no whole sentence; say what this is or does"),
        ("Draw the front.\n\nIt is drawn anew.", "'anew' is a phrase that we do not use"),
    ],
)
def test_what_is_wrong(text: str, found: str | None) -> None:
    assert wrong(text) == found
