"""Runs the exported model beside this file; needs onnxruntime and numpy, for image files pillow as well.

    python run.py picture.png folder/ images.npy

prints for each image its name, the answer, the confidence and the exit by which it left. The answer is a
class, labels, numbers, the commonest classes of pixels, or boxes: class, score and x1,y1,x2,y2 in pixels of
the file. `--masks DIR` writes the class of every pixel as a PNG; `--pictures` runs the graph that takes bytes
and holds the preparation and the answer inside. Images as `.npy` are ([N,] C, H, W) of the size of the data,
0 to 255 or, as floats, 0 to 1. A file that cannot be read is named at the end. `Model` does it from Python.
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

MODELS = ("model_packed.onnx", "model.onnx")
"""The graphs for one image, the fastest first: it fails but on processors like the one it was made on."""

TOLERANCE = 1e-3
"""Largest difference of logits from the manifest's, relative to max(1, largest logit)."""

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

SURE = 0.3
"""The score from which a box is printed."""


class Answer(NamedTuple):
    """The model's answer to an image.

    Attributes:
        name: in words, such as its class.
        confidence: from 0 to 1; None where the task has none.
        exit: by which it left.
        value: probabilities of classes or labels, numbers, the class (H, W) of each pixel, or boxes (D, 6):
            x1, y1, x2, y2, score, class; those of score 0 are none.
    """

    name: str
    confidence: float | None
    exit: str
    value: np.ndarray


