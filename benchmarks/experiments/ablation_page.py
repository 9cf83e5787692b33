"""The page of `ablation`: a part of the experiment after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.harness.pages import Page, comparison_table, spread, spread_table

PRINTED_THETA = 5e-4


def render(records: pd.DataFrame, page: Page) -> None:
    """Show every part that there are records of."""
    parts = dict(tuple(records.groupby("part", sort=False)))
    page.text(
        "CIFAR-10 images that the embedded model never saw; symmetric noise. “paper” is the "
        "method as printed (cosine, scores as they come, no quotas, descent), “short” is "
        '`preset="short"`, alignment alone, and “default” that of `ClipSelector`: SAS + SDS, with '
        "labels that are more likely wrong than right last. ± is the standard deviation over seeds."
    )
    for part, show in SHOWN.items():
        if part in parts:
            show(parts[part], page)


def show_terms(records: pd.DataFrame, page: Page) -> None:
    """Show the paper's Table 5."""
    one = records[records["steps"] > 0].iloc[0]
    page.heading("Adapter, terms, and texts")
    page.text(
        f"{10 * one['per_class']:.0f} images, {one['ratio']:.0%} of them chosen; "
        f"{records['seed'].nunique()} seeds. Accuracy: a {one['network']} trained for "
        f"{one['steps']:.0f} steps of 64 on the subset, tested on {10 * one['test_per_class']:.0f} "
        "images; – where none was trained. Wrong labels in percent; balance: images of the "
        "least frequent true class for 100 of the most frequent. “Mean images”: aligned with "
        "the mean image of the class in place of its text. The paper's row without the term of the "
        "ratio is under “The loss”."
    )
    values = {"accuracy": "accuracy", "wrong labels": "wrong", "balance": "balance"}
    tables = []
    for noise, of_noise in records.groupby("noise"):
        name = f"{noise:.0%} noise" if noise else "clean"
        shown = {f"{head}, {name}": (value, 1, 100.0) for head, value in values.items()}
        if not noise:
            del shown["wrong labels, clean"]
        tables.append(facts_table(of_noise, "method", shown))
    page.table(pd.concat(tables, axis=1), "chosen by")
    for noise, of_noise in records[records["accuracy"].notna()].groupby("noise"):
        page.text(
            f"Accuracy with {noise:.0%} of the labels wrong: differences in points, with the p of "
            "a paired t test over seeds, and in how many seeds the row was better."
        )
        trained = of_noise.assign(accuracy=of_noise["accuracy"].astype(float))
        known = set(trained["method"])
        against = [name for name in ("random", "paper", "short", "default") if name in known]
        page.table(comparison_table(trained, value="accuracy", against=against), "chosen by")


def show_prototypes(records: pd.DataFrame, page: Page) -> None:
    """Show the paper's Table 10."""
    page.heading("Texts against mean images")
    page.text(
        "Wrong labels in the subset, in percent, when images are aligned with the text of their "
        "class, with the mean of the class's images (of which some are mislabelled), or with "
        f"both; {10 * records.iloc[0]['per_class']:.0f} images, {records['seed'].nunique()} seeds."
    )
    rows = by_ratio(records, ["wrong"])
    rows["column"] = [
        f"{noise:.0%} noise, {ratio:.0%} kept"
        for noise, ratio in zip(rows["noise"], rows["ratios"], strict=True)
    ]
    page.table(
        spread_table(rows, rows="method", columns="column", value="wrong", digits=2), "aligned with"
    )


def show_names(records: pd.DataFrame, page: Page) -> None:
    """Show what is left where CLIP hardly knows the names of the classes."""
    one = records.iloc[0]
    page.heading("Names that CLIP hardly knows")
    page.text(
        f"Wrong labels in the subset, in percent, when the text of each class is mixed with a "
        f"random direction; {10 * one['per_class']:.0f} images, {one['noise']:.0%} of the labels "
        f"wrong, {one['ratio']:.0%} kept, {records['seed'].nunique()} seeds. Symmetric noise turns "
        "a label to any other class, pair-flip to the next one. In brackets: how many images the "
        "texts alone name rightly."
    )
    right = records.groupby("unknown")["zero_shot"].mean()
    columns = [
        f"{kind}, {unknown:.0%} random ({right[unknown]:.0%})"
        for kind, unknown in zip(records["noise_kind"], records["unknown"], strict=True)
    ]
    page.table(
        spread_table(
            records.assign(column=columns), rows="method", columns="column", value="wrong", digits=2
        ),
        "chosen by",
    )


