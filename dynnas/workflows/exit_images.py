"""The search images that leave a network early, and those that leave it late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynnas.data.streaming.images import read_images
from dynnas.metrics.accuracy import predict
from dynnas.nn.exits.exits import leave
from dynnas.study.study import Study


@dataclass(frozen=True)
class ExitedImage:
    """One search image.

    Attributes:
        pixels: (R, R) or (R, R, 3) uint8.
        label, answer: its target, and what the network said, in a word or two.
        confidence: of what it left with, by the task.
    """

    pixels: np.ndarray
    label: str
    answer: str
    confidence: float


@dataclass(frozen=True)
class ExitImages:
    """The images that leave at one exit, or at the head.

    Attributes:
        name: of the exit, or `head`.
        share: of the search images (0..1).
        accuracy: mean quality of the answers for those that leave here; None if none does.
        examples: the most confident ones at an exit, the least confident ones at the head.
    """

    name: str
    share: float
    accuracy: float | None
    examples: tuple[ExitedImage, ...]


def exit_images(study: Study, key: str, examples: int = 8) -> tuple[ExitImages, ...]:
    """Sort the search images by where they leave the network of `key`, with `examples` of each exit.

    Raises:
        StudyError: there is no such key.
        TrainingError: the supernet is not trained.
        DataError: the images are not there.
    """
    dataset, network = study.dataset, study.candidate(key).calibrated
    task, targets = dataset.task, dataset.search.targets
    names = network.config.ways
    with torch.inference_mode():
        outputs, _, exits = predict(network, dataset, dataset.search.images)
        chosen, _ = leave(outputs, network.config.exits)
        confidence = task.confidence(chosen)
        quality = task.quality(chosen, targets)
    images = dataset.search.images
    ways = []
    for index, name in enumerate(names):
        here = (exits == index).nonzero().flatten()
        right = quality[here]
        sure_first = index < len(names) - 1
        order = here[confidence[here].argsort(descending=sure_first, stable=True)][:examples].tolist()
        shown = tuple(
            ExitedImage(
                pixels=_pixels(read_images(images[number : number + 1])[0], dataset.scale),
                label=task.describe_target(targets[number]),
                answer=task.describe(chosen[number]),
                confidence=float(confidence[number]),
            )
            for number in order
        )
        share = len(here) / len(images)
        ways.append(ExitImages(name, share, float(right.mean()) if len(here) else None, shown))
    return tuple(ways)


def _pixels(pixels: Tensor, white: float) -> np.ndarray:
    """Return the image (C, H, W) as pictures are kept.

    Of other numbers of channels than one or three, the first is kept.
    """
    image = (pixels.double() * (255 / white)).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return image.transpose(1, 2, 0) if len(image) == 3 else image[0]
