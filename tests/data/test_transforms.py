"""Augmentation by callables: functions, and the transforms of torchvision where it can be imported."""

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynnas.data.augment import augmentation
from dynnas.data.given import dataset_of
from dynnas.data.load import load_data
from dynnas.data.transforms import Transform
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings
from dynnas.tasks import Classification, Detection, Segmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int = 6, height: int = 12, width: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator(1))


def brighter(image: Tensor) -> Tensor:
    """Draw from all three sources of chance."""
    shade = int(torch.randint(100, ())) + random.randrange(100) + int(np.random.randint(50))
    return image // 2 + torch.tensor(shade // 2, dtype=torch.uint8)


def test_a_function_varies_each_image_by_the_seed() -> None:
    images, labels = noise(), torch.arange(6)
    varied = augmentation(brighter, 12)
    before = torch.rand(1, generator=None), random.getstate(), np.random.get_state()[1].tolist()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, targets = varied(images, labels, Classification(6), generator(3))
    assert torch.equal(torch.rand(3), expected)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    assert torch.equal(targets, labels)
    again, _ = varied(images, labels, Classification(6), generator(3))
    other, _ = varied(images, labels, Classification(6), generator(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    shades = (first - images // 2).flatten(1)
    assert (shades == shades[:, :1]).all()
    assert len(shades[:, 0].unique()) > 2


def test_it_is_named_in_the_line_and_in_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_augment.py").write_text("def dark(image):\n    return image // 2\n")
    monkeypatch.chdir(tmp_path)
    data = load_data(DataSettings(augment="my_augment:dark"))
    assert data.summary.endswith("; varied by my_augment:dark")
    assert data.digest != load_data(DataSettings(augment="none")).digest
    assert data.digest == load_data(DataSettings(augment="my_augment:dark")).digest
    assert (
        int(data.augmentation(data.train.images, data.train.targets, data.task, generator())[0].max()) == 127
    )
    assert Transform.of(brighter).name == "brighter"


def test_masks_go_through_a_function_of_both() -> None:
    images = noise()
    masks = images[:, 0]
    varied = Transform.of(lambda image, mask: (image.flip(2), mask.flip(1)))
    found, moved = varied(images, masks, Segmentation(256), generator())
    assert torch.equal(found[:, 0], moved)
    assert not torch.equal(found, images)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda image: image[:, :5],
            r"made torch\.uint8 \(3, 5, 16\) of an image that is torch",
        ),
        (lambda image: image / 255, r"made torch\.float32 \(3, 12, 16\)"),
        (lambda image: image.no_such, "raised AttributeError: 'Tensor' object has no attribute 'no_such'"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_at_once(function: Any, message: str) -> None:
    split = (noise(20), torch.arange(20) % 2)
    with pytest.raises(DataError, match=message):
        dataset_of((split, split), augment=function)


@pytest.fixture(scope="module")
def v2(timm: Any) -> Any:
    """torchvision's transforms, which come with timm here."""
    return importlib.import_module("torchvision.transforms.v2")


def test_torchvision_varies_images(v2: Any) -> None:
    transform = v2.Compose(
        [v2.RandomResizedCrop((12, 16)), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide(), v2.RandAugment(),
         v2.ColorJitter(0.2), v2.RandomErasing()]
    )  # fmt: skip
    images = noise()
    data = dataset_of(((images, torch.arange(6) % 2),) * 2, augment=transform, search_images=2)
    assert "varied by Compose( RandomResizedCrop(size=(12, 16)" in data.summary
    (first, _), (again, _) = (data.train_batch(0, 1, 0, 4) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, data.train_batch(0, 2, 0, 4)[0])


def test_torchvision_moves_masks_and_boxes(v2: Any) -> None:
    images = torch.zeros(4, 1, 20, 30, dtype=torch.uint8)
    images[:, :, 4:9, 6:12] = 200
    targets = torch.full((4, 2, 5), -1.0)
    targets[:, 1] = torch.tensor([1.0, 6, 4, 12, 9])
    varied = Transform.of(v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]))
    found, moved = varied(images, targets, Detection(2), generator(2))
    for image, (box, none) in zip(found[:, 0], moved.tolist(), strict=True):
        rows, columns = image.nonzero().unbind(1)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == [1, *map(int, edges)]
        assert none == [-1] * 5
    assert len({tuple(box[0]) for box in moved.tolist()}) > 1
    found, masks = varied(images, images[:, 0].long(), Segmentation(256), generator(2))
    assert torch.equal(found[:, 0].long(), masks)
