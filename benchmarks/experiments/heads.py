"""Heads on CLIP embeddings from 0 to 20 labels a class, with right and with permuted texts.

Each seed draws the labelled images, the same for all heads; the rest of the pool is the test
(a class keeps three images of it at least). Macro accuracy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import t as student

from benchmarks.baselines.heads import (
    clap,
    logistic_regression,
    lp_plus_plus,
    tuned_logistic_regression,
)
from benchmarks.data.class_text_pools import TEXT_POOLS, TextPool, load_text_pool
from benchmarks.harness.cells import ON_EMBEDDINGS, Cell, Experiment, Options, Size, Values
from benchmarks.harness.pages import Page, spread
from clip_al import ClipClassifier
from clip_al.errors import TextPriorWarning

OURS, PLAIN, TUNED = "ClipClassifier", "logistic regression", "logistic regression, C by CV"
WITHOUT = "ClipClassifier without texts"
LABELS = (0, 1, 2, 5, 10, 20)
KEPT = 3
N_SEEDS: dict[Size, int] = {"quick": 2, "standard": 20, "full": 50}
CHOOSING, REPORTED = 0, 1_000
"""Where seeds start: defaults were chosen on 0 to 7, and tables show 1,000 and on."""
Fit = Callable[[TextPool, NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]


def _ours(pool: TextPool, rows: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[Any]:
    head = ClipClassifier(class_embeddings=pool.text_emb_kd)
    return _log_probabilities(head, pool, rows, test)


def _without(pool: TextPool, rows: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[Any]:
    return _log_probabilities(ClipClassifier(), pool, rows, test)


def _log_probabilities(
    head: ClipClassifier, pool: TextPool, rows: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextPriorWarning)
        head.fit(pool.image_emb_nd[rows], pool.code_n[rows])
    return np.log(head.predict_proba(pool.image_emb_nd[test]) + 1e-300)


HEADS: dict[str, Fit] = {
    OURS: _ours,
    WITHOUT: _without,
    PLAIN: lambda p, rows, t: logistic_regression(
        p.image_emb_nd[rows], p.code_n[rows], p.image_emb_nd[t], len(p.text_emb_kd)
    ),
    TUNED: lambda p, rows, t: tuned_logistic_regression(
        p.image_emb_nd[rows], p.code_n[rows], p.image_emb_nd[t], len(p.text_emb_kd)
    ),
    "LP++": lambda p, rows, t: lp_plus_plus(
        p.image_emb_nd[rows], p.code_n[rows], p.text_emb_kd, p.image_emb_nd[t]
    ),
    "CLAP": lambda p, rows, t: clap(
        p.image_emb_nd[rows], p.code_n[rows], p.text_emb_kd, p.image_emb_nd[t]
    ),
}


def cells(size: Size) -> list[Cell]:
    """Return a cell for each pool, texts, number of labels, seed and head."""
    return [
        {"pool": pool, "texts": texts, "per_class": per_class, "seed": seed, "head": head}
        for pool in TEXT_POOLS
        for seed in range(REPORTED, REPORTED + N_SEEDS[size])
        for texts in ("right", "permuted")
        for per_class in LABELS
        for head in HEADS
        if _makes_sense(texts, per_class, head)
    ]


def _makes_sense(texts: str, per_class: int, head: str) -> bool:
    if per_class == 0:
        return head == OURS
    return texts == "right" or head not in (PLAIN, TUNED, WITHOUT)


def draw(pool: TextPool, per_class: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labelled rows, and those to test on."""
    rng = np.random.default_rng([seed, per_class])
    drawn = [np.empty(0, dtype=np.int64)]
    for kind in range(len(pool.text_emb_kd)):
        members = rng.permutation(np.flatnonzero(pool.code_n == kind))
        drawn.append(members[: min(per_class, len(members) - KEPT)])
    rows = np.concatenate(drawn)
    return rows, np.setdiff1d(np.arange(len(pool.code_n)), rows)


def permuted(pool: TextPool, seed: int) -> TextPool:
    """Return the pool with texts none of which is of its class."""
    rng, k = np.random.default_rng([seed, 99]), len(pool.text_emb_kd)
    order = rng.permutation(k)
    while (order == np.arange(k)).any():
        order = rng.permutation(k)
    return pool._replace(text_emb_kd=pool.text_emb_kd[order])


