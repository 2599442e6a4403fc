"""Single image files, by Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from dynnas.errors import DataError

# All that Pillow's decoders are known to raise on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Form:
    """The shape that pictures are brought to.

    Attributes:
        height, width: in pixels.
        grey: whether they have one channel; else they are RGB.
        fit: `crop` cuts the middle out, in the shape that is wanted; `pad` keeps all and puts black beside
            it; `stretch` does not keep the ratio of the sides.
    """

    height: int
    width: int
    grey: bool = False
    fit: str = "crop"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return 1 if self.grey else 3, self.height, self.width


def measure(file: BinaryIO, path: Path) -> tuple[int, int, bool]:
    """Return width and height in pixels and whether the picture is grey, from its header alone.

    Args:
        file: that is open. path: its path, for messages.

    Raises:
        DataError: it is no picture, or one of more than 8 bits a channel.
    """
    try:
        with Image.open(file) as picture:
            if picture.mode in _DEEP:
                raise DataError(
                    f"{path}: more than 8 bits a channel (mode {picture.mode}); convert it to 8 bits"
                )
            return *picture.size, picture.mode in _GREY
    except DAMAGED as error:
        raise _unreadable(str(path), error) from error


def read(path: Path, form: Form) -> np.ndarray:
    """Decode the upright picture in a form: uint8 [C, H, W].

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            upright = _opaque(ImageOps.exif_transpose(picture)).convert("L" if form.grey else "RGB")
            return _channels_first(_fitted(upright, form))
    except DAMAGED as error:
        raise _unreadable(str(path), error) from error


def _fitted(picture: Image.Image, form: Form) -> Image.Image:
    size = (form.width, form.height)
    if form.fit == "crop":
        return ImageOps.fit(picture, size)
    if form.fit == "pad":
        return ImageOps.pad(picture, size)
    return picture.resize(size, Image.Resampling.BICUBIC)


def decode(content: bytes, where: str) -> np.ndarray:
    """Decode a picture from `content`, uint8 [3, H, W]; `where` is for the message.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return _channels_first(_opaque(picture).convert("RGB"))
    except DAMAGED as error:
        raise _unreadable(where, error) from error


def _opaque(picture: Image.Image) -> Image.Image:
    """Return the picture on white, if parts of it are transparent.

    The colours behind those are not to be seen.
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
