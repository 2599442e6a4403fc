"""The forms of pictures with boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dynnas.data.boxes import coco, voc
from dynnas.data.boxes.annotated import Annotated


def boxes_reader(path: Path) -> Callable[[Path], Annotated] | None:
    """Return what reads the pictures with boxes in a folder; None if it is no such folder."""
    return next((form.read for form in (voc, coco) if form.recognises(path)), None)
