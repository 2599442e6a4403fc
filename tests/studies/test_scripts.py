"""Scripts of studies, benches and examples import what exists: most of them run in slow tests alone."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path for place in ("studies", "tests/bench", "docs/examples") for path in (ROOT / place).rglob("*.py")
)


def imported(script: Path) -> set[tuple[str, str]]:
    """The module and the name of every import from the package."""
    return {
        (node.module, name.name)
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "dynnas"
        for name in node.names
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_script_imports_exists(script: Path) -> None:
    for module, name in imported(script):
        if not hasattr(import_module(module), name):
            import_module(f"{module}.{name}")
