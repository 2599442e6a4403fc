"""Splits: disjoint, complete, stratified, decided by the seed."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynnas.data.raw import Labelled, RawData
from dynnas.data.split import Splits, split, stratified
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings

_LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200)


def _numbered(class_sizes: list[int], first: int = 0) -> Labelled:
    """Images of 2 x 2 whose pixels spell their number, so that each can be found again."""
    numbers = np.arange(first, first + sum(class_sizes), dtype="<u4")
    images = numbers.view(np.uint8).reshape(-1, 1, 2, 2)
    return Labelled(images, np.repeat(np.arange(len(class_sizes)), class_sizes))


def _raw(class_sizes: list[int], test_sizes: list[int] | None = None) -> RawData:
    names = tuple("abcdefgh"[: len(class_sizes)])
    test = _numbered(test_sizes, first=sum(class_sizes)) if test_sizes else None
    return RawData("made", "made.npz", names, _numbered(class_sizes), test)


def _numbers(part: Labelled) -> list[int]:
    return np.ascontiguousarray(part.images).reshape(-1, 4).view("<u4").ravel().tolist()


def _sizes(splits: Splits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.search), len(splits.test)


@given(_LABELS, st.data(), st.integers(0, 2**32))
def test_stratified_divides_all_and_gives_each_class_its_share(
    values: list[int], data: st.DataObject, seed: int
) -> None:
    labels = np.array(values)
    count = data.draw(st.integers(1, len(labels)))
    chosen, rest = stratified(labels, count, np.random.default_rng(seed))
    assert len(chosen) == count
    assert sorted([*chosen, *rest]) == list(range(len(labels)))
    for label in set(values):
        share = count * values.count(label) / len(values)
        assert abs((labels[chosen] == label).sum() - share) < 1


def test_stratified_depends_on_the_generator_alone() -> None:
    labels = np.arange(100) % 3
    first, again, other = (stratified(labels, 20, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@given(
    st.lists(st.integers(10, 60), min_size=2, max_size=5),
    st.booleans(),
    st.integers(0, 1000),
)
def test_splits_are_disjoint_and_complete(class_sizes: list[int], with_test: bool, seed: int) -> None:
    raw = _raw(class_sizes, [3] * len(class_sizes) if with_test else None)
    splits = split(raw, DataSettings(seed=seed))
    numbers = [_numbers(part) for part in (splits.train, splits.search, splits.test)]
    total = len(raw.train) + (len(raw.test) if raw.test else 0)
    assert sorted(chain(*numbers)) == list(range(total))
    if raw.test:
        assert sorted(numbers[2]) == _numbers(raw.test)


def test_labels_stay_with_their_images() -> None:
    sizes = [30, 20, 10]
    splits = split(_raw(sizes), DataSettings())
    expected = np.repeat([0, 1, 2], sizes)
    for part in (splits.train, splits.search, splits.test):
        assert part.labels.tolist() == expected[_numbers(part)].tolist()


def test_default_sizes() -> None:
    assert _sizes(split(_raw([100, 100]), DataSettings())) == (144, 16, 40)
    assert _sizes(split(_raw([100, 100], [5, 5]), DataSettings())) == (180, 20, 10)


def test_the_search_split_has_at_most_5000_images_by_default() -> None:
    assert len(split(_raw([30000, 30000], [5, 5]), DataSettings()).search) == 5000


def test_sizes_by_the_settings() -> None:
    settings = DataSettings(search_images=30, train_images=50)
    splits = split(_raw([100, 60, 40], [5, 5, 5]), settings)
    assert _sizes(splits) == (50, 30, 15)
    assert np.bincount(splits.search.labels).tolist() == [15, 9, 6]
    assert max(abs(np.bincount(splits.train.labels) - [25, 15, 10])) <= 1


def test_train_images_leaves_search_and_test_as_they_are() -> None:
    raw = _raw([100, 100])
    whole, limited = split(raw, DataSettings()), split(raw, DataSettings(train_images=20))
    assert _numbers(whole.search) == _numbers(limited.search)
    assert set(_numbers(limited.train)) < set(_numbers(whole.train))
    assert _numbers(whole.test) == _numbers(limited.test)


def test_more_train_images_than_there_are_means_all() -> None:
    assert len(split(_raw([100, 100], [5, 5]), DataSettings(train_images=1000)).train) == 180


def test_a_test_set_that_had_to_be_drawn_is_the_same_for_every_seed() -> None:
    raw = _raw([50, 50])
    first, second = (split(raw, DataSettings(seed=seed)) for seed in (1, 2))
    assert _numbers(first.test) == _numbers(second.test)
    assert set(_numbers(first.search)) != set(_numbers(second.search))


def test_any_prefix_is_a_fair_sample() -> None:
    splits = split(_raw([500, 500], [100, 100]), DataSettings())
    for part in (splits.train, splits.search, splits.test):
        assert 0.25 < part.labels[:50].mean() < 0.75


@pytest.mark.parametrize(
    ("raw", "settings", "message"),
    [
        (_raw([9, 2]), {}, r"made\.npz: every class needs at least 3 images .* 'b' has 2"),
        (_raw([9, 1], [1, 1]), {}, r"at least 2 images to be split, but 'b' has 1; add images or remove"),
        (_raw([9, 9], [1, 1]), {"search_images": 18}, r"search_images: 18 of the 18 .*; give at most 16"),
        (_raw([16, 2], [1, 1]), {"search_images": 17}, r"search_images: 17 is too many: of made\.npz .* 'b'"),
        (_raw([9, 9], [1, 1]), {"train_images": 1}, r"train_images: 1 is too few: .* for class '[ab]'"),
    ],
)
def test_data_that_cannot_be_split(raw: RawData, settings: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(raw, DataSettings(**settings))
