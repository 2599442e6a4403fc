"""Every data test has an empty cache and sees no data sets but its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYNNAS_CACHE", str(folder))
    monkeypatch.delenv("DYNNAS_DATA", raising=False)
    return folder
