"""One batch to label, picked twice: with other first labels, concepts, or concepts an image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.baselines.tasks import Indices
from benchmarks.cells import Options
from benchmarks.cifar import data_folder
from benchmarks.subsets import Condition, load_condition
from benchmarks.views import chance, encoder_of, jaccard
from clip_al import CBDMarginSampling, ConceptProfiles, ConceptVocabulary
from clip_al.uncertainty import margin

GENERAL, GENOME = "general", "Visual Genome"
RANDOM, RANDOM_TOO = "random", "random, drawn anew"
FACTOR = 8
"""Length of the shortlist for each image to pick, as the library has it."""


@dataclass(frozen=True)
class Strategy:
    """How images to label are picked.

    Parameters
    ----------
    vocabulary : str
        "general", "Visual Genome", or "random": as many random directions as "general" has
        concepts; or "random, drawn anew".
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


def pick_overlap(
    a: Strategy, b: Strategy, batches: Batches, options: Options
) -> dict[str, float | None]:
    """Pick twice and compare.

    Returns
    -------
    dict
        "overlap": Jaccard; "chance": that of two random batches of the pool, as expected;
        "chance_in_shortlist": that of random batches, each of its own 8 × budget least certain
        images. All None where the lists of Visual Genome are needed and not at hand.
    """
    if GENOME in (a.vocabulary, b.vocabulary) and not genome_folder(options).is_dir():
        return dict.fromkeys(("overlap", "chance", "chance_in_shortlist"))
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
    """Return the images that can be picked, and the 8 × budget of lowest margin."""
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
    return ConceptProfiles.from_embeddings(emb_nd, vocabulary(words, options), m)


def genome_folder(options: Options) -> Path:
    """Return where the word lists of Visual Genome lie, if they are at hand."""
    return data_folder(options.data) / "visual_genome"


@lru_cache(maxsize=4)
def vocabulary(name: str, options: Options) -> ConceptVocabulary:
    """Return a vocabulary of that name, encoded or random."""
    encoder = encoder_of(options)
    if name == GENOME:
        return ConceptVocabulary.from_visual_genome(genome_folder(options)).encode(encoder)
    words = ConceptVocabulary.load(GENERAL)
    if name == GENERAL:
        return words.encode(encoder)
    rng = np.random.default_rng((RANDOM, RANDOM_TOO).index(name))
    return words.with_embeddings(rng.standard_normal((len(words), encoder.embedding_dim)))
