"""Scripts that lie in no package, as modules."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType


def run_script(path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script that must succeed, and return what it says."""
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def load_script(path: Path, name: str | None = None) -> ModuleType:
    """The module of a script; its name is by default one that no other module has."""
    name = name or f"{path.parent.name}_{path.stem}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module
