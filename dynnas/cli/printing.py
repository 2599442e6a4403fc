"""Results on standard output."""

from __future__ import annotations

import sys

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from dynnas.report.tables.table import Table

# Piped tables are never wrapped: whatever reads them wants one line a row.
_PIPED_WIDTH = 1000


def print_table(table: Table) -> None:
    """Print a table fitted to the terminal, or plain text without escape codes where there is none."""
    terminal = sys.stdout.isatty()
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        shown.add_column(column.name, justify="right" if column.numeric else "left", no_wrap=column.numeric)
    for row in table.rows:
        shown.add_row(*row)
    console = Console(width=None if terminal else _PIPED_WIDTH, markup=False, highlight=False)
    console.print(table.title, style="bold")
    console.print(shown)
    if table.note:
        console.print(f"{table.note}\n")
