"""Parts that the pages on subsets have in common: their setting, and verdicts by ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.harness.pages import Page, comparison_table, format_p, spread
from benchmarks.harness.paired import compare
from benchmarks.training.subsets import ALL, OURS

KEY_BASELINES = ("random", "Moderate-DS", "EL2N", "Herding", "cleanlab pruning")
"""What the default is to beat where labels are wrong."""

SIGNIFICANT = 0.05


def percent(share: float) -> str:
    """Write a share as whole per cent."""
    return f"{100 * share:.0f} %"


def prepare(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records in a fixed order, with a column "share", the ratio in whole per cent.

    Processes finish in any order; tables show things as they first appear. Methods stand as
    in `TO_TRAIN` and `OURS`, all images first.
    """
    place = {name: i for i, name in enumerate((ALL, *TO_TRAIN, *OURS))}
    fields = ["noise", "corrupted_share", "network", "method", "ratio", "seed"]
    ordered = records.sort_values(
        fields, key=lambda column: column.map(place) if column.name == "method" else column
    )
    share = (100 * ordered["ratio"]).round().astype(int)
    return ordered.assign(share=share).reset_index(drop=True)


def noise_text(noise: float) -> str:
    """Say how many labels are wrong."""
    return f"{percent(noise)} of the labels wrong" if noise else "All labels right"


def describe_setting(records: pd.DataFrame) -> str:
    """Say in a few sentences what the records were measured on."""
    seed_counts = sorted(set(records.groupby("method")["seed"].nunique()))
    seeds = " or ".join(str(n) for n in seed_counts)
    seeds += " seed" if seed_counts == [1] else " seeds"
    steps, networks = _listed(records["steps"]), _listed(records["network"])
    return (
        f"Images: {_listed(records['pool'])}, {_counted(records['per_class'])} of each class to "
        f"choose from and {_counted(records['test_per_class'])} to test on. A new network "
        f"({networks}) is trained on the chosen images for {steps} batches of 64, without "
        f"augmentation, whatever the ratio; the proxy that Moderate-DS, EL2N, Herding and the "
        f"like look at is a {_listed(records['proxy'])} trained on all images for "
        f"{_listed(records['proxy_steps'])} batches. {seeds}: each draws the "
        "images, what is wrong with them, and the weights. ± is the standard deviation "
        "over seeds; p is that of the paired t test over seeds, after averaging within a seed, "
        "and k/n says at how many of n seeds the difference is above 0."
    )


def _listed(column: pd.Series) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(column))


def _counted(column: pd.Series) -> str:
    return ", ".join("all" if pd.isna(n) else str(int(n)) for n in dict.fromkeys(column))


def at_shared(
    records: pd.DataFrame, methods: Sequence[str], over: Sequence[str] = ("ratio",)
) -> pd.DataFrame:
    """Return the records of some methods, where all of these that occur were run.

    Parameters
    ----------
    methods : sequence of str
        Those without any record do not count.
    over : sequence of str
        A record stays where every method has one with the same values of these fields.
    """
    chosen = records[records["method"].isin(methods)]
    n_methods = chosen.groupby(list(over))["method"].transform("nunique")
    return chosen[n_methods == chosen["method"].nunique()]


def verdict(
    records: pd.DataFrame, first: str, second: str, *, value: str, over: str = "ratio"
) -> str:
    """Say where one method is better than another, and by how much on the whole.

    Only values of `over` at which both were run count; – where there are none. "Better" is
    a higher mean over seeds; the p of each is that of the paired test.
    """
    both = at_shared(records, (first, second), (over, "seed"))
    if set(both["method"]) != {first, second}:
        return "–"
    each = [compare(part, first, second, value=value) for _, part in both.groupby(over)]
    better = [found for found in each if found.mean > 0]
    sure = [sum(f.p < SIGNIFICANT for f in each if np.sign(f.mean) == sign) for sign in (1, -1)]
    whole = compare(both, first, second, value=value)
    text = f"better at {len(better)} of {len(each)}"
    if whole.n < 2:
        return f"{text}; {spread([whole.mean], sign=True)}"
    return (
        f"{text} (p < {SIGNIFICANT} at {sure[0]}, worse so at {sure[1]}); "
        f"{100 * whole.mean:+.1f} ± {100 * whole.deviation:.1f} (p {format_p(whole.p)})"
    )


def verdict_table(
    records: pd.DataFrame,
    first: str,
    others: Sequence[str],
    *,
    columns: str,
    value: str = "accuracy",
    over: str = "ratio",
) -> pd.DataFrame:
    """Return the verdict on one method against each of others, a column for each condition.

    Methods without records have no row, nor has the one itself.
    """
    present = set(records["method"])
    names = [name for name in others if name in present and name != first]
    cells = {
        head: [verdict(part, first, name, value=value, over=over) for name in names]
        for head, part in records.groupby(columns, sort=False)
    }
    return pd.DataFrame(cells, index=[f"against {name}" for name in names])


def differences_by(
    records: pd.DataFrame, first: str, others: Sequence[str], *, over: str, value: str = "accuracy"
) -> pd.DataFrame:
    """Return one method's difference to each of others, a row for each value of `over`."""
    both = at_shared(records, (first, *others), (over,))
    against = [name for name in others if name in set(both["method"])]
    rows = [
        comparison_table(part, value=value, against=against, order=[first]).set_axis([str(head)])
        for head, part in both.groupby(over)
    ]
    return pd.concat(rows)


def add_differences(page: Page, part: pd.DataFrame, methods: Sequence[str]) -> None:
    """Add a table of differences to random and to the best baseline, over shared ratios.

    Only ratios and seeds at which all of these methods were run count; no table where there
    are none.
    """
    shared = at_shared(part, methods, ("ratio", "seed"))
    if "random" not in set(shared["method"]):
        return
    ratios = ", ".join(percent(ratio) for ratio in sorted(set(shared["ratio"])))
    page.text(f"Differences of accuracy in points, mean over the ratios {ratios}.")
    table = comparison_table(
        shared, value="accuracy", against=("random",), baselines=tuple(TO_TRAIN)
    )
    page.table(table, "chosen by")
