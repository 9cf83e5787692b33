"""Tables and pages of HTML for a notebook; knows nothing of what they show.

HTML without colours, scripts or images: it takes the notebook's theme. Names of files, classes
and concepts are anybody's text, and stay text.
"""

from __future__ import annotations

import html
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

LONGEST = 60

# Jupyter typesets dollars as formulas, even those of a file name, unless it is told not to.
_ROOT = '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto">'
_BAR = (
    '<div style="width: {width:.0f}px; height: 0.6em; opacity: 0.5; '
    'background-color: currentColor"></div>'
)
BAR_WIDTH = 120


def page(title: str, *parts: str) -> str:
    """Return a title and what stands under it, as one element."""
    return f"{_ROOT}<p>{title}</p>{''.join(parts)}</div>"


def table(head: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; nothing where there are no rows."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    names = "" if head is None else "".join(f"<th>{name}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def pairs(values: Mapping[str, Any]) -> str:
    """Return names beside values, each cut to a line."""
    brief = reprlib.Repr()
    brief.maxlist = brief.maxtuple = brief.maxdict = 4
    brief.maxstring = brief.maxother = LONGEST
    rows = [
        (text(name), text(value if isinstance(value, str) else brief.repr(value)))
        for name, value in values.items()
    ]
    return table(None, rows)


def folded(title: str, part: str) -> str:
    """Return a part that a click opens; nothing where it is empty."""
    return f"<details><summary>{title}</summary>{part}</details>" if part else ""


def share_cells(share: float) -> tuple[str, str]:
    """Return a share as a number and as a bar; both empty for a class without images."""
    if not np.isfinite(share):
        return "", ""
    return f"{share:.1%}", _BAR.format(width=BAR_WIDTH * share)


def text(value: object, longest: int = LONGEST) -> str:
    """Return anybody's text as HTML that shows it, on one line and not too long of it."""
    line = " ".join(str(value)[: 4 * longest].split())
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    # A file name that is no UTF-8 holds halves of characters, which no notebook can send.
    line = line.encode("utf-8", "replace").decode("utf-8")
    return f"<bdi>{html.escape(line)}</bdi>"
