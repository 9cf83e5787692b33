"""Sets of images whose diversity is known by construction, and measures of diversity of them.

*Graded* sets have a diversity in ten grades g = 1 … 10; no feature and no concept is looked
at when they are drawn:

- classes: g classes at random, and n images at random, evenly from these;
- dominance: a share of 1 − (g − 1) / 10 of one class at random, the others evenly from the
  other classes;
- copies: n·g / 10 different images at random; every further one is a distorted copy of one
  of these, in turn: mirrored or not, shifted by up to 2 pixels, 10 % brighter or darker, and
  encoded anew.

*Random* sets are n images at random: their diversity hardly varies, so this is the hard case,
and coefficients are lower for any measure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.stats import spearmanr

from benchmarks.data.rows import unit_rows
from clip_al import (
    ConceptCounts,
    ConceptProfiles,
    ConceptStatistics,
    ConceptVocabulary,
    concept_diversity,
)
from clip_al.concepts.diversity import spectral_diversity

Rows = NDArray[np.int64]

N_GRADES = 10
COPIES_EACH = 9
DRAWS = ("classes", "dominance", "copies", "random")
GRADED = DRAWS[:3]
DENSE = "spectral dense"
GRADE = "grade"
MEASURES = (
    "CBD binary",
    "CBD softmax",
    "spectral binary",
    "spectral softmax",
    "entropy",
    "coverage",
)


@dataclass(frozen=True, eq=False)
class Source:
    """Where sets are drawn from: n images, then `COPIES_EACH` copies of each of some of them.

    Parameters
    ----------
    class_n : ndarray of shape (n,), int64
        Class of each image, in [0, k); every class has images.
    copied : ndarray of shape (c,), int64
        Images that have copies: those of ``copied[0]`` come first, right after the images.
    """

    class_n: NDArray[np.int64]
    copied: Rows

    @property
    def n_images(self) -> int:
        """Number of images without the copies."""
        return len(self.class_n)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.class_n.max()) + 1

    def copies_of(self, position: int) -> Rows:
        """Return the rows of the copies of ``copied[position]``."""
        first = self.n_images + position * COPIES_EACH
        return np.arange(first, first + COPIES_EACH)


def with_copies(
    images: NDArray[np.uint8], y: NDArray[np.int64], n_copied: int, seed: int
) -> tuple[NDArray[np.uint8], Source]:
    """Return images (n, h, w, 3) uint8 with copies of `n_copied` of them, and where they are."""
    rng = np.random.default_rng(seed)
    copied = rng.permutation(len(images))[:n_copied]
    copies = np.stack([distorted(images[i], rng) for i in np.repeat(copied, COPIES_EACH)])
    return np.concatenate([images, copies]), Source(y, copied)


def distorted(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an image mirrored or not, shifted by up to 2 pixels, 10 % brighter or darker."""
    height, width = image.shape[:2]
    wide = np.pad(image[:, :: rng.choice([-1, 1])], ((2, 2), (2, 2), (0, 0)), mode="edge")
    top, left = rng.integers(5, size=2)
    shifted = wide[top : top + height, left : left + width]
    return (shifted * rng.uniform(0.9, 1.1)).clip(0, 255).astype(np.uint8)


def draw_classes(source: Source, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw n images evenly from `grade` classes."""
    return _from_classes(source, rng.permutation(source.n_classes)[:grade], n, rng)


def draw_dominance(source: Source, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw a share of 1 − (grade − 1) / 10 from one class, the others evenly from the rest."""
    classes = rng.permutation(source.n_classes)
    n_first = n - round(n * (grade - 1) / N_GRADES)
    first = _from_classes(source, classes[:1], n_first, rng)
    return np.concatenate([first, _from_classes(source, classes[1:], n - n_first, rng)])


def draw_copies(source: Source, n: int, grade: int, rng: np.random.Generator) -> Rows:
    """Draw n · grade / 10 images, and copies of them in turn for the others."""
    n_different = -(-n * grade // N_GRADES)
    positions = rng.permutation(len(source.copied))[:n_different]
    copies = np.stack([rng.permutation(source.copies_of(p)) for p in positions], axis=1)
    return np.concatenate([source.copied[positions], copies.ravel()[: n - n_different]])


def draw_random(source: Source, n: int, grade: int, rng: np.random.Generator) -> Rows:  # noqa: ARG001
    """Draw n images at random."""
    return rng.permutation(source.n_images)[:n]


def _from_classes(source: Source, classes: Rows, n: int, rng: np.random.Generator) -> Rows:
    shares = np.bincount(np.arange(n) % len(classes), minlength=len(classes))
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(source.class_n == k), size=share, replace=False)
            for k, share in zip(classes, shares, strict=True)
        ]
    )


DRAW: dict[str, Callable[[Source, int, int, np.random.Generator], Rows]] = {
    "classes": draw_classes,
    "dominance": draw_dominance,
    "copies": draw_copies,
    "random": draw_random,
}


def grade_of(i: int) -> int:
    """Return the grade of the i-th set: 1 … 10 in turn."""
    return 1 + i % N_GRADES


