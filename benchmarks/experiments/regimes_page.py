"""The page of `experiments.regimes`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.experiments.subset_pages import percent
from benchmarks.harness.pages import Page, spread_table
from benchmarks.harness.paired import half_width, holm, p_value
from benchmarks.training.subsets import ALL

LINEAR, NEIGHBOURS, TUNED, SCRATCH, LONGER, CNN, VIT, BRIEF = (
    "logistic regression", "nearest neighbours", "fine-tuned", "from scratch",
    "from scratch, longer", "from scratch, cnn", "from scratch, vit", "brief",
)  # fmt: skip
WHAT: Mapping[str, str] = {
    LINEAR: "On embeddings scaled to unit variance in the mean, so that the penalty means the "
    "same for each model; to the end.",
    NEIGHBOURS: "Five nearest neighbours on the embeddings by cosine, weighted by it.",
    TUNED: "The CLIP model's image tower with a new linear layer, all of it trained; {steps} "
    "batches of 64, augmented. Trained on all images: {whole}.",
    SCRATCH: "resnet-wide, {steps} batches of 64, augmented. Trained on all images: {whole}.",
    LONGER: "resnet-wide, {steps} batches of 64, augmented. Trained on all images: {whole}.",
    CNN: "cnn-wide, {steps} batches of 64, augmented. Trained on all images: {whole}.",
    VIT: "vit, {steps} batches of 64, augmented. Trained on all images: {whole}.",
    BRIEF: "resnet, {steps} batches of 64, without augmentation: far from the end. Trained on all "
    "images: {whole}.",
}
"""What is trained in each regime, and how far."""
RIGHT = "right"
CORRUPTED_SHARE = 0.2
CORRUPTED = f"right, {100 * CORRUPTED_SHARE:.0f} % of the images corrupted"
GREY_SHARE = 0.1
GREY = f"right, {100 * GREY_SHARE:.0f} % of the images grey"
WITH_WRONG = (
    "people's, aggregate", "people's, random 1",
    "symmetric 20 %", "symmetric 50 %", "pair 20 %",
)  # fmt: skip
OURS, RANDOM = "default", "random"
TABLES = (
    ("accuracy", "accuracy, by % kept", (RIGHT, CORRUPTED, GREY, *WITH_WRONG)),
    ("accuracy, grey", "accuracy on test images made grey", (GREY,)),
    ("wrong", "wrong labels, %", WITH_WRONG),
    ("corrupted", "corrupted images, %", (CORRUPTED,)),
    ("corrupted", "grey images, %", (GREY,)),
)
"""A value of the records, its heading, and the labels where it is shown."""
ALLOWED, CLOSE, SHARE_CLOSE = -0.3, 0.3, 80  # points, points, % of the cells


def render(records: pd.DataFrame, page: Page) -> None:
    """Write what is met, and for each regime and kind of labels accuracies and differences."""
    table = records.assign(share=(100 * records["ratio"]).round().astype(int))
    page.text(
        "CIFAR-10, the 25,000 training images that the mini model never saw; accuracy in % on "
        "the test images, whose labels are right. Each seed draws the labels that are flipped, "
        "the images that are corrupted or grey, random images, and the weights; people's labels "
        "and right ones are the same for each. Grey images are a rare look, by which nothing is "
        "lost: of them a model that is biased towards the common look would drop some."
    )
    page.heading("What was aimed at, and what is met")
    aims = aims_table(table)
    page.text(aims_in_words(aims))
    page.table(_in_words(aims), "regime; labels; % kept")
    for regime, part in table.groupby("regime", sort=False):
        name = str(regime)
        page.heading(f"{name[0].upper()}{name[1:]}")
        page.text(_describe(name, part))
        for labels, chosen in part[part["method"] != ALL].groupby("labels", sort=False):
            page.text(f"Labels: {labels}.")
            for value, head, where in TABLES:
                if labels in where:
                    shown = spread_table(chosen, rows="method", columns="share", value=value)
                    page.table(shown, head)
    page.heading("Against random images")
    page.text(
        "Difference of accuracy in points, mean over ratios and seeds, with its 95 % interval "
        "over seeds and ratios (they are not independent, so it is too narrow rather than too "
        "wide), the least difference at one ratio, and at how many ratios it is above 0."
    )
    page.table(against_random(table), "regime; labels; chosen by")


def _describe(regime: str, part: pd.DataFrame) -> str:
    """Say what is trained, and what all images give."""
    steps = ", ".join(f"{n:,}" for n in sorted(set(part["steps"])))
    everything = part[part["method"] == ALL].groupby("labels")["accuracy"].mean()
    whole = "; ".join(f"{labels}: {percent(value)}" for labels, value in everything.items())
    return WHAT[regime].format(steps=steps, whole=whole or "–")


def aims_table(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the default with random images and with the best, in each cell of the table.

    Parameters
    ----------
    table : DataFrame
        Records with "share", the percentage that was kept.

    Returns
    -------
    DataFrame
        A row for each regime, kind of labels and share where both were run, but for the brief
        training: "ours", "random" and "gain" in points, means over the seeds that both have;
        "half", half of the 95 % interval of the gain, nan for one seed; "p", corrected by Holm
        over the rows; "best", the method that is furthest ahead of the default in the mean over
        the seeds that the two have, and "behind", by how much; the default itself and 0 where
        none is ahead.
    """
    rows: dict[str, dict[str, object]] = {}
    whole = table[(table["method"] != ALL) & (table["regime"] != BRIEF)]
    for name, part in whole.groupby(["regime", "labels", "share"], sort=False):
        regime, labels, share = name
        wide = 100 * part.pivot_table(index="seed", columns="method", values="accuracy")
        if not {OURS, RANDOM} <= set(wide):
            continue
        wide = wide.dropna(subset=[OURS, RANDOM])
        if wide.empty:
            continue
        gain = (wide[OURS] - wide[RANDOM]).to_numpy()
        means = wide[[OURS, RANDOM]].mean()
        ahead = wide.sub(wide[OURS], axis=0).mean().drop(OURS)
        is_best = bool(ahead.max() <= 0)
        rows[f"{regime}; {labels}; {share}"] = {
            "ours": means[OURS], "random": means[RANDOM], "seeds": len(gain),
            "gain": gain.mean(), "half": half_width(gain),
            "p": p_value(gain) if len(gain) > 1 else np.nan,
            "best": OURS if is_best else ahead.idxmax(), "behind": max(ahead.max(), 0.0),
        }  # fmt: skip
    found = pd.DataFrame.from_dict(rows, orient="index")
    if not found.empty:
        tested = found["p"].notna()
        found.loc[tested, "p"] = holm(found.loc[tested, "p"].tolist())
    return found


