"""Whether Concept-Based Diversity orders sets as Geometric Diversity does, and how fast.

The experiment of the first paper ("A Highly Efficient Diversity-based Input Selection for DNN
Improvement Using VLMs", arXiv 2601.08024), and its open question about m. `diverse_sets` says
how the sets are drawn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.data.diverse_features import (
    Trained,
    Where,
    load_images,
    network_features,
    pixel_features,
)
from benchmarks.data.diverse_sets import (
    GRADE,
    GRADED,
    N_GRADES,
    Rows,
    draw_sets,
    grade_of,
    measure_sets,
    rank_correlation,
    textbook_geometric_diversity,
)
from benchmarks.data.vocabularies import CONTROL, GENERAL, GENOME, vocabulary_of
from benchmarks.experiments.correlation_page import (
    JITTER,
    M_DEFAULT,
    N_DEFAULT,
    NONE,
    PAPER,
    SOURCES,
    TIMES,
    TINY_JITTER,
    render,
    yardstick_name,
)
from benchmarks.harness.cells import UNTRAINED, Cell, Experiment, Options, Size, Values
from benchmarks.harness.environment import time_in_turns
from clip_al import ConceptProfiles, concept_diversity, geometric_diversity
from clip_al.concepts.diversity import spectral_diversity

M_VALUES = (1, 2, 5, 10, 20, 50)
CONSTANTS = {
    "network": "resnet", "network_pool": "cifar10-seen", "pixel_components": 128,
    "yardsticks": [[source, jitter] for jitter in (JITTER, TINY_JITTER) for source in SOURCES],
}  # fmt: skip
POOLS: dict[Size, dict[str, Any]] = {
    "quick": {"pool": "cifar10", "per_class": 120, "n_copied": 100, "copies_seed": 0},
    "standard": {"pool": "cifar10", "per_class": None, "n_copied": 1500, "copies_seed": 0},
    "full": {"pool": "cifar10", "per_class": None, "n_copied": 2500, "copies_seed": 0},
}
TRAINING: dict[Size, dict[str, Any]] = {
    "quick": {"network_per_class": 200, "steps": 150},
    "standard": {"network_per_class": None, "steps": 1500},
    "full": {"network_per_class": None, "steps": 10_000},
}
N_SETS: dict[Size, dict[int, int]] = {
    "quick": {50: 20, 100: 20},
    "standard": {50: 100, 100: 100, 200: 100, 500: 60, 1000: 60},
    "full": {50: 200, 100: 200, 200: 200, 500: 200, 1000: 200},
}
N_SEEDS: dict[Size, int] = {"quick": 2, "standard": 3, "full": 10}
GD_TEXTBOOK, GD_SMALLER = "GD, textbook: n × n", "GD, n × n or d × d"


def cells(size: Size) -> list[Cell]:
    """Return a cell for each seed, size of set and vocabulary, and one for each size's time."""
    found: list[Cell] = []
    for seed in range(N_SEEDS[size]):
        for n, n_sets in N_SETS[size].items():
            where = {"seed": seed, "n": n, **POOLS[size]}
            for vocabulary in (NONE, GENERAL, GENOME, CONTROL):
                measured = vocabulary != NONE
                sweep = measured and (n == N_DEFAULT or size == "full")
                how = {
                    "what": "correlation", "n_sets": n_sets, "vocabulary": vocabulary,
                    "m_values": list(M_VALUES) if sweep else [M_DEFAULT] if measured else [],
                    "dense": measured and n <= N_DEFAULT,
                }  # fmt: skip
                found.append({**where, **how, **TRAINING[size], **CONSTANTS})
            found.append(
                {**where, "what": TIMES, "vocabulary": GENERAL, "m": M_DEFAULT, "runs": 20}
            )
    return found


class Sets(NamedTuple):
    """Sets by draw, and their GD by draw for each yardstick, in the order of the cell's."""

    rows: dict[str, list[Rows]]
    gd: list[dict[str, list[float]]]


@lru_cache(maxsize=1)
def make_sets(
    where: Where,
    trained: Trained,
    n_components: int,
    n: int,
    n_sets: int,
    yardsticks: tuple[tuple[str, float], ...],
    options: Options,
) -> Sets:
    """Draw sets and measure their GD by each yardstick (features, jitter)."""
    data = load_images(where, options)
    features = {
        "CLIP": data.emb_nd,
        "network": network_features(trained, where, options),
        "pixels": pixel_features(n_components, where, options),
    }
    sets = draw_sets(data.source, n, n_sets, trained.seed)
    gd = [
        {
            draw: [geometric_diversity(features[source][rows], jitter=jitter) for rows in some]
            for draw, some in sets.items()
        }
        for source, jitter in yardsticks
    ]
    return Sets(sets, gd)


