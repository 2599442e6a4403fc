"""What mkdocs needs to build the site: pages from outside of `docs/`, and links that fit them.

Links in the repository lead from file to file. On the site the files of `docs/` lie at the top, beside the
pages of `OUTSIDE` at their own paths; the README is the home. A link to any other file of the repository
becomes plain text, and pictures from other machines are left out.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

OUTSIDE = (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "dynnas/nn/README.md",
    "studies/*/*.md",
    "studies/*/*.png",
)
"""The files from outside of `docs/` that the site has, as patterns."""

MOVED = {"README.md": "index.md", "docs/index.md": "contents.md"}
"""The place on the site of files that do not keep their own."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FOREIGN = re.compile(r"\[?!\[[^\]]*\]\(https?:[^)]*\)(?:\]\([^)]*\))?\n?")
FENCED = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def places() -> dict[str, str]:
    """Return the place on the site of every file from outside of `docs/`, and of those that are moved."""
    found = (path.relative_to(ROOT).as_posix() for pattern in OUTSIDE for path in ROOT.glob(pattern))
    return {path: path for path in sorted(found)} | MOVED


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files from outside of `docs/`."""
    from mkdocs.structure.files import File

    for path, place in places().items():
        if own := files.get_file_from_path(place):  # the page that moves away from there
            files.remove(own)
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where their targets lie on the site."""
    code: list[str] = []

    def taken_out(found: re.Match[str]) -> str:
        code.append(found[0])
        return f"\0{len(code) - 1}\0"  # so that a link whose words are code stays one

    text = for_site(FENCED.sub(taken_out, markdown), page.file.src_uri)
    return re.sub(r"\0(\d+)\0", lambda mark: code[int(mark[1])], text)


def for_site(text: str, page: str) -> str:
    """Return a text with the links of the site.

    Args:
        text: Markdown without code.
        page: where it lies on the site.
    """
    place_of = places()
    file_at = {place: path for path, place in place_of.items()}
    folder = posixpath.dirname(file_at.get(page, f"docs/{page}"))

    def moved(link: re.Match[str]) -> str:
        mark, words, target = link[1], LINK.sub(moved, link[2]), link[3]  # the words may be a picture
        file, hash_, fragment = target.partition("#")
        if re.match(r"[a-z]+:", target) or not file:
            return f"{mark}[{words}]({target})"
        path = posixpath.normpath(posixpath.join(folder, file))
        if path not in place_of and not path.startswith("docs/"):
            return words
        place = place_of.get(path, path.removeprefix("docs/"))
        found = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"{mark}[{words}]({found}{hash_}{fragment})"

    return LINK.sub(moved, FOREIGN.sub("", text))