def draw_sets(source: Source, n: int, n_sets: int, seed: int) -> dict[str, list[Rows]]:
    """Draw `n_sets` sets of n rows in each way, the grades in turn.

    Raises
    ------
    ValueError
        Where a class has less than n images, or less than n images have copies.
    """
    smallest = int(np.bincount(source.class_n).min())
    if n > min(smallest, len(source.copied)):
        raise ValueError(
            f"One class must fill a set, and so must the images with copies: `n` must be at "
            f"most {min(smallest, len(source.copied))}; got {n}. Lower it, or load more images."
        )
    return {
        name: [
            DRAW[name](source, n, grade_of(i), np.random.default_rng([seed, order, i]))
            for i in range(n_sets)
        ]
        for order, name in enumerate(DRAWS)
    }


def measure(profiles: ConceptProfiles, rows: Rows) -> dict[str, float]:
    """Return every measure on concept profiles of one set, by name, in the order of `MEASURES`."""
    part = profiles.take(rows)
    counts = ConceptCounts.from_profiles(part, weighting="softmax")
    found = (
        concept_diversity(part),
        counts.diversity(),
        spectral_diversity(part, weighting="binary"),
        spectral_diversity(part, weighting="softmax"),
        counts.entropy(),
        counts.coverage(),
    )
    return dict(zip(MEASURES, found, strict=True))


class Measured(NamedTuple):
    """What was measured on each set of a draw; m is None for the dense measure."""

    standardize: bool
    m: int | None
    measure: str
    draw: str
    values: list[float]


def measure_sets(
    emb_nd: NDArray[np.float32],
    n_images: int,
    vocabulary: ConceptVocabulary,
    sets: Mapping[str, Sequence[Rows]],
    m_values: Sequence[int],
    *,
    dense: bool,
) -> Iterator[Measured]:
    """Yield all measures of all sets.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        Unit embeddings.
    n_images : int
        Concepts are standardised over the first so many rows.
    sets : mapping of str to sequence of ndarray
        Draw to the rows of each set.
    m_values : sequence of int
        Concepts per image, each at most the size of the vocabulary.
    dense : bool
        Whether to measure log det(I + VᵀV) on all similarities of an image as well, as a
        vector of unit length; O(min(n, v)³) for each set.
    """
    statistics = ConceptStatistics.from_embeddings(
        emb_nd[:n_images], vocabulary, similarity="standardized"
    )
    for standardize in (True, False):
        profiles = ConceptProfiles.from_embeddings(
            emb_nd,
            vocabulary,
            max(m_values),
            similarity="standardized" if standardize else "cosine",
            statistics=statistics,
        )
        for m, (draw, some) in itertools.product(m_values, sets.items()):
            short = truncated(profiles, m)
            measured = [measure(short, rows) for rows in some]
            for name in MEASURES:
                yield Measured(standardize, m, name, draw, [values[name] for values in measured])
        for draw, some in sets.items() if dense else ():
            scale = statistics if standardize else None
            vectors = (all_similarities(emb_nd[rows], vocabulary, scale) for rows in some)
            values = [spectral_diversity(dense_nv) for dense_nv in vectors]
            yield Measured(standardize, None, DENSE, draw, values)


def all_similarities(
    emb_nd: NDArray[np.float32], vocabulary: ConceptVocabulary, scale: ConceptStatistics | None
) -> NDArray[Any]:
    """Return similarities to all concepts (n, v), standardised if asked, rows of unit length."""
    similar_nv = emb_nd @ vocabulary.embeddings.T
    if scale is not None:
        similar_nv = (similar_nv - scale.mean_v) / scale.std_v
    return unit_rows(similar_nv)


def truncated(profiles: ConceptProfiles, m: int) -> ConceptProfiles:
    """Return the same profiles with the first m concepts of each image."""
    return replace(profiles, ids=profiles.ids[:, :m], similarities=profiles.similarities[:, :m])


def rank_correlation(values: Sequence[float], others: Sequence[float]) -> float:
    """Return Spearman's coefficient; 0 where one side is constant, as it orders nothing."""
    if np.ptp(values) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(spearmanr(values, others).statistic)


def principal_components(
    images: NDArray[np.uint8], n_fitted: int, n_components: int
) -> NDArray[np.float64]:
    """Return unit vectors of the leading components of the pixels, fitted on the first images.

    Pixels are averaged 2 × 2 first: leading components are smooth, and it takes 60 times less.
    """
    height, width = images.shape[1] // 2, images.shape[2] // 2
    quarters = images.reshape(len(images), height, 2, width, 2, -1)
    flat = quarters.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1) / 255
    flat -= flat[:n_fitted].mean(axis=0)
    _, vectors = np.linalg.eigh(flat[:n_fitted].T @ flat[:n_fitted])
    return unit_rows((flat @ vectors[:, : -n_components - 1 : -1]).astype(np.float64))


def textbook_geometric_diversity(emb_nd: NDArray[Any], jitter: float) -> float:
    """Return log det(F Fᵀ + jitter·I) by the (n, n) Gram matrix, as GD is defined: O(n²d + n³)."""
    wide_nd = emb_nd.astype(np.float64)
    gram_nn = wide_nd @ wide_nd.T
    gram_nn.flat[:: len(gram_nn) + 1] += jitter
    return 2.0 * float(np.log(cholesky(gram_nn, lower=True).diagonal()).sum())
