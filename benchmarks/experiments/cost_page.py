"""The page of `cost`: seconds and accuracy of each method, and of each ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.harness.pages import Page, comparison_table, spread

CHOOSE, RATIO, LABEL, ENCODE = "choose", "ratio", "label", "encode"
DEFAULT, OURS = "default", ("default", "short", "adapter", "paper")
EVERYTHING = "all"


class Column(NamedTuple):
    """A column of a table: the value, the decimals shown, and what it is multiplied by."""

    value: str
    digits: int = 2
    scale: float = 1.0


def render(records: pd.DataFrame, page: Page) -> None:
    """Show what choosing to train on costs, at one ratio and at all, and choosing to label."""
    parts = dict(iter(records.groupby("what")))
    encoded = parts[ENCODE]
    speed = encoded["n_images"] / encoded["own_s"]
    seconds_each = float((encoded["own_s"] / encoded["n_images"]).mean())
    page.text(
        "Seconds are those of one core on one thread, compilation and imports not counted: "
        "processor time, which other work on the machine hardly changes (wall clock where there is "
        f"a GPU). The encoder takes {spread(speed, scale=1)} images a second. ± is the standard "
        f"deviation over {records['seed'].nunique()} seeds."
    )
    _render_choices(_with_totals(parts[CHOOSE], seconds_each), page)
    _render_ratios(_with_totals(parts[RATIO], seconds_each), page)
    _render_labelling(parts[LABEL], page)


def _with_totals(records: pd.DataFrame, seconds_each: float) -> pd.DataFrame:
    """Add "embedding_s", "selection_s" (networks trained, embeddings at hand) and "total_s"."""
    embedding_s = records["embedded"].astype(float) * records["n_images"] * seconds_each
    training_s = records["training_s"].fillna(0.0)
    selection_s = records["own_s"] + records["proxy_s"].fillna(0.0)
    return records.assign(
        embedding_s=embedding_s,
        selection_s=selection_s,
        spent_s=selection_s + training_s,
        total_s=selection_s + training_s + embedding_s,
    )


def table_of(records: pd.DataFrame, rows: str, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return mean ± standard deviation of several values, a row for each value of `rows`."""
    names = list(dict.fromkeys(records[rows]))
    cells = {
        head: [
            spread(
                records.loc[records[rows] == name, column.value],
                digits=column.digits,
                scale=column.scale,
            )
            for name in names
        ]
        for head, column in columns.items()
    }
    return pd.DataFrame(cells, index=names)


def _render_choices(records: pd.DataFrame, page: Page) -> None:
    one = records.iloc[0]
    page.heading("Choosing what to train on")
    page.text(
        f"{one['ratio']:.0%} of {one['n_images']:.0f} images of {one['pool']} are chosen; "
        f"{one['noise']:.0%} of the labels are wrong. Networks: a {one['proxy']} trained on all "
        f"for {one['proxy_steps']:.0f} batches of 64, and {one['n_early']:.0f} early ones for "
        f"{one['early_steps']:.0f} batches each, counted for the methods that look at them. "
        "Selection is the choice and its networks, embeddings at hand; encoding all images is "
        "counted in the total of the methods that look at embeddings. Accuracy is that of a new "
        f"{one['network']} trained on the chosen for {one['steps']:.0f} batches."
    )
    columns = {
        "choice, s": Column("own_s", 3),
        "networks, s": Column("proxy_s"),
        "selection, s": Column("selection_s"),
        "encoding, s": Column("embedding_s"),
        "total, s": Column("total_s"),
        "wrong labels, %": Column("wrong", 1, 100.0),
        "accuracy, %": Column("accuracy", 1, 100.0),
    }
    page.table(table_of(records, "method", columns), "chosen by")
    page.plot(
        _cost_plot(records), "accuracy", "Accuracy against the seconds of selection, logarithmic"
    )
    baselines = [name for name in dict.fromkeys(records["method"]) if name not in OURS]
    page.text("Accuracy, difference in points; p of the paired test over seeds:")
    page.table(
        comparison_table(records, value="accuracy", against=["random"], baselines=baselines),
        "chosen by",
    )


def _cost_plot(records: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    means = records.groupby("method", sort=False)[["selection_s", "accuracy"]]
    for name, mean in means.mean().iterrows():
        ours = name in OURS
        error = 100 * means.sem().fillna(0.0).loc[name, "accuracy"]
        x, y = mean["selection_s"], 100 * mean["accuracy"]
        axes.errorbar(x, y, error, fmt="D" if ours else "o", ms=6 if ours else 4, lw=0.8)
        axes.annotate(
            str(name), (x, y), (4, 4), textcoords="offset points", fontsize=7,
            fontweight="bold" if ours else "normal",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="selection, s", ylabel="accuracy, %")
    axes.margins(x=0.15)
    axes.grid(alpha=0.3)
    return figure


def _render_ratios(records: pd.DataFrame, page: Page) -> None:
    one = records.iloc[0]
    page.heading("Time and accuracy by ratio")
    page.text(
        f"The same images; a {one['network']} is trained for {one['epochs']:.0f} epochs of what is "
        "chosen, so that fewer images take less time. Spent is selection and training, with "
        "embeddings at hand."
    )
    shown = records.assign(
        row=[f"{m}, {r:.0%}" for m, r in zip(records["method"], records["ratio"], strict=True)]
    )
    columns = {
        "batches": Column("n_steps", 0),
        "selection, s": Column("selection_s"),
        "training, s": Column("training_s"),
        "spent, s": Column("spent_s"),
        "with encoding, s": Column("total_s"),
        "accuracy, %": Column("accuracy", 1, 100.0),
    }
    page.table(table_of(shown, "row", columns), "images")
    page.plot(_ratio_plot(records), "ratios", "Accuracy against selection and training time")


def _ratio_plot(records: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, part in records.groupby("method", sort=False):
        values = ("spent_s", "total_s") if part["embedded"].any() else ("spent_s",)
        for value in values:
            by_ratio = part.groupby("ratio")[[value, "accuracy"]]
            mean, error = by_ratio.mean(), 100 * by_ratio.sem()["accuracy"].fillna(0.0)
            label = str(name) if value == "spent_s" else f"{name}, encoding counted"
            axes.errorbar(
                mean[value], 100 * mean["accuracy"], error, marker="o", ms=4, label=label,
                lw=2.4 if name == DEFAULT and value == "spent_s" else 1.2, elinewidth=0.8,
            )  # fmt: skip
            if name != EVERYTHING and value == "spent_s":
                for ratio, row in mean.iterrows():
                    place = (row[value], 100 * row["accuracy"])
                    axes.annotate(
                        f"{ratio:.0%}", place, (3, -9), textcoords="offset points", fontsize=6
                    )
    axes.set(xlabel="selection and training, s", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)
    return figure


def _render_labelling(records: pd.DataFrame, page: Page) -> None:
    one = records.iloc[0]
    page.heading("Choosing what to label")
    page.text(
        f"Milliseconds to pick {one['n_wanted']:.0f} of {one['n_images']:.0f} images, with "
        f"embeddings and what a {one['network']} says of them at hand. CBD is timed from the "
        "embeddings on, and with concept profiles at hand, as they are from the second round on."
    )
    margin_s = records.loc[records["method"] == "margin", "own_s"].mean()
    shown = records.assign(times=records["own_s"] / margin_s)
    page.table(
        table_of(shown, "method", {"ms": Column("own_s", 2, 1e3), "× margin": Column("times", 1)}),
        "picked by",
    )
