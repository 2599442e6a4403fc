"""The way of a newcomer, from installing to a class for a picture, timed step by step.

    python tests/bench/newcomer.py [--short] [--folder DIR]

Builds a wheel and installs it aside (what it depends on is taken from this environment), away from the clone;
runs the demonstration; makes a folder of pictures of three shapes, of several formats and unequal sizes;
searches on them under a limit of their own; writes the report; exports the knee; and runs its `run.py` on one
picture. `--short` trains for one epoch and tries six candidates, which checks the way and not what it finds.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
SHAPES = ("disc", "square", "triangle")
FORMATS = ("png", "jpg", "bmp", "gif", "webp", "tiff")
SHORT = ("--epochs", "1", "--trials", "6")
LONG = ("--epochs", "40")  # for few pictures: about as many steps as the scenes have in two
LIMIT = "latency_ms=0.4"


def picture(shape: str, rng: np.random.Generator) -> Image.Image:
    """A shape in some colour, at some place and size, on a noisy ground of some shape."""
    width, height = (int(side) for side in rng.integers(40, 120, size=2))
    ground = rng.integers(0, 90, size=(height, width, 3), dtype=np.uint8)
    image = Image.fromarray(ground)
    colour = tuple(int(value) for value in rng.integers(120, 256, size=3))
    size = int(rng.uniform(0.3, 0.7) * min(width, height))
    left, top = (int(rng.integers(0, side - size)) for side in (width, height))
    box = (left, top, left + size, top + size)
    draw = ImageDraw.Draw(image)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(left, top + size), (left + size, top + size), (left + size / 2, top)], fill=colour)
    return image


def make_pictures(folder: Path, each: int) -> Path:
    """Pictures in one folder for each shape; returns one of them."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(each):
            path = folder / shape / f"{number}.{FORMATS[number % len(FORMATS)]}"
            picture(shape, rng).save(path)
    return path


class Way:
    """Runs the steps, each in a process of its own, and keeps what they took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[tuple[str, float, float]] = []
        # Nothing of the clone must be found: only what is installed counts.
        self.env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def step(self, title: str, *command: str | Path) -> str:
        """Run one command; what it prints."""
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        ran = subprocess.run(
            list(map(str, command)),
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.rows.append((title, spent, time.monotonic() - start))
        return ran.stdout

    def install(self) -> tuple[Path, Path]:
        """A wheel of the clone in an environment of its own; its python and its `dynnas`."""
        tree = self.folder / "tree"
        for name in ("dynnas", "spaces"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree / name)
        pip = [sys.executable, "-m", "pip", "--quiet"]
        self.step("wheel", *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", self.folder, tree)
        shutil.rmtree(tree)
        place = self.folder / "venv"
        venv.create(place, system_site_packages=False, with_pip=False)
        (site,) = place.glob("lib/python*/site-packages")
        packages = [path for path in map(Path, sys.path) if path.name in ("site-packages", "dist-packages")]
        (site / "of-this-environment.pth").write_text("\n".join(map(str, packages)))
        (wheel,) = self.folder.glob("dynnas-*.whl")
        python = place / "bin/python"
        self.step(
            "install",
            *pip,
            "--python",
            python,
            "install",
            "--no-deps",
            "--no-index",
            "--ignore-installed",
            wheel,
        )
        return python, place / "bin/dynnas"


def walk(folder: Path, short: bool) -> Way:
    """Go the whole way in `folder`.

    Raises:
        CalledProcessError: a command failed.
        AssertionError: one did not leave what it should.
    """
    way = Way(folder)
    python, dynnas = way.install()
    where = way.step("find it", python, "-c", "import dynnas; print(dynnas.__file__)").strip()
    assert Path(where).is_relative_to(folder / "venv"), where
    assert "mobile" in way.step("dynnas spaces", dynnas, "spaces")
    if short:
        way.step("demo, short", dynnas, "search", "mobile", "--name", "demo", *SHORT)
        way.step("report of the demo", dynnas, "report", "demo")
    else:
        way.step("dynnas demo", dynnas, "demo")
    assert (folder / "studies/demo/report.html").exists()
    one = make_pictures(folder / "pictures", 60 if short else 200)
    own = [dynnas, "search", "mobile", "--data", "pictures", "--max", LIMIT]
    way.step("search own pictures under a limit", *own, *(SHORT if short else LONG))
    assert (folder / "studies/mobile-pictures/front.json").exists()
    said = way.step("report as text", dynnas, "report", "mobile-pictures", "--format", "md")
    assert "Take " in said.splitlines()[2], said[:400]
    way.step("export", dynnas, "export", "mobile-pictures", "--pick", "knee", "--out", "knee")
    answer = way.step("run.py", python, "knee/run.py", one)
    assert any(shape in answer for shape in SHAPES), answer
    print(answer.strip())
    return way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--folder", type=Path, help="an empty folder to keep; a passing one if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = (arguments.folder or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        way = walk(folder, arguments.short)
    print("\n| step | processor s | wall s |\n| --- | ---: | ---: |")
    for title, processor, wall in way.rows:
        print(f"| {title} | {processor:.1f} | {wall:.1f} |")
    print(f"| all | {sum(row[1] for row in way.rows):.1f} | {sum(row[2] for row in way.rows):.1f} |")


if __name__ == "__main__":
    main()
