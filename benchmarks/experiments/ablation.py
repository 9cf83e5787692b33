"""What does each part of the selection do? Adapter, terms of the loss, text, θ, actual ratio.

The paper's Tables 5 (adapter and terms), 9 (θ), 10 (mean images in place of texts) and 11
(actual ratios), for the method as printed, for `preset="short"`, and for our default.

Parts of the experiment are told apart by the field "part": "terms", "prototypes", "names",
"descent" and "loss".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize

from benchmarks.baselines.tasks import TrainingTask
from benchmarks.experiments.ablation_page import PRINTED_THETA, render
from benchmarks.harness.cells import BRIEF, Cell, Experiment, Options, Size, Values
from benchmarks.training.subsets import (
    Condition,
    Proxy,
    choose,
    fields_of,
    load_condition,
    n_chosen,
    subset_facts,
    task_of,
    train_accuracy,
)
from clip_al import ClipSelector, SelectionOptimizer
from clip_al.score.scaling import credible_first
from clip_al.subset.selection import Selection
from clip_al.subset.selector import PRESETS
from clip_al.subset.solvers import descend

NO_PROXY = Proxy("resnet", proxy_steps=0, early_steps=0, n_early=0, n_checkpoints=0)
"""No method here looks at a proxy, so none is trained."""
TUNING: dict[str, dict[str, tuple[Any, Any]]] = {
    "paper": {
        "": (True, 1.0), ", w/o adapter": (False, 1.0),
        ", cross-fit adapter": ("cross-fit", 1.0), ", mean images": (True, 0.0),
    },
    "short": {
        "": (False, "auto"), ", text alone": (False, 1.0), ", adapter": (True, 1.0),
        ", cross-fit adapter": ("cross-fit", 1.0), ", mean images": (False, 0.0),
    },
    "default": {"": (False, "auto")},
}  # fmt: skip
"""The adapter, and the weight of texts against mean images."""
TERMS = {
    "paper": {"": (True, True), ", w/o SAS": (False, True), ", w/o SDS": (True, False)},
    "short": {"": (True, False), ", SAS + SDS": (True, True), ", SDS alone": (False, True)},
    "default": {"": (True, True), ", w/o SAS": (False, True), ", w/o SDS": (True, False)},
}
"""Which terms are used, SAS and SDS; where both are, α is the ratio."""
UNTRAINED = (
    "paper, cross-fit adapter", "paper, mean images", "short, text alone, SAS + SDS",
    "short, text alone, SDS alone", "short, adapter, SAS + SDS", "short, adapter, SDS alone",
    "paper, w/o adapter, w/o SAS", "paper, w/o adapter, w/o SDS",
    "short, cross-fit adapter, SAS + SDS", "short, cross-fit adapter, SDS alone",
    "paper, cross-fit adapter, w/o SAS", "paper, cross-fit adapter, w/o SDS",
)  # fmt: skip
"""Rows for which the standard size trains no network: wrong labels and balance only."""
TEXT_WEIGHTS = {"text": 1.0, "half text, half mean image": 0.5, "mean image": 0.0}
UNKNOWN = (0.0, 0.5, 0.8, 0.95)
"""Share of a random direction in the text of each class, as if CLIP hardly knew its name."""
THETAS = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 1e-2, 1e-1)
RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LOSSES = {
    "N times the loss": {"beta": 2.0, "per_image": False},
    "the loss as printed": {"beta": 2.0, "per_image": True},
    "N times the loss, w/o the ratio's term": {"beta": 0.0, "per_image": False},
}
"""What is descended: the weight β of the ratio's term, and whether gradients carry 1/N."""