def show_descent(records: pd.DataFrame, page: Page) -> None:
    """Show the paper's Tables 9 and 11."""
    rows = by_ratio(records, ["actual", "overlap", "iterations", "solve_s"])
    n = 10 * records.iloc[0]["per_class"]
    rows["missed"] = (rows["actual"] - rows["ratios"]).abs() * n
    rows["column"] = [f"{ratio:.0%}" for ratio in rows["ratios"]]
    page.heading("θ")
    page.text(
        f"The descent at {n:.0f} images and ratios of {rows['ratios'].min():.0%} to "
        f"{rows['ratios'].max():.0%}, averaged over them; {rows['seed'].nunique()} seeds. "
        "Missed: how many images more or fewer than asked for. Overlap: Jaccard, with the exact "
        "solution of the same scores, in percent. “short” has quotas for each class."
    )
    rows["solver and θ"] = [
        method if np.isnan(theta) else f"{method}, θ = {theta:g}"
        for method, theta in zip(rows["method"], rows["theta"].astype(float), strict=True)
    ]
    shown = {
        "missed": ("missed", 2, 1.0), "overlap": ("overlap", 2, 100.0),
        "iterations": ("iterations", 0, 1.0), "milliseconds": ("solve_s", 1, 1000.0),
    }  # fmt: skip
    page.table(facts_table(rows, "solver and θ", shown), "solver")
    page.heading("Actual ratios")
    page.text(
        f"In percent, by the ratio that was asked for; the descent with θ = {PRINTED_THETA:g}."
    )
    printed = rows[(rows["solver"] == "exact") | (rows["theta"] == PRINTED_THETA)]
    page.table(
        spread_table(printed, rows="method", columns="column", value="actual", digits=3), "solver"
    )


def show_loss(records: pd.DataFrame, page: Page) -> None:
    """Show what is descended, and where it leads."""
    one = records.iloc[0]
    page.heading("The loss")
    page.text(
        f"All d start at 1, and images with d > 0 are chosen; {one['ratio']:.0%} are asked for, "
        f"at most {one['steps']:.0f} steps. Ratio reached: by how many of the runs. "
        "Moved: the largest |d − 1|. Overlap: Jaccard of the images with "
        "the highest d and those with the highest S = SAS + α SDS, in percent."
    )
    names = [f"{a}, {b}" for a, b in zip(records["preset"], records["method"], strict=True)]
    shown = {
        "actual ratio, %": ("actual", 2, 100.0), "ratio reached, %": ("reached", 0, 100.0),
        "steps": ("iterations", 0, 1.0),
        "moved": ("moved", 5, 1.0), "overlap": ("overlap", 2, 100.0),
    }  # fmt: skip
    page.table(facts_table(records.assign(name=names), "name", shown), "scores, loss")


SHOWN = {
    "terms": show_terms,
    "prototypes": show_prototypes,
    "names": show_names,
    "descent": show_descent,
    "loss": show_loss,
}


def by_ratio(records: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Return a row for each ratio of each cell, the values as numbers."""
    lists = ["ratios", *values]
    rows = records.explode(lists, ignore_index=True)
    rows[lists] = rows[lists].astype(float)
    return rows


def facts_table(
    records: pd.DataFrame, rows: str, shown: Mapping[str, tuple[str, int, float]]
) -> pd.DataFrame:
    """Return mean ± deviation over seeds of several values: heading → (value, digits, scale)."""
    columns = {}
    for head, (value, digits, scale) in shown.items():
        numbers = records.assign(**{value: records[value].astype(float)})
        means = numbers.groupby([rows, "seed"], sort=False)[value].mean()
        columns[head] = {
            name: spread(of_name, digits=digits, scale=scale)
            for name, of_name in means.groupby(level=0, sort=False)
        }
    return pd.DataFrame(columns)
