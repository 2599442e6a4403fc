"""The data set's batches, normalisation and digest."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import datasets

from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.sources.digits import load_digits
from dynnas.nn.layers.resize import resize
from dynnas.settings.settings import DataSettings
from dynnas.tasks import Classification


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data(DataSettings())


def test_digits_are_those_of_scikit_learn() -> None:
    theirs = datasets.load_digits()
    images, labels = load_digits()
    np.testing.assert_array_equal(images, theirs.images)
    np.testing.assert_array_equal(labels, theirs.target)


def test_digits(digits: Dataset) -> None:
    assert (digits.name, digits.channels, digits.task.outputs, digits.size) == ("digits", 1, 10, (8, 8))
    assert digits.task.names == tuple("0123456789")
    assert (len(digits.train), len(digits.search), len(digits.test)) == (1294, 144, 359)
    assert digits.augmentation == Augmentation(shift=1)
    images = digits.train.images
    assert (images.dtype, digits.train.targets.dtype) == (torch.uint8, torch.int64)
    assert (images.min(), images.max()) == (0, 255)
    assert len(images.unique()) == 17


def test_the_same_settings_give_the_same_data_and_another_seed_another_split(digits: Dataset) -> None:
    assert load_data(DataSettings()).digest == digits.digest
    assert load_data(DataSettings(seed=1)).digest != digits.digest


def test_the_digest_covers_images_labels_names_and_augmentation(digits: Dataset) -> None:
    images, labels = digits.train.images.clone(), digits.search.targets.clone()
    images[0, 0, 0, 0] += 1
    labels[0] = (labels[0] + 1) % 10
    others = [
        replace(digits, train=replace(digits.train, images=images)),
        replace(digits, search=replace(digits.search, targets=labels)),
        replace(digits, test=digits.test[:-1]),
        replace(digits, task=Classification(tuple("abcdefghij"))),
        replace(digits, augmentation=Augmentation()),
    ]
    assert len({digits.digest, *(other.digest for other in others)}) == 6


def test_normalised_training_images_have_zero_mean_and_unit_variance(digits: Dataset) -> None:
    images = digits.normalise(digits.train.images)
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_mean_and_std_are_by_channel_and_of_pixels_scaled_to_1(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    images[..., 1] //= 2
    images[..., 2] = 7
    np.savez(tmp_path / "made.npz", x_train=images, y_train=np.arange(60) % 2)
    data = load_data(DataSettings(source=str(tmp_path / "made.npz")))
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert data.std[:2] == pytest.approx(pixels.std((0, 2, 3), correction=0)[:2].tolist())
    assert data.std[2] == pytest.approx(1 / 255)
    assert data.normalise(data.train.images)[:, 2].abs().max().item() == pytest.approx(0, abs=1e-5)


def test_an_epoch_shows_images_once_and_drops_the_incomplete_batch(digits: Dataset) -> None:
    plain = replace(digits, augmentation=Augmentation())
    numbered = replace(plain, train=replace(digits.train, targets=torch.arange(len(digits.train))))
    batches = list(numbered.training_batches(seed=0, epoch=0, batch=100))
    assert len(batches) == numbered.steps(100) == 12
    shown = torch.cat([labels for _, labels in batches])
    assert len(shown.unique()) == 1200
    images = torch.cat([images for images, _ in batches])
    assert images.equal(digits.normalise(digits.train.images[shown]))


def test_a_set_smaller_than_a_batch_is_one_batch(digits: Dataset) -> None:
    small = replace(digits, train=digits.train[:20])
    ((images, labels),) = small.training_batches(0, 0, batch=128)
    assert (len(images), len(labels)) == (20, 20)


def test_batches_can_be_reached_directly_and_resumed_at_any_step(digits: Dataset) -> None:
    epoch = list(digits.training_batches(seed=3, epoch=2, batch=128))
    resumed = list(digits.training_batches(seed=3, epoch=2, batch=128, start=6))
    assert len(resumed) == len(epoch) - 6
    direct = digits.train_batch(seed=3, epoch=2, step=6, batch=128)
    for (images, labels), other in ((epoch[6], resumed[0]), (epoch[6], direct), (epoch[-1], resumed[-1])):
        assert images.equal(other[0])
        assert labels.equal(other[1])


def test_batches_differ_by_seed_epoch_and_step(digits: Dataset) -> None:
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    first = [digits.train_batch(*place, batch=64)[1].tolist() for place in places]
    assert len(set(map(tuple, first))) == 4


def test_an_image_varies_between_epochs(digits: Dataset) -> None:
    single = replace(digits, train=digits.train[:1])
    pictures = {tuple(single.train_batch(0, epoch, 0, 1)[0].flatten().tolist()) for epoch in range(60)}
    assert len(pictures) == 9


def test_evaluation_sees_every_image_in_order(digits: Dataset) -> None:
    batches = list(digits.evaluation_batches(digits.search, 100))
    assert [len(labels) for _, labels in batches] == [100, 44]
    assert torch.cat([images for images, _ in batches]).equal(digits.normalise(digits.search.images))
    assert torch.cat([labels for _, labels in batches]).equal(digits.search.targets)


def test_calibration_images_are_unvaried_training_images(digits: Dataset) -> None:
    images = digits.calibration_images(50, seed=0)
    assert images.shape == (50, 1, 8, 8)
    assert images.equal(digits.calibration_images(50, seed=0))
    assert not images.equal(digits.calibration_images(50, seed=1))
    known = {tuple(image.flatten().tolist()) for image in digits.normalise(digits.train.images)}
    assert {tuple(image.flatten().tolist()) for image in images} <= known
    assert len(digits.calibration_images(10**6, seed=0)) == len(digits.train)


def test_on_another_device_all_splits_move(digits: Dataset) -> None:
    moved = digits.to("meta")
    for split in (moved.train, moved.search, moved.test):
        assert (split.images.device.type, split.targets.device.type) == ("meta", "meta")
    assert moved.train_batch(0, 0, 0, 32)[0].shape == (32, 1, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_are_the_same_on_cuda(digits: Dataset) -> None:
    here, there = digits.train_batch(0, 0, 3, 64), digits.to("cuda").train_batch(0, 0, 3, 64)
    assert there[0].device.type == "cuda"
    assert torch.allclose(here[0], there[0].cpu())
    assert here[1].equal(there[1].cpu())


def test_resize() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert resize(images, 8) is images
    assert resize(torch.full((1, 1, 8, 8), 0.25), 5).allclose(torch.full((1, 1, 5, 5), 0.25))
    halved = resize(torch.arange(8.0).expand(1, 1, 8, 8), 4)
    assert halved.shape == (1, 1, 4, 4)
    assert halved[0, 0, 0, 1:3].tolist() == pytest.approx([2.5, 4.5])


def test_a_printed_data_set_does_not_list_its_pixels(digits: Dataset) -> None:
    assert repr(digits.search) == "Split(144 images [1, 8, 8] of uint8)"
    assert len(repr(digits)) < 600