def cells(size: Size) -> list[Cell]:
    """Return the cells of all parts."""
    seeds = range({"quick": 1, "standard": 3, "full": 5}[size])
    per_class = {"quick": 50, "standard": 500, "full": 2500}[size]
    n_steps = {"quick": 40, "standard": 300, "full": 8000}[size]
    found = []
    for noise in (0.0, 0.2):
        for seed in seeds:
            shared = _condition(per_class, noise, seed, 100 if size == "quick" else 1000)
            for method, setting in term_rows().items():
                untrained = size == "standard" and method in UNTRAINED
                if size == "quick" and method in UNTRAINED:
                    continue
                found.append(
                    {
                        "part": "terms", **shared, "method": method, **setting, "ratio": 0.3,
                        "network": "resnet", "steps": 0 if untrained else n_steps,
                    }
                )  # fmt: skip
    for noise in (0.2,) if size == "quick" else (0.2, 0.5, 0.7):
        for seed in seeds:
            shared = _condition(per_class, noise, seed)
            found += [
                {
                    "part": "prototypes", **shared, "method": f"{preset}, {name}",
                    "preset": preset, "adapter": TUNING[preset][""][0], "text_weight": weight,
                    "ratios": [0.2, 0.3],
                }
                for preset in ("paper", "short")
                for name, weight in TEXT_WEIGHTS.items()
            ]  # fmt: skip
    return [_spelled_out(cell) for cell in found + name_cells(size) + descent_cells(size)]


def _spelled_out(cell: Cell) -> Cell:
    """Add what the preset of a cell says, so that a preset that changes makes new cells."""
    preset = cell.get("preset")
    return cell if preset is None else {**cell, "settings": dict(PRESETS[preset])}


def term_rows() -> dict[str, dict[str, Any]]:
    """Return the rows of the table of terms: name → what is chosen by."""
    rows: dict[str, dict[str, Any]] = {
        "random": {"preset": None, "adapter": None, "sas": None, "sds": None, "text_weight": None}
    }
    for preset in TUNING:
        for tuned, (adapter, weight) in TUNING[preset].items():
            for used, (sas, sds) in TERMS[preset].items():
                if used and "mean images" in tuned:
                    continue
                rows[f"{preset}{tuned}{used}"] = {
                    "preset": preset, "adapter": adapter, "sas": sas, "sds": sds,
                    "text_weight": weight,
                }  # fmt: skip
    return rows


def name_cells(size: Size) -> list[Cell]:
    """Return the cells of the part "names"."""
    seeds = range({"quick": 1, "standard": 3, "full": 5}[size])
    per_class = {"quick": 50, "standard": 800, "full": 2500}[size]
    return [
        {
            "part": "names", **_condition(per_class, 0.2, seed), "noise_kind": kind,
            "method": f"short{tuned}", "preset": "short", "adapter": adapter,
            "text_weight": weight, "unknown": unknown, "ratio": 0.5,
        }
        for seed in seeds
        for kind in ("symmetric", "pair")
        for unknown in UNKNOWN
        for tuned, (adapter, weight) in TUNING["short"].items()
        if "cross-fit" not in tuned
    ]  # fmt: skip


def descent_cells(size: Size) -> list[Cell]:
    """Return the cells of the parts "descent" and "loss"."""
    seeds = range({"quick": 1, "standard": 3, "full": 5}[size])
    per_class = {"quick": 50, "standard": 500, "full": 2500}[size]
    n_steps = {"quick": 500, "standard": 10_000, "full": 100_000}[size]
    ratios = (0.3, 0.6) if size == "quick" else RATIOS
    found = []
    for seed in seeds:
        shared = _condition(per_class, 0.0, seed)
        for preset in ("paper", "short"):
            adapter, weight = TUNING[preset][""]
            scored = {**shared, "preset": preset, "adapter": adapter, "text_weight": weight}
            found += [
                {
                    "part": "descent", **scored, "method": f"{preset}, {solver}",
                    "solver": solver, "theta": theta, "ratios": list(ratios),
                }
                for solver, theta in [("exact", None), *(("sgd", theta) for theta in THETAS)]
            ]  # fmt: skip
            found += [
                {"part": "loss", **scored, "method": name, **loss, "steps": n_steps, "ratio": 0.3}
                for name, loss in LOSSES.items()
            ]
    return found


def _condition(per_class: int, noise: float, seed: int, test_per_class: int = 1) -> dict[str, Any]:
    return asdict(Condition("cifar10", per_class, test_per_class, noise, "symmetric", 0.0, seed))


