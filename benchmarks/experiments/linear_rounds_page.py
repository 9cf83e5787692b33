"""The page of `experiments.linear_rounds`."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.harness.pages import Page, comparison_table, lead_table, line_plot, spread_table
from benchmarks.training.labelling import OURS

BASELINES = tuple(name for name in TO_LABEL if name != "random")


def render(records: pd.DataFrame, page: Page) -> None:
    """Show who labels best on each pool, what m and the vocabulary do, and what it costs."""
    one = records.iloc[0]
    page.text(
        f"A logistic regression on CLIP embeddings, {records['seed'].nunique()} seeds, "
        f"{one['rounds']} rounds; CIFAR-10 images that the mini model never saw: "
        f"{one['per_class']} of each class (balanced), shrinking to 1/{one['tail']} (long-tailed), "
        f"{one['copied']:.0%} of them replaced by slightly changed copies of others "
        "(near-duplicates); 50 first labels and 50 a round. The digits are scikit-learn's, 20 "
        "first labels and 20 a round. Accuracy on test images in points, averaged over the "
        "rounds; ± is the standard deviation over seeds, p is that of a paired t test over "
        "seeds, and a/b says in how many of b seeds the method was better."
    )
    main = records[~records["method"].str.contains("m = |factor")]
    page.heading("Accuracy")
    page.table(spread_table(main, rows="method", columns="pool", value="accuracy"), "picked by")
    page.heading("The default hybrid in each round")
    page.text(f"“{OURS}” vs. random and vs. margin with the same seeds.")
    page.table(
        lead_table(
            by_round(main), OURS, against=("random", "margin"), group=["pool"], step="round",
            value="accuracies",
        ),
        "pool",
    )  # fmt: skip
    for pool in dict.fromkeys(records["pool"]):
        page.heading(f"Differences, {pool}")
        of_pool = main[main["pool"] == pool]
        page.table(
            comparison_table(
                of_pool, value="accuracy", against=["random", "margin", OURS],
                baselines=["random", *BASELINES], digits=2,
            ),
            "picked by",
        )  # fmt: skip
        page.plot(curve(of_pool), pool, f"Accuracy against labels, {pool}")
    settings = records[records["method"].str.contains("factor")]
    if len(settings):
        page.heading("Weights and shortlist")
        page.text("Difference to margin, in points.")
        page.table(differences(records, settings), "setting")
    page.heading("Concepts for each image, m")
    page.text("Difference to margin, in points; the default of the library is in the first row.")
    sweep = records[records["method"].str.contains("m = ") | (records["method"] == OURS)]
    page.table(differences(records, sweep), "setting")
    page.heading("Seconds for a batch")
    page.text("Profiles and probabilities at hand; one thread.")
    page.table(
        spread_table(main, rows="method", columns="pool", value="pick_s", scale=1, digits=3),
        "picked by",
    )


def differences(records: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of some methods to margin, a column for each pool."""
    columns = {}
    names = list(dict.fromkeys(chosen["method"]))
    for pool in dict.fromkeys(chosen["pool"]):
        of_pool = records[(records["pool"] == pool) & records["method"].isin([*names, "margin"])]
        present = [n for n in names if n in set(of_pool["method"])]
        table = comparison_table(
            of_pool, value="accuracy", against=["margin"], order=present, digits=2
        )
        columns[pool] = table.iloc[:, 0].reindex(names, fill_value="–")
    return pd.DataFrame(columns, index=names)


def by_round(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each round of each record: "accuracies", "number" from 1, "round"."""
    rows = records.explode("accuracies").reset_index(drop=True)
    rows["accuracies"] = rows["accuracies"].astype(float)
    rows["number"] = rows.groupby(["pool", "method", "seed"], sort=False).cumcount() + 1
    rows["round"] = "round " + rows["number"].astype(str)
    return rows


def curve(records: pd.DataFrame) -> Any:
    """Plot accuracy against the number of labels."""
    shown = records[~records["method"].str.contains("standard|target|entropy$")]
    rounds = by_round(shown)
    rounds["labels"] = rounds["first"] + rounds["number"] * rounds["budget"]
    return line_plot(
        rounds, x="labels", y="accuracies", lines="method",
        labels=("labels", "accuracy, %"), bold=[OURS],
    )  # fmt: skip
