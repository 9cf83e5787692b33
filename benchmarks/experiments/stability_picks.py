"""One batch to label, picked twice: with other first labels, concepts, or concepts an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.baselines.tasks import Indices
from benchmarks.data.vocabularies import vocabulary_of
from benchmarks.experiments.stability_views import chance, jaccard
from benchmarks.harness.cells import Options
from benchmarks.training.subsets import Condition, load_condition
from clip_al import CBDMarginSampling, ConceptProfiles
from clip_al.label.uncertainty import margin

FACTOR: int = CBDMarginSampling().candidate_factor
"""Length of the shortlist for each image to pick."""


@dataclass(frozen=True)
class Strategy:
    """How images to label are picked.

    Parameters
    ----------
    vocabulary : str
        See `vocabularies.vocabulary_of`.
    m, candidate_factor : int
        See `CBDMarginSampling`; a factor of 1 is margin alone.
    first_seed : int
        Draws the images that are labelled already.
    """

    vocabulary: str
    m: int
    candidate_factor: int
    first_seed: int


@dataclass(frozen=True)
class Batches:
    """The pool, how many images of it are labelled already, and how many are picked."""

    condition: Condition
    n_first: int
    budget: int


def pick_overlap(a: Strategy, b: Strategy, batches: Batches, options: Options) -> dict[str, float]:
    """Pick twice and compare.

    Returns
    -------
    dict
        "overlap": Jaccard; "chance": that of two random batches of the pool, as expected;
        "chance_in_shortlist": that of random batches, each of its own `FACTOR` × budget least
        certain images.

    Raises
    ------
    UnavailableError
        Where the lists of Visual Genome are needed and not at hand.
    """
    budget = batches.budget
    pools, shortlists = zip(
        *(uncertain(s.first_seed, batches, options) for s in (a, b)), strict=True
    )

    def by_chance(first: Indices, second: Indices) -> float:
        both = len(np.intersect1d(first, second)) * budget**2 / (len(first) * len(second))
        return chance(budget, budget, both)

    return {
        "overlap": jaccard(pick(a, batches, options), pick(b, batches, options)),
        "chance": by_chance(*pools),
        "chance_in_shortlist": by_chance(*shortlists),
    }


def pick(strategy: Strategy, batches: Batches, options: Options) -> Indices:
    """Return the places in the pool (budget,) of the images that a strategy asks to label."""
    labelled, rest, prob_nk = first_round(strategy.first_seed, batches, options)
    profiles = profiles_of(strategy.vocabulary, strategy.m, batches.condition, options)
    sampling = CBDMarginSampling(m=strategy.m, candidate_factor=strategy.candidate_factor)
    picks: Indices = rest[
        sampling.select(
            n_instances=batches.budget,
            probabilities=prob_nk,
            profiles=profiles.take(rest),
            labelled=profiles.take(labelled),
        )
    ]
    return picks


def uncertain(first_seed: int, batches: Batches, options: Options) -> tuple[Indices, Indices]:
    """Return the images that can be picked, and the `FACTOR` × budget of lowest margin."""
    _, rest, prob_nk = first_round(first_seed, batches, options)
    return rest, rest[np.argsort(margin(prob_nk), kind="stable")[: FACTOR * batches.budget]]


@lru_cache(maxsize=4)
def first_round(
    first_seed: int, batches: Batches, options: Options
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Return what is labelled, the rest, and its probabilities by a linear head on CLIP."""
    material = load_condition(batches.condition, options)
    order = np.random.default_rng((1, first_seed)).permutation(len(material.pool.y))
    labelled, rest = order[: batches.n_first], np.sort(order[batches.n_first :])
    head = LogisticRegression(C=30.0, max_iter=1000)
    head.fit(material.emb_nd[labelled], material.pool.y[labelled])
    return labelled, rest, head.predict_proba(material.emb_nd[rest])


@lru_cache(maxsize=8)
def profiles_of(words: str, m: int, condition: Condition, options: Options) -> ConceptProfiles:
    """Return the concepts of all images of a pool."""
    emb_nd = load_condition(condition, options).emb_nd
    return ConceptProfiles.from_embeddings(emb_nd, vocabulary_of(words, options), m)