def run(cell: Cell, options: Options) -> Values:
    """Run a cell of any part."""
    return PARTS[cell["part"]](cell, options)


def run_terms(cell: Cell, options: Options) -> Values:
    """Choose without the adapter or a term, look at what was chosen, and train on it."""
    condition = Condition(**fields_of(Condition, cell))
    material, task = load_condition(condition, options), task_of(condition, options, NO_PROXY)
    if cell["preset"] is None:
        indices = choose("random", task, cell["ratio"])
    else:
        terms = terms_of(cell, task)
        kept = [
            term_n if cell[name] else np.zeros_like(term_n)
            for name, term_n in zip(("sas", "sds"), terms, strict=True)
        ]
        indices = select(kept, task, cell["ratio"], cell["preset"], alpha="ratio").indices
    facts = {**subset_facts(indices, material), "accuracy": None}
    if cell["steps"]:
        facts["accuracy"] = train_accuracy(
            indices,
            material,
            network=cell["network"],
            n_steps=cell["steps"],
            seed=cell["seed"],
            device=options.device,
        )
    return facts


def run_prototypes(cell: Cell, options: Options) -> Values:
    """Align images with the text of their class, its mean image, or both; count wrong labels."""
    condition = Condition(**fields_of(Condition, cell))
    material, task = load_condition(condition, options), task_of(condition, options, NO_PROXY)
    terms = terms_of(cell, task)
    chosen = [select(terms, task, ratio, cell["preset"]).indices for ratio in cell["ratios"]]
    facts = [subset_facts(indices, material) for indices in chosen]
    return {name: [fact[name] for fact in facts] for name in ("wrong", "balance")}


def run_names(cell: Cell, options: Options) -> Values:
    """Mix the texts with random directions; count wrong labels, and what the texts alone know."""
    condition = Condition(**fields_of(Condition, cell))
    material = load_condition(condition, options)
    task = with_unknown_names(task_of(condition, options, NO_PROXY), cell["unknown"])
    indices = select(terms_of(cell, task), task, cell["ratio"], cell["preset"]).indices
    named_n = (task.emb_nd @ task.class_emb_kd.T).argmax(axis=1)
    return {
        "wrong": subset_facts(indices, material)["wrong"],
        "zero_shot": float((named_n == material.pool.y).mean()),
    }


@lru_cache(maxsize=4)
def with_unknown_names(task: TrainingTask, share: float) -> TrainingTask:
    """Return the task with class embeddings that are partly random directions."""
    random_kd = normalize(np.random.default_rng(task.seed).standard_normal(task.class_emb_kd.shape))
    mixed_kd = normalize((1 - share) * task.class_emb_kd + share * random_kd)
    return replace(task, class_emb_kd=mixed_kd.astype(np.float32))


def run_descent(cell: Cell, options: Options) -> Values:
    """Choose by a solver; return what it took and how much of the exact solution it found."""
    condition = Condition(**fields_of(Condition, cell))
    task = task_of(condition, options, NO_PROXY)
    terms, preset = terms_of(cell, task), cell["preset"]
    found: dict[str, list[Any]] = {"actual": [], "overlap": [], "iterations": [], "solve_s": []}
    for ratio in cell["ratios"]:
        exact = select(terms, task, ratio, preset, solver="exact")
        changes = {} if cell["theta"] is None else {"theta": cell["theta"]}
        started = time.perf_counter()
        chosen = select(terms, task, ratio, preset, solver=cell["solver"], **changes)
        found["solve_s"].append(round(time.perf_counter() - started, 5))
        found["actual"].append(chosen.ratio)
        found["overlap"].append(chosen.compare(exact).jaccard)
        found["iterations"].append(chosen.settings.get("n_iterations"))
    return {**found}


