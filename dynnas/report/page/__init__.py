"""The report as one self-contained page of HTML."""

from dynnas.report.page.page import html_page

__all__ = ["html_page"]
