"""No file, function or folder is larger than what a reader takes in at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dynnas"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
"""With the signature; docstrings are for those who do not read the function."""
MAX_MODULES = 16
"""Side by side in one folder, `__init__` among them."""


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file with their lines, docstrings left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[0] if ast.get_docstring(node, clean=False) is not None else None
            told = docstring.end_lineno - docstring.lineno + 1 if docstring and docstring.end_lineno else 0
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1 - told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_files_and_functions_fit_on_pages(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES
    assert {name: lines for name, lines in functions(path) if lines > MAX_FUNCTION_LINES} == {}


def test_no_folder_is_a_drawer() -> None:
    counts: dict[str, int] = {}
    for path in FILES:
        folder = path.parent.relative_to(PACKAGE).as_posix()
        counts[folder] = counts.get(folder, 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}
