"""Pictures of 24 x 32 pixels with masks and with boxes, some easy and some hard."""

from pathlib import Path

import numpy as np
from PIL import Image

from dynnas.language.parser import load_space
from dynnas.study.study import Study
from dynnas.workflows.run import run_study

CLASSES = 3

FILE = """
input: {resolutions: [[12, 16], [24, 32]]}
stem: {width: [4, 8], stride: 2}
stages: [{block: basic, width: [8, 12], stride: 2}, {width: 12, stride: 2}]
head: HEAD
data: {task: TASK, source: SOURCE, augment: none, search_images: 48}
train: {epochs: EPOCHS, batch: 16, calibration_images: 32, precision: float32}
search: {trials: 8, controls: false, seed: 0}
target: {seconds: 0.01, images: 2}
"""
HEADS = {
    "segmentation": "{kind: lraspp, neck: 8, finest: 4}",
    "detection": "{neck: [8, 12], tower: 1, finest: 4}",
}
EPOCHS = {"segmentation": 12, "detection": 24}


def _noise(rng: np.random.Generator, number: int) -> np.ndarray:
    """A little noise for every other picture, and much for the rest."""
    return rng.normal(0, 8 if number % 2 else 60, (24, 32, 3))


def segmented(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of blocks of one colour a class, and their masks."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, CLASSES, (count, 3, 4)).repeat(8, 1).repeat(8, 2)
    pixels = [60 + 90 * np.eye(CLASSES)[mask] + _noise(rng, number) for number, mask in enumerate(masks)]
    return np.stack(pixels).clip(0, 255).astype(np.uint8), masks


def boxed(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one or two bright boxes, red or green, and class, x1, y1, x2, y2 of each."""
    rng = np.random.default_rng(seed)
    targets, pixels = np.full((count, 2, 5), -1, np.float32), []
    for number in range(count):
        picture = 60 + _noise(rng, number)
        for place in range(rng.integers(1, 3)):
            kind, x, y = rng.integers(2), 16 * place + rng.integers(0, 5), rng.integers(0, 13)
            picture[y : y + 10, x : x + 11, kind] += 150
            targets[number, place] = kind, x, y, x + 11, y + 10
        pixels.append(picture)
    return np.stack(pixels).clip(0, 255).astype(np.uint8), targets


def written(task: str, root: Path, count: int) -> Path:
    """Write a data set for the task as files: images and masks, or as Pascal VOC has it."""
    pixels, targets = (segmented if task == "segmentation" else boxed)(count, seed=0)
    folders = ("images", "masks") if task == "segmentation" else ("JPEGImages", "Annotations")
    for folder in folders:
        (root / folder).mkdir(parents=True)
    for number in range(count):
        Image.fromarray(pixels[number]).save(root / folders[0] / f"{number:03}.png")
        if task == "segmentation":
            Image.fromarray(targets[number].astype(np.uint8)).save(root / "masks" / f"{number:03}.png")
            continue
        things = "".join(
            f"<object><name>{('red', 'green')[int(kind)]}</name><bndbox><xmin>{x1 + 1:.0f}</xmin>"
            f"<ymin>{y1 + 1:.0f}</ymin><xmax>{x2:.0f}</xmax><ymax>{y2:.0f}</ymax></bndbox></object>"
            for kind, x1, y1, x2, y2 in targets[number]
            if kind >= 0
        )
        (root / "Annotations" / f"{number:03}.xml").write_text(f"<annotation>{things}</annotation>")
    return root


def searched(task: str, folder: Path) -> Study:
    """A study of networks for the task, from files; `DYNNAS_CACHE` is to be a folder of its own."""
    text, source = FILE, written(task, folder / "pictures", 288)
    values = {"HEAD": HEADS[task], "TASK": task, "EPOCHS": EPOCHS[task], "SOURCE": source}
    for name, value in values.items():
        text = text.replace(name, str(value))
    (folder / "space.yaml").write_text(text)
    return run_study(load_space(folder / "space.yaml"), folder=folder / task)
