"""Which labels are left? Wrong labels in a subset, its balance, and what selectors know of them.

Nothing is trained on the subsets. Asked of every method for several kinds and shares of
label noise and several ratios: the second and third column of the paper's Table 2 (noise
ratios), and the rows "noise proportion" of its Table 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.baselines.tasks import Indices
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.harness.cells import UNTRAINED, Cell, Experiment, Options, Size, Values
from benchmarks.harness.pages import Page, comparison_table, line_plot, spread_table
from benchmarks.training.subsets import (
    OURS,
    Condition,
    Material,
    Proxy,
    choose,
    fields_of,
    fitted_selector,
    load_condition,
    n_chosen,
    spelled_out,
    subset_facts,
    task_of,
)
from clip_al import Selection

RATIOS = (0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
NOISES = (("symmetric", 0.2), ("symmetric", 0.5), ("symmetric", 0.7), ("pair", 0.2))
RANKED = ("random", "prototypes, hardest", "prototypes, easiest", "cleanlab pruning")
"""Baselines that rank images whatever the ratio: one ranking serves all ratios."""
CREDIBILITY = "cleanlab pruning"
"""The baseline whose ranking is by how credible the label is."""
BASELINES = ("Moderate-DS", "Herding", "EL2N", *RANKED[1:])
FLOOR = "least possible"
PLOTTED = ("random", *BASELINES, "short", "default", "paper")


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return the cells: all methods for each kind and share of noise and each seed."""
    per_class: int | None = 1000
    noises, ratios, n_seeds = NOISES, RATIOS, 3
    ours, baselines = tuple(OURS), ("random", *BASELINES)
    proxy = Proxy("resnet", proxy_steps=500, early_steps=150, n_early=2, n_checkpoints=1)
    if size == "quick":
        noises, ratios, n_seeds, per_class = (NOISES[0], NOISES[3]), (0.2, 0.5, 0.8), 2, 100
        ours, baselines = ("default", "short", "paper"), ("random", CREDIBILITY, "EL2N")
        proxy = Proxy("resnet", proxy_steps=60, early_steps=30, n_early=1, n_checkpoints=1)
    if size == "full":
        n_seeds, per_class, baselines = 5, None, tuple(TO_TRAIN)
        proxy = Proxy("resnet", proxy_steps=8000, early_steps=2000, n_early=5, n_checkpoints=5)
    return [
        {
            **asdict(Condition("cifar10", per_class, 1, noise, kind, 0.0, seed)),
            **asdict(proxy),
            "ratios": list(ratios),
            "method": method,
        }
        for kind, noise in noises
        for seed in range(n_seeds)
        for method in (*baselines, *ours)
    ]


def run(cell: Cell, options: Options) -> Values:
    """Choose at all ratios and count; where a method doubts labels, see whether it is right."""
    condition = Condition(**fields_of(Condition, cell))
    material = load_condition(condition, options)
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    method, ratios = cell["method"], cell["ratios"]
    doubts: Values = {"estimated_share": None}
    if method in OURS:
        selector = fitted_selector(method, task)
        chosen = [selector.select(ratio).indices for ratio in ratios]
        estimate = selector.label_noise_.wrong_fraction
        worst_first = suspects(selector.selection_)
        doubts = {"estimated_share": estimate, **doubt_facts(worst_first, estimate, material)}
    elif method in RANKED:
        n = len(task.given_n)
        best_first = TO_TRAIN[method](task, n)
        chosen = [best_first[: n_chosen(ratio, n)] for ratio in ratios]
        if method == CREDIBILITY:
            doubts |= doubt_facts(best_first[::-1], None, material)
    else:
        chosen = [choose(method, task, ratio) for ratio in ratios]
    facts = [subset_facts(indices, material) for indices in chosen]
    lists = {name: [fact[name] for fact in facts] for name in ("n", "wrong", "balance")}
    return {"n_images": len(task.given_n), **lists, **doubts}


