"""Accuracy against the share of images kept, with right and with wrong labels.

The second paper's Tables 2, 6 and 7 and Figure 4 (Yang et al.: "A CLIP-Powered Framework for
Robust and Generalizable Data Selection", ICLR 2025), with small networks: each method chooses
a share of the images, and a network that starts from random weights is trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.experiments.subset_pages import (
    KEY_BASELINES,
    add_differences,
    describe_setting,
    differences_by,
    noise_text,
    prepare,
    verdict_table,
)
from benchmarks.harness.cells import BRIEF, Cell, Experiment, Size
from benchmarks.harness.pages import Page, line_plot, spread_table
from benchmarks.training.subsets import ALL, FULL, OURS, QUICK, run_cell, spelled_out

KEY_METHODS = (*KEY_BASELINES, "paper", "short", "default")
VIT_METHODS = ("random", "short", "default")
VARIANTS = (
    "alpha ratio", "alpha -0.2", "text alone", "adapter", "cosine", "redundancy 0.1",
)  # fmt: skip
MAIN = "resnet"  # the network of the main tables


@dataclass(frozen=True)
class Plan:
    """What one size of the experiment holds.

    Parameters
    ----------
    common : Cell
        Fields that all cells have.
    noises : tuple of float
        Shares of wrong labels, for the key methods.
    ratios, seeds : tuple
        For the key methods.
    others : tuple of str
        Further methods.
    few_noises, few_ratios, few_seeds : tuple
        For those, and for the transformer.
    """

    common: Cell
    noises: tuple[float, ...]
    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    others: tuple[str, ...]
    few_noises: tuple[float, ...]
    few_ratios: tuple[float, ...]
    few_seeds: tuple[int, ...]


def plan(size: Size) -> Plan:
    """Return what a size holds."""
    common: Cell = {
        "pool": "cifar10", "per_class": 500, "test_per_class": 200,
        "noise_kind": "symmetric", "corrupted_share": 0.0,
        "proxy": MAIN, "proxy_steps": 400, "early_steps": 156, "n_early": 2, "n_checkpoints": 3,
        "steps": 600,
    }  # fmt: skip
    baselines = tuple(name for name in TO_TRAIN if name not in KEY_METHODS)
    variants = tuple(name for name in OURS if name not in KEY_METHODS)
    if size == "quick":
        common |= {**QUICK, "n_checkpoints": 2}
        two = ((0.0, 0.2), (0.3, 0.7))
        return Plan(common, *two, (0,), (*baselines, *VARIANTS), (0.2,), (0.3,), (0,))
    if size == "standard":
        ratios, seeds = (0.2, 0.3, 0.5, 0.7, 0.9), (0, 1, 2)
        few = ((0.2,), (0.3,), seeds)
        return Plan(common, (0.0, 0.2, 0.5), ratios, seeds, (*baselines, *VARIANTS), *few)
    common |= {**FULL, "n_checkpoints": 5}
    ratios, seeds = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0, 1, 2, 3, 4)
    few = ((0.0, 0.2, 0.5), ratios, seeds)
    return Plan(common, few[0], ratios, seeds, (*baselines, *variants), *few)


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return the cells, those of one proxy next to each other, the transformer's last."""
    p = plan(size)
    found: list[Cell] = []
    for noise in p.noises:
        for seed in p.seeds:
            chosen = [(ALL, 1.0), *_pairs(KEY_METHODS, p.ratios)]
            if noise in p.few_noises and seed in p.few_seeds:
                chosen += _pairs(p.others, p.few_ratios)
            found += [_cell(p, noise, seed, MAIN, *pair) for pair in chosen]
    for noise in p.few_noises:
        for seed in p.few_seeds:
            pairs = _pairs(VIT_METHODS, p.few_ratios)
            found += [_cell(p, noise, seed, "vit", *pair) for pair in pairs]
    return found


def _pairs(methods: Sequence[str], ratios: Sequence[float]) -> Iterator[tuple[str, float]]:
    return ((method, ratio) for method in methods for ratio in ratios)


def _cell(p: Plan, noise: float, seed: int, network: str, method: str, ratio: float) -> Cell:
    found = {"noise": noise, "seed": seed, "network": network, "method": method, "ratio": ratio}
    return {**p.common, **found}


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core: training, and a part of the proxy's."""
    per_step = {"vit": 0.026, MAIN: 0.0142}[cell["network"]]
    proxy_steps = cell["proxy_steps"] + cell["n_early"] * cell["early_steps"]
    return float(cell["steps"] * per_step + 0.25 + proxy_steps * 0.0142 / 40)


def render(records: pd.DataFrame, page: Page) -> None:
    """Write verdicts, then accuracy, wrong labels and differences for each share of noise."""
    table = prepare(records)
    main = table[table["network"] == MAIN]
    page.text(describe_setting(table))
    page.heading("Ours and the paper's method against the key baselines")
    page.text(
        "At how many of the ratios the mean accuracy is higher, and the mean difference in "
        "points over all of these ratios."
    )
    headed = main.assign(condition=main["noise"].map(noise_text))
    for name in ("default", "short", "paper"):
        others = (*KEY_BASELINES, "short", "default")
        page.table(verdict_table(headed, name, others, columns="condition"), name)
    for noise, part in main.groupby("noise"):
        _render_noise(part, float(noise), page)
    vit = table[table["network"] == "vit"]
    if not vit.empty:
        page.heading("A small transformer in place of the residual network")
        page.text("Trained on subsets that were chosen as above; accuracy in %.")
        for noise, part in vit.groupby("noise"):
            page.table(_accuracy(part), f"{noise_text(float(noise))}; % of the images kept")


def _accuracy(part: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    return spread_table(part, rows="method", columns="share", value=value)


def _render_noise(part: pd.DataFrame, noise: float, page: Page) -> None:
    """Write the section on one share of noise."""
    text = noise_text(noise)
    page.heading(text)
    page.text("Accuracy in %, by % of the images kept; “all” is trained on every image.")
    page.table(_accuracy(part), "chosen by")
    if noise:
        page.text("Wrong labels in what was chosen, in %.")
        page.table(_accuracy(part, "wrong"), "chosen by")
    key = part[part["method"].isin(KEY_METHODS)]
    figure = line_plot(
        key,
        x="share",
        y="accuracy",
        lines="method",
        labels=("images kept, %", "accuracy, %"),
        bold=("short", "default"),
    )
    everything = part[part["method"] == ALL]["accuracy"]
    if len(everything):
        figure.axes[0].axhline(100 * everything.mean(), color="grey", ls="--", lw=1)
    name = f"accuracy-{100 * noise:.0f}"
    page.plot(figure, name, f"{text}: accuracy by share of images kept; dashed: all images")
    _render_differences(part, page)


def _render_differences(part: pd.DataFrame, page: Page) -> None:
    """Write the paired comparisons at one share of noise."""
    for name in ("default", "short"):
        if name in set(part["method"]):
            page.text(f"Accuracy of “{name}” vs. each baseline, in points, by ratio.")
            by_ratio = differences_by(part, name, KEY_BASELINES, over="share")
            page.table(by_ratio, "% kept")
    add_differences(page, part, KEY_METHODS)
    everyone = [name for name in dict.fromkeys(part["method"]) if name != ALL]
    if not set(everyone) <= set(KEY_METHODS):
        add_differences(page, part, everyone)


EXPERIMENT = Experiment(
    name="ratios",
    title="Accuracy against the share of images kept",
    regime=BRIEF,
    cells=cells,
    run=run_cell,
    render=render,
    share=("network", "noise", "seed"),
    cost_s=cost_s,
)
