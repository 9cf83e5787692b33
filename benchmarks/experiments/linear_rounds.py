"""Labelling in rounds with a linear head on CLIP embeddings: strategies and their settings.

Each seed draws a pool and its first labels; a logistic regression is fitted anew in every
round and tested on images that are never labelled. What differs between the cells of a seed
is who picks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from benchmarks.baselines.tasks import Indices, LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.uncertainty import pick_by_margin
from benchmarks.data.pools import (
    embed_classes,
    embed_images,
    encoder_of,
    load_pool,
    long_tailed,
    with_near_duplicates,
)
from benchmarks.data.vocabularies import (
    CONTROL,
    GENERAL,
    GENOME,
    STROKES,
    STROKES_CONTROL,
    vocabulary_of,
)
from benchmarks.experiments.linear_rounds_page import BASELINES, render
from benchmarks.harness.cells import ON_EMBEDDINGS, Cell, Experiment, Options, Size, Values
from benchmarks.training.labelling import OURS, RANDOM_WORDS, spelled_out
from clip_al import (
    AlignmentDiversitySampling,
    CBDMarginSampling,
    CBDSampling,
    ConceptProfiles,
)

PER_CLASS = 800
TAIL = 50
COPIED = 0.5
N_MEMBERS = 5
ALONE = "CBD alone"
ALIGNMENT = "alignment + diversity"
EMBEDDINGS = f"{OURS}, embeddings in place of concepts"
FACTORS = (2, 4, 8)
M_VALUES = (1, 2, 5, 10, 20, 50)
SLOW = ("k-center", "BADGE", "TypiClust", "greedy GD", "facility location", "ensemble variance")
SLOWEST, SLOWEST_SEEDS = ("TypiClust", "facility location"), 3
POOLS = ("balanced", "long-tailed", "near-duplicates", "digits")


class Drawn(NamedTuple):
    """Embeddings and labels of a pool and of the test images; embeddings of the classes."""

    emb_nd: NDArray[np.float32]
    y: NDArray[np.int64]
    test_emb: NDArray[np.float32]
    y_test: NDArray[np.int64]
    class_emb_kd: NDArray[np.float32]


def variants() -> dict[str, dict[str, Any]]:
    """Return our strategies: name → vocabulary and settings, all of them spelled out."""
    default = spelled_out(CBDMarginSampling())

    def variant(vocabulary: str = GENERAL, **changes: Any) -> dict[str, Any]:
        return {"vocabulary": vocabulary, "settings": {**default, **changes}}

    named = {
        OURS: variant(),
        RANDOM_WORDS: variant(CONTROL),
        f"{OURS}, Visual Genome": variant(GENOME),
        f"{OURS}, plain cosines": variant(similarity="cosine"),
        f"{OURS}, target uncertain": variant(target="uncertain"),
        f"{OURS}, entropy": variant(uncertainty="entropy"),
    }
    for weighting in ("binary", "softmax"):
        for factor in FACTORS:
            settings = {"weighting": weighting, "candidate_factor": factor}
            named[f"{OURS}, {weighting}, factor {factor}"] = variant(**settings)
    for m in M_VALUES:
        named[f"{OURS}, m = {m}"] = variant(m=m)
    return named


def cells(size: Size) -> list[Cell]:
    """Return the cells: all methods on each pool and seed."""
    n_seeds = {"quick": 2, "standard": 10, "full": 30}[size]
    pools = POOLS[:2] + POOLS[3:] if size == "quick" else POOLS
    ours = variants()
    if size == "quick":
        ours = {
            k: v for k, v in ours.items() if k in (OURS, RANDOM_WORDS) or k.startswith(f"{OURS}, m")
        }
    found = []
    for pool in pools:
        digits = pool == "digits"
        labels = {"first": 20, "budget": 20} if digits else {"first": 50, "budget": 50}
        methods: dict[str, dict[str, Any]] = {
            name: {"vocabulary": None, "settings": None}
            for name in ("random", *BASELINES, EMBEDDINGS)
        }
        # m is swept on the pools that are most and least even.
        swept = size == "full" or pool in POOLS[:2]
        methods |= {name: choice for name, choice in ours.items() if swept or "m =" not in name}
        if size == "quick":
            methods = {k: v for k, v in methods.items() if k not in SLOW}
        alone = spelled_out(CBDSampling())
        for weighting in ("binary", "softmax"):
            methods[f"{ALONE}, {weighting}"] = {
                "vocabulary": GENERAL, "settings": {**alone, "weighting": weighting},
            }  # fmt: skip
        methods[f"{ALONE}, target uniform"] = {
            "vocabulary": GENERAL, "settings": {**alone, "target": "uniform"},
        }  # fmt: skip
        aligned = spelled_out(AlignmentDiversitySampling(None))
        for name, alpha in ((ALIGNMENT, aligned["alpha"]), (f"{ALIGNMENT}, alpha 0", 0.0)):
            methods[name] = {"vocabulary": None, "settings": {**aligned, "alpha": alpha}}
        if digits:
            methods[f"{OURS}, strokes"] = {**ours[OURS], "vocabulary": STROKES}
            few = {**ours[OURS]["settings"], "m": 5}
            methods[f"{OURS}, strokes, m = 5"] = {"vocabulary": STROKES, "settings": few}
            methods[f"{OURS}, random strokes, m = 5"] = {
                "vocabulary": STROKES_CONTROL, "settings": few,
            }  # fmt: skip
        found += [
            {
                "pool": pool, "per_class": PER_CLASS, "tail": TAIL, "copied": COPIED,
                "rounds": 6, **labels, "method": method, **choice, "seed": seed,
            }
            for seed in range(n_seeds)
            for method, choice in methods.items()
            if method not in SLOWEST or seed < SLOWEST_SEEDS
        ]  # fmt: skip
    return found


@lru_cache(maxsize=2)
def draw(
    pool_name: str, per_class: int, tail: int, copied: float, seed: int, options: Options
) -> Drawn:
    """Draw a pool; the test images are all there are."""
    encoder = encoder_of(options)
    source = "digits" if pool_name == "digits" else "cifar10"
    pool = load_pool(source, data=options.data, seed=seed)
    test_emb = embed_images(pool.test_images, encoder)
    class_emb = embed_classes(pool.classes, encoder)
    if pool_name == "digits":
        emb = embed_images(pool.images, encoder)
        return Drawn(emb, pool.y, test_emb, pool.y_test, class_emb)
    emb, last = embed_images(pool.images, encoder), (test_emb, pool.y_test, class_emb)
    rng = np.random.default_rng(seed)
    drawn = np.sort(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(pool.y == k), per_class, replace=False)
                for k in range(len(pool.classes))
            ]
        )
    )
    if pool_name == "long-tailed":
        drawn = drawn[long_tailed(pool.y[drawn], factor=tail, seed=seed)]
    if pool_name == "near-duplicates":
        copies, source_n = with_near_duplicates(pool.take(drawn), copied, seed)
        pool_emb = emb[drawn].copy()
        changed = source_n != np.arange(len(drawn))
        pool_emb[changed] = encoder.encode_images(copies.images[changed])
        return Drawn(pool_emb, copies.y, *last)
    return Drawn(emb[drawn], pool.y[drawn], *last)


@lru_cache(maxsize=16)
def profiles_of(
    pool: tuple[Any, ...], vocabulary: str, m: int, similarity: str, options: Options
) -> ConceptProfiles:
    """Profile a drawn pool; what is shared between strategies is computed once."""
    words = vocabulary_of(vocabulary, options)
    emb_nd = draw(*pool, options).emb_nd
    return ConceptProfiles.from_embeddings(emb_nd, words, m, similarity=similarity)


def run(cell: Cell, options: Options) -> Values:
    """Label in rounds; return the accuracy after each and the seconds that picking took."""
    pool_key = tuple(cell[k] for k in ("pool", "per_class", "tail", "copied", "seed"))
    data = draw(*pool_key, options)
    pick = picker(cell, pool_key, options)
    order = np.random.default_rng((1, cell["seed"])).permutation(len(data.y))
    labelled, rest = order[: cell["first"]], np.sort(order[cell["first"] :])
    head = fit_head(data, labelled)
    first, scores, seconds = head.score(data.test_emb, data.y_test), [], []
    for _ in range(cell["rounds"]):
        task = make_task(data, head, labelled, rest, cell)
        started = time.perf_counter()
        picks = pick(task, labelled, rest)
        seconds.append(round(time.perf_counter() - started, 4))
        labelled, rest = np.concatenate([labelled, rest[picks]]), np.delete(rest, picks)
        head = fit_head(data, labelled)
        scores.append(float(head.score(data.test_emb, data.y_test)))
    classes = len(np.unique(data.y[labelled]))
    return {
        "before": float(first), "accuracies": scores, "accuracy": float(np.mean(scores)),
        "pick_s": float(np.mean(seconds)), "classes": classes,
    }  # fmt: skip


def fit_head(data: Drawn, labelled: Indices) -> LogisticRegression:
    """Fit the linear head."""
    return LogisticRegression(C=30.0, max_iter=1000).fit(data.emb_nd[labelled], data.y[labelled])


def make_task(
    data: Drawn, head: LogisticRegression, labelled: Indices, rest: Indices, cell: Cell
) -> LabellingTask:
    """Return what a strategy may look at; the embeddings are the head's features too."""
    emb, known = data.emb_nd[rest], data.emb_nd[labelled]
    members = np.empty((0, len(rest), len(head.classes_)), np.float32)
    if cell["method"] == "ensemble variance":
        rng = np.random.default_rng((2, cell["seed"], len(labelled)))
        members = np.stack(
            [
                aligned(fit_head(data, rng.choice(labelled, len(labelled))), emb, head.classes_)
                for _ in range(N_MEMBERS)
            ]
        )
    prob = head.predict_proba(emb).astype(np.float32)
    seed = cell["seed"] * 1000 + len(labelled)
    return LabellingTask(emb, known, emb, known, prob, members, seed)


