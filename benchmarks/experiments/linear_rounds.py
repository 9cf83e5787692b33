"""Labelling in rounds with a linear head on CLIP embeddings: strategies and their settings.

Each seed draws a pool and its first labels; a logistic regression is fitted anew in every
round and tested on images that are never labelled. What differs between the cells of a seed
is who picks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from benchmarks.baselines.tasks import Indices, LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.uncertainty import pick_by_margin
from benchmarks.cells import Cell, Experiment, Options, Size, UnavailableError, Values
from benchmarks.cifar import data_folder
from benchmarks.pages import Page, comparison_table, line_plot, spread_table
from benchmarks.pools import embed_images, load_pool, long_tailed, with_near_duplicates
from clip_al import CBDMarginSampling, CBDSampling, ClipEncoder, ConceptProfiles, ConceptVocabulary

PER_CLASS = 800
TAIL = 50
COPIED = 0.5
N_MEMBERS = 5
OURS = "CBD + margin"
ALONE = "CBD alone"
CONTROL = f"{OURS}, random vocabulary"
EMBEDDINGS = f"{OURS}, embeddings in place of concepts"
FACTORS = (2, 4, 8)
M_VALUES = (1, 2, 5, 10, 20, 50)
BASELINES = (
    "margin", "entropy", "least confidence", "DeepGini", "ensemble variance", "k-center",
    "BADGE", "TypiClust", "greedy GD", "facility location",
)  # fmt: skip
SLOW = ("k-center", "BADGE", "TypiClust", "greedy GD", "facility location", "ensemble variance")
SLOWEST, SLOWEST_SEEDS = ("TypiClust", "facility location"), 6
POOLS = ("balanced", "long-tailed", "near-duplicates", "digits")
DIGIT_WORDS = Path(__file__).parents[1] / "digit_strokes.txt"


class Drawn(NamedTuple):
    """Embeddings and labels of a pool and of the test images."""

    emb_nd: NDArray[np.float32]
    y: NDArray[np.int64]
    test_emb: NDArray[np.float32]
    y_test: NDArray[np.int64]


def spelled_out(strategy: Any) -> dict[str, Any]:
    """Return the settings of a strategy, so that a changed default is another cell."""
    settings: dict[str, Any] = strategy.get_params()
    return {name: value for name, value in settings.items() if name not in ("vocabulary", "table")}


def variants() -> dict[str, dict[str, Any]]:
    """Return our strategies: name → vocabulary and settings, all of them spelled out."""
    default = spelled_out(CBDMarginSampling())

    def variant(vocabulary: str = "general", **changes: Any) -> dict[str, Any]:
        return {"vocabulary": vocabulary, "settings": {**default, **changes}}

    named = {
        OURS: variant(),
        CONTROL: variant("random"),
        f"{OURS}, Visual Genome": variant("Visual Genome"),
        f"{OURS}, not standardised": variant(standardize=False),
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
    n_seeds = {"quick": 2, "standard": 12, "full": 30}[size]
    pools = POOLS[:2] + POOLS[3:] if size == "quick" else POOLS
    ours = variants()
    if size == "quick":
        ours = {k: v for k, v in ours.items() if k in (OURS, CONTROL) or k.startswith(f"{OURS}, m")}
    found = []
    for pool in pools:
        digits = pool == "digits"
        labels = {"first": 20, "budget": 20} if digits else {"first": 50, "budget": 50}
        methods: dict[str, dict[str, Any]] = {
            name: {"vocabulary": None, "settings": None}
            for name in ("random", *BASELINES, EMBEDDINGS)
        }
        methods |= ours
        if size == "quick":
            methods = {k: v for k, v in methods.items() if k not in SLOW}
        alone = spelled_out(CBDSampling())
        for weighting in ("binary", "softmax"):
            methods[f"{ALONE}, {weighting}"] = {
                "vocabulary": "general", "settings": {**alone, "weighting": weighting},
            }  # fmt: skip
        methods[f"{ALONE}, target uniform"] = {
            "vocabulary": "general", "settings": {**alone, "target": "uniform"},
        }  # fmt: skip
        if digits:
            methods[f"{OURS}, strokes"] = {**ours[OURS], "vocabulary": "strokes"}
            few = {**ours[OURS]["settings"], "m": 5}
            methods[f"{OURS}, strokes, m = 5"] = {"vocabulary": "strokes", "settings": few}
            methods[f"{OURS}, random strokes, m = 5"] = {
                "vocabulary": "random strokes", "settings": few,
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


@lru_cache(maxsize=1)
def encoder_of(model: str, pretrained: str | None) -> ClipEncoder:
    """Load the CLIP model once."""
    return ClipEncoder(model, pretrained)


@lru_cache(maxsize=1)
def vocabularies(options: Options) -> dict[str, ConceptVocabulary]:
    """Encode the vocabularies that are there; random ones are as large as their twin."""
    encoder = encoder_of(options.model, options.pretrained)
    general = ConceptVocabulary.load("general").encode(encoder)
    templates = ("{}", "a handwritten digit with {}", "an image with {}")
    strokes = ConceptVocabulary.from_file(DIGIT_WORDS, templates=templates).encode(encoder)
    found = {"general": general, "strokes": strokes}
    for name, words in (("random", general), ("random strokes", strokes)):
        noise = np.random.default_rng(0).standard_normal((len(words), encoder.embedding_dim))
        found[name] = words.with_embeddings(noise)
    folder = data_folder(options.data) / "visual_genome"
    if folder.is_dir():
        found["Visual Genome"] = ConceptVocabulary.from_visual_genome(folder).encode(encoder)
    return found


@lru_cache(maxsize=2)
def draw(
    pool_name: str, per_class: int, tail: int, copied: float, seed: int, options: Options
) -> Drawn:
    """Draw a pool; the test images are all there are."""
    encoder = encoder_of(options.model, options.pretrained)
    source = "digits" if pool_name == "digits" else "cifar10"
    pool = load_pool(source, data=options.data, seed=seed)
    test_emb = embed_images(pool.test_images, encoder)
    if pool_name == "digits":
        return Drawn(embed_images(pool.images, encoder), pool.y, test_emb, pool.y_test)
    emb = embed_images(pool.images, encoder)
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
        return Drawn(pool_emb, copies.y, test_emb, pool.y_test)
    return Drawn(emb[drawn], pool.y[drawn], test_emb, pool.y_test)


@lru_cache(maxsize=16)
def profiles_of(
    pool: tuple[Any, ...], vocabulary: str, m: int, standardize: bool, options: Options
) -> ConceptProfiles:
    """Profile a drawn pool; what is shared between strategies is computed once."""
    data = draw(*pool, options)
    words = vocabularies(options).get(vocabulary)
    if words is None:
        raise UnavailableError(f"The data folder has no word lists of {vocabulary}.")
    return ConceptProfiles.from_embeddings(data.emb_nd, words, m, standardize=standardize)


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
    candidates = pick_by_margin(task.prob_nk, FACTORS[-1] * n_wanted)
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
    profiles = profiles_of(
        pool_key, cell["vocabulary"], settings["m"], settings["standardize"], options
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


def render(records: pd.DataFrame, page: Page) -> None:
    """Show who labels best on each pool, what m and the vocabulary do, and what it costs."""
    one = records.iloc[0]
    page.text(
        f"A logistic regression on CLIP embeddings, {records['seed'].nunique()} seeds, "
        f"{one['rounds']} rounds; CIFAR-10 images that the mini model never saw: "
        f"{one['per_class']} of each class (balanced), shrinking to 1/{one['tail']} (long-tailed), "
        f"{one['copied']:.0%} of them replaced by slightly changed copies of others "
        "(near-duplicates); 50 first labels and 50 a round. The digits are scikit-learn's, 20 "
        "first labels and 20 a round. Accuracy on test images in points, averaged over the "
        "rounds; ± is the standard deviation over seeds, p is that of a paired t test over "
        "seeds, and a/b says in how many of b seeds the method was better."
    )
    main = records[~records["method"].str.contains("m = |factor")]
    page.heading("Accuracy")
    page.table(spread_table(main, rows="method", columns="pool", value="accuracy"), "picked by")
    for pool in dict.fromkeys(records["pool"]):
        page.heading(f"Differences, {pool}")
        of_pool = main[main["pool"] == pool]
        page.table(
            comparison_table(
                of_pool, value="accuracy", against=["random", "margin", OURS],
                baselines=["random", *BASELINES], digits=2,
            ),
            "picked by",
        )  # fmt: skip
        page.plot(curve(of_pool), pool, f"Accuracy against labels, {pool}")
    settings = records[records["method"].str.contains("factor")]
    if len(settings):
        page.heading("Weights and shortlist")
        page.text("Difference to margin, in points.")
        page.table(differences(records, settings), "setting")
    page.heading("Concepts for each image, m")
    page.text("Difference to margin, in points; the default of the library is in the first row.")
    sweep = records[records["method"].str.contains("m = ") | (records["method"] == OURS)]
    page.table(differences(records, sweep), "setting")
    page.heading("Seconds for a batch")
    page.text("Profiles and probabilities at hand; one thread.")
    page.table(
        spread_table(main, rows="method", columns="pool", value="pick_s", scale=1, digits=3),
        "picked by",
    )


def differences(records: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of some methods to margin, a column for each pool."""
    columns = {}
    names = list(dict.fromkeys(chosen["method"]))
    for pool in dict.fromkeys(chosen["pool"]):
        of_pool = records[(records["pool"] == pool) & records["method"].isin([*names, "margin"])]
        present = [n for n in names if n in set(of_pool["method"])]
        table = comparison_table(
            of_pool, value="accuracy", against=["margin"], order=present, digits=2
        )
        columns[pool] = table.iloc[:, 0].reindex(names, fill_value="–")
    return pd.DataFrame(columns, index=names)


def curve(records: pd.DataFrame) -> Any:
    """Plot accuracy against the number of labels."""
    shown = records[~records["method"].str.contains("standard|target|entropy$")]
    rounds = shown.explode("accuracies").reset_index(drop=True)
    step = rounds.groupby(["method", "seed"], sort=False).cumcount() + 1
    rounds["labels"] = rounds["first"] + step * rounds["budget"]
    rounds["accuracies"] = rounds["accuracies"].astype(float)
    return line_plot(
        rounds, x="labels", y="accuracies", lines="method",
        labels=("labels", "accuracy, %"), bold=[OURS],
    )  # fmt: skip


def cost_s(cell: Cell) -> float:
    """Return roughly the seconds of one core."""
    return 10.0 if cell["method"] in SLOWEST else 0.4


EXPERIMENT = Experiment(
    name="linear_rounds",
    title="Labelling in rounds: a linear head on CLIP embeddings",
    cells=cells,
    run=run,
    render=render,
    share=("pool", "seed"),
    cost_s=cost_s,
)
