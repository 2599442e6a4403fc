"""Picture files with labels: classes of a folder or a table, brought to one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.raw import Labelled
from dynnas.data.reading import Reading
from dynnas.data.sources.listing import Listing
from dynnas.data.sources.pictures import Form
from dynnas.progress import Progress

_HIGHEST_RESOLUTION = 224
_MUCH_CUT = 0.5
"""Share of the usual picture; what is more than that and cut off is said."""


@dataclass(frozen=True, eq=False)
class LabelledFiles:
    """Some picture files with a label each.

    Attributes:
        files: their paths.
        labels: [N, ...].
    """

    files: Sequence[Path]
    labels: np.ndarray


def read_labelled(
    folder: Path, parts: Mapping[str, LabelledFiles], reading: Reading, progress: Progress
) -> dict[str, Labelled]:
    """Bring the pictures of all parts to one size, decoded or streamed.

    The size is that of the reading, or a square of the median of their shorter sides, at most 224.

    Args:
        folder: in which they lie.
        parts: by the name of the split.

    Raises:
        DataError: some cannot be read; they are named together.
    """
    files = [path for part in parts.values() for path in part.files]
    listing = Listing.of(folder, files, progress)
    side = min(_HIGHEST_RESOLUTION, int(np.median(listing.facts[:, :2].min(1))))
    form = Form(*(reading.size or (side, side)), listing.grey, reading.fit or "crop", listing.deep)
    if form.fit == "crop":
        _tell_cut(listing.facts[:, :2], form, progress)
    images, keys = listing.images(form, reading, progress), listing.facts[:, 3]
    made, start = {}, 0
    for name, part in parts.items():
        span = slice(start, start + len(part.files))
        start += len(part.files)
        made[name] = Labelled(images[span], part.labels, keys[span])
    return made


def _tell_cut(sizes: np.ndarray, form: Form, progress: Progress) -> None:
    """Warn where most of the usual picture is cut off; sizes are width and height of each, [N, 2]."""
    ratios = sizes[:, 0] / sizes[:, 1] * form.height / form.width
    lost = 1 - float(np.median(np.minimum(ratios, 1 / ratios)))
    if lost > _MUCH_CUT:
        width, height = np.median(sizes, 0).astype(int)
        progress.message(
            f"warning: {lost:.0%} of the usual picture, {height} x {width} pixels, is cut off to make it "
            f"{form.height} x {form.width}; say data: {{fit: pad}} to keep all of it, or data: {{size: "
            f"[height, width]}} for another shape"
        )
