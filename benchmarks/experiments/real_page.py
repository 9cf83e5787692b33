"""The page of `experiments.real`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.harness.pages import Page
from benchmarks.harness.paired import half_width, holm, p_value

AGAINST, OURS, HERDING = "margin", "uncertainty coverage", "Uncertainty Herding"
CONCEPTS, DIRECTIONS = "CBD + margin", "CBD + margin, random directions"
MORE_SPLITS_OF = "fashion colours, 50 + 50"
"""Where 30 splits left open whether ours is ahead of margin; the page shows the others apart."""
SETTING = ["pool", "long_tailed", "first", "budget"]


def render(records: pd.DataFrame, page: Page) -> None:
    """Show each method less margin in each setting, and ours less Uncertainty Herding."""
    records = records.assign(setting=[_name(row) for row in records[SETTING].to_numpy()])
    n_splits = records.groupby("setting", sort=False)["seed"].nunique()
    page.text(
        f"A logistic regression on the embeddings, {_splits(n_splits)}. "
        "Macro accuracy over the classes in points, averaged over the rounds, less that of "
        f"{AGAINST} on the same splits; ± is half of a 95 % interval (Student's t over splits), "
        "p is that of a paired t test, corrected by Holm over the settings of a method."
    )
    for value, heading in (("accuracy", "All rounds"), ("late", "The last two rounds")):
        page.heading(heading)
        page.table(lead_table(records, value), "picked by")
    first = first_batch_table(records)
    if len(first):
        page.heading("The first batch")
        page.text(
            "Where nothing is labelled yet: macro accuracy of the logistic regression in % after "
            "the first batch, ± half of a 95 % interval over splits."
        )
        page.table(first, "picked by")
    page.heading(f"{OURS} in each setting")
    page.table(paired_table(records, OURS, (AGAINST, HERDING)), "setting")
    if n_splits.get(MORE_SPLITS_OF, 0) > n_splits.min():
        rows = records[records["setting"] == MORE_SPLITS_OF]
        page.text(_first_and_further(rows, int(n_splits.min())))
    if {CONCEPTS, DIRECTIONS} <= set(records["method"]):
        page.heading("Concepts against random directions")
        page.text("The control of the concepts: as many random directions in their place.")
        page.table(paired_table(records, CONCEPTS, (DIRECTIONS,)), "setting")


def _splits(n_splits: pd.Series[int]) -> str:
    """Say how many splits each setting has.

    Examples
    --------
    >>> _splits(pd.Series({"cifar": 30, "food": 30, "fashion": 100}))
    '30 paired splits (fashion: 100)'
    """
    more = n_splits[n_splits > n_splits.min()]
    others = ", ".join(f"{setting}: {n}" for setting, n in more.items())
    return f"{n_splits.min()} paired splits" + (f" ({others})" if others else "")


def _first_and_further(rows: pd.DataFrame, n_first: int) -> str:
    """Say what ours was ahead by in the first splits of a setting, and in the others alone."""
    lead = differences(rows, OURS, AGAINST, "accuracy")[MORE_SPLITS_OF]
    first, further = lead[:n_first], lead[n_first:]
    return (
        f"{MORE_SPLITS_OF}: the first {len(first)} splits gave {first.mean():+.1f} ± "
        f"{half_width(first):.1f} over {AGAINST} and left it open, so that {len(further)} more "
        f"were drawn; these alone give {further.mean():+.1f} ± {half_width(further):.1f}. The "
        f"mean over settings is that of the first {len(first)}."
    )


def _name(row: NDArray[np.object_]) -> str:
    pool, tail, first, budget = row
    return f"{str(pool).removesuffix('.npz')}{', long-tailed' if tail else ''}, {first} + {budget}"


def differences(
    records: pd.DataFrame, method: str, other: str, value: str
) -> dict[str, NDArray[np.float64]]:
    """Return, by setting, a method's values less another's in points, split by split."""
    found = {}
    for setting, rows in records.groupby("setting", sort=False):
        table = rows.pivot_table(index="seed", columns="method", values=value)
        if {method, other} <= set(table.columns):
            both = table[[method, other]].dropna()
            found[str(setting)] = 100.0 * (both[method] - both[other]).to_numpy(float)
    return found


def lead_table(records: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return a row for each method: its mean over settings, its least, and each setting."""
    settings = list(dict.fromkeys(records["setting"]))
    rows = {}
    for method in dict.fromkeys(records["method"]):
        if method == AGAINST:
            continue
        found = differences(records, method, AGAINST, value)
        if not found:
            continue
        means = [d.mean() for d in found.values()]
        cells = {"mean": f"{np.mean(means):+.1f}", "least": f"{min(means):+.1f}"}
        for setting in settings:
            d = found.get(setting)
            cells[setting] = "–" if d is None else f"{d.mean():+.1f} ± {half_width(d):.1f}"
        rows[method] = cells
    return pd.DataFrame.from_dict(rows, orient="index")


def first_batch_table(records: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy after the first batch, where that is the first that is labelled."""
    cold = records[records["first"] == 0]
    cold = cold.assign(after=[100.0 * rounds[0] for rounds in cold["accuracies"]])
    cells: dict[str, dict[str, str]] = {}
    for setting, rows in cold.groupby("setting", sort=False):
        groups = rows.groupby("method", sort=False)["after"]
        cells[str(setting)] = {
            str(name): f"{values.mean():.1f} ± {half_width(values.to_numpy()):.1f}"
            for name, values in groups
        }
    return pd.DataFrame(cells).fillna("–")


def paired_table(records: pd.DataFrame, method: str, others: Sequence[str]) -> pd.DataFrame:
    """Return a row for each setting: a method less each of others.

    The last row is the mean over settings; its p is that of the splits' means, of which each
    is over all settings.
    """
    cells: dict[str, list[str]] = {}
    names: list[str] = []
    for other in others:
        found = differences(records, method, other, "accuracy")
        names = [*found, "mean over settings"]
        p_values = holm([p_value(d) for d in found.values()])
        column = [
            f"{d.mean():+.1f} ± {half_width(d):.1f}, p {p:.2g}"
            for d, p in zip(found.values(), p_values, strict=True)
        ]
        n = min((len(d) for d in found.values()), default=0)
        each = np.mean([d[:n] for d in found.values()], axis=0) if n else np.zeros(0)
        if n:
            column.append(f"{each.mean():+.2f} ± {half_width(each):.2f}, p {p_value(each):.2g}")
        cells[f"less {other}"] = column
    return pd.DataFrame(cells, index=names)
