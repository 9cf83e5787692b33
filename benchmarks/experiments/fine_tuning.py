"""Fine-tuning on what was picked: a network that is good already, and one that is not.

First paper (arXiv 2601.08024), its main experiment: the accuracy that a network gains when
images for 1 to 10 % of a pool are picked in rounds, labelled, and trained on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.baselines.tasks import Indices
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.experiments.fine_tuning_page import render
from benchmarks.harness.cells import FINE_TUNED, Cell, Experiment, Options, Size, Values
from benchmarks.training.labelling import (
    ALONE,
    BLIND,
    OURS,
    RANDOM_WORDS,
    Material,
    Picker,
    Schooling,
    Setting,
    earlier_images,
    load_setting,
    make_task,
    our_methods,
    schooled,
    trained_once,
)
from benchmarks.training.networks import Network
from benchmarks.training.training import BATCH_SIZE, accuracy, fine_tune

BUDGETS = (0.01, 0.02, 0.04, 0.07, 0.1)
N_BASES = 3
N_MEMBERS = 3
ENSEMBLE = "ensemble variance"
KEY_METHODS = ("random", "margin", "BADGE", "TypiClust", ALONE, OURS, RANDOM_WORDS)
FEW_METHODS = ("random", "margin", OURS)
QUICK_METHODS = ("random", "margin", "BADGE", ENSEMBLE, ALONE, OURS)
START_SEED = 105  # of the first labels, kept apart from those of pools and networks


def cells(size: Size) -> list[Cell]:
    """Return the cells: good and weak networks, both pools, two architectures."""
    everything = (*TO_LABEL, *our_methods())
    plan: list[tuple[int, str, str, tuple[str, ...]]]
    if size == "quick":
        both = ((0, "balanced", "resnet", QUICK_METHODS), (0, "long-tailed", "vit", FEW_METHODS))
        plan = [(regime, *block) for block in both for regime in ("good", "weak")]
    elif size == "standard":
        plan = [
            block
            for seed in range(3)
            for block in (
                ("weak", seed, "balanced", "resnet", everything),
                ("weak", seed, "balanced", "vit", FEW_METHODS),
                ("good", seed, "balanced", "resnet", FEW_METHODS),
                ("good", seed, "long-tailed", "resnet", FEW_METHODS),
            )
        ]
        plan += [("weak", seed, "balanced", "resnet", FEW_METHODS) for seed in range(3, 6)]
        plan += [("weak", seed, "long-tailed", "resnet", KEY_METHODS) for seed in range(6)]
    else:
        plan = [
            (regime, seed, pool, network, everything)
            for seed in range(5)
            for pool in ("balanced", "long-tailed")
            for network in ("resnet", "vit")
            for regime in ("good", "weak")
        ]
    return [
        make_cell(size, seed, pool, network, regime, method)
        for regime, seed, pool, network, methods in plan
        for method in methods
    ]


def make_cell(
    size: Size, seed: int, pool: str, network: str, regime: str, method: str
) -> dict[str, Any]:
    """Return one cell, with all that its outcome depends on."""
    quick, full, good = size == "quick", size == "full", regime == "good"
    return {
        "regime": regime, "pool": pool, "network": network, "seed": seed, "method": method,
        **our_methods().get(method, {"vocabulary": None, "settings": None}),
        "source": "cifar10", "per_class": 200 if quick else 2500 if full else 1000,
        "tail": 50 if pool == "long-tailed" else None,
        "test_per_class": 50 if quick else None if full else 500,
        "seen": "cifar10-seen", "seen_per_class": 200 if quick else None,
        "base_seed": seed % (5 if full else N_BASES),
        "base_steps": {"quick": 200, "standard": 3000, "full": 10_000}[size] if good else 400,
        "first": 0.0 if good else 0.05, "replay": 0.8 if good else 0.0,
        "epochs": 3 if good else 5,
        "budgets": [0.05, 0.1] if quick else list(BUDGETS),
        "members": N_MEMBERS if method == ENSEMBLE else 1, "bases": 5 if full else N_BASES,
    }  # fmt: skip


def setting_of(cell: Cell) -> Setting:
    """Return the pool of a cell."""
    return Setting(
        cell["source"], cell["per_class"], cell["tail"], None, cell["test_per_class"], cell["seed"]
    )


def first_labels(cell: Cell, n: int) -> Indices:
    """Return the places that are labelled before anyone picks, ascending; maybe none."""
    order = np.random.default_rng((START_SEED, cell["seed"])).permutation(n)
    return np.sort(order[: round(cell["first"] * n)])


def start_of(cell: Cell, member: int, options: Options) -> Network:
    """Return the network before anyone picks; other members of an ensemble have other seeds."""
    seed = (cell["base_seed"] + member) % cell["bases"]
    if cell["regime"] == "good":
        return schooled(
            Schooling(
                cell["network"], cell["seen"], cell["seen_per_class"], cell["base_steps"], seed
            ),
            options,
        )
    return _weak_start(
        setting_of(cell), cell["first"], cell["network"], cell["base_steps"], seed, options
    )


@lru_cache(maxsize=N_MEMBERS)
def _weak_start(
    setting: Setting, first: float, network: str, n_steps: int, seed: int, options: Options
) -> Network:
    pool = load_setting(setting, options).pool
    labelled = first_labels({"seed": setting.seed, "first": first}, len(pool.y))
    return trained_once(
        network, pool.take(labelled), n_steps=n_steps, seed=seed, device=options.device
    )


def run(cell: Cell, options: Options) -> Values:
    """Pick, label and fine-tune in rounds; return the accuracy after each."""
    setting = setting_of(cell)
    material = load_setting(setting, options)
    pool, n = material.pool, len(material.pool.y)
    picker = Picker(cell, setting, options)
    models = [start_of(cell, member, options) for member in range(cell["members"])]
    before = accuracy(models[0], pool.test_images, pool.y_test)
    labelled = first_labels(cell, n)
    picked, scores, seconds = np.empty(0, np.int64), [], []
    for number, budget in enumerate(cell["budgets"]):
        rest = np.setdiff1d(np.arange(n), labelled)
        task = make_task(material, models, labelled, rest, cell)
        started = time.perf_counter()
        n_wanted = round(budget * n) - len(picked)
        picks = rest[picker.pick(task, rest, n_wanted, picker.known(labelled))]
        seconds.append(round(time.perf_counter() - started, 4))
        picked, labelled = np.concatenate([picked, picks]), np.concatenate([labelled, picks])
        models = tuned(models, material, labelled, cell, number, options)
        scores.append(accuracy(models[0], pool.test_images, pool.y_test))
    return {
        "before": before, "accuracies": scores, "gain": float(np.mean(scores)) - before,
        "pick_s": seconds, "n_classes": len(np.unique(pool.y[picked])), "n_images": n,
    }  # fmt: skip


def steps_of(cell: Cell, n_labelled: int) -> int:
    """Return the batches in which every labelled image is read `epochs` times."""
    new_ones: float = BATCH_SIZE * (1 - cell["replay"])
    return round(int(cell["epochs"]) * n_labelled / new_ones)


def tuned(
    models: Sequence[Network],
    material: Material,
    labelled: Indices,
    cell: Cell,
    number: int,
    options: Options,
) -> list[Network]:
    """Fine-tune each network on all that is labelled, and replay what it was taught before."""
    pool, earlier, n_steps = material.pool, {}, steps_of(cell, len(labelled))
    if cell["replay"]:
        seen = earlier_images(cell["seen"], cell["seen_per_class"], options)
        earlier = {"replay_images": seen.images, "replay_labels": seen.y, "replay": cell["replay"]}
    return [
        fine_tune(
            model, pool.images[labelled], pool.y[labelled], n_steps=n_steps,
            seed=100 * cell["seed"] + 10 * member + number, **earlier,
        )
        for member, model in enumerate(models)
    ]  # fmt: skip


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core, a share of what is trained before included."""
    slow, n_budgets = 2.0 if cell["network"] == "vit" else 1.0, len(cell["budgets"])
    n = 10 * cell["per_class"] * (0.28 if cell["tail"] else 1.0)
    n_labelled = n * (sum(cell["budgets"]) + n_budgets * cell["first"])
    steps = cell["members"] * steps_of(cell, round(n_labelled)) + cell["base_steps"] / 10
    asked = 0.0 if cell["method"] in BLIND else n * cell["members"]
    tested = 10 * (cell["test_per_class"] or 1000)
    return float(slow * (0.015 * steps + 0.7e-4 * n_budgets * (asked + tested)))


EXPERIMENT = Experiment(
    name="fine_tuning",
    title="Fine-tuning a network on what was picked",
    regime=FINE_TUNED,
    cells=cells,
    run=run,
    render=render,
    share=("seed", "pool", "network", "regime"),
    cost_s=cost_s,
)
