"""The report as one page of HTML that needs nothing beside itself."""

from dynnas.report.page.page import html_page

__all__ = ["html_page"]