class Model:
    """The network, one image at a time.

    It runs the graph whose latency was measured, `model_packed.onnx`, if that gives the logits of the
    manifest on this processor, and `model.onnx` otherwise.

    Attributes:
        file: the graph that runs.
        members: of a model that holds several networks, the best first: key, ms, score and ways of each.

    Raises:
        ValueError: a file is not the one that the manifest describes, or none gives the manifest's logits.
    """

    def __init__(
        self, folder: str | Path = Path(__file__).parent, threads: int = 1, pictures: bool = False
    ) -> None:
        manifest = json.loads((Path(folder) / "manifest.json").read_text())
        self.classes: list[str] = manifest["class_names"]
        self.task: dict[str, Any] = manifest["task"]
        self.ways: list[str] = manifest["ways"]
        self.members: list[dict[str, Any]] = manifest.get("members", [])
        self._tolerance: float = manifest.get("tolerance", TOLERANCE)
        self._member = 0
        image = manifest["input"]
        self.shape: tuple[int, int, int] = tuple(image["shape"][1:])
        self.data_size: tuple[int, int] = tuple(image["data_size"])
        self.white: float = image["white"]
        self.fit: str = image["fit"]
        self._mean, self._std = (np.array(image[name], np.float32)[:, None, None] for name in ("mean", "std"))
        self._takes_bytes = pictures
        if pictures and "pictures" not in manifest:
            raise ValueError(f"{folder}: no graph here takes bytes; run it without --pictures")
        self.file, self._session = self._open(Path(folder), manifest, threads)

    def _open(self, folder: Path, manifest: dict[str, Any], threads: int) -> tuple[str, Any]:
        """Return the first graph that answers as the network did where it was exported."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        files = (manifest["pictures"]["file"],) if self._takes_bytes else MODELS
        known = {} if self._takes_bytes else {int(row): each for row, each in manifest["self_check"].items()}
        for file in files:
            # What cannot be checked may be wrong here: then only the graph for any machine is run.
            if (not known and file != files[-1]) or not (folder / file).exists():
                continue
            content = (folder / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != manifest["files"][file]["sha256"]:
                raise ValueError(f"{folder / file}: not the file that was exported; export it again")
            try:
                session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
                if all(self._gives(session, number, logits) for number, logits in known.items()):
                    return file, session
            except Exception:  # the runtime's own errors; a packed graph may not even load elsewhere
                if file == files[-1]:
                    raise
        raise ValueError(f"{folder}: no model here gives the logits of manifest.json; export it again")

    def budget_ms(self, ms: float) -> str:
        """Switch to the best network that takes at most `ms`, else to the fastest, and return its key.

        Of models that hold several networks. Times are those of the machine that exported the model.

        Raises:
            ValueError: the model holds one network.
        """
        if not self.members:
            raise ValueError("this model holds one network; export several with --format switchable")
        fastest = min(self.members, key=lambda member: member["ms"])
        chosen = next((member for member in self.members if member["ms"] <= ms), fastest)
        self._member, self.ways = self.members.index(chosen), chosen["ways"]
        return str(chosen["key"])

    def _gives(self, session: Any, number: int, logits: list[float]) -> bool:
        image = test_image(number, self.shape)
        outputs = session.run(["logits"], {"image": image})[0][0]
        difference = np.abs(compared(self.task, outputs) - logits).max()
        return bool(difference <= self._tolerance * max(1.0, np.abs(logits).max()))  # false for nan, too

    def __call__(self, pixels: np.ndarray) -> Answer:
        """Return the answer for one image (C, H, W): integers from 0 to 255, or floats from 0 to 1.

        A model of data of 16 bits takes integers from 0 to 65535, one of floats floats as its data have them.

        Raises:
            ValueError: values lie outside of that.
        """
        x = unit(pixels, self.white, pixels.dtype.kind == "f")
        if self._takes_bytes:
            given = np.rint(x * self.white).astype(np.uint8 if self.white == 255 else np.uint16)
            outputs = self._session.run(None, {"pixels": given.transpose(1, 2, 0)[None]})
            value, sure = outputs[0][0], None
        else:
            inputs = {"image": resize((x - self._mean) / self._std, self.shape[1:])[None].astype(np.float32)}
            if self.members:
                inputs["member"] = np.array([self._member])
            outputs = self._session.run(None, inputs)
            value, sure = self._value(outputs[0][0])
        way = int(outputs[1][0]) if len(outputs) > 1 else -1
        name, confidence = self._interpret(value)
        return Answer(name, confidence if sure is None else sure, self.ways[way], value)

    def _value(self, output: np.ndarray) -> tuple[np.ndarray, float | None]:
        """Return what the task makes of an output, and how sure that is where its value does not tell."""
        task = self.task["task"]
        if task == "segmentation":
            kinds = resize(output, self.data_size).argmax(0).astype(np.uint8)
            return kinds, float(softmax(output).max(0).mean())
        if task == "regression":
            output = output * np.array(self.task["std"] or 1) + np.array(self.task["mean"] or 0)
        elif task == "multi_label":
            output = 1 / (1 + np.exp(-output))
        return (softmax(output) if task == "classification" else output), None

    def _interpret(self, value: np.ndarray) -> tuple[str, float | None]:
        """Return what a value says in words, and how sure it is."""
        task = self.task["task"]
        if task == "classification":
            best = int(value.argmax())
            return self.classes[best], float(value[best])
        if task == "multi_label":
            there = [name for name, share in zip(self.classes, value, strict=True) if share > 0.5]
            return ", ".join(there) or "none", float(np.abs(2 * value - 1).mean())
        if task == "regression":
            return ", ".join(f"{number:.4g}" for number in value), None
        if task == "segmentation":
            shares = np.bincount(value.ravel(), minlength=len(self.classes)) / value.size
            most = [row for row in np.argsort(-shares)[:3] if shares[row]]
            return ", ".join(f"{self.classes[row]} {shares[row]:.0%}" for row in most), None
        if task == "detection":
            return boxes_in_words(value, self.classes), float(value[:, 4].max(initial=0))
        return f"output {' x '.join(map(str, value.shape))}", None

    def on_picture(self, answer: Answer, size: tuple[int, int]) -> Answer:
        """Return the answer with boxes in pixels of the picture that was read, of `size` (width, height)."""
        if self.task["task"] != "detection":
            return answer
        (height, width), boxes = self.data_size, answer.value.copy()
        scales = (width / size[0], height / size[1])
        if self.fit != "stretch":
            scales = (min(scales) if self.fit == "pad" else max(scales),) * 2
        offsets = (np.array((width, height)) - np.array(size) * scales) / 2
        boxes[:, :4] = ((boxes[:, :4] - np.tile(offsets, 2)) / np.tile(scales, 2)).clip(0, np.tile(size, 2))
        boxes *= boxes[:, 4:5] > 0
        return answer._replace(name=boxes_in_words(boxes, self.classes), value=boxes)

    def read(self, path: Path) -> np.ndarray:
        """Read an image file as uint8 (C, H, W): upright, brought to the size of the data as those were.

        Raises:
            ValueError: it is no picture, or one of floats.
        """
        return self.read_with_size(path)[0]

    def read_with_size(self, path: Path) -> tuple[np.ndarray, tuple[int, int]]:
        """Do what `read` does, and return the width and height of the upright picture too."""
        from PIL import Image, ImageOps

        deep = (self.white, self.shape[0]) == (65535, 1)
        try:
            picture = Image.open(path)
            picture.load()
        except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: not a readable image ({error})") from error
        with picture:
            if picture.mode == "F":
                raise ValueError(f"{path}: an image of floats; save it with 8 or 16 bits a channel")
            if picture.mode.startswith("I"):
                picture = grey_levels(picture, path, deep)
            upright = ImageOps.exif_transpose(picture)
            if upright.has_transparency_data:  # before white, as in training
                layered = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
            kind = "L" if self.shape[0] == 1 else "RGB"
            upright = upright.convert("F" if upright.mode == "F" else kind)
            if deep and upright.mode == "L":
                upright = Image.fromarray(np.asarray(upright) * np.float32(257))
            size, wanted = upright.size, self.data_size[::-1]
            upright = upright.resize(wanted, Image.Resampling.BICUBIC) if self.fit == "stretch" else upright
            pixels = np.asarray((ImageOps.pad if self.fit == "pad" else ImageOps.fit)(upright, wanted))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if deep:
            return np.rint(pixels).clip(0, 65535).astype(np.int32), size
        return (pixels if self.white == 255 else (pixels / 255).astype(np.float32)), size


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the shares of classes, along the first axis."""
    shares = np.exp(logits - logits.max(0))
    return shares / shares.sum(0)


