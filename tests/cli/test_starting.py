"""The space files that come with dynnas, by name from anywhere, and the names of studies."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dynnas.cli.options import study_name
from dynnas.language.parser import load_space
from dynnas.language.shipped import find_space, shipped_spaces, title_of_space

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_they_are_listed_with_what_they_span(dynnas: Callable) -> None:
    out = dynnas("spaces").out
    for path in (ROOT / "spaces").glob("*.yaml"):
        assert f" {path.stem} " in out
        assert title_of_space(path) in out


def test_a_title_is_the_first_sentence_of_the_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "# yaml-language-server: $schema=schema.json\n#\n# Networks of 8.5 layers (Su et al. 2021), of two\n"
        "# kinds. More of it.\n\ninput: {}\n# not this\n"
    )
    assert title_of_space(path) == "Networks of 8.5 layers (Su et al. 2021), of two kinds"


@pytest.mark.usefixtures("elsewhere")
def test_a_name_is_as_good_as_a_path(dynnas: Callable) -> None:
    assert dynnas("space", "exits").out == dynnas("space", str(ROOT / "spaces/exits.yaml")).out
    assert load_space("exits") == load_space(ROOT / "spaces/exits.yaml")


def test_what_lies_there_has_precedence(elsewhere: Path) -> None:
    (elsewhere / "mobile").write_text("choices: {a: [1, 2]}")
    assert find_space("mobile") == Path("mobile")
    assert load_space("mobile").size == 2
    assert find_space("sub/exits") == Path("sub/exits")


@pytest.mark.usefixtures("elsewhere")
def test_an_unknown_name_is_told_the_known_ones(dynnas: Callable) -> None:
    assert "those that come with dynnas are cifar10, compact," in dynnas("space", "mobil").err
    assert "no space file is called 'mobil' (did you mean 'mobile'?)" in dynnas("spaces", "mobil").err


def test_a_copy_is_made_once(elsewhere: Path, dynnas: Callable) -> None:
    assert dynnas("spaces", "mobile", "--out", "mine.yaml").out == "space: mine.yaml\n"
    text = (ROOT / "spaces/mobile.yaml").read_text(encoding="utf-8")
    assert (elsewhere / "mine.yaml").read_text(encoding="utf-8") == text == dynnas("spaces", "mobile").out
    assert "mine.yaml exists" in dynnas("spaces", "mobile", "--out", "mine.yaml").err
    assert "say which space file" in dynnas("spaces", "--out", "other.yaml").err


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (None, "mobile"),
        ("fashion-mnist", "mobile-fashion-mnist"),
        ("../my pictures/", "mobile-my-pictures"),
        ("arrays.npz", "mobile-arrays"),
        ("my.package:two_classes", "mobile-two_classes"),
        ("/", "mobile-data"),
    ],
)
def test_studies_of_one_space_on_several_data_have_names_of_their_own(data: str | None, name: str) -> None:
    assert study_name("mobile", data) == name


def test_a_wheel_carries_the_space_files(tmp_path: Path) -> None:
    """A wheel is built without the network, unpacked aside, and its command lists what it carries."""
    for name in ("dynnas", "spaces"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "tree" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(tmp_path / "tree")], check=True)
    (wheel,) = tmp_path.glob("dynnas-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("dynnas/spaces/")}
        archive.extractall(tmp_path / "site")
    files = [*(ROOT / "spaces").glob("*.yaml"), ROOT / "spaces/schema.json"]
    assert names == {f"dynnas/spaces/{path.name}" for path in files}
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import dynnas; from dynnas.language.shipped import shipped_spaces as s; print(s()['mobile'])"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    found = Path(ran.stdout.strip())
    assert found == tmp_path / "site/dynnas/spaces/mobile.yaml"
    assert yaml.safe_load(found.read_text()) == yaml.safe_load(shipped_spaces()["mobile"].read_text())
