"""The site is built without a warning, its links lead somewhere, and it asks no other machine."""

import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from support.markdown import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)
    assert (built.returncode, built.stderr) == (0, "")
    return folder


class Parsed(HTMLParser):
    """The places of a page that links may name, its links, and what a browser fetches for it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors.add(found.get("id", ""))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") not in {"canonical", "prev", "next"}:
            self.fetched.append(found.get("href", ""))
        elif "src" in found:
            self.fetched.append(found["src"])


def is_elsewhere(address: str) -> bool:
    return re.match(r"([a-z]+:)?//", address) is not None


def pages(site: Path) -> dict[Path, Parsed]:
    return {page: Parsed(page) for page in site.rglob("*.html")}


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    parsed = pages(site)
    for page, found in parsed.items():
        for link in found.links + found.fetched:
            address, _, fragment = link.partition("#")
            if is_elsewhere(link) or page.name == "404.html" or re.match(r"[a-z]+:", link):
                continue
            target = (page.parent / urllib.parse.unquote(address)).resolve() if address else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            if fragment and target in parsed:
                assert urllib.parse.unquote(fragment) in parsed[target].anchors | {"__tabbed"}, (
                    f"{page.relative_to(site)}: {link}"
                )


def test_the_site_asks_no_other_machine(site: Path) -> None:
    for page, found in pages(site).items():
        assert [address for address in found.fetched if is_elsewhere(address)] == [], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", text) == [], style


def listed(entry: object) -> Iterator[str]:
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from (page for each in entry.values() for page in listed(each))
    elif isinstance(entry, list):
        yield from (page for each in entry for page in listed(each))


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    found = set(listed(yaml.safe_load(config)["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written - found == set()
