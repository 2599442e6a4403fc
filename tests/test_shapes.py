"""Public functions that take or return tensors state the shapes."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dynnas"
CHECKED = ("nn", "tasks")
"""The rooms that are made of tensors."""

SHAPE = re.compile(
    r"\([^()]*,[^()]*\)"  # (B, C, H, W), (N,)
    r"|\((\.\.\.)?\)"  # a single number, or whatever an output is for one image
    r"|\b[Aa]ny shape|\b[Ss]ame shape|[Ss]hapes are those of `|[Ss]ee `"
)


@cache
def methods() -> dict[str, list[tuple[set[str], list[ast.expr]]]]:
    """The names of methods, and the bases, of the classes of each name in the package."""
    found: dict[str, list[tuple[set[str], list[ast.expr]]]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                own = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                found[node.name].append((own, node.bases))
    return found


def is_inherited(name: str, bases: list[ast.expr]) -> bool:
    """Whether a base class of the package has a method of that name, whose docstring holds for all."""
    for base in bases:
        for own, further in methods().get(re.split(r"[\[.]", ast.unparse(base))[0], ()):
            if name in own or is_inherited(name, further):
                return True
    return False


def functions(node: ast.AST, owner: ast.ClassDef | None = None) -> Iterator[ast.FunctionDef]:
    """The public functions of a module, and public methods of its classes that no base class documents."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, child)
        elif isinstance(child, ast.FunctionDef) and not (
            child.name.startswith("_") or (owner is not None and is_inherited(child.name, owner.bases))
        ):
            yield child


def takes_tensors(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    found = [argument.annotation for argument in arguments] + [function.returns]
    text = " ".join(ast.unparse(annotation) for annotation in found if annotation is not None)
    return re.search(r"\b(Tensor|ndarray)\b", text) is not None


@pytest.mark.parametrize("room", CHECKED)
def test_shapes_are_stated(room: str) -> None:
    silent = [
        f"{path.relative_to(PACKAGE)}:{function.lineno}: {function.name}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for function in functions(ast.parse(path.read_text(encoding="utf-8")))
        if takes_tensors(function) and not SHAPE.search(" ".join((ast.get_docstring(function) or "").split()))
    ]
    assert silent == []


def test_a_function_without_a_shape_is_found() -> None:
    method = 'class M(nn.Module):\n    def forward(self, x: Tensor): "Map x."\n'
    source = f'def f(x: Tensor) -> Tensor:\n    "Return x."\n{method}'
    found = list(functions(ast.parse(source)))
    assert [function.name for function in found if takes_tensors(function)] == ["f", "forward"]
    assert SHAPE.search("Map (B, C) to (B,).")
    assert not SHAPE.search("Map x to y (in place).")
