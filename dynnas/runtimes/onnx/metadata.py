"""The metadata of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.errors import require


def metadata_bytes(metadata: Mapping[str, str]) -> bytes:
    """Return bytes that add `metadata` to a serialised model when they are appended.

    The graph stays as it is.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in metadata.items()]
    return onnx.ModelProto(metadata_props=entries).SerializeToString()
