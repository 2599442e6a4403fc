"""Packed JPEG pictures as squares of the size that a study's networks take.

    python studies/pictures.py imagenette224_jpeg.npz 128 FOLDER

makes FOLDER/imagenette224_jpeg-128.npz.
"""

from __future__ import annotations

import io
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from dynnas.files import replacing


def shrunk(source: str, side: int, folder: Path) -> str:
    """Return a packed file of JPEG pictures as a file of arrays with squares of `side` pixels, made once.

    What is no packed file is returned as it is.
    """
    path = Path(source)
    if path.suffix != ".npz" or not path.exists():
        return source
    made = folder / f"{path.stem}-{side}.npz"
    if made.exists():
        return str(made)
    with np.load(path, allow_pickle=False) as packed:
        if "train_jpeg" not in packed:
            return source
        arrays = {}
        names = np.asarray(packed["classes"])
        for part in ("train", "test"):
            jpeg, offsets = packed[f"{part}_jpeg"], packed[f"{part}_offsets"]
            arrays[f"{part}_images"] = np.stack(
                [_picture(jpeg[start:stop].tobytes(), side) for start, stop in pairwise(offsets)]
            )
            arrays[f"{part}_labels"] = names[packed[f"{part}_labels"]]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(made) as file:
        np.savez(file, **arrays)
    return str(made)


def _picture(jpeg: bytes, side: int) -> np.ndarray:
    """Return a picture (3, side, side) as uint8."""
    with Image.open(io.BytesIO(jpeg)) as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


if __name__ == "__main__":
    print(shrunk(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