def suspects(selection: Selection) -> Indices:
    """Return all images, those first whose label is doubted most: `Selection.suspects`."""
    return np.array([suspect.index for suspect in selection.suspects(selection.n_images)])


def doubt_facts(worst_first: Indices, estimate: float | None, material: Material) -> Values:
    """Return how many of the most doubted labels are wrong.

    Parameters
    ----------
    worst_first : ndarray of shape (n,), int64
        All images.
    estimate : float or None
        Share of wrong labels that the method believes in.

    Returns
    -------
    dict
        "found": of as many labels as are wrong, the share that is wrong: precision and recall
        in one; None on clean labels. With an estimate, of as many as it says,
        "estimated_precision" and "estimated_recall"; None where it says none.
    """
    wrong_n = material.given_n != material.pool.y
    n_wrong = int(wrong_n.sum())
    facts: Values = {"found": float(wrong_n[worst_first[:n_wrong]].mean()) if n_wrong else None}
    if estimate is not None:
        doubted = worst_first[: round(estimate * len(wrong_n))]
        hits = int(wrong_n[doubted].sum())
        facts["estimated_precision"] = hits / len(doubted) if len(doubted) else None
        facts["estimated_recall"] = hits / n_wrong if n_wrong else None
    return facts


def least_wrong(noise: float, ratio: float) -> float:
    """Return the share of wrong labels that cannot be avoided: too few labels are right."""
    return max(0.0, 1.0 - (1.0 - noise) / ratio)


