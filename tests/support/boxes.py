"""Small pictures with boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("cell", "dot")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> tuple[Image.Image, list[tuple[int, ...]]]:
    """A picture with one or two bright boxes, and class, x1, y1, x2, y2 of each."""
    pixels, boxes = np.zeros((size[1], size[0], 3), np.uint8), []
    for row in range(1 + number % 2):
        x, y = 2 + (3 * number) % 9 + 16 * row, 3 + (5 * number) % 11
        pixels[y : y + 8, x : x + 10] = 255
        boxes.append((row, x, y, x + 10, y + 8))
    return Image.fromarray(pixels), boxes


def voc(root: Path, count: int = 20, lists: bool = True, names: Sequence[str] = NAMES) -> Path:
    """Write a data set as Pascal VOC has it; `names` has one more class where it has three."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    shift = len(names) - len(NAMES)
    for number in range(count):
        image, boxes = picture(number)
        image.save(root / "JPEGImages" / f"{number:03}.png")
        things = "".join(
            f"<object><name>{names[(kind + shift * number) % len(names)]}</name>"
            f"<difficult>{int(number == 3)}</difficult><bndbox>"
            f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for kind, x1, y1, x2, y2 in boxes
        )
        (root / "Annotations" / f"{number:03}.xml").write_text(f"<annotation>{things}</annotation>")
    if lists:
        for part, numbers in {"train": range(12), "val": range(12, 15), "test": range(15, 19)}.items():
            text = "\n".join(f"{number:03}" for number in numbers)
            (root / "ImageSets" / "Main" / f"{part}.txt").write_text(text)
    return root
