"""Runs the exported model beside this file; needs onnxruntime and numpy, for image files pillow as well.

    python run.py picture.png folder/ images.npy

prints for each image its name, the class, the confidence and the exit by which it left. Images as `.npy` are
uint8 (C, H, W) or (N, C, H, W) at the resolution of the data. `Model` does the same from Python.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Answer(NamedTuple):
    """What the model says of an image: its class, how sure it is (0..1), and by which exit it left."""

    name: str
    confidence: float
    exit: str


class Model:
    """The network in `model.onnx`, one image at a time.

    Raises:
        ValueError: the file is not the one that the manifest describes.
    """

    def __init__(self, folder: str | Path = Path(__file__).parent, threads: int = 1) -> None:
        folder = Path(folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        content = (folder / "model.onnx").read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest["files"]["model.onnx"]["sha256"]:
            raise ValueError(f"{folder / 'model.onnx'}: not the file that was exported; export it again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.classes: list[str] = manifest["class_names"]
        self.ways: list[str] = manifest["ways"]
        image = manifest["input"]
        self.channels, self.resolution = image["shape"][1], image["shape"][2]
        self.data_resolution: int = image["data_resolution"]
        self._mean, self._std = (np.array(image[name], np.float32)[:, None, None] for name in ("mean", "std"))

    def __call__(self, pixels: np.ndarray) -> Answer:
        """Answer for one image, uint8 (C, H, W)."""
        x = (pixels.astype(np.float32) / 255 - self._mean) / self._std
        outputs = self._session.run(None, {"image": resize(x, self.resolution)[None].astype(np.float32)})
        logits = outputs[0][0]
        shares = np.exp(logits - logits.max())
        way = int(outputs[1][0]) if len(outputs) > 1 else -1
        best = int(logits.argmax())
        return Answer(self.classes[best], float(shares[best] / shares.sum()), self.ways[way])

    def read(self, path: Path) -> np.ndarray:
        """An image file as uint8 (C, R, R): upright, its central square, at the resolution of the data."""
        from PIL import Image, ImageOps

        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("L" if self.channels == 1 else "RGB")
            pixels = np.asarray(ImageOps.fit(upright, (self.data_resolution,) * 2))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def resize(x: np.ndarray, side: int) -> np.ndarray:
    """Images (C, H, W) at (C, side, side), bilinear and antialiased, as the network was trained."""
    return weights(x.shape[1], side) @ x @ weights(x.shape[2], side).T


def weights(old: int, new: int) -> np.ndarray:
    """(new, old): of each old pixel in each new one, a triangle as wide as the larger of the two."""
    if old == new:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    away = np.abs(np.arange(old)[None] + 0.5 - centres[:, None]) / reach
    found = np.maximum(1 - away, 0)
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def named_images(model: Model, paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    """Every image in files and folders, with its name."""
    for path in paths:
        if path.is_dir():
            files = [one for one in path.rglob("*") if one.suffix.lower() in PICTURES]
            yield from ((str(one), model.read(one)) for one in sorted(files))
        elif path.suffix == ".npy":
            images = np.load(path)
            for number, pixels in enumerate(images if images.ndim == 4 else images[None]):
                yield f"{path}[{number}]", pixels
        else:
            yield str(path), model.read(path)


def main(words: list[str]) -> Any:
    """Print a line for each image; a message and status 2 where that cannot be done."""
    if not words:
        return __doc__
    try:
        model = Model()
        for name, pixels in named_images(model, [Path(word) for word in words]):
            answer = model(pixels)
            print(name, answer.name, f"{answer.confidence:.4f}", answer.exit, sep="\t")
    except (OSError, ValueError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