def by_ratio(records: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each ratio of each cell, "ratio" in percent, and the setting in words."""
    lists = {"ratios": "ratio", "n": "n", "wrong": "wrong", "balance": "balance"}
    rows = records.explode(list(lists), ignore_index=True).rename(columns=lists)
    rows[list(lists.values())] = rows[list(lists.values())].astype(float)
    rows["setting"] = settings_of(rows)
    rows["least"] = [least_wrong(*pair) for pair in zip(rows["noise"], rows["ratio"], strict=True)]
    rows["percent"] = [f"{ratio:.0%}" for ratio in rows["ratio"]]
    rows["right"] = 1.0 - rows["wrong"]
    return rows


def settings_of(records: pd.DataFrame) -> list[str]:
    """Return kind and share of noise in words, for each row."""
    pairs = zip(records["noise_kind"], records["noise"], strict=True)
    return [f"{kind} {noise:.0%}" for kind, noise in pairs]


def render(records: pd.DataFrame, page: Page) -> None:
    """Show wrong labels, balance, estimates and suspects."""
    rows = by_ratio(records)
    one = records.iloc[0]
    page.text(
        f"{one['n_images']} CIFAR-10 images that the embedded model never saw; "
        f"{records['seed'].nunique()} seeds, each of which turns other labels. Symmetric noise "
        "turns a label to any other class, pair-flip to the next one. Methods see embeddings, "
        f"class names and the given labels; Moderate-DS, Herding and EL2N a {one['proxy']} trained "
        f"for {one['proxy_steps']} steps of 64 on all images as they are labelled (EL2N: "
        f"{one['n_early']} of {one['early_steps']} steps). Nothing is trained on the subsets. ± is "
        "the standard deviation over seeds."
    )
    for setting in dict.fromkeys(rows["setting"]):
        of_setting = rows[rows["setting"] == setting]
        page.heading(f"Wrong labels, {setting}")
        page.text(
            "Share of wrong labels in the subset, in percent, for each ratio that is kept. "
            f"The row “{FLOOR}” is what no method can avoid, as too few labels are right."
        )
        page.table(wrong_table(of_setting), "chosen by")
        page.plot(wrong_plot(of_setting), setting_file(setting), f"Wrong labels kept, {setting}")
        page.text(
            "Right labels in the subset, difference in points, averaged over the ratios; p is "
            "that of a paired t test over seeds, and a/b says in how many of b seeds the method "
            "kept more right labels."
        )
        page.table(
            comparison_table(
                of_setting, value="right", against=["random"],
                baselines=[name for name in TO_TRAIN if name != "random"], digits=2,
            ),
            "chosen by",
        )  # fmt: skip
    render_balance(rows, page)
    render_doubts(records.assign(setting=settings_of(records)), page)


def wrong_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return wrong labels in percent by method and ratio, what cannot be avoided last."""
    table = spread_table(rows, rows="method", columns="percent", value="wrong", digits=2)
    floor = rows.groupby("percent")["least"].first()
    table.loc[FLOOR] = [f"{100 * floor[percent]:.2f}" for percent in table.columns]
    return table


def wrong_plot(rows: pd.DataFrame) -> Any:
    """Plot wrong labels against the ratio, not for every variant; ours and the floor in bold."""
    shown = rows[rows["method"].isin(PLOTTED)]
    floor = rows.drop_duplicates(["ratio", "seed"]).assign(method=FLOOR)
    floor["wrong"] = floor["least"]
    return line_plot(
        pd.concat([shown, floor]), x="ratio", y="wrong", lines="method",
        labels=("share kept", "wrong labels in the subset, %"), bold=["short", "default", FLOOR],
    )  # fmt: skip


def setting_file(setting: str) -> str:
    """Return a setting as a part of a file's name."""
    return setting.replace(" ", "-").replace("%", "")


def render_balance(rows: pd.DataFrame, page: Page) -> None:
    """Show the least frequent true class over the most frequent one."""
    smallest = rows["ratio"].min()
    page.heading("Class balance")
    page.text(
        f"Images of the least frequent true class for 100 of the most frequent, at {smallest:.0%} "
        "kept; all images together have 100."
    )
    chosen = rows[rows["ratio"] == smallest]
    page.table(spread_table(chosen, rows="method", columns="setting", value="balance"), "chosen by")


def render_doubts(records: pd.DataFrame, page: Page) -> None:
    """Show the estimated share of wrong labels, and whether the doubted labels are wrong."""
    columns = list(dict.fromkeys(records["setting"]))
    page.heading("Estimated share of wrong labels")
    page.text("`label_noise_.wrong_fraction`, in percent; the columns say the true share.")
    estimated = records[records["estimated_share"].notna()]
    page.table(doubt_table(estimated, "estimated_share", columns), "selector")
    page.heading("Suspects")
    page.text(
        "Of as many of the first `suspects` as labels are wrong, the share that is wrong, in "
        f"percent: precision and recall at once. {CREDIBILITY}: the labels that it believes least."
    )
    page.table(doubt_table(records[records["found"].notna()], "found", columns), "suspected by")
    page.text("Of as many as the estimate says are wrong: precision, then recall, in percent.")
    for value in ("estimated_precision", "estimated_recall"):
        page.table(doubt_table(estimated, value, columns), value.removeprefix("estimated_"))


def doubt_table(records: pd.DataFrame, value: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return a value by method and setting."""
    values = records.assign(**{value: records[value].astype(float)})
    table = spread_table(values, rows="method", columns="setting", value=value)
    return table.reindex(columns=list(columns), fill_value="–")


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core; the proxy is counted once, to EL2N."""
    n = 10 * (cell["per_class"] or 2500)
    steps = cell["proxy_steps"] + cell["n_early"] * cell["early_steps"]
    own = {"EL2N": 0.014 * steps + n / 2500, CREDIBILITY: n / 4500, "CG-Score": n / 1000}
    adapters = {name for name in OURS if "adapter" in name} | {"paper"}
    ours = n / 20_000 + (n / 4000 if cell["method"] in adapters else 0.0)
    return own.get(cell["method"], ours if cell["method"] in OURS else n / 10_000)


EXPERIMENT = Experiment(
    name="noise_left",
    title="Wrong labels left in the subset",
    regime=UNTRAINED,
    cells=cells,
    run=run,
    render=render,
    share=("noise_kind", "noise", "seed"),
    cost_s=cost_s,
)
