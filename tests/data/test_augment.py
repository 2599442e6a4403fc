"""Augmentation against an obvious loop over images and pixels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynnas.data.augment import Augmentation, augmentation, crop
from dynnas.errors import DataError


def _images(count: int, channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def _moved(image: Tensor, down: int, right: int, mirrored: bool) -> Tensor:
    """`image` [C, R, R] moved by whole pixels, black coming in, then mirrored."""
    side = image.shape[-1]
    result = torch.zeros_like(image)
    for row in range(side):
        for column in range(side):
            if 0 <= row - down < side and 0 <= column - right < side:
                target = side - 1 - column if mirrored else column
                result[:, row, target] = image[:, row - down, column - right]
    return result


@given(st.data(), st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(0, 3))
def test_crop_is_a_shift_and_a_mirror_of_each_image(
    data: st.DataObject, count: int, channels: int, side: int, padding: int
) -> None:
    draw = st.lists(st.integers(0, 2 * padding), min_size=count, max_size=count)
    corners = torch.tensor([data.draw(draw), data.draw(draw)])
    mirrored = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    images = _images(count, channels, side)
    result = crop(images, padding, corners, mirrored)
    assert result.dtype == torch.uint8
    for i in range(count):
        down, right = (padding - corners[:, i]).tolist()
        assert result[i].equal(_moved(images[i], down, right, bool(mirrored[i])))


@pytest.mark.parametrize("kind", ["shift", "flip"])
def test_each_image_has_its_own_draw_and_all_draws_occur(kind: str) -> None:
    image = _images(1, 3, 8)
    varied = augmentation(kind, 8)(image.expand(400, -1, -1, -1), torch.Generator().manual_seed(0))
    mirrors = (False, True) if kind == "flip" else (False,)
    possible = [_moved(image[0], d, r, m) for d in (-1, 0, 1) for r in (-1, 0, 1) for m in mirrors]
    counts = [int((varied == picture).flatten(1).all(1).sum()) for picture in possible]
    assert sum(counts) == 400
    assert min(counts) > 400 / len(possible) / 3


def test_none_leaves_the_images_alone() -> None:
    images = _images(2, 1, 4)
    assert augmentation("none", 4)(images, torch.Generator()) is images


@pytest.mark.parametrize(("resolution", "shift"), [(4, 1), (8, 1), (28, 3), (32, 4), (224, 28)])
def test_shifts_reach_an_eighth_of_the_image(resolution: int, shift: int) -> None:
    assert augmentation("shift", resolution) == Augmentation(shift)
    assert augmentation("flip", resolution) == Augmentation(shift, flip=True)


def test_the_generator_decides() -> None:
    images = _images(16, 1, 8)
    vary = augmentation("flip", 8)
    first, again, other = (vary(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_an_unknown_kind() -> None:
    with pytest.raises(DataError, match=r"data\.augment: 'mirror' is not known; allowed are auto, none"):
        augmentation("mirror", 8)
