"""Do selections hold? The overlap of two that differ in seed, noise, text, pixels or vocabulary.

Part "subsets": what to train on, chosen twice. Part "picks": what to label, picked twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from benchmarks.data.vocabularies import CONTROL, CONTROL_AGAIN, GENERAL, GENOME
from benchmarks.experiments.stability_picks import FACTOR, Batches, Strategy, pick_overlap
from benchmarks.experiments.stability_views import Setting, View, overlaps
from benchmarks.harness.cells import UNTRAINED, Cell, Experiment, Options, Size, Values
from benchmarks.harness.pages import Page, line_plot, spread
from benchmarks.training.subsets import OURS, Condition, fields_of, spelled_out

OTHER = 100
"""Added to a seed where the second of two selections has another."""
PROMPTS = ("a picture of a {}", "a drawing of a {}")
NAMES = (
    "plane", "car", "fowl", "house cat", "stag", "hound", "toad", "steed", "boat", "lorry",
)  # fmt: skip
"""Other words, some of them narrower, for the classes of CIFAR-10."""
METHODS = ("default", "short", "paper", "adapter", "cross-fit adapter")


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return pairs of selections, and pairs of picks."""
    seeds = range({"quick": 1, "standard": 3, "full": 5}[size])
    per_class = {"quick": 50, "standard": 500, "full": None}[size]
    n_steps = {"quick": 40, "standard": 800, "full": 8000}[size]
    methods = {"quick": ("default", "adapter"), "standard": METHODS, "full": tuple(OURS)}[size]
    budget = {"quick": 30, "standard": 200, "full": 1000}[size]
    found = []
    for seed in seeds:
        shared = asdict(Condition("cifar10", per_class, 1, 0.2, "symmetric", 0.0, seed))
        found += [
            {
                "part": "subsets", **shared, "network": "resnet", "steps": n_steps,
                "ratios": [0.2, 0.3, 0.5, 0.8], "method": method, "varied": varied,
                "a": asdict(View(seed, seed)), "b": asdict(other),
            }
            for method in methods
            for varied, other in other_views(seed).items()
        ]  # fmt: skip
        found += [
            {
                "part": "picks", **shared, "first": budget, "budget": budget, "varied": varied,
                "a": asdict(a), "b": asdict(b),
            }
            for varied, (a, b) in pairs_of_strategies(seed).items()
        ]  # fmt: skip
    return found


def other_views(seed: int) -> dict[str, View]:
    """Return what a selection is compared with: what is varied → the other view."""
    view = View(seed, seed)
    prompts = {f"prompt “{prompt}”": replace(view, prompt=prompt) for prompt in PROMPTS}
    return {
        "seed of the selector": replace(view, selector_seed=seed + OTHER),
        "which labels are wrong": replace(view, noise_seed=seed + OTHER),
        **prompts,
        "other names of the classes": replace(view, names=NAMES),
        "mirrored images": replace(view, images="mirrored"),
        "half of the dimensions": replace(view, images="half"),
        "features of a trained network": replace(view, images="network"),
    }


def pairs_of_strategies(seed: int) -> dict[str, tuple[Strategy, Strategy]]:
    """Return which picks are compared: what is varied → the two strategies."""
    ours = Strategy(GENERAL, 10, FACTOR, seed)
    by_margin, control = replace(ours, candidate_factor=1), replace(ours, vocabulary=CONTROL)
    return {
        "first labels": (ours, replace(ours, first_seed=seed + OTHER)),
        "first labels, margin alone": (by_margin, replace(by_margin, first_seed=seed + OTHER)),
        "with and without CBD": (ours, by_margin),
        f"{GENERAL} or {GENOME}": (ours, replace(ours, vocabulary=GENOME)),
        f"{GENERAL} or {CONTROL}": (ours, control),
        f"{GENOME} or {CONTROL}": (replace(ours, vocabulary=GENOME), control),
        f"{CONTROL} or {CONTROL_AGAIN}": (control, replace(ours, vocabulary=CONTROL_AGAIN)),
        "m = 10 or 5": (ours, replace(ours, m=5)),
        "m = 10 or 20": (ours, replace(ours, m=20)),
        "m = 5 or 20": (replace(ours, m=5), replace(ours, m=20)),
    }


def run(cell: Cell, options: Options) -> Values:
    """Choose twice; return the overlap, and what chance would give."""
    condition = Condition(**fields_of(Condition, cell))
    if cell["part"] == "picks":
        batches = Batches(condition, cell["first"], cell["budget"])
        return dict(pick_overlap(Strategy(**cell["a"]), Strategy(**cell["b"]), batches, options))
    setting = Setting(
        condition, cell["method"], tuple(cell["ratios"]), cell["network"], cell["steps"]
    )
    a, b = (view_of(cell[name]) for name in ("a", "b"))
    return dict(overlaps(a, b, setting, options))