def where_of(cell: Cell) -> Where:
    """Return which images a cell is about."""
    return Where(**{name: cell[name] for name in Where.__dataclass_fields__})


def run(cell: Cell, options: Options) -> Values:
    """Correlate measures with GD over sets, or time them; on one thread."""
    # Many small products: on several threads they would mostly wait for each other.
    with threadpool_limits(1, "blas"):
        if cell["what"] == TIMES:
            return {"seconds_by_measure": time_measures(cell, options)}
        return {"coefficients": correlate(cell, options)}


def correlate(cell: Cell, options: Options) -> list[list[Any]]:
    """Return rows: standardised or not, m, measure, draw, a coefficient for each yardstick.

    Without a vocabulary the measures are the grade that a set was drawn with, and GD by each
    yardstick itself.
    """
    where = where_of(cell)
    trained = Trained(**{name: cell[name] for name in Trained.__dataclass_fields__})
    yardsticks = tuple((source, jitter) for source, jitter in cell["yardsticks"])
    sizes = (cell["pixel_components"], cell["n"], cell["n_sets"])
    sets = make_sets(where, trained, *sizes, yardsticks, options)

    def row(standardize: bool | None, m: int | None, name: str, draw: str, values: Any) -> Any:
        found = [round(rank_correlation(values, gd[draw]), 4) for gd in sets.gd]
        return [standardize, m, name, draw, found]

    if cell["vocabulary"] != NONE:
        data, words = load_images(where, options), vocabulary_of(cell["vocabulary"], options)
        # An m beyond the vocabulary names every concept: nothing is left to measure.
        m_values = [m for m in cell["m_values"] if m <= len(words)]
        n_images = data.source.n_images
        measured = measure_sets(
            data.emb_nd, n_images, words, sets.rows, m_values, dense=cell["dense"]
        )
        return [row(*one) for one in measured]
    rows = []
    for draw, some in sets.rows.items():
        grades = [grade_of(i) if draw in GRADED else N_GRADES for i in range(len(some))]
        rows.append(row(None, None, GRADE, draw, grades))
        for (source, jitter), gd in zip(yardsticks, sets.gd, strict=True):
            rows.append(row(None, None, yardstick_name(source, jitter), draw, gd[draw]))
    return rows


def time_measures(cell: Cell, options: Options) -> dict[str, float]:
    """Return the seconds of the fastest of several runs of each measure, on one random set."""
    data, words = load_images(where_of(cell), options), vocabulary_of(cell["vocabulary"], options)
    rows = np.random.default_rng(cell["seed"]).permutation(data.source.n_images)[: cell["n"]]
    emb_nd = data.emb_nd[rows]
    part = ConceptProfiles.from_embeddings(emb_nd, words, cell["m"])
    timings = time_in_turns(
        {
            PAPER: lambda: concept_diversity(part),
            "CBD softmax": lambda: concept_diversity(part, weighting="softmax"),
            GD_TEXTBOOK: lambda: textbook_geometric_diversity(emb_nd, JITTER),
            GD_SMALLER: lambda: geometric_diversity(emb_nd, jitter=JITTER),
            "spectral softmax": lambda: spectral_diversity(part, weighting="softmax"),
        },
        n_runs=cell["runs"],
        warm_up=2,
    )
    return {name: timing.fastest_s for name, timing in timings.items()}


def cost_s(cell: Cell) -> float:
    """Return roughly how long a cell takes, its share of what is trained and encoded included."""
    if cell["what"] == TIMES:
        return 1.0 + cell["n"] / 300
    if cell["vocabulary"] == NONE:
        n_encoded = cell["n_copied"] * 9 / N_SEEDS["standard"]
        return 0.014 * cell["steps"] / len(N_SETS["standard"]) + n_encoded / 2000
    return 1.5e-4 * cell["n_sets"] * cell["n"] * len(cell["m_values"])


EXPERIMENT = Experiment(
    name="correlation",
    title="Concept-Based Diversity against Geometric Diversity",
    regime=UNTRAINED,
    cells=cells,
    run=run,
    render=render,
    share=("seed",),
    cost_s=cost_s,
)