def run(cell: Cell, options: Options) -> Values:
    """Fit a head; return macro accuracy, log-loss and calibration error on the rest."""
    pool = load_text_pool(cell["pool"], options)
    rows, test = draw(pool, cell["per_class"], cell["seed"])
    given = permuted(pool, cell["seed"]) if cell["texts"] == "permuted" else pool
    logit_mk = HEADS[cell["head"]](given, rows, test)
    code_m = pool.code_n[test]
    probability_mk = softmax(logit_mk, axis=1)
    right_m = probability_mk.argmax(axis=1) == code_m
    own_m = probability_mk[np.arange(len(test)), code_m]
    return {
        "accuracy": float(np.mean([right_m[code_m == kind].mean() for kind in np.unique(code_m)])),
        "log_loss": float(-np.log(np.maximum(own_m, 1e-12)).mean()),
        "calibration_error": calibration_error(probability_mk.max(axis=1), right_m),
    }


def calibration_error(confidence_m: NDArray[Any], right_m: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 bins of equal width."""
    bin_m = np.minimum((15 * confidence_m).astype(int), 14)
    gaps = [
        abs(right_m[bin_m == b].mean() - confidence_m[bin_m == b].mean()) * np.mean(bin_m == b)
        for b in np.unique(bin_m)
    ]
    return float(np.sum(gaps))


def render(records: pd.DataFrame, page: Page) -> None:
    """Write a table of accuracies for each pool, the differences, and the calibration."""
    page.text(
        "Macro accuracy in percent on the unlabelled rest of a pool, mean ± standard deviation "
        "over draws of the labelled images; all heads get the same draws."
    )
    right = records[records.texts == "right"]
    for pool, rows in right.groupby("pool", sort=False):
        page.heading(str(pool))
        page.table(_by_labels(rows, "accuracy", 100.0, 1), "head")
    for texts, rows in records.groupby("texts", sort=False):
        page.heading(f"{OURS} vs. logistic regression, {texts} texts")
        page.text(
            "Difference in points with its 95 % interval, paired by draw; logistic regression is "
            "that of C = 30 (one with C by cross-validation in brackets)."
        )
        page.table(differences(rows, right), "pool")
    page.heading("Calibration")
    page.text("Log-loss and expected calibration error (15 bins), mean over pools and draws.")
    for value in ("log_loss", "calibration_error"):
        page.table(_by_labels(right, value, 1.0, 2), value.replace("_", " "))


def _by_labels(rows: pd.DataFrame, value: str, scale: float, digits: int) -> pd.DataFrame:
    table = rows.pivot_table(
        index="head",
        columns="per_class",
        values=value,
        aggfunc=lambda v: spread(v, scale=scale, digits=digits),
        sort=False,
    )
    table.columns = [f"{n} a class" for n in table.columns]
    return table.fillna("–")


def differences(rows: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    """Return ours less logistic regression, a row a pool and a column a number of labels."""
    table: dict[str, dict[str, str]] = {}
    for (pool, per_class), ours in rows[rows["head"] == OURS].groupby(["pool", "per_class"]):
        if per_class == 0:
            continue
        same = right[(right.pool == pool) & (right.per_class == per_class)].set_index("seed")
        shown = []
        for rival in (PLAIN, TUNED):
            others = same[same["head"] == rival].accuracy
            gap = 100 * (ours.set_index("seed").accuracy - others).dropna()
            shown.append(interval(gap.to_numpy()))
        table.setdefault(f"{per_class} a class", {})[pool] = f"{shown[0]} ({shown[1]})"
    return pd.DataFrame(table).fillna("–")


def interval(gaps: NDArray[Any]) -> str:
    """Return a mean and half its 95 % interval.

    Examples
    --------
    >>> interval(np.array([1.0, 2.0, 3.0]))
    '+2.0 ± 2.5'
    """
    if len(gaps) < 2:
        return "–"
    half = student.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return f"{gaps.mean():+.1f} ± {half:.1f}"


EXPERIMENT = Experiment(
    name="heads",
    title="Heads on CLIP embeddings",
    regime=ON_EMBEDDINGS,
    cells=cells,
    run=run,
    render=render,
    share=("pool", "seed"),
    cost_s=lambda cell: 1.0 if cell["head"] in (OURS, TUNED, WITHOUT) else 0.1,
)
