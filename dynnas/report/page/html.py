"""Pieces of HTML; they escape every text that comes from outside."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from dynnas.report.tables.table import Table

_LEAST_PIXELS = 56


def table_html(table: Table, caption: bool = False) -> str:
    """Return a table that scrolls by itself where the page is narrow."""
    kinds = [' class="n"' if column.numeric else "" for column in table.columns]
    head = "".join(
        f"<th{kind}>{escape(column.name)}</th>" for kind, column in zip(kinds, table.columns, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    title = f"<caption>{escape(table.title)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def chart_html(name: str, chart: Mapping[str, Any], caption: str) -> str:
    """Return the place of a chart that the page's script draws."""
    document = json.dumps(chart, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<figure class="chart" id="{name}"><figcaption>{caption}</figcaption>'
        f'<div class="legend"></div><div class="plot"></div>'
        f'<script type="application/json">{document}</script></figure>'
    )


def bars_html(rows: Sequence[tuple[str, float, str]]) -> str:
    """Return horizontal bars: name, length (0..1 of the longest), text."""
    lines = "".join(
        f'<li><span class="name">{escape(name)}</span><span class="track">'
        f'<i style="width:{100 * length:.1f}%"></i></span><span class="value">{escape(text)}</span></li>'
        for name, length, text in rows
    )
    return f'<ul class="bars">{lines}</ul>'


def pairs_html(pairs: Mapping[str, str]) -> str:
    """Return a list of names and values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    return f"<dl>{items}</dl>"


def picture_uri(pixels: np.ndarray) -> str:
    """Return a PNG as a `data:` address, small images enlarged by whole numbers so that pixels stay sharp."""
    times = max(1, -(-_LEAST_PIXELS // pixels.shape[0]))
    enlarged = pixels.repeat(times, axis=0).repeat(times, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(enlarged).save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
