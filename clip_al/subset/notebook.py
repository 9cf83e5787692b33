"""How `Selection` and `ClipSelector` show themselves in a notebook.

Some kilobytes, whatever the number of images. Each class calls its function here, so none of
them is imported.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from clip_al.html_tables import folded, page, pairs, share_cells, table, text
from clip_al.score.agreement import share_of_wrong
from clip_al.subset.selection_summaries import label_noise_in_words

if TYPE_CHECKING:
    import pandas as pd

N_CLASSES = 10
N_SUSPECTS = 5
N_PAIRS = 5


def selection_html(selection: Any) -> str:
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
    report, (_, disagreement) = selection.report(), share_of_wrong(selection.settings)
    balances = [
        _balance(what, counts)
        for what, counts in (("class", report.classes), ("group", report.groups))
        if counts is not None
    ]
    return page(
        f"<b>Selection</b>: {len(selection):,} of {selection.n_images:,} images "
        f"({selection.ratio:.1%}), fingerprint <code>{selection.fingerprint[:12]}</code>",
        _first(disagreement),
        *balances,
        _suspects(selection),
        folded("Settings", pairs(selection.settings)),
    )


def selector_html(selector: Any) -> str:
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
    asked = pairs(changed) if changed else "<p>All parameters have their defaults.</p>"
    selection = getattr(selector, "selection_", None)
    if selection is None:
        title = "<b>ClipSelector</b>, not fitted: call <code>fit_select(Z, y)</code>"
        return page(title, asked)
    share, pairs_found = label_noise_in_words(selection.settings)
    found = {
        "labels": share or "how many are wrong cannot be told",
        **({"worth a look": "; ".join(pairs_found[:N_PAIRS])} if pairs_found else {}),
        "weight of the class texts": f"{selector.text_weight_:g}",
        "adapter": "none" if selector.adapter_ is None else type(selector.adapter_).__name__,
    }
    title = f"<b>ClipSelector</b>, fitted on {selection.n_images:,} images"
    return page(title, asked, pairs(found), selection_html(selection))


def _first(disagreement: str) -> str:
    """Return what is to be checked before anything else, in full."""
    if not disagreement:
        return ""
    return f"<p><b>Check first:</b> {text(disagreement, len(disagreement))}</p>"


def _balance(what: str, counts: pd.DataFrame) -> str:
    """Return counts before and after of the largest classes or groups."""
    largest: Any = counts.sort_values("before", ascending=False, kind="stable")[:N_CLASSES]
    rows = [
        (text(row.name), f"{row.before:,}", f"{row.after:,}", *share_cells(row.kept))
        for row in largest.itertuples()
    ]
    more = len(counts) - len(rows)
    if more:
        rows.append((f"and {more:,} more", "", "", "", ""))
    return table((what, "before", "after", "kept", ""), rows)


def _suspects(selection: Any) -> str:
    if not {"label_score", "sas"} & set(selection.scores):
        return ""
    worst = selection.suspects(min(N_SUSPECTS, selection.n_images))
    doubtful = [s for s in worst if s.likeliest is None or s.likeliest != s.given]
    if not doubtful:
        return "<p>No label is less likely than another class of its image.</p>"
    rows = [
        (
            str(suspect.index),
            *(
                "–" if cell is None else text(cell)
                for cell in (suspect.id, suspect.given, suspect.likeliest)
            ),
            f"{suspect.score:.2f}",
        )
        for suspect in doubtful
    ]
    return table(("likeliest mislabelled", "id", "given", "likelier", "score"), rows)


def _same(value: object, default: object) -> bool:
    """Whether a parameter is its default; arrays, which compare entry by entry, are not."""
    return value is default or (isinstance(value, (str, int, float)) and value == default)
