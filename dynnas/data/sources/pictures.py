"""Single image files, by Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dynnas.errors import DataError

# All that Pillow's decoders are known to raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def measure(path: Path) -> tuple[int, bool]:
    """Return the shorter side in pixels and whether the picture is grey, from its header alone.

    Raises:
        DataError: it is no picture, or one of more than 8 bits a channel.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode in _DEEP:
                raise DataError(
                    f"{path}: more than 8 bits a channel (mode {picture.mode}); convert it to 8 bits"
                )
            return min(picture.size), picture.mode in _GREY
    except _DAMAGED as error:
        raise _unreadable(str(path), error) from error


def read(path: Path, resolution: int, grey: bool) -> np.ndarray:
    """Return the upright picture's central square, uint8 [C, resolution, resolution], as grey or RGB.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            upright = _opaque(ImageOps.exif_transpose(picture)).convert("L" if grey else "RGB")
            return _channels_first(ImageOps.fit(upright, (resolution, resolution)))
    except _DAMAGED as error:
        raise _unreadable(str(path), error) from error


def decode(content: bytes, where: str) -> np.ndarray:
    """Decode a picture from `content`, uint8 [3, H, W]; `where` is for the message.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return _channels_first(_opaque(picture).convert("RGB"))
    except _DAMAGED as error:
        raise _unreadable(where, error) from error


def _opaque(picture: Image.Image) -> Image.Image:
    """Return the picture on white, if parts of it are transparent: the colours behind those are not to be
    seen.
    """
    if not picture.has_transparency_data:
        return picture
    layered = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)


def _channels_first(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _unreadable(where: str, error: Exception) -> DataError:
    return DataError(f"{where}: not a readable image ({error}); replace or remove it")
