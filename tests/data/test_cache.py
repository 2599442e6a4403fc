"""The cache of decoded images."""

from pathlib import Path

import numpy as np
import pytest

from dynnas.data.cache import cached

_ARRAY = np.arange(6, dtype=np.uint8).reshape(2, 3)


def _never() -> np.ndarray:
    raise AssertionError("made again")


def test_made_once(cache_folder: Path) -> None:
    assert cached("key", lambda: _ARRAY).tolist() == _ARRAY.tolist()
    assert cached("key", _never).tolist() == _ARRAY.tolist()
    assert [path.name for path in cache_folder.iterdir()] == ["key.npy"]


def test_a_damaged_file_is_made_anew(cache_folder: Path) -> None:
    cached("key", lambda: _ARRAY)
    for content in (b"", b"\x93NUMPY", (cache_folder / "key.npy").read_bytes()[:-1]):
        (cache_folder / "key.npy").write_bytes(content)
        assert cached("key", lambda: _ARRAY).tolist() == _ARRAY.tolist()
    assert cached("key", _never).tolist() == _ARRAY.tolist()


def test_without_a_folder_to_write_to_the_array_is_still_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path / "file"))
    assert cached("key", lambda: _ARRAY).tolist() == _ARRAY.tolist()


def test_the_users_cache_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached("key", lambda: _ARRAY)
    assert (tmp_path / "dynnas" / "key.npy").is_file()