def aims_in_words(aims: pd.DataFrame) -> str:
    """Say what was aimed at in trainings that end, and in how many cells it is met."""
    aimed = (
        f"In trainings that end the default is to be nowhere below random images (lower end of "
        f"the 95 % interval ≥ {ALLOWED} points), and first or within {CLOSE} points of the first "
        f"in {SHARE_CLOSE} % of the cells. "
    )
    if aims.empty:
        return f"{aimed}No cell with both is here."
    lower = aims["gain"] - aims["half"].fillna(0.0)
    several, allowed = aims["seeds"] > 1, lower >= ALLOWED
    close = aims["behind"] <= CLOSE
    return (
        f"{aimed}Of {len(aims)} cells it is first or that near in {close.sum()} "
        f"({100 * close.mean():.0f} %). Of {several.sum()} with several seeds the interval is "
        f"above {ALLOWED} in {(allowed & several).sum()}; of {(~several).sum()} with one seed the "
        f"difference itself in {(allowed & ~several).sum()}. ± is half of a 95 % interval over "
        "seeds (Student's t), p that of a paired t test, corrected by Holm over the cells with "
        "several seeds."
    )


def _in_words(aims: pd.DataFrame) -> pd.DataFrame:
    rows = {}
    for name, row in aims.iterrows():
        several = row["seeds"] > 1
        rows[name] = {
            "seeds": f"{row['seeds']}",
            "default": f"{row['ours']:.1f}",
            "random": f"{row['random']:.1f}",
            "difference": f"{row['gain']:+.1f}" + (f" ± {row['half']:.1f}" if several else ""),
            "p": f"{row['p']:.2g}" if several else "–",
            "first": row["best"],
            "ahead of the default by": f"{row['behind']:.1f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def against_random(table: pd.DataFrame) -> pd.DataFrame:
    """Return each method's difference to random images, a row for each regime and labels."""
    rows = {}
    for (regime, labels), part in table.groupby(["regime", "labels"], sort=False):
        wide = part.pivot_table(index=["share", "seed"], columns="method", values="accuracy")
        if RANDOM not in wide:
            continue
        for method in [name for name in wide if name not in (RANDOM, ALL)]:
            gain = 100 * (wide[method] - wide[RANDOM]).dropna()
            if gain.empty:
                continue
            by_ratio = gain.groupby("share").mean()
            rows[f"{regime}; {labels}; {method}"] = {
                "vs. random": _interval(gain.to_numpy()),
                "least": f"{by_ratio.min():+.1f} at {by_ratio.idxmin()} %",
                "above 0": f"{int((by_ratio > 0).sum())} of {len(by_ratio)}",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _interval(gain: NDArray[np.float64]) -> str:
    if len(gain) < 2:
        return f"{gain.mean():+.1f}"
    return f"{gain.mean():+.1f} ± {half_width(gain):.1f}"
