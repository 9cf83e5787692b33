"""One subset, several networks: whether a choice serves those that had no part in it.

The second paper's Table 1 (Yang et al.: "A CLIP-Powered Framework for Robust and Generalizable
Data Selection", ICLR 2025), with small networks. Our methods look at CLIP, the baselines at a
small residual network; the networks that are trained are of three families.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.experiments.subset_pages import (
    add_differences,
    at_shared,
    describe_setting,
    noise_text,
    prepare,
    verdict_table,
)
from benchmarks.harness.cells import BRIEF, Cell, Experiment, Size
from benchmarks.harness.pages import Page, spread_table
from benchmarks.harness.paired import compare
from benchmarks.training.subsets import ALL, FULL, QUICK, run_cell, spelled_out

METHODS = ("random", "Moderate-DS", "short", "default", "paper")
STEP_S = {"cnn": 0.0155, "cnn-wide": 0.031, "resnet": 0.0142, "vit": 0.026}


@spelled_out
def cells(size: Size) -> list[Cell]:
    """Return the cells, those of one proxy next to each other."""
    common: Cell = {
        "pool": "cifar10", "per_class": 500, "test_per_class": 200,
        "noise_kind": "symmetric", "corrupted_share": 0.0,
        "proxy": "resnet", "proxy_steps": 400, "early_steps": 156, "n_early": 2,
        "n_checkpoints": 1, "steps": 300,
    }  # fmt: skip
    conditions: list[tuple[float, tuple[float, ...]]] = [(0.2, (0.3, 0.7))]
    methods, networks, seeds = METHODS, ("cnn", "resnet", "vit"), (0, 1, 2)
    if size == "quick":
        common |= QUICK
        conditions, seeds = [(0.0, (0.7,)), (0.2, (0.3,))], (0,)
    if size == "full":
        common |= FULL
        conditions = [(noise, (0.3, 0.5, 0.7, 0.9)) for noise in (0.0, 0.2, 0.5)]
        methods = (*METHODS, "EL2N", "Herding", "cleanlab pruning", "CCS", "GraNd")
        networks, seeds = (*networks, "cnn-wide"), (0, 1, 2, 3, 4)
    found: list[Cell] = []
    for noise, ratios in conditions:
        for seed in seeds:
            chosen = [(method, ratio) for method in methods for ratio in ratios]
            if size == "full":
                chosen = [(ALL, 1.0), *chosen]
            for method, ratio in chosen:
                one = {"noise": noise, "seed": seed, "method": method, "ratio": ratio}
                found += [{**common, **one, "network": network} for network in networks]
    return found


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core: training, and a part of the proxy's."""
    proxy_steps = cell["proxy_steps"] + cell["n_early"] * cell["early_steps"]
    return float(
        cell["steps"] * STEP_S[cell["network"]] + 0.25 + proxy_steps * STEP_S["resnet"] / 20
    )


def render(records: pd.DataFrame, page: Page) -> None:
    """Write verdicts by network, then accuracies and differences for each share of noise."""
    table = prepare(records)
    page.text(describe_setting(table))
    page.text("All networks are trained on the same subsets.")
    page.heading("Ours against the baselines, by network")
    page.text(
        "At how many of the ratios the mean accuracy is higher, and the mean difference in "
        "points over all of these ratios."
    )
    for noise, part in table.groupby("noise"):
        for name in ("default", "short"):
            verdicts = verdict_table(part, name, METHODS, columns="network")
            page.table(verdicts, f"{name}; {noise_text(float(noise))}")
    for noise, part in table.groupby("noise"):
        _render_noise(part, float(noise), page)


def _render_noise(part: pd.DataFrame, noise: float, page: Page) -> None:
    """Write the section on one share of noise."""
    text = noise_text(noise)
    page.heading(text)
    named = part.assign(column=part["network"] + ", " + part["share"].astype(str) + " %")
    page.text("Accuracy in %, by network and % of the images kept.")
    page.table(spread_table(named, rows="method", columns="column", value="accuracy"), "chosen by")
    names = [name for name in dict.fromkeys(part["method"]) if name != ALL]
    for network, of_network in part.groupby("network"):
        page.text(f"Trained network: {network}.")
        add_differences(page, of_network, names)
    shared = at_shared(part, names, ("network", "ratio", "seed"))
    if "random" in set(shared["method"]):
        name = f"gain-{100 * noise:.0f}"
        description = f"{text}: difference to random, mean over ratios, by trained network"
        page.plot(gain_plot(shared), name, description)


def gain_plot(records: pd.DataFrame) -> Figure:
    """Plot each method's difference to random for each network: mean and standard error."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    methods = [name for name in dict.fromkeys(records["method"]) if name != "random"]
    groups = list(records.groupby("network"))
    width = 0.8 / max(len(methods), 1)
    for i, method in enumerate(methods):
        found = [compare(part, method, "random", value="accuracy") for _, part in groups]
        means = np.array([100 * one.mean for one in found])
        errors = np.array([100 * one.deviation / np.sqrt(one.n) for one in found])
        places = np.arange(len(groups)) + (i + 0.5) * width - 0.4
        axes.bar(places, means, width, yerr=np.nan_to_num(errors), label=method)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(np.arange(len(groups)), [str(network) for network, _ in groups])
    axes.set(xlabel="trained network", ylabel="accuracy vs. random, points")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


EXPERIMENT = Experiment(
    name="architectures",
    title="Other networks trained on the same subsets",
    regime=BRIEF,
    cells=cells,
    run=run_cell,
    render=render,
    share=("noise", "seed"),
    cost_s=cost_s,
)
