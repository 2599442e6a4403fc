"""The latencies image by image that `dynnas latency` keeps in a study's folder: one document a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dynnas.documents import Document
from dynnas.study.folder import StudyFolder

IMAGE_LATENCY = Document("dynnas_image_latency", 1, "delete it, or write it again with `dynnas latency`")


def read_latencies(folder: StudyFolder, keys: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return the measurements of these networks, by key, that are on today's scale.

    Raises:
        StudyError: a file is damaged.
    """
    if not folder.anchors.exists():
        return {}

    from dynnas.latency.latency import AnchorReference  # a study of a table has no latencies, and no torch

    scale = AnchorReference.read(folder.anchors).environment
    files = {key: folder.latency / f"{key}.json" for key in keys}
    found = {key: IMAGE_LATENCY.load(path, dict) for key, path in files.items() if path.exists()}
    return {key: one for key, one in found.items() if one["latency"]["environment"] == scale}
