"""The space file that is drafted for data, by `dynnas init` or in passing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from dynnas.cli.options import override
from dynnas.settings.settings import Settings


def drafted_name(data: str) -> str:
    """Return the name of a space file that is drafted for data."""
    place, _, function = data.partition(":")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", function or Path(place).resolve().stem).strip("-._") or "data"


def draft(
    path: Path,
    data: str,
    task: str | None,
    limits: list[str] | None,
    device: str | None,
    threads: str | None,
    quiet: bool,
) -> None:
    """Write a space file for data to `path`."""
    from dynnas.cli.progress import show_progress
    from dynnas.workflows.drafting.draft import draft_space

    flags = {"data": data, "device": device, "threads": threads}
    settings = override(Settings(), flags, limits or ())
    with show_progress(quiet) as progress:
        text = draft_space(
            replace(settings.data, task=task), settings.search.constraints, settings.target, progress=progress
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
