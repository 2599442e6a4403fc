"""The space files that come with dynnas, by name."""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "spaces", _PACKAGE.parent / "spaces")  # as installed, and in a clone


def shipped_spaces() -> dict[str, Path]:
    """Return the space files that come with dynnas by their names."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_space(name_or_path: str | Path) -> Path:
    """Return the path of a space file that is given by its path, or by its name if it comes with dynnas.

    What lies at the path has precedence. A path at which nothing lies is returned as it is.
    """
    path = Path(name_or_path)
    if path.exists() or path.name != str(name_or_path):
        return path
    return shipped_spaces().get(str(name_or_path), path)


def title_of_space(path: Path) -> str:
    """Return the first sentence of the comment at the head of a space file."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    words = " ".join(line for line in lines if not line.startswith("yaml-language-server")).split()
    return re.split(r"\. (?=[A-Z`])", " ".join(words))[0].removesuffix(".")
