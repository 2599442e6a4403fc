"""The pages of the documentation: their fenced blocks with the marks above them, their headings and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dynnas").rglob("*.md")]))
"""README and its neighbours, the documentation, and the pages inside the package."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    mark: str
    """The text of the HTML comment on the line above, such as `run: quick start`; empty without one."""
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    fenced = r"(?:<!-- ([^>]+?) -->\n)?```(\w*)\n(.*?)```"
    text = page.read_text(encoding="utf-8")
    for mark, language, inside in re.findall(fenced, text, flags=re.DOTALL):
        yield Block(page, mark, language, inside)


def marked_blocks() -> dict[str, str]:
    """The text of every marked block, by its mark.

    Raises:
        ValueError: two blocks have one mark.
    """
    found: dict[str, str] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.mark in found:
                raise ValueError(f"{page}: a second block is marked {block.mark!r}")
            if block.mark and not block.mark.startswith("not run"):
                found[block.mark] = block.text
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The fragments by which links lead to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The targets of a page's links and images."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return re.findall(r"\]\(([^)\s]+)\)", text)