def boxes_in_words(boxes: np.ndarray, classes: list[str]) -> str:
    """Return class, score and corners of each sure box."""
    told = (
        f"{classes[int(kind)]} {score:.2f} {','.join(f'{side:.1f}' for side in sides)}"
        for *sides, score, kind in boxes.tolist()
        if score >= SURE
    )
    return "; ".join(told) or "none"


def compared(task: dict[str, Any], output: np.ndarray) -> np.ndarray:
    """Return the numbers of an output that must be equal everywhere: some of them where there are many.

    Boxes of nearly equal scores may change places, so that of detections only the scores are compared.
    """
    numbers = output[:, 4] if task["task"] == "detection" else output.ravel()
    return numbers[:: max(1, len(numbers) // 4096)]


def grey_levels(picture: Any, path: Path, deep: bool) -> Any:
    """Convert a grey picture of 16 bits a pixel to one of 8 bits, or of floats that keep all if `deep`.

    Raises:
        ValueError: it has more.
    """
    from PIL import Image

    exif, pixels = picture.getexif(), np.asarray(picture).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"{path}: pixels up to {pixels.max()}; save it with 8 or 16 bits a channel")
    made = Image.fromarray(np.float32(pixels) if deep else np.rint(pixels / 257).astype(np.uint8))
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
    """Return (new, old): the weight of each old pixel in each new one.

    It is a triangle as wide as the larger of the two.
    """
    if old == new:
        return np.eye(old, dtype=np.float32)
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    away = np.abs(np.arange(old)[None] + 0.5 - centres[:, None]) / reach
    found = np.maximum(1 - away, 0)
    return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def named_images(model: Model, path: Path) -> Iterator[tuple[str, np.ndarray, tuple[int, int] | None]]:
    """Yield every image of a `.npy` file, or the one in an image file, with its name and a picture's size.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    if path.suffix != ".npy":
        yield (str(path), *model.read_with_size(path))
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
        yield f"{path}[{number}]", pixels, None


def write_mask(kinds: np.ndarray, path: Path) -> None:
    """Write the class of each pixel as a grey PNG.

    Raises:
        ValueError: the model gives no classes of pixels.
    """
    from PIL import Image

    if kinds.ndim != 2 or kinds.dtype != np.uint8:
        raise ValueError("--masks: this model does not tell the class of each pixel; leave it out")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(kinds).save(path)


def files_in(path: Path) -> list[Path]:
    """Return the image files of a folder, or the file itself."""
    if not path.is_dir():
        return [path]
    return sorted(one for one in path.rglob("*") if one.suffix.lower() in PICTURES)


def main(argv: list[str], folder: Path = Path(__file__).parent) -> Any:
    """Print a line for each image; print unreadable ones on standard error, and then exit with status 2."""
    pictures, argv = "--pictures" in argv, [each for each in argv if each != "--pictures"]
    masks = None
    if "--masks" in argv[:-1]:
        at = argv.index("--masks")
        masks, argv = Path(argv[at + 1]), argv[:at] + argv[at + 2 :]
    if not argv:
        return __doc__
    try:
        model = Model(folder, pictures=pictures)
    except (OSError, ValueError) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    status = 0
    for path in (file for given in argv for file in files_in(Path(given))):
        try:
            for name, pixels, size in named_images(model, path):
                answer = model(pixels)
                answer = answer if size is None else model.on_picture(answer, size)
                sure = "" if answer.confidence is None else f"{answer.confidence:.4f}"
                print(name, answer.name, sure, answer.exit, sep="\t")
                if masks is not None:
                    write_mask(answer.value, masks / f"{Path(name).name}.png")
        except (OSError, ValueError) as error:
            print(f"run.py: {error}", file=sys.stderr)
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
