"""Folders that are too large for memory: the same bytes from disk for every reader, or a clear message."""

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.squares import Squares

from dynnas.data import assemble
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.streaming.images import StreamedImages, in_batches, read_images
from dynnas.data.streaming.pool import WorkerPool
from dynnas.data.streaming.row_cache import RowCache, slots_of
from dynnas.data.streaming.store import RowStore
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 24 pictures of noise, of several sizes."""
    root = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir()
        for number in range(24):
            shape = (12 + number % 3, 14 + number % 5, 3)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(root / name / f"{number}.png")
    return root


def _load(root: Path, progress: Progress | None = None, **settings: object) -> Dataset:
    streamed = {"memory_gb": 0.0, "workers": 0, **settings}
    return load_data(DataSettings(source=str(root), **streamed), progress)  # type: ignore[arg-type]


def _copy(root: Path, to: Path) -> Path:
    for path in root.rglob("*.png"):
        (to / path.parent.name).mkdir(parents=True, exist_ok=True)
        (to / path.parent.name / path.name).write_bytes(path.read_bytes())
    return to


def _epoch(dataset: Dataset, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(dataset.training_batches(seed=3, epoch=epoch, batch=7))


def _read_all(root: Path, workers: int) -> None:
    dataset = _load(root, workers=workers, cache_gb=0.0)
    _epoch(dataset)
    for part in (dataset.search, dataset.test):
        list(dataset.evaluation_batches(part, 2))


def _equal(ours: Sequence[tuple[torch.Tensor, ...]], others: Sequence[tuple[torch.Tensor, ...]]) -> bool:
    return all(map(torch.equal, sum(ours, ()), sum(others, ())))


def test_what_fits_lies_in_memory_and_the_rest_does_not(pets: Path) -> None:
    assert isinstance(_load(pets, memory_gb=2.0).train.images, torch.Tensor)
    assert isinstance(_load(pets).train.images, StreamedImages)


@pytest.mark.parametrize("settings", [{}, {"workers": 1}, {"workers": 3}, {"cache_gb": 0.0}])
def test_the_same_bytes_from_disk_and_from_memory(pets: Path, settings: dict[str, object]) -> None:
    held, streamed = _load(pets, memory_gb=2.0), _load(pets, **settings)
    assert streamed.digest == held.digest
    assert (streamed.mean, streamed.std) == (held.mean, held.std)
    assert streamed.summary == held.summary
    for part in ("train", "search", "test"):
        ours, others = getattr(streamed, part), getattr(held, part)
        assert torch.equal(read_images(ours.images), others.images)
        assert torch.equal(ours.targets, others.targets)
        evaluated = list(streamed.evaluation_batches(ours, 5))
        assert _equal(evaluated, list(held.evaluation_batches(others, 5)))
    for epoch in range(2):
        assert _equal(_epoch(streamed, epoch), _epoch(held, epoch))
    assert torch.equal(streamed.train_batch(3, 1, 2, 7)[0], held.train_batch(3, 1, 2, 7)[0])
    assert torch.equal(streamed.calibration_images(20, 1), held.calibration_images(20, 1))


def test_few_images_stand_for_all_where_there_are_many(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "_SAMPLED_VALUES", 20 * 3 * 13 * 13)
    told: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "message", told.append)
    opened: list[int] = []
    read = RowStore.read
    monkeypatch.setattr(RowStore, "read", lambda self, rows: opened.extend(rows) or read(self, rows))
    streamed = _load(pets, progress, cache_gb=0.0)
    assert len(opened) == 20
    held = _load(pets, progress, memory_gb=2.0)
    first = held.train.images[:20].double() / 255
    assert held.mean == pytest.approx(tuple(first.mean((0, 2, 3)).tolist()))
    assert held.std == pytest.approx(tuple(first.std((0, 2, 3), correction=0).tolist()))
    assert (streamed.mean, streamed.std) == (held.mean, held.std)
    assert _equal(_epoch(streamed), _epoch(held))
    note = "normalised by 20 training images drawn at random"
    assert [text.count(note) for text in told if text.startswith("data: ")] == [1, 1]


def test_readers_in_turn_share_the_workers(pets: Path) -> None:
    dataset = _load(pets, workers=2)
    expected = _epoch(dataset)
    training, got = dataset.training_batches(seed=3, epoch=0, batch=7), []
    for _ in expected:
        got.append(next(training))
        list(in_batches(dataset.search.images, 2))
    assert _equal(got, expected)


def test_one_line_says_so(pets: Path) -> None:
    class Told(Progress):
        lines: list[str]

        def message(self, text: str) -> None:
            self.lines.append(text)

    told = Told()
    told.lines = []
    _load(pets, told, workers=2)
    assert told.lines[0].endswith(
        "; streamed from disk (2.43e-05 GB decoded, more than data.memory_gb: 0) by 2 processes, up to 4 GB "
        "kept decoded"
    )


@pytest.mark.parametrize(
    ("fit", "corner", "middle"), [("crop", 200, 200), ("pad", 0, 200), ("stretch", 200, 200)]
)
def test_size_and_fit(tmp_path: Path, fit: str, corner: int, middle: int) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "lines" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("L", (40, 10), 200).save(tmp_path / "lines" / name / f"{number}.png")
    for memory_gb in (0.0, 2.0):
        dataset = _load(tmp_path / "lines", size=(16, 20), fit=fit, memory_gb=memory_gb)
        image = read_images(dataset.train.images)[0]
        assert image.shape == (1, 16, 20)
        assert (int(image[0, 0, 0]), int(image[0, 8, 10])) == (corner, middle)


def test_three_numbers_are_no_size(pets: Path) -> None:
    with pytest.raises(DataError, match=r"data.size: \[1, 2, 3\] has 3 numbers; give one side, or"):
        _load(pets, size=(1, 2, 3))


def test_images_that_moved_are_the_same_data(pets: Path, tmp_path: Path) -> None:
    assert _load(_copy(pets, tmp_path / "moved")).digest == _load(pets).digest
    (tmp_path / "moved" / "cat" / "0.png").write_bytes((pets / "dog" / "0.png").read_bytes())
    assert _load(tmp_path / "moved").digest != _load(pets).digest


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "was there when the data were listed and cannot be read now"),
        (lambda path: path.write_bytes(b"x"), "has changed since the data were listed; restore it, or start"),
    ],
)
def test_a_folder_that_changes(pets: Path, tmp_path: Path, workers: int, change, message: str) -> None:
    root = _copy(pets, tmp_path / "pets")
    dataset = _load(root, workers=workers, cache_gb=0.0)
    for path in root.rglob("1?.png"):
        change(path)
    with pytest.raises(DataError, match=message):
        _epoch(dataset)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_ends_too_early(pets: Path, tmp_path: Path, workers: int) -> None:
    # The header is whole, so that listing the folder finds nothing.
    root = _copy(pets, tmp_path / "pets")
    path = root / "cat" / "5.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cat/5\.png: not a readable image .*; replace or remove it"):
        _read_all(root, workers)


def test_all_broken_pictures_are_named_together(pets: Path, tmp_path: Path) -> None:
    root = _copy(pets, tmp_path / "pets")
    for number in range(12):
        (root / "dog" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"(?s)dog/0\.png.*dog/11\.png.*\nand 2 more$"):
        _load(root)


def test_a_worker_that_is_killed_or_fails() -> None:
    squares = WorkerPool(Squares(), 2)
    parts = [np.arange(at, at + 2) for at in range(0, 12, 2)]
    assert [batch.tolist() for batch in squares.batches(parts)] == [(part**2).tolist() for part in parts]
    with pytest.raises(DataError, match="data: reading images failed with ValueError: seventeen"):
        list(squares.batches([np.array([1]), np.array([17]), np.array([2])]))
    assert [batch.tolist() for batch in squares.batches(parts)] == [(part**2).tolist() for part in parts]
    with pytest.raises(DataError, match="a process that decodes images ended with status -9"):
        list(squares.batches([np.array([1]), np.array([13]), np.array([2])]))
    assert not squares.mine


def test_the_cache_is_bounded_and_checked(tmp_path: Path) -> None:
    slots = slots_of(np.array([3, 1, 0, 2]), 4, row_bytes=6, limit_bytes=25)
    assert slots.tolist() == [-1, 1, -1, 0]
    cache = RowCache(tmp_path / "rows", slots, 6)
    with cache.opened() as file:
        for row in range(4):
            cache.put(file, row, bytes([row]) * 6)
        assert [cache.get(file, row) for row in range(4)] == [None, b"\1" * 6, None, b"\3" * 6]
    content = bytearray(cache.path.read_bytes())
    assert len(content) == 20
    content[7] ^= 1
    cache.path.write_bytes(content)
    with pickle.loads(pickle.dumps(cache)).opened() as file:
        assert [cache.get(file, row) for row in (1, 3)] == [b"\1" * 6, None]


def test_what_is_kept_is_not_decoded_again(pets: Path, tmp_path: Path) -> None:
    root = _copy(pets, tmp_path / "pets")
    dataset = _load(root)
    expected = _epoch(dataset)
    for path in root.rglob("*.png"):
        path.unlink()
    assert _equal(_epoch(dataset), expected)


def test_a_large_folder_needs_little_memory(pets: Path, tmp_path: Path) -> None:
    # 4,000 links to 48 pictures; of 128 x 128 they would be 197 MB decoded.
    root = tmp_path / "many"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(2_000):
            os.link(pets / name / f"{number % 24}.png", root / name / f"{number}.png")
    script = f"""
        import resource
        from dynnas.data.load import load_data
        from dynnas.settings.settings import DataSettings
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        settings = dict(source={str(root)!r}, size=(128,), workers=1, memory_gb=0.1, cache_gb=0.01)
        dataset = load_data(DataSettings(**settings))
        for step, batch in zip(range(20), dataset.training_batches(0, 0, 64)):
            assert batch[0].shape == (64, 3, 128, 128)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(len(dataset.train), (after - before) // 1024)
    """
    made = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    images, megabytes = map(int, made.stdout.split())
    assert images == 2_880
    assert megabytes < 120
