"""Links lead somewhere, code blocks run, and generated pages are up to date."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support.markdown import PAGES, ROOT, Block, anchors, blocks, links, prose
from support.programs import run_program
from support.scripts import load_script

from dynnas.language.parser import parse_space

GENERATED = (ROOT / "docs/reference", ROOT / "docs/methods")
TESTS_OF_MARKED_BLOCKS = ("tests/readme/test_readme.py",)
WRITTEN = [page for page in PAGES if ROOT / "docs/reference" not in page.parents]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{link}: there is no such file"
        if fragment:
            assert fragment in anchors(file), f"{link}: there is no such heading"


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    pages = [ROOT / "README.md"]
    while pages:
        page = pages.pop()
        reached.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        pages += [target for target in targets - reached if target in PAGES]
    assert {name(page) for page in PAGES} - {name(page) for page in reached} == set()


def python(page: Path) -> str:
    """The Python of a page that has no mark, as one program."""
    return "\n".join(block.text for block in blocks(page) if block.language == "python" and not block.mark)


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_dotted_names_of_a_page_exist(page: Path) -> None:
    """`dynnas.package.module.Class.method` in the text of a page."""
    for dotted in re.findall(r"`(dynnas(?:\.\w+)+)`", prose(page)):
        assert exists(dotted), f"{name(page)}: there is no {dotted}"


def exists(dotted: str) -> bool:
    return find(dotted) is not None


def find(dotted: str) -> object:
    """What stands behind a dotted name; None for nothing."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part, None)
        return value
    return None


STAGES = ("parse", "space", "supernet", "train", "search", "candidate", "measure", "front", "export")
"""From a space file to an exported model; others may stand between them."""


def test_the_architecture_page_names_one_function_for_each_stage() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| `(dynnas\.[\w.]+)` \|.*\|$", page, re.MULTILINE)
    named = {stage: dotted for stage, dotted in rows if dotted.count(".") > 1}
    stages = [stage for stage in named if stage in STAGES]
    assert stages == list(STAGES)
    assert len(set(named.values())) == len(named)
    assert [dotted for dotted in named.values() if not inspect.isfunction(find(dotted))] == []


def test_the_architecture_page_has_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = {f"dynnas.{path.parent.name}" for path in (ROOT / "dynnas").glob("*/__init__.py")}
    assert packages - set(re.findall(r"^\| `(dynnas\.\w+)` \|", page, flags=re.MULTILINE)) == set()


@pytest.mark.parametrize("page", [page for page in WRITTEN if python(page)], ids=name)
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    """Blocks without a mark run in order, in one program, beside the spaces of the repository."""
    (tmp_path / "spaces").symlink_to(ROOT / "spaces")
    run_program(python(page), tmp_path)


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_yaml_of_a_page_is_read(page: Path) -> None:
    """Blocks without a mark are YAML; those marked `space: ...` are spaces."""
    for block in blocks(page):
        if block.language == "yaml" and block.mark.startswith("space: "):
            assert parse_space(block.text, name(page)).genes
        elif block.language == "yaml" and not block.mark:
            assert yaml.safe_load(block.text)


def test_every_command_and_mark_has_its_test() -> None:
    """What is not run says so: `<!-- not run: why -->`."""
    tests = "\n".join((ROOT / test).read_text(encoding="utf-8") for test in TESTS_OF_MARKED_BLOCKS)
    for page in WRITTEN:
        for block in blocks(page):
            assert is_checked(block, tests), f"{name(page)}: no test runs this block: {block}"


def is_checked(block: Block, tests: str) -> bool:
    if not block.mark:
        return block.language not in {"bash", "sh", "console", ""}
    if block.mark.startswith("file: "):
        return block.mark.removeprefix("file: ") in tests
    return block.mark.startswith(("not run: ", "space: ")) or f'"{block.mark}"' in tests


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script that writes the reference pages."""
    return load_script(ROOT / "docs/generate.py")


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    for page, make in generate.PAGES.items():
        written = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert written == make(), f"{page}: run `python docs/generate.py` and commit what it writes"


def test_all_generated_pages_are_checked(generate: ModuleType) -> None:
    found = {path.relative_to(ROOT / "docs").as_posix() for at in GENERATED for path in at.glob("*.md")}
    assert found == set(generate.PAGES)
