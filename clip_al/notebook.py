"""How `ConceptProfiles`, `Selection` and `ClipSelector` show themselves in a notebook.

Imports nothing of ours, so that each class can call it. HTML without colours, scripts or
images, of some kilobytes whatever the number of images: it takes the notebook's theme. Names
of files, classes and concepts are anybody's text, and stay text.
"""

from __future__ import annotations

import html
import inspect
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from clip_al.concepts import ConceptProfiles
    from clip_al.selection import Selection
    from clip_al.selector import ClipSelector

N_CONCEPTS = 8
N_IMAGES = 3
N_CLASSES = 10
N_SUSPECTS = 5
LONGEST = 60
BLOCK = 2**18  # rows counted at once: the counter's copies stay small

# Jupyter typesets dollars as formulas, even those of a file name, unless it is told not to.
_ROOT = '<div class="tex2jax_ignore mathjax_ignore" style="overflow-x: auto">'
_BAR = (
    '<div style="width: {width:.0f}px; height: 0.6em; opacity: 0.5; '
    'background-color: currentColor"></div>'
)
BAR_WIDTH = 120


def profiles_html(profiles: ConceptProfiles) -> str:
    """Return the most frequent concepts, and those of the first images; O(n m) time.

    Parameters
    ----------
    profiles : ConceptProfiles

    Returns
    -------
    str
        Escaped HTML.
    """
    n, v = len(profiles), profiles.n_concepts
    counts_v = np.zeros(v, dtype=np.int64)
    for start in range(0, n, BLOCK):
        counts_v += np.bincount(profiles.ids[start : start + BLOCK].ravel(), minlength=v)
    names = profiles.vocabulary.names
    frequent = [
        (_text(names[concept]), f"{counts_v[concept]:,}", *_share(counts_v[concept] / max(n, 1)))
        for concept in np.argsort(-counts_v, kind="stable")[:N_CONCEPTS]
        if counts_v[concept]
    ]
    first = [(str(i), _text(", ".join(profiles.names(i)), 200)) for i in range(min(n, N_IMAGES))]
    model = "" if profiles.vocabulary.model is None else f", {_text(profiles.vocabulary.model)}"
    return _page(
        f"<b>ConceptProfiles</b>: {n:,} images, {profiles.m} of {v:,} concepts each; "
        f"{np.count_nonzero(counts_v):,} concepts are seen{model}",
        _table(("most frequent", "images", "share", ""), frequent),
        _table(("image", "concepts"), first),
    )


def selection_html(selection: Selection) -> str:
    """Return what was chosen, the balance of classes and groups, suspects and settings.

    Parameters
    ----------
    selection : Selection

    Returns
    -------
    str
        Escaped HTML.

    Notes
    -----
    O(n log n) time, where there are scores to rank suspects by; about 0.2 s for a million.
    """
    report = selection.report()
    balances = [
        _balance(what, table)
        for what, table in (("class", report.classes), ("group", report.groups))
        if table is not None
    ]
    return _page(
        f"<b>Selection</b>: {len(selection):,} of {selection.n_images:,} images "
        f"({selection.ratio:.1%}), fingerprint <code>{selection.fingerprint[:12]}</code>",
        *balances,
        _suspects(selection),
        _folded("Settings", _pairs(selection.settings)),
    )


def selector_html(selector: ClipSelector) -> str:
    """Return the parameters that were set and, once fitted, what was found and chosen.

    Parameters
    ----------
    selector : ClipSelector
        Fitted or not.

    Returns
    -------
    str
        Escaped HTML.
    """
    defaults = inspect.signature(type(selector)).parameters
    changed = {
        name: value
        for name, value in selector.get_params(deep=False).items()
        if not _same(value, defaults[name].default)
    }
    asked = _pairs(changed) if changed else "<p>All parameters have their defaults.</p>"
    selection = getattr(selector, "selection_", None)
    if selection is None:
        title = "<b>ClipSelector</b>, not fitted: call <code>fit_select(Z, y)</code>"
        return _page(title, asked)
    found = {
        "labels that look wrong": f"{selector.label_noise_.wrong_fraction:.1%}",
        "weight of the class texts": f"{selector.text_weight_:g}",
        "adapter": "none" if selector.adapter_ is None else type(selector.adapter_).__name__,
    }
    title = f"<b>ClipSelector</b>, fitted on {selection.n_images:,} images"
    return _page(title, asked, _pairs(found), selection_html(selection))


def _balance(what: str, table: pd.DataFrame) -> str:
    """Return counts before and after of the largest classes or groups."""
    largest: Any = table.sort_values("before", ascending=False, kind="stable")[:N_CLASSES]
    rows = [
        (_text(row.name), f"{row.before:,}", f"{row.after:,}", *_share(row.kept))
        for row in largest.itertuples()
    ]
    more = len(table) - len(rows)
    if more:
        rows.append((f"and {more:,} more", "", "", "", ""))
    return _table((what, "before", "after", "kept", ""), rows)


def _suspects(selection: Selection) -> str:
    if not {"label_score", "sas"} & set(selection.scores):
        return ""
    rows = [
        (
            str(suspect.index),
            *(
                "–" if cell is None else _text(cell)
                for cell in (suspect.id, suspect.given, suspect.likeliest)
            ),
            f"{suspect.score:.2f}",
        )
        for suspect in selection.suspects(min(N_SUSPECTS, selection.n_images))
    ]
    return _table(("likeliest mislabelled", "id", "given", "likelier", "score"), rows)


def _pairs(values: Mapping[str, Any]) -> str:
    brief = reprlib.Repr()
    brief.maxlist = brief.maxtuple = brief.maxdict = 4
    brief.maxstring = brief.maxother = LONGEST
    rows = [
        (_text(name), _text(value if isinstance(value, str) else brief.repr(value)))
        for name, value in values.items()
    ]
    return _table(None, rows)


def _page(title: str, *parts: str) -> str:
    return f"{_ROOT}<p>{title}</p>{''.join(parts)}</div>"


def _folded(title: str, part: str) -> str:
    return f"<details><summary>{title}</summary>{part}</details>" if part else ""


def _table(head: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already; nothing where there are no rows."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    names = "" if head is None else "".join(f"<th>{name}</th>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def _share(share: float) -> tuple[str, str]:
    """Return a share as a number and as a bar; both empty for a class without images."""
    if not np.isfinite(share):
        return "", ""
    return f"{share:.1%}", _BAR.format(width=BAR_WIDTH * share)


def _text(value: Any, longest: int = LONGEST) -> str:
    """Return anybody's text as HTML that shows it, on one line and not too long of it."""
    line = " ".join(str(value)[: 4 * longest].split())
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    # A file name that is no UTF-8 holds halves of characters, which no notebook can send.
    line = line.encode("utf-8", "replace").decode("utf-8")
    return f"<bdi>{html.escape(line)}</bdi>"


def _same(value: Any, default: Any) -> bool:
    """Whether a parameter is its default; arrays, which compare entry by entry, are not."""
    return value is default or (isinstance(value, (str, int, float)) and value == default)
