"""The composed scenes: by the rule that is told, the same everywhere, no digit in two splits."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits

from dynnas.data.load import load_data
from dynnas.data.raw import RawData
from dynnas.data.sources import scenes
from dynnas.settings.settings import DataSettings


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return scenes.read()


def test_they_are_the_same_everywhere(raw: RawData) -> None:
    digest = hashlib.blake2b(digest_size=8)
    for part in (raw.train, raw.search, raw.test):
        assert part is not None
        digest.update(part.images.tobytes())
        digest.update(part.labels.astype("<i8").tobytes())
    assert digest.hexdigest() == "9f7a4a0cf6f95ae2"


def test_every_split_begins_and_ends_with_a_form() -> None:
    target = load_digits().target
    parts = [target[forms] for forms in scenes.FORMS.values()]
    assert np.array_equal(np.concatenate(parts), target)
    for part in parts:
        assert part[:30].tolist() == [*range(10)] * 3
    assert [len(part) for part in parts] == [1029, 386, 382]


def test_every_class_has_its_share(raw: RawData) -> None:
    for part in (raw.train, raw.search, raw.test):
        assert part is not None
        counts = np.bincount(part.labels, minlength=10)
        assert counts.min() > 0.09 * len(part)
        assert counts.max() < 0.11 * len(part)


def test_half_of_the_scenes_are_one_large_digit_alone() -> None:
    rng = np.random.default_rng(0)
    difficulty = scenes._difficulty(10_000, rng)
    easy = difficulty < 0.08
    assert abs(easy.mean() - 0.5) < 0.02
    assert difficulty[~easy].min() >= 0.5
    whole = scenes._whole_digits(np.zeros(10_000, int), difficulty, rng)
    sides = whole.scales * 8
    assert sides[easy].min() > 19
    assert sides[~easy].max() < 18
    assert np.rint(scenes._FRAGMENTS * difficulty[easy]).max() == 0
    assert np.rint(scenes._FRAGMENTS * difficulty[~easy]).min() == 3


def test_a_scene_is_what_scipy_makes_of_the_same_digit() -> None:
    digit = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)
    angle, scale, row, column = 0.3, 2.5, 14.2, 17.9
    placed = scenes._Placed(
        scenes=np.array([0]),
        digits=np.array([0]),
        rows=np.array([row]),
        columns=np.array([column]),
        scales=np.array([scale]),
        angles=np.array([angle]),
        centres=np.full((2, 1), 3.5),
        windows=np.array([10.0]),
    )
    margin = scenes._MARGIN
    canvas = np.zeros((1, 32 + 2 * margin, 32 + 2 * margin), np.float32)
    scenes._paint(canvas, digit, placed, 32)
    down, right = np.mgrid[:32, :32] - np.array([row, column])[:, None, None]
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / scale
    places = np.einsum("ij,jyx->iyx", turned, np.stack([down, right])) + 3.5
    expected = map_coordinates(digit[0], places, order=1, mode="grid-constant")
    np.testing.assert_allclose(canvas[0, margin:-margin, margin:-margin], expected, atol=1e-5)


def test_a_fragment_shows_a_window_of_its_digit_and_the_lighter_pixel_wins() -> None:
    placed = scenes._Placed(
        scenes=np.array([1]),
        digits=np.array([0]),
        rows=np.array([10.0]),
        columns=np.array([20.0]),
        scales=np.array([1.0]),
        angles=np.array([0.0]),
        centres=np.array([[3.0], [4.0]]),
        windows=np.array([3.0]),
    )
    margin = scenes._MARGIN
    canvas = np.full((2, 32 + 2 * margin, 32 + 2 * margin), 0.25, np.float32)
    digit = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    scenes._paint(canvas, digit, placed, 16)
    shown = canvas[1, margin:-margin, margin:-margin]
    np.testing.assert_allclose(shown[9:12, 19:22], np.maximum(digit[0, 2:5, 3:6], 0.25), atol=1e-6)
    assert (canvas != 0.25).sum() == (digit[0, 2:5, 3:6] > 0.25).sum()


def test_the_data_set_keeps_the_splits_and_takes_fewer_where_asked(tmp_path: Path) -> None:
    data = load_data(DataSettings(source="scenes", search_images=100, train_images=200))
    assert data.split_sizes == (200, 100, 2000)
    assert str(data.augmentation) == "shifts of up to 4 px"
    assert data.size == (scenes.SIDE, scenes.SIDE)


def test_they_come_from_the_cache_the_second_time(monkeypatch: pytest.MonkeyPatch, raw: RawData) -> None:
    first = scenes.read()
    monkeypatch.setattr(scenes, "_all_scenes", None)
    second = scenes.read()
    assert np.array_equal(first.train.images, second.train.images)
    assert np.array_equal(first.train.labels, raw.train.labels)