def run_loss(cell: Cell, options: Options) -> Values:
    """Descend a loss for so many steps at most; return where it ended.

    Without the ratio's term nothing stops the descent; then, as in the paper's ablation, the
    images with the highest d are taken, and compared with those of the highest S.
    """
    task = task_of(Condition(**fields_of(Condition, cell)), options, NO_PROXY)
    sas_n, sds_n = terms_of(cell, task)
    total_n = sas_n + cell["ratio"] * sds_n.astype(np.float64)
    n = len(total_n)
    wanted = n_chosen(cell["ratio"], n)
    # Edges that cost nothing: without any, a descent that cannot reach the ratio never starts.
    no_edges = sparse.csr_array((n, n))
    end = descend(
        total_n,
        wanted,
        PRINTED_THETA * n,
        beta=cell["beta"],
        learning_rate=1e-3,
        momentum=0.9,
        max_iter=cell["steps"],
        edges=no_edges,
        gradient_scale=1 / n if cell["per_image"] else 1.0,
    )
    top = [np.argsort(-values_n, kind="stable")[:wanted] for values_n in (end.d_n, total_n)]
    by_d, by_score = (Selection.from_indices(np.sort(chosen), n) for chosen in top)
    return {
        "actual": float(end.chosen_n.mean()),
        "moved": float(np.abs(end.d_n - 1.0).max()),
        "iterations": end.n_iterations,
        "reached": end.converged,
        "overlap": by_d.compare(by_score).jaccard,
    }


PARTS = {
    "terms": run_terms,
    "prototypes": run_prototypes,
    "names": run_names,
    "descent": run_descent,
    "loss": run_loss,
}


@lru_cache(maxsize=8)
def fitted(preset: str, adapter: Any, text_weight: Any, task: TrainingTask) -> ClipSelector:
    """Return a fitted selector; those that differ in the weight of the text share an adapter."""
    known = adapter
    if adapter and text_weight != 1.0:
        known = fitted(preset, adapter, 1.0, task).adapter_
    selector = ClipSelector(
        class_embeddings=task.class_emb_kd,
        preset=preset,
        adapter=known,
        text_weight=text_weight,
        solver="exact",
        n_neighbors=0.1,  # SDS also where the preset gives it no weight
        random_state=task.seed,
    )
    return selector.fit(task.emb_nd, task.given_n)


def terms_of(cell: Cell, task: TrainingTask) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return SAS and SDS (n,) as a preset adds them: scaled, weighted, wrong labels last."""
    selector = fitted(cell["preset"], cell["adapter"], cell["text_weight"], task)
    scores, settings = selector.selection_.scores, selector.selection_.settings
    sas_n, sds_n = credible_first(
        scores["sas"],
        scores["sds"],
        scores["label_probability"],
        task.given_n,
        scale=settings["scale"],
        noise_aware=settings["noise_aware"],
        min_label_probability=settings["min_label_probability"],
    )
    assert sds_n is not None  # `fitted` asks for it
    return sas_n, sds_n


def select(
    terms: Sequence[NDArray[Any]], task: TrainingTask, ratio: float, preset: str, **changes: Any
) -> Selection:
    """Choose by SAS and SDS with the α, solver and quotas of a preset, or as `changes` say."""
    settings = {name: PRESETS[preset][name] for name in ("alpha", "solver", "class_balance")}
    optimizer = SelectionOptimizer(ratio, **{**settings, **changes})
    return optimizer.select(*terms, task.given_n, n_classes=len(task.class_emb_kd))


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core; adapters are shared out over those who use them."""
    n = 10 * cell["per_class"]
    fit = {
        "terms": n / 12_000,
        "names": n / 10_000,
        "prototypes": n / 7000,
        "descent": n / 20_000,
        "loss": n / 20_000,
    }
    trained = 0.0
    if cell["part"] == "terms" and cell["steps"]:
        trained = 0.014 * cell["steps"] + 0.7 * cell["test_per_class"] / 1000
    return fit[cell["part"]] + trained


EXPERIMENT = Experiment(
    name="ablation",
    title="Parts of the selection: adapter, terms, texts, descent",
    regime=BRIEF,
    cells=cells,
    run=run,
    render=render,
    share=("part", "noise", "seed"),
    cost_s=cost_s,
)
