"""Imports run one way between the packages, and heavy packages are imported only where they belong.

Read from the syntax trees, so that imports inside functions count as well.
"""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dynnas"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the lowest to the highest: a package imports those before it, and itself.
PACKAGES = (
    "lazy",
    "errors",
    "progress",
    "registry",
    "files",
    "threads",
    "documents",
    "metric",
    "space",
    "settings",
    "tasks",
    "nn",
    "language",
    "data",
    "supernet",
    "training",
    "runtimes",
    "latency",
    "candidates",
    "metrics",
    "pareto",
    "samplers",
    "search",
    "study",
    "compression",
    "workflows",
    "export",
    "report",
    "testing",
    "cli",
    "__main__",
)
# What the lazy names of the package itself stand for.
PUBLIC = {"language", "settings", "study", "tasks", "workflows", "space", "supernet"}

# A package, and the only places (as prefixes of paths under dynnas/) that may import it.
CONFINED = {
    "torch": (
        "threads",
        "tasks",
        "nn",
        "supernet",
        "data",
        "testing",
        "training",
        "runtimes",
        "latency",
        "candidates",
        "metrics",
        "search",
        "study",
        "compression",
        "workflows",
        "export",
        "cli",
    ),
    "optuna": ("samplers", "search", "study", "workflows", "testing"),
    "optuna_dashboard": ("cli",),
    "typer": ("cli",),
    "rich": ("cli",),
    "matplotlib": ("report",),
    "onnx": ("runtimes", "export"),
    "onnxruntime": ("runtimes", "export"),  # in the script that runs without dynnas
    "ai_edge_litert": ("runtimes",),
    "flatbuffers": ("runtimes",),
    "ncnn": ("runtimes",),
    "openvino": ("runtimes",),
    "pnnx": ("runtimes",),
    "ray": ("search", "training"),
    "sklearn": ("data", "latency", "pareto", "samplers"),
    "yaml": ("language",),
}


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, as a dotted name; relative imports made absolute."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = ("dynnas", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def offences(forbidden: Callable[[Path, set[str]], set[str]]) -> dict[str, set[str]]:
    """What files import that `forbidden` names, of all that a file imports, by the file's path."""
    found = {path.relative_to(PACKAGE).as_posix(): forbidden(path, set(imports(path))) for path in FILES}
    return {path: names for path, names in found.items() if names}


def test_packages_import_one_way() -> None:
    def above(path: Path, names: set[str]) -> set[str]:
        seen = {name.split(".")[1] for name in names if name.startswith("dynnas.")}
        seen = {name for name in seen if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()}
        own = package_of(path)
        return seen - (PUBLIC if own == "__init__" else set(PACKAGES[: PACKAGES.index(own) + 1]))

    assert offences(above) == {}


def test_no_module_is_in_an_import_circle() -> None:
    modules = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in FILES}
    graph = {
        module: {
            name if name in modules else name.rpartition(".")[0]
            for name in imports(path)
            if name in modules or name.rpartition(".")[0] in modules
        }
        for module, path in modules.items()
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_heavy_packages_stay_in_their_places() -> None:
    def misplaced(path: Path, names: set[str]) -> set[str]:
        heavy = {name.split(".")[0] for name in names} & set(CONFINED)
        return {name for name in heavy if package_of(path) not in CONFINED[name]}

    assert offences(misplaced) == {}


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import dynnas", {"torch", "optuna", "matplotlib", "numpy"}),
        ("import dynnas; dynnas.tasks", {"torch", "numpy"}),
        ("import dynnas.space", {"torch", "optuna", "numpy", "yaml"}),
        (
            "import dynnas.latency.remote.serve",
            {"torch", "onnxruntime", "onnx", "optuna", "yaml", "typer", "rich"},
        ),
        (
            "import dynnas.runtimes.compile",
            {"optuna", "yaml", "typer", "sklearn", "onnx", "onnxruntime", "openvino"},
        ),
        ("import dynnas.cli", {"torch", "optuna", "matplotlib", "numpy"}),
    ],
)
def test_light_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert loaded_by(statement) & absent == set()
