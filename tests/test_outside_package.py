"""A package outside of the tree adds one thing of each kind, a file each, and nothing here is edited."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"
KINDS = (
    *("kernels", "blocks", "gates", "attentions", "activations", "samplers"),
    *("runtimes", "formats", "data", "tasks", "measurements"),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in (PLUGIN / "dynnas_mine").rglob("*"):
        if path.suffix in (".py", ".toml"):
            place = source / path.relative_to(PLUGIN / "dynnas_mine")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())  # pip builds beside the source, which stays clean
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    return site


def test_the_package_adds_one_of_each_kind(site: Path) -> None:
    (points,) = site.glob("dynnas_mine-*.dist-info/entry_points.txt")
    found = re.findall(r"^\[dynnas\.(\w+)\]$", points.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(found) == sorted(KINDS)
    files = {path.name for path in (site / "dynnas_mine").glob("*.py")} - {"__init__.py"}
    assert len(files) == len(KINDS) == 11


def test_all_of_it_is_used_and_conforms(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="),
            *("--basetemp", str(tmp_path / "inside"), str(PLUGIN / "use_everything.py")),
        ],
        env=environment,
        cwd=PLUGIN.parents[1],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert re.search(r"^\d+ passed", ran.stdout.splitlines()[-1])
