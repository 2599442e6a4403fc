"""Runs the exported model beside this file; needs onnxruntime and numpy, for image files pillow as well.

    python run.py picture.png folder/ images.npy

prints for each image its name, the class, the confidence and the exit by which it left. Images as `.npy` are
(C, H, W) or (N, C, H, W) of the size of the data, from 0 to 255 or, as floats, from 0 to 1. A file that
cannot be read is named at the end, and the others are still answered. `Model` does the same from Python.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

MODELS = ("model.packed", "model.onnx")
"""The graphs for one image, the fastest first: it is right only on processors like the one it was made on."""

SEAL = b"dynnas packed ONNX: open it with run.py\n"
"""The first bytes of a packed graph, so that no other program takes it for one that is right everywhere."""

TOLERANCE = 1e-3
"""Largest difference of logits from the manifest's, relative to max(1, largest logit)."""

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Answer(NamedTuple):
    """The model's answer to an image: its class, its confidence (0..1), and the exit by which it left."""

    name: str
    confidence: float
    exit: str


class Model:
    """The network, one image at a time.

    It runs the graph whose latency was measured, `model.packed`, if that gives the logits of the
    manifest on this processor, and `model.onnx` otherwise.

    Attributes:
        file: the graph that runs.

    Raises:
        ValueError: a file is not the one that the manifest describes, or none gives the manifest's logits.
    """

    def __init__(self, folder: str | Path = Path(__file__).parent, threads: int = 1) -> None:
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        self.classes: list[str] = manifest["class_names"]
        self.ways: list[str] = manifest["ways"]
        image = manifest["input"]
        self.shape: tuple[int, int, int] = tuple(image["shape"][1:])
        self.data_size: tuple[int, int] = tuple(image["data_size"])
        self.white: float = image["white"]
        self._mean, self._std = (np.array(image[name], np.float32)[:, None, None] for name in ("mean", "std"))
        self.file, self._session = self._open(Path(folder), manifest, threads)

    def _open(self, folder: Path, manifest: dict[str, Any], threads: int) -> tuple[str, Any]:
        """Return the first graph that answers as the network did where it was exported."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        known = {int(number): logits for number, logits in manifest["self_check"].items()}
        for file in MODELS:
            # What cannot be checked may be wrong here: then only the graph for any machine is run.
            if (not known and file != MODELS[-1]) or not (folder / file).exists():
                continue
            content = (folder / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != manifest["files"][file]["sha256"]:
                raise ValueError(f"{folder / file}: not the file that was exported; export it again")
            try:
                session = onnxruntime.InferenceSession(
                    content.removeprefix(SEAL), options, providers=["CPUExecutionProvider"]
                )
                if all(self._gives(session, number, logits) for number, logits in known.items()):
                    return file, session
            except Exception:  # the runtime's own errors; a packed graph may not even load elsewhere
                if file == MODELS[-1]:
                    raise
        raise ValueError(f"{folder}: no model here gives the logits of manifest.json; export it again")

    def _gives(self, session: Any, number: int, logits: list[float]) -> bool:
        image = test_image(number, self.shape)
        difference = np.abs(session.run(["logits"], {"image": image})[0][0] - logits).max()
        return bool(difference <= TOLERANCE * max(1.0, np.abs(logits).max()))  # false for nan, too

    def __call__(self, pixels: np.ndarray) -> Answer:
        """Return the answer for one image (C, H, W): integers from 0 to 255, or floats from 0 to 1.

        A model of data of 16 bits takes integers from 0 to 65535, one of floats floats as its data have them.

        Raises:
            ValueError: values lie outside of that.
        """
        x = (unit(pixels, self.white, pixels.dtype.kind == "f") - self._mean) / self._std
        outputs = self._session.run(None, {"image": resize(x, self.shape[1:])[None].astype(np.float32)})
        logits = outputs[0][0]
        shares = np.exp(logits - logits.max())
        way = int(outputs[1][0]) if len(outputs) > 1 else -1
        best = int(logits.argmax())
        return Answer(self.classes[best], float(shares[best] / shares.sum()), self.ways[way])

    def read(self, path: Path) -> np.ndarray:
        """Read an image file as uint8 (C, H, W): upright, its centre, at the size of the data.

        Grey pictures of 16 bits become 8 bits; the darkest and the brightest value stay what they were.

        Raises:
            ValueError: it is no picture, or one of floats, whose range no file says.
        """
        from PIL import Image, ImageOps

        try:
            picture = Image.open(path)
            picture.load()
        except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
        with picture:
            if picture.mode == "F":
                raise ValueError(f"{path}: an image of floats; save it with 8 or 16 bits a channel")
            if picture.mode.startswith("I"):
                picture = eight_bits(picture, path)
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:  # before white, as in training
                layered = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            upright = upright.convert("L" if self.shape[0] == 1 else "RGB")
            pixels = np.asarray(ImageOps.fit(upright, self.data_size[::-1]))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return pixels if self.white == 255 else (pixels / 255).astype(np.float32)


def eight_bits(picture: Any, path: Path) -> Any:
    """Convert a grey picture of 16 bits a pixel to 8 bits a pixel.

    Raises:
        ValueError: it has more.
    """
    from PIL import Image

    exif, pixels = picture.getexif(), np.asarray(picture).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"{path}: pixels up to {pixels.max()}; save it with 8 or 16 bits a channel")
    made = Image.fromarray(np.rint(pixels / 257).astype(np.uint8))
    made.getexif().update(exif)  # which way is up
    return made


def unit(pixels: np.ndarray, white: float, already: bool) -> np.ndarray:
    """Scale pixels to 0..1, from 0..`white` or, if they are `already`, not at all.

    Floats of a model whose data are floats (`white` is 1) stay as they are.

    Raises:
        ValueError: there are others.
    """
    if already and white == 1:
        return pixels.astype(np.float32)
    most = 1 if already else max(white, 255)
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= most):  # false for nan, too
        raise ValueError(
            f"{pixels.dtype} pixels from {pixels.min()} to {pixels.max()}; "
            f"allowed are 0 to {max(white, 255):g} or, as floats, 0 to 1"
        )
    return pixels.astype(np.float32) / most


def test_image(number: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Return an input (1, *shape) float32 that is the same on every machine."""
    places = np.arange(np.prod(shape), dtype=np.float64)
    waves = np.sin(places * (0.37 + 0.11 * number)) + np.sin(places * places * (0.013 + 0.007 * number))
    return waves.reshape(1, *shape).astype(np.float32)


