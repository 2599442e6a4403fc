"""Augmentation against an obvious loop over images and pixels."""

import importlib
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynnas.data.augment import Augmentation, augmentation, crop
from dynnas.errors import DataError, TaskError
from dynnas.tasks import Classification, Detection, Functions, Segmentation, View


def _images(count: int, channels: int, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def _moved(image: Tensor, down: int, right: int, mirrored: bool) -> Tensor:
    """`image` [C, R, R] moved by whole pixels, its border repeated where nothing is, then mirrored."""
    side = image.shape[-1]
    result = torch.empty_like(image)
    for row in range(side):
        for column in range(side):
            target = side - 1 - column if mirrored else column
            y, x = (min(max(place, 0), side - 1) for place in (row - down, column - right))
            result[:, row, target] = image[:, y, x]
    return result


@given(st.data(), st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 6), st.integers(0, 3))
def test_crop_is_a_shift_and_a_mirror_of_each_image(
    data: st.DataObject, count: int, channels: int, side: int, reach: int
) -> None:
    draw = st.lists(st.integers(0, 2 * reach), min_size=count, max_size=count)
    corners = torch.tensor([data.draw(draw), data.draw(draw)])
    mirrored = torch.tensor(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    images = _images(count, channels, side)
    result = crop(images, reach, corners, mirrored)
    assert result.dtype == torch.uint8
    for i in range(count):
        down, right = (reach - corners[:, i]).tolist()
        assert result[i].equal(_moved(images[i], down, right, bool(mirrored[i])))


def vary(varied: Augmentation, images: Tensor, seed: int = 0) -> Tensor:
    labels = torch.arange(len(images))
    found, targets = varied(images, labels, Classification(2), torch.Generator().manual_seed(seed))
    assert targets is labels
    return found


@pytest.mark.parametrize("kind", ["shift", "flip"])
def test_each_image_has_its_own_draw_and_all_draws_occur(kind: str) -> None:
    image = _images(1, 3, 8)
    varied = vary(augmentation(kind, 8), image.expand(400, -1, -1, -1))
    mirrors = (False, True) if kind == "flip" else (False,)
    possible = [_moved(image[0], d, r, m) for d in (-1, 0, 1) for r in (-1, 0, 1) for m in mirrors]
    counts = [int((varied == picture).flatten(1).all(1).sum()) for picture in possible]
    assert sum(counts) == 400
    assert min(counts) > 400 / len(possible) / 3


def test_none_leaves_the_images_alone() -> None:
    images = _images(2, 1, 4)
    assert vary(augmentation("none", 4), images) is images


@pytest.mark.parametrize(("resolution", "shift"), [(4, 1), (8, 1), (28, 3), (32, 4), (224, 28)])
def test_shifts_reach_an_eighth_of_the_image(resolution: int, shift: int) -> None:
    assert augmentation("shift", resolution) == Augmentation(shift)
    assert augmentation("flip", resolution) == Augmentation(shift, flip=True)


def test_shifted_images_have_no_values_that_were_not_there() -> None:
    """Of data with little contrast, a border of black would be many deviations away from everything."""
    images = _images(8, 3, 16) // 16 + 200
    assert int(vary(augmentation("flip", 16), images).min()) >= 200


def test_the_generator_decides() -> None:
    images = _images(16, 1, 8)
    first, again, other = (vary(augmentation("flip", 8), images, seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_an_unknown_kind() -> None:
    with pytest.raises(DataError, match=r"data\.augment: 'mirror' is not known; allowed are auto, none"):
        augmentation("mirror", 8)


def _marked(seed: int) -> tuple[Tensor, Tensor]:
    """Images (20, 1, 9, 12) that show the class of each pixel, and those classes."""
    classes = torch.randint(1, 5, (20, 9, 12), generator=torch.Generator().manual_seed(seed))
    return classes[:, None].to(torch.uint8), classes.to(torch.uint8)


def test_masks_move_with_their_images() -> None:
    images, classes = _marked(0)
    task, draws = Segmentation(5), torch.Generator().manual_seed(3)
    found, moved = augmentation("flip", 16)(images, classes, task, draws)
    assert not torch.equal(found, images)
    assert moved.dtype == torch.uint8
    assert torch.equal(found[:, 0][moved != 255], moved[moved != 255])
    assert 0.6 < (moved != 255).float().mean() < 1  # what comes in counts for nothing


def test_boxes_move_with_their_images() -> None:
    images, targets = torch.zeros(20, 1, 24, 32), torch.full((20, 2, 5), -1.0)
    for row in range(20):
        x, y = 6 + row % 10, 5 + row % 7
        images[row, 0, y : y + 6, x : x + 8] = 1
        targets[row, 0] = torch.tensor([2.0, x, y, x + 8, y + 6])
    found, moved = augmentation("flip", 24)(images, targets, Detection(3), torch.Generator().manual_seed(1))
    assert not torch.equal(found, images)
    for image, (box, none) in zip(found[:, 0], moved.tolist(), strict=True):
        rows, columns = image.nonzero().unbind(1)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == [2, *map(int, edges)]
        assert none == [-1] * 5


def test_a_box_that_leaves_the_image_is_none() -> None:
    target = torch.tensor([[[0.0, 0, 0, 8, 8], [1.0, 4, 4, 8, 8]]])
    still, same = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool)
    moved = Detection(2).moved(target, View.shifted(still - 7, still, same, (16, 16)))
    assert moved.tolist() == [[[-1] * 5, [-1] * 5]]
    moved = Detection(2).moved(target, View.shifted(still - 5, still, same, (16, 16)))
    assert moved.tolist() == [[[0, 0, 0, 8, 3], [1, 4, 0, 8, 3]]]


def test_a_task_that_does_not_say_how_targets_move() -> None:
    task = Functions(lambda model, batch: 0, lambda model, batches: {}, {"psnr": "maximize"}, name="restore")
    with pytest.raises(TaskError, match=r"task restore: how targets of shape \(1, 4, 4\) move"):
        augmentation("shift", 4)(_images(2, 1, 4), _images(2, 1, 4), task, torch.Generator())


def _places(count: int, height: int, width: int) -> Tensor:
    """Images (count, 2, height, width) that hold the row and the column of each pixel."""
    rows = torch.arange(height).float().view(-1, 1).expand(height, width)
    columns = torch.arange(width).float().expand(height, width)
    return torch.stack([rows, columns]).expand(count, -1, -1, -1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (16, 64)])
def test_a_random_resized_crop_is_a_part_of_the_image_enlarged(height: int, width: int) -> None:
    found = vary(augmentation("crop", 32), _places(400, height, width))
    inner = found[:, :, 1:-1, 1:-1]  # at the border half a pixel is missing
    down, right = inner[:, 0].diff(dim=1), inner[:, 1].diff(dim=2)
    high, wide = down.mean((1, 2)), right.mean((1, 2))
    assert (down - high.view(-1, 1, 1)).abs().max() < 1e-3
    assert (right - wide.view(-1, 1, 1)).abs().max() < 1e-3
    area = high * wide.abs()
    assert 0.33 < float(area.min()) < 0.4  # where a side is that of the image, a little is missing
    assert float(area.max()) > 0.85
    ratio = wide.abs() / high  # of what is seen, by how much it is narrower
    assert 0.74 < float(ratio.min()) < 0.8
    assert 1.25 < float(ratio.max()) < 1.34
    assert abs(float(ratio.log().mean())) < 0.03  # in the mean as it is, whatever the image's sides
    assert 150 < int((wide < 0).sum()) < 250
    for places, side in ((found[:, 0], height), (found[:, 1], width)):
        assert float(places.min()) >= 0
        assert float(places.max()) <= side - 1
        assert places.flatten(1).min(1).values.std() > 1  # from anywhere


def test_a_crop_keeps_bytes_and_is_seeded() -> None:
    images, crops = _images(4, 3, 16), augmentation("crop", 16)
    first, again, other = vary(crops, images), vary(crops, images), vary(crops, images, seed=1)
    assert first.dtype == torch.uint8
    assert first.equal(again)
    assert not first.equal(other)


def test_a_crop_moves_masks() -> None:
    images = _places(50, 24, 40)
    masks = torch.arange(24 * 40).view(1, 24, 40).expand(50, -1, -1)
    found, moved = augmentation("crop", 24)(images, masks, Segmentation(960), _draws())
    for side, of_pixel in ((0, moved // 40), (1, moved % 40)):
        assert (found[:, side] - of_pixel).abs().max() < 0.501  # the pixel next to where the image was read
    assert len(moved.unique()) > 900


def test_a_crop_moves_boxes_and_cuts_them() -> None:
    images, targets = torch.zeros(200, 1, 48, 64), torch.full((200, 2, 5), -1.0)
    for row in range(200):
        x, y = row % 52, row % 38
        images[row, 0, y : y + 10, x : x + 12] = 1
        targets[row, 0] = torch.tensor([2.0, x, y, x + 12, y + 10])
    found, moved = augmentation("crop", 48)(images, targets, Detection(3), _draws())
    there = moved[:, 0, 0] == 2
    assert 120 < int(there.sum()) < 195  # parts without the box have none
    for image, box in zip(found[there, 0], moved[there, 0, 1:], strict=True):
        rows, columns = (image > 0.5).nonzero().unbind(1)
        edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (box - edges).abs().max() <= 1  # the pixels whose middles are inside
    assert (moved[~there, 0] == -1).all()
    assert (moved[:, 1] == -1).all()


def test_a_view_is_torchvisions_crop_and_flip(timm: Any) -> None:
    """The same part of an image, cut out and enlarged by torchvision, has the same box and the same mask."""
    functional = importlib.import_module("torchvision.transforms.v2.functional")
    tensors = importlib.import_module("torchvision.tv_tensors")
    top, left, high, wide = 4, 6, 16, 24
    view = View(torch.tensor([[-0.5, 0.5]]), torch.tensor([[left + wide, top]]), (32, 48))
    box, mask = torch.tensor([[10.0, 8, 30, 20]]), torch.randint(0, 9, (1, 32, 48), generator=_draws())

    def theirs(target: Tensor) -> Tensor:
        cut = functional.resized_crop(target, top, left, high, wide, [32, 48])
        return functional.horizontal_flip(cut).as_subclass(Tensor)

    boxes = tensors.BoundingBoxes(box, format="XYXY", canvas_size=(32, 48))
    inside = view.boxes(box[None])[0].clamp(min=0).minimum(torch.tensor([48.0, 32, 48, 32]))
    torch.testing.assert_close(inside, theirs(boxes))
    assert torch.equal(view.map(mask, 255), theirs(tensors.Mask(mask)))


def test_a_crop_of_targets_that_no_task_moves() -> None:
    task = Functions(lambda model, batch: 0, lambda model, batches: {}, {"psnr": "maximize"}, name="restore")
    with pytest.raises(TaskError, match=r"moved\(target, view\)"):
        augmentation("crop", 8)(_images(2, 3, 8), _images(2, 3, 8), task, torch.Generator())


def _draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)