def aligned(head: LogisticRegression, emb: Any, classes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return a member's probabilities in the columns of all classes; a resample may lack some."""
    prob = np.zeros((len(emb), len(classes)), np.float32)
    prob[:, np.searchsorted(classes, head.classes_)] = head.predict_proba(emb)
    return prob


def pick_by_embeddings(task: LabellingTask, n_wanted: int) -> Indices:
    """Pick as CBD + margin does, with centred embeddings in place of concept vectors."""
    factor = CBDMarginSampling().candidate_factor
    candidates = pick_by_margin(task.prob_nk, factor * n_wanted)
    mean_d = task.emb_nd.mean(0)
    known_ld, candidate_cd = (
        normalize(emb - mean_d) for emb in (task.labelled_emb_ld, task.emb_nd[candidates])
    )
    similarity_c = candidate_cd @ known_ld.sum(0)
    picks = []
    for _ in range(n_wanted):
        picks.append(int(np.argmin(similarity_c)))
        similarity_c += candidate_cd @ candidate_cd[picks[-1]]
        similarity_c[picks[-1]] = np.inf
    return candidates[picks]


Pick = Callable[[LabellingTask, Indices, Indices], Indices]


def picker(cell: Cell, pool_key: tuple[Any, ...], options: Options) -> Pick:
    """Return the strategy of a cell: (task, labelled, rest) → positions in the rest."""
    budget = cell["budget"]
    if cell["method"] == EMBEDDINGS:
        return lambda task, _, __: pick_by_embeddings(task, budget)
    if cell["settings"] is None:
        return lambda task, _, __: TO_LABEL[cell["method"]](task, budget)
    settings = cell["settings"]
    if cell["method"].startswith(ALIGNMENT):
        # Each image counts as of the class whose name is nearest to it.
        sampling = AlignmentDiversitySampling(draw(*pool_key, options).class_emb_kd, **settings)
        return lambda task, _, __: sampling.select(task.emb_nd, budget)
    profiles = profiles_of(
        pool_key, cell["vocabulary"], settings["m"], settings["similarity"], options
    )
    if cell["method"].startswith(ALONE):
        alone = CBDSampling(**settings)
        return lambda _, labelled, rest: alone.select(
            n_instances=budget, profiles=profiles.take(rest), labelled=profiles.take(labelled)
        )
    hybrid = CBDMarginSampling(**settings)
    return lambda task, labelled, rest: hybrid.select(
        n_instances=budget,
        probabilities=task.prob_nk,
        profiles=profiles.take(rest),
        labelled=profiles.take(labelled),
    )


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core."""
    return 10.0 if cell["method"] in SLOWEST else 0.4


EXPERIMENT = Experiment(
    name="linear_rounds",
    title="Labelling in rounds: a linear head on CLIP embeddings",
    regime=ON_EMBEDDINGS,
    cells=cells,
    run=run,
    render=render,
    share=("pool", "seed"),
    cost_s=cost_s,
)
