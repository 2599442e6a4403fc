"""The tutorial on reports goes through the sections that a report has."""

import re

from support.markdown import ROOT


def test_the_tutorial_on_reports_has_every_section() -> None:
    code = (ROOT / "dynnas/report/page/sections.py").read_text(encoding="utf-8")
    sections = re.findall(r'Section\("\w+", "([^"]+)"', code)
    page = (ROOT / "docs/tutorials/reading-a-report.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, flags=re.MULTILINE)[: len(sections)] == sections