def resize(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resize images (C, H, W) to `size` (H, W), bilinear and antialiased, as the network was trained."""
    return weights(x.shape[1], size[0]) @ x @ weights(x.shape[2], size[1]).T


def weights(old: int, new: int) -> np.ndarray:
    """Return (new, old): the weight of each old pixel in each new one, a triangle as wide as the larger of
    the two.
    """
    if old == new:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    away = np.abs(np.arange(old)[None] + 0.5 - centres[:, None]) / reach
    found = np.maximum(1 - away, 0)
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def named_images(model: Model, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every image of a `.npy` file, or the one in an image file, with its name.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    if path.suffix != ".npy":
        yield str(path), model.read(path)
        return
    images = np.load(path)
    if images.ndim not in (3, 4):
        raise ValueError(f"{path}: an array of the shape {images.shape}; needed is (C, H, W) or (N, C, H, W)")
    try:
        floats = images.dtype.kind == "f"
        images = unit(images, model.white, floats and (model.white == 1 or images.max(initial=0) <= 1))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for number, pixels in enumerate(images if images.ndim == 4 else images[None]):
        yield f"{path}[{number}]", pixels


def files_in(path: Path) -> list[Path]:
    """Return the image files of a folder, or the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.rglob("*") if one.suffix.lower() in PICTURES)


def main(argv: list[str], folder: Path = Path(__file__).parent) -> Any:
    """Print a line for each image; print unreadable ones on standard error, and then exit with status 2."""
    if not argv:
        return __doc__
    try:
        model = Model(folder)
    except (OSError, ValueError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    status = 0
    for path in (file for given in argv for file in files_in(Path(given))):
        try:
            for name, pixels in named_images(model, path):
                answer = model(pixels)
                print(name, answer.name, f"{answer.confidence:.4f}", answer.exit, sep="\t")
        except (OSError, ValueError) as error:
            print(f"run.py: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
