"""Single image files, by Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dynnas.errors import DataError

# All that Pillow's decoders are known to raise on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
_GREY = ("1", "L", "LA")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MOST = 65535

COLOUR, GREY, DEEP = 0, 1, 2
"""Kinds of pictures: of 8 bits in colours, in grey, and grey ones of 16 bits."""


@dataclass(frozen=True)
class Form:
    """The shape that pictures are brought to.

    Attributes:
        height, width: in pixels.
        grey: whether they have one channel; else they are RGB.
        deep: whether that channel has 16 bits; those of 8 bits are scaled to them.
        fit: `crop` cuts the middle out, in the shape that is wanted; `pad` keeps all and puts black beside
            it; `stretch` does not keep the ratio of the sides.
    """

    height: int
    width: int
    grey: bool = False
    fit: str = "crop"
    deep: bool = False

    @property
    def dtype(self) -> type[np.generic]:
        """The type of its pixels: 16 bits are held as int32."""
        return np.int32 if self.deep else np.uint8

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return 1 if self.grey else 3, self.height, self.width


def measure(file: BinaryIO, path: Path) -> tuple[int, int, int]:
    """Return width and height of the upright picture in pixels, and its kind, from its header alone.

    Args:
        file: that is open. path: its path, for messages.

    Raises:
        DataError: it is no picture, or one of floats.
    """
    try:
        with Image.open(file) as picture:
            if picture.mode == "F":
                raise DataError(
                    f"{path}: an image of floats, whose range no file says; save it with 8 or 16 bits a "
                    "channel, or give floats as arrays in an .npz"
                )
            kind = DEEP if picture.mode in _DEEP else GREY if picture.mode in _GREY else COLOUR
            return *upright_size(picture), kind
    except DAMAGED as error:
        raise _unreadable(str(path), error) from error


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return width and height of a picture as it is shown: cameras say how it is to be turned."""
    width, height = picture.size
    if picture.format == "PNG" and "exif" not in picture.info:
        return width, height  # looking for more would decode it
    lies = picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (height, width) if lies else (width, height)


def read(path: Path, form: Form) -> np.ndarray:
    """Decode the upright picture in a form: uint8 [C, H, W], or int32 where it is of 16 bits.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(path) as picture:
            if form.deep:
                return _deep(ImageOps.exif_transpose(picture), form)
            upright = _opaque(ImageOps.exif_transpose(picture)).convert("L" if form.grey else "RGB")
            return _channels_first(_fitted(upright, form))
    except DAMAGED as error:
        raise _unreadable(str(path), error) from error


def _deep(picture: Image.Image, form: Form) -> np.ndarray:
    """Bring a grey picture to a form of 16 bits: int32 [1, H, W].

    Raises:
        ValueError: it has more than 16 bits.
    """
    pixels = np.asarray(picture if picture.mode in _DEEP else _opaque(picture).convert("L")).astype(
        np.float32
    )
    if picture.mode not in _DEEP:
        pixels *= _MOST / 255
    if pixels.min() < 0 or pixels.max() > _MOST:
        raise ValueError(f"pixels from {pixels.min():g} to {pixels.max():g} in more than 16 bits")
    fitted = np.asarray(_fitted(Image.fromarray(pixels), form))
    return np.rint(fitted).clip(0, _MOST).astype(np.int32)[None]


def _fitted(picture: Image.Image, form: Form) -> Image.Image:
    size = (form.width, form.height)
    if form.fit == "crop":
        return ImageOps.fit(picture, size)
    if form.fit == "pad":
        return ImageOps.pad(picture, size)
    return picture.resize(size, Image.Resampling.BICUBIC)


def decode(content: bytes, where: str, form: Form | None = None) -> np.ndarray:
    """Decode a picture from `content`, uint8 [3, H, W], or in a form; `where` is for the message.

    Raises:
        DataError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if form is not None:
                upright = _opaque(picture).convert("L" if form.grey else "RGB")
                return _channels_first(_fitted(upright, form))
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
    # Pillow names the object that it reads from.
    told = (
        "its content is no form of picture that is known"
        if isinstance(error, UnidentifiedImageError)
        else error
    )
    return DataError(f"{where}: not a readable image ({told}); replace or remove it")
