"""Corrupted images with right labels: whether they are chosen, and what that costs.

The second paper's Figure 5 (Yang et al.: "A CLIP-Powered Framework for Robust and
Generalizable Data Selection", ICLR 2025): 5, 10 and 20 % of the images are corrupted, in equal
parts by Gaussian noise, occlusion, low resolution, fog and motion blur.
"""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.subset_pages import (
    KEY_BASELINES,
    add_differences,
    describe_setting,
    percent,
    prepare,
    verdict_table,
)
from benchmarks.harness.cells import BRIEF, Cell, Experiment, Size
from benchmarks.harness.pages import Page, line_plot, spread_table
from benchmarks.training.subsets import FULL, QUICK, run_cell, spelled_out

METHODS = (
    "random",
    "Moderate-DS",
    "cleanlab pruning",
    "short",
    "default",
    "paper",
)


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return the cells, those of one proxy next to each other."""
    common: Cell = {
        "pool": "cifar10", "per_class": 500, "test_per_class": 200,
        "noise": 0.0, "noise_kind": "symmetric",
        "proxy": "resnet", "proxy_steps": 400, "early_steps": 156, "n_early": 2,
        "n_checkpoints": 1, "network": "resnet", "steps": 300,
    }  # fmt: skip
    shares, ratios, seeds = (0.05, 0.1, 0.2), (0.3, 0.7), (0, 1, 2)
    if size == "quick":
        common |= QUICK
        shares, seeds = (0.05, 0.2), (0,)
    if size == "full":
        common |= FULL
        ratios, seeds = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0, 1, 2, 3, 4)
    return [
        {**common, "seed": seed, "corrupted_share": share, "method": method, "ratio": ratio}
        for seed in seeds
        for share in shares
        for method in METHODS
        for ratio in ratios
    ]


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core: training, and a part of the proxy's."""
    proxy_steps = cell["proxy_steps"] + cell["n_early"] * cell["early_steps"]
    return float(cell["steps"] * 0.0142 + 0.6 + proxy_steps * 0.0142 / 12)


def render(records: pd.DataFrame, page: Page) -> None:
    """Write verdicts, then accuracy and corrupted images for each share of corruption."""
    table = prepare(records)
    page.text(describe_setting(table))
    page.text("Labels are right; test images are not corrupted.")
    page.heading("Ours against the baselines")
    page.text(
        "At how many of the ratios the mean accuracy is higher, and the mean difference in "
        "points over all of these ratios."
    )
    headed = table.assign(condition=table["corrupted_share"].map(_title))
    others = (*KEY_BASELINES, "CCS", "short", "paper")
    for name in ("default", "short"):
        page.table(verdict_table(headed, name, others, columns="condition"), name)
    for share, part in table.groupby("corrupted_share"):
        page.heading(_title(float(share)))
        page.text("Accuracy in %, by % of the images kept.")
        page.table(_spread(part, "share", "accuracy"), "chosen by")
        page.text("Corrupted images in what was chosen, in %.")
        page.table(_spread(part, "share", "corrupted"), "chosen by")
        add_differences(page, part, list(dict.fromkeys(part["method"])))
    _render_plots(table, page)


def _title(share: float) -> str:
    return f"{percent(share)} of the images corrupted"


def _spread(part: pd.DataFrame, columns: str, value: str) -> pd.DataFrame:
    return spread_table(part, rows="method", columns=columns, value=value)


def _render_plots(table: pd.DataFrame, page: Page) -> None:
    """Plot accuracy and corrupted images against the share of corruption, by ratio."""
    page.heading("By share of corrupted images")
    shown = {"accuracy": "accuracy, %", "corrupted": "corrupted images in the subset, %"}
    for share, part in table.groupby("share"):
        for value, label in shown.items():
            figure = line_plot(
                part.assign(corruption=100 * part["corrupted_share"]),
                x="corruption",
                y=value,
                lines="method",
                labels=("images corrupted, %", label),
                bold=("short", "default"),
            )
            text = f"{share} % of the images kept: {label}, by share of corrupted images"
            page.plot(figure, f"{value}-{share}", text)


EXPERIMENT = Experiment(
    name="corruption",
    title="Corrupted images",
    regime=BRIEF,
    cells=cells,
    run=run_cell,
    render=render,
    share=("seed", "corrupted_share"),
    cost_s=cost_s,
)
