"""How docstrings read: the part that can be checked by a machine.

The first line, or in an attribute's docstring the first paragraph, says what a thing is or does, and ends
with a full stop. That of a function is a sentence:
it begins with a verb, as PEP 257 asks, or with one of its arguments and a verb behind it. None begins as an
answer to a question that nobody asked ("Of the front."), and none uses the phrases that this project has
dropped. Comments, messages and the pages of the documentation do not use them either.
"""

import ast
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from support.markdown import PAGES

PACKAGE = Path(__file__).parents[1] / "dynnas"
ROOMS = sorted(path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
WRITTEN = [*PAGES, *sorted((PACKAGE.parent / "studies").glob("*/README.md"))]

FRAGMENT = re.compile(
    r"(Of|As|By|In|That|With|On|What|Where|Which|Whether|For|From|To|At|How|When|Who|Behind|Beside|Before|After"
    r"|Under|Among|Between|Without|If|Than|Not|Because|Since|Until|While|Per|Into|Within)\b|[^A-Za-z`]"
)
NO_VERB = re.compile(
    r"(A|An|The|This|These|Those|Its|Their|Every|Each|All|Any|One|Two|Some|Both|Most|No|None|Same|Several)\b"
)
ARGUMENT = re.compile(r"`[^`]+` (is|are|has|have|gives|maps|says|follows|holds|makes|must|may|can)\b")
DROPPED = re.compile(
    r"\b(anew|h[au]ngs? on|whoever|in vain|so many)\b|(?<!each )(?<!some )(?<!all )(?<!none )\bof which\b",
    re.IGNORECASE,
)

PROPERTY = {"property", "cached_property"}


Kind = Literal["function", "attribute", "other"]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str, Kind]]:
    """The line and the text of every docstring, and of what it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or "", kind_of(node)
            for before, after in itertools.pairwise(node.body):
                if isinstance(before, ast.Assign | ast.AnnAssign):
                    yield after.lineno, text_of(after), "attribute"


def text_of(node: ast.AST) -> str:
    """The string that a statement is; empty for any other."""
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value.strip() if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def kind_of(node: ast.AST) -> Kind:
    """A function is called; a property is read."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "other"
    names = {ast.unparse(one).rpartition(".")[2] for one in node.decorator_list}
    return "other" if names & PROPERTY else "function"


def wrong(text: str, kind: Kind = "other") -> str | None:
    """What is wrong with a docstring; None if nothing is."""
    first = text.split("\n\n")[0] if kind == "attribute" else text.split("\n")[0]
    first = " ".join(first.split())
    if not first.endswith((".", ":")):
        return "the first line does not end with a full stop"
    if first[0].islower():
        return "it begins with a small letter"
    if FRAGMENT.match(first):
        return "it is no whole sentence; say what this is or does"
    if kind == "function" and (NO_VERB.match(first) or (first[0] == "`" and not ARGUMENT.match(first))):
        return "it does not begin with a verb"
    return dropped(text)


def dropped(text: str) -> str | None:
    """What is wrong with any text: a phrase that plain English does without."""
    found = DROPPED.search(" ".join(text.split()))
    return f"{found[0]!r} is a phrase that we do not use" if found else None


def words(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of every comment and string of a file; a string in several pieces is one."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_prose_is_plain(room: Path) -> None:
    problems = []
    for path in sorted(room.rglob("*.py")) or [room]:
        source = path.read_text(encoding="utf-8")
        found = [(line, wrong(text, kind)) for line, text, kind in docstrings(ast.parse(source)) if text]
        found += [(line, dropped(text)) for line, text in words(source)]
        problems += [f"{path}:{line}: {problem}" for line, problem in found if problem]
    assert problems == []


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(PACKAGE.parent).as_posix())
def test_pages_are_plain(page: Path) -> None:
    assert dropped(page.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("Return the front.", "function", None),
        ("The front.", "other", None),
        ("Return the front", "function", "the first line does not end with a full stop"),
        ("Return the front of a\nstudy.", "function", "the first line does not end with a full stop"),
        ("The front of a\nstudy.", "attribute", None),
        ("the front.", "other", "it begins with a small letter"),
        ("Of the front.", "other", "it is no whole sentence; say what this is or does"),
        ("(B, classes) of images.", "function", "it is no whole sentence; say what this is or does"),
        ("The front.", "function", "it does not begin with a verb"),
        ("`front` of the study.", "function", "it does not begin with a verb"),
        ("`front` is that of the study.", "function", None),
        ("Draw the front.\n\nIt is drawn anew.", "function", "'anew' is a phrase that we do not use"),
        (
            "Draw the front.\n\nIt has members, of\nwhich there is one.",
            "function",
            "'of which' is a phrase that we do not use",
        ),
        ("Draw two fronts, each of which is a list.", "function", None),
    ],
)
def test_what_is_wrong(text: str, kind: Kind, found: str | None) -> None:
    assert wrong(text, kind) == found


def test_words_are_those_of_comments_and_whole_strings() -> None:
    assert list(words('a = ("so "  # one\n  "many")\n')) == [(1, "# one"), (1, "so many")]


def test_docstrings_of_attributes_and_properties_are_read() -> None:
    source = (
        '"""M."""\nA = 1\n"""a."""\nclass C:\n    @property\n    def p(self): "P."\n    def f(self): "F."\n'
    )
    found = [one for one in docstrings(ast.parse(source)) if one[1]]
    assert sorted(found) == [
        (1, "M.", "other"),
        (3, "a.", "attribute"),
        (6, "P.", "other"),
        (7, "F.", "function"),
    ]
