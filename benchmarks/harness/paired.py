"""Is one method better than another? The same seeds, the same settings, and a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_1samp


@dataclass(frozen=True)
class Comparison:
    """How much better one method is than another, over units that both were run on.

    Parameters
    ----------
    mean, deviation : float
        Of the differences, first minus second; the deviation is nan for a single unit.
    n : int
        How many units.
    wins : int
        Units where the first is better, ties not counted.
    p : float
        Two-sided p of Student's paired t test; nan where n < 2. 1 where all are equal.
    """

    mean: float
    deviation: float
    n: int
    wins: int
    p: float


def compare(
    records: pd.DataFrame,
    first: str,
    second: str,
    *,
    value: str,
    unit: Sequence[str] = ("seed",),
    field: str = "method",
) -> Comparison:
    """Compare two methods over the units that have both.

    Parameters
    ----------
    records : DataFrame
        With the columns `field`, `value` and those of `unit`.
    first, second : str
        Values of `field`.
    value : str
        What is compared, higher is better.
    unit : sequence of str
        Fields that make a unit. Whatever else differs (rounds, budgets) is averaged within a
        unit first: rounds of one run are not independent of each other, seeds are.
    field : str
        Column that names the methods.

    Raises
    ------
    ValueError
        Where no unit has both methods.
    """
    both = records[records[field].isin([first, second])]
    table = both.pivot_table(index=list(unit), columns=field, values=value, aggfunc="mean")
    if not {first, second} <= set(table.columns) or table[[first, second]].dropna().empty:
        raise ValueError(f"No {'/'.join(unit)} has both {first!r} and {second!r}.")
    table = table[[first, second]].dropna()
    difference = (table[first] - table[second]).to_numpy(dtype=float)
    n = len(difference)
    deviation = float(difference.std(ddof=1)) if n > 1 else float("nan")
    p = float("nan")
    if n > 1:
        p = 1.0 if not difference.any() else float(ttest_1samp(difference, 0.0).pvalue)
    return Comparison(float(difference.mean()), deviation, n, int(np.sum(difference > 0)), p)


def best_of(
    records: pd.DataFrame, methods: Sequence[str], *, value: str, field: str = "method"
) -> str:
    """Return the method with the highest mean, of those that are there; ties: first named."""
    means = records.groupby(field)[value].mean()
    return max((m for m in methods if m in means), key=lambda m: means[m])


def half_width(difference: NDArray[np.float64]) -> float:
    """Return half of the 95 % interval of a mean; nan for one split."""
    n = len(difference)
    if n < 2:
        return float("nan")
    return float(student.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n))


def holm(p_values: list[float]) -> list[float]:
    """Return p values corrected for their number.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def p_value(difference: NDArray[np.float64]) -> float:
    """Return the two-sided p of a paired t test; 1 where all are equal."""
    if len(difference) < 2 or not difference.any():
        return 1.0
    return float(ttest_1samp(difference, 0.0).pvalue)
