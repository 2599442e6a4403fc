"""Damaged studies: one clear message, exit code 2, and every file as it was."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """
name: tiny
input: {resolutions: 8}
stem: {width: 8}
stages: [{block: dwsep, width: [8, 16], stride: 2}]
head: {width: 16}
data: {source: digits, train_images: 128, search_images: 64}
train: {epochs: 1, precision: float32, layout: channels_first}
search: {trials: 2, controls: false}
target: {seconds: 0.02}
"""


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def older(path: Path) -> None:
    text = path.read_text()
    assert '": 1,' in text
    path.write_text(text.replace('": 1,', '": 0,', 1))


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 400)


DAMAGES = [
    ("supernet/checkpoint.pt", half, "export", "checkpoint.pt: not a readable checkpoint"),
    ("supernet/checkpoint.pt", half, "search", "checkpoint.pt: not a readable checkpoint"),
    ("settings.json", older, "front", "settings.json: found format 0, this dynnas reads 1"),
    ("settings.json", older, "search", "settings.json: found format 0, this dynnas reads 1"),
    ("settings.json", half, "report", "settings.json: damaged"),
    ("front.json", older, "report", "front.json: found format 0, this dynnas reads 1"),
    ("front.json", half, "front", "front.json: damaged, or not by dynnas"),
    ("study.db", garbage, "report", "cannot be used (file is not a database)"),
]


@pytest.fixture(scope="module")
def study(dynnas: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "tiny.yaml").write_text(SPACE, encoding="utf-8")
    assert dynnas("search", str(folder / "tiny.yaml"), "--studies", str(folder), "--quiet").status == 0
    return folder / "tiny"


def digests(folder: Path, damaged: str) -> dict[str, str]:
    """Of every file that reading leaves as it is: SQLite tidies up its own, a search notes its settings."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    kept = {
        name: path
        for name, path in files.items()
        if name == damaged or not (name in ("lock", "settings.json") or ".db" in name)
    }
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in kept.items()}


@pytest.mark.parametrize(("file", "damage", "command", "message"), DAMAGES)
def test_damage_is_one_message_and_nothing_is_overwritten(
    file: str,
    damage: Callable[[Path], None],
    command: str,
    message: str,
    study: Path,
    tmp_path: Path,
    dynnas: Callable,
) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(study, copy)
    damage(copy / file)
    before = digests(copy, file)
    words = {
        "search": ("search", str(study.parent / "tiny.yaml"), "--studies", str(tmp_path), "--trials", "3"),
        "export": ("export", str(copy), "--out", str(tmp_path / "out")),
    }.get(command, (command, str(copy)))
    ran = dynnas(*words)
    assert (ran.status, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err
    assert digests(copy, file) == before
    assert not (tmp_path / "out").exists()
    assert not (copy / "report.html").exists()
