"""Imports run one way between the rooms, and heavy packages are imported only where they belong.

Read from the syntax trees, so that imports inside functions count as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dynnas"
FILES = sorted(PACKAGE.rglob("*.py"))

ROOMS = (
    "space",
    "ops",
    "supernet",
    "training",
    "runtime",
    "measure",
    "passes",
    "search",
    "export",
    "report",
    "cli",
)
ALLOWED = {room: {"errors", "progress", "machine", *ROOMS[: i + 1]} for i, room in enumerate(ROOMS)}
ALLOWED |= {
    "errors": set(),
    "progress": set(),
    "machine": set(),
    "device": {"errors", "machine", "device"},
    "space": {"errors", "space"},
    "data": {"errors", "progress", "machine", "space", "data"},
    "__main__": {"cli"},
    "__init__": {"errors", "space", "search"},
}
for room in ROOMS[2:]:  # everything from the supernet on may see data
    ALLOWED[room] |= {"data", "device"}

# A device with torch builds networks, so this one file looks at their rooms, and only when it is called. One
# with ONNX Runtime alone never calls it: see `test_light_imports_stay_light`.
ON_DEMAND = {"device/torch_network.py": {"space", "ops", "runtime"}}

# A package, and the only places (as prefixes of paths under dynnas/) that may import it.
CONFINED = {
    "torch": (
        "ops",
        "supernet",
        "data",
        "training",
        "runtime",
        "measure",
        "passes",
        "search",
        "export",
        "cli",
    ),
    "optuna": ("search",),
    "optuna_dashboard": ("cli",),
    "typer": ("cli",),
    "rich": ("cli",),
    "matplotlib": ("report",),
    "onnx": ("runtime", "export"),
    "onnxruntime": ("device", "export"),  # in the script that runs without dynnas
    "openvino": ("device",),
    "ray": ("search",),
    "sklearn": ("data", "measure", "search"),
    "yaml": ("space",),
}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as a dotted name; relative imports made absolute."""
    package = ("dynnas", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_rooms_import_one_way(path: Path) -> None:
    seen = {name.split(".")[1] for name in imports(path) if name.startswith("dynnas.")}
    unexpected = {name for name in seen if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()}
    on_demand = ON_DEMAND.get(path.relative_to(PACKAGE).as_posix(), set())
    assert unexpected - ALLOWED[room_of(path)] - on_demand == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path)} & set(CONFINED)
    heavy -= {"torch"} if path.relative_to(PACKAGE).as_posix() in ON_DEMAND else set()
    assert {name for name in heavy if room_of(path) not in CONFINED[name]} == set()


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after `statement`."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import dynnas", {"torch", "optuna", "matplotlib", "numpy"}),
        ("import dynnas.space", {"torch", "optuna", "numpy", "yaml"}),
        ("import dynnas.device.serve", {"torch", "onnxruntime", "onnx", "optuna", "yaml", "typer", "rich"}),
        ("import dynnas.runtime", {"optuna", "yaml", "typer", "sklearn", "onnx", "onnxruntime", "openvino"}),
        ("import dynnas.cli", {"torch", "optuna", "matplotlib", "numpy"}),
    ],
)
def test_light_imports_stay_light(statement: str, absent: set[str]) -> None:
    assert loaded_by(statement) & absent == set()