def view_of(fields: Mapping[str, Any]) -> View:
    """Return a view from what JSON makes of it: names may be a list."""
    names = fields["names"]
    return View(**{**fields, "names": None if names is None else tuple(names)})


def render(records: pd.DataFrame, page: Page) -> None:
    """Show overlaps, and beside them what chance gives."""
    parts = dict(tuple(records.groupby("part", sort=False)))
    page.text(
        f"Jaccard overlap of two selections, in percent: images in both, of those in either. "
        f"CIFAR-10 images that the embedded model never saw; {records['seed'].nunique()} seeds, "
        "each with a pool of its own; ± is the standard deviation over them."
    )
    if "subsets" in parts:
        show_subsets(parts["subsets"], page)
    if "picks" in parts:
        show_picks(parts["picks"], page)


def show_subsets(records: pd.DataFrame, page: Page) -> None:
    """Show a table for each method, and a plot."""
    lists = ["ratios", "overlap", "chance"]
    rows = records.explode(lists, ignore_index=True)
    rows[lists] = rows[lists].astype(float)
    one = records.iloc[0]
    page.heading("What to train on")
    page.text(
        f"{one['noise']:.0%} of the labels are wrong. No second CLIP model was at hand: other "
        "prompts, other names of the classes (“plane”, “car” …), mirrored images, and half of the "
        "dimensions (a random projection of images and texts) stand in for one, and `--model` "
        "runs all of this with another. The "
        f"last row is a selection from the features of a {one['network']} trained for "
        f"{one['steps']:.0f} steps of 64 on all images as they are labelled, with class means for "
        "texts. Where other labels are wrong, only images count whose label is right in both. "
        "In brackets: the overlap of two random subsets of the same sizes."
    )
    for method, of_method in rows.groupby("method", sort=False):
        page.heading(f"Subsets of “{method}”")
        page.table(overlap_table(of_method), "what differs")
        page.plot(
            overlap_plot(of_method), f"{method.replace(' ', '-')}", f"Overlap by ratio, {method}"
        )


def overlap_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the overlap by what is varied and ratio, that by chance in brackets."""
    cells: dict[str, dict[str, str]] = {}
    for (ratio, varied), of_cell in rows.groupby(["ratios", "varied"], sort=False):
        text = f"{spread(of_cell['overlap'])} ({100 * of_cell['chance'].mean():.1f})"
        cells.setdefault(f"{ratio:.0%} kept", {})[varied] = text
    return pd.DataFrame(cells)


def overlap_plot(rows: pd.DataFrame) -> Any:
    """Plot the overlap against the ratio, a line for what is varied and one for chance."""
    random = rows.drop_duplicates(["ratios", "seed"]).assign(varied="by chance")
    random["overlap"] = random["chance"]
    return line_plot(
        pd.concat([rows, random]), x="ratios", y="overlap", lines="varied",
        labels=("share kept", "Jaccard overlap, %"), bold=["by chance"],
    )  # fmt: skip


def show_picks(records: pd.DataFrame, page: Page) -> None:
    """Show the overlap of batches to label."""
    one = records.iloc[0]
    page.heading("What to label")
    page.text(
        f"{one['budget']:.0f} images picked by CBD + margin with a linear head on CLIP embeddings "
        f"of {one['first']:.0f} labelled ones. By chance: two random batches. By chance in the "
        f"shortlists: of random ones of the {FACTOR} × {one['budget']:.0f} images that the head is "
        "least sure of, among which CBD picks. “random” is a vocabulary of random directions. "
        "A vocabulary whose word list was not at hand has no row."
    )
    heads = {
        "overlap": "overlap", "by chance": "chance", "by chance in the shortlists":
        "chance_in_shortlist",
    }  # fmt: skip
    columns = {
        head: {
            varied: spread(of_pair[value])
            for varied, of_pair in records.groupby("varied", sort=False)
        }
        for head, value in heads.items()
    }
    page.table(pd.DataFrame(columns), "what differs")


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core."""
    n = 10 * (cell["per_class"] or 2500)
    if cell["part"] == "picks":
        return n / 5000
    fit = n / 20_000 if cell["method"] == "default" else n / 3500
    once = cell["method"] == "default"  # other methods find these features there
    trained = 0.014 * cell["steps"] if once and cell["b"]["images"] == "network" else 0.0
    return fit + trained


EXPERIMENT = Experiment(
    name="stability",
    title="Stability of the selection",
    regime=UNTRAINED,
    cells=cells,
    run=run,
    render=render,
    share=("part", "seed"),
    cost_s=cost_s,
)
