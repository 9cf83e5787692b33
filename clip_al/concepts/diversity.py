"""How diverse a set of images is: by concepts (CBD), by their spectrum, by geometry (GD).

CBD is the mean pairwise cosine distance of concept vectors. Because those have unit length,
the sum of all pairwise cosines is ‖Σ v_i‖² − n, so one vector of v counters gives what the
definition gives from n² pairs, and counters of shards add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.linalg import LinAlgError, cholesky
from scipy.stats import entropy

from clip_al.arrays.checks import (
    check_choice,
    check_count,
    check_host_embeddings,
    check_indices,
    check_int,
    check_real,
)
from clip_al.arrays.given import MOST_CLASSES, array_of, whole_numbers
from clip_al.concepts.profiles import WEIGHTINGS, ConceptProfiles
from clip_al.errors import InvalidInputError, InvalidTypeError

__all__ = [
    "ConceptCounts",
    "ConceptGram",
    "concept_diversity",
    "geometric_diversity",
    "spectral_diversity",
]


def concept_diversity(
    profiles: ConceptProfiles, indices: ArrayLike | None = None, *, weighting: str = "binary"
) -> float:
    """Return the Concept-Based Diversity (CBD) of a set of images.

    Parameters
    ----------
    profiles : ConceptProfiles
        Of the whole pool, (n, m).
    indices : array-like of int or bool, optional
        Distinct positions of the set in the pool, or a mask; the whole pool by default.
    weighting : {"binary", "softmax"}
        Entries of a concept vector: 1/√m, the plain reading of the paper, or by similarity.

    Returns
    -------
    float
        Mean pairwise cosine distance of the concept vectors, in [0, 1]: 0 where all images
        hold the same concepts (and for a single image), 1 where no two share one.

    Raises
    ------
    InvalidInputError
        Where the set is empty, or an index is out of range or repeated.

    Notes
    -----
    With c_j the number of images that hold concept j (binary),
    ``CBD = 1 − (Σ_j c_j² / m − n) / (n (n − 1))``; for any unit concept vectors v_i,
    ``CBD = 1 − (‖Σ_i v_i‖² − n) / (n (n − 1))``. O(n m + v) time, O(n m + v) memory.

    References
    ----------
    "A Highly Efficient Diversity-based Input Selection for DNN Improvement Using VLMs",
    arXiv 2601.08024, section III-A.

    Examples
    --------
    >>> import numpy as np
    >>> from clip_al import ConceptProfiles, ConceptVocabulary, concept_diversity
    >>> vocabulary = ConceptVocabulary.from_names(list("abcd")).with_embeddings(np.eye(4))
    >>> Z = np.array([[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 2, 1]]) / 5**0.5
    >>> profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m=2, similarity="cosine")
    >>> concept_diversity(profiles, [0, 1])
    0.0
    >>> concept_diversity(profiles, [0, 2])
    1.0
    """
    _check_profiles(profiles)
    check_choice(weighting, WEIGHTINGS, "weighting")
    rows = None if indices is None else check_indices(indices, len(profiles))
    ids_nm = profiles.ids if rows is None else profiles.ids[rows]
    if weighting == "binary":
        # The counters alone: no weights are gathered, and the arithmetic is exact.
        counts_v = np.bincount(ids_nm.ravel(), minlength=profiles.n_concepts)
        return _diversity(float(counts_v @ counts_v) / profiles.m, ids_nm.shape[0])
    return ConceptCounts.from_profiles(profiles, rows, weighting=weighting).diversity()


def _diversity(squared_sum: float, n: int) -> float:
    """CBD from ‖Σ v_i‖² of n unit vectors; rounding may leave [0, 1] by a hair."""
    if n == 0:
        raise InvalidInputError("The set must hold at least one image; got none. Pass its indices.")
    if n == 1:
        return 0.0
    return min(1.0, max(0.0, 1.0 - (squared_sum - n) / (n * (n - 1))))


@dataclass
class ConceptCounts:
    """Sum of the concept vectors of a set, from which its diversity follows.

    An image is added or removed in O(m), two sets merge in O(v): keep one for each shard
    or for the labelled set, and add.

    Parameters
    ----------
    sum_v : ndarray of shape (v,), float64
        Sum of the unit concept vectors.
    count_v : ndarray of shape (v,), int64
        Number of images that hold each concept.
    n : int
        Number of images.
    weighting : {"binary", "softmax"}
        Of the concept vectors, see `ConceptProfiles.weights`. Counts of two weightings are two
        measures: they are not added, and a strategy takes only counts of its own.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where both are not of one number a concept, or no sums of n unit vectors.

    Examples
    --------
    >>> counts = ConceptCounts.empty(3)
    >>> counts.add(np.array([[0, 1], [1, 2]]))
    >>> counts.count_v
    array([1, 2, 1])
    >>> round(counts.diversity(), 3), counts.richness()
    (0.5, 3)
    """

    sum_v: NDArray[np.float64]
    count_v: NDArray[np.int64]
    n: int
    weighting: str = "binary"

    def __post_init__(self) -> None:
        check_choice(self.weighting, WEIGHTINGS, "weighting")
        self.n = check_int(self.n, "n", smallest=0)
        self.sum_v = array_of(self.sum_v, "sum_v", np.float64)
        if self.sum_v.ndim != 1 or not self.sum_v.size:
            raise InvalidInputError(
                f"`sum_v` must hold one number a concept; got shape {self.sum_v.shape}. Begin "
                "with `ConceptCounts.empty`."
            )
        self.count_v = whole_numbers(self.count_v, "count_v", len(self.sum_v))
        # Entries of a unit vector are at most 1; by rounding a sum may be a hair below 0.
        if not ((self.sum_v > -1e-3) & (self.sum_v <= self.n + 1)).all():
            raise InvalidInputError(
                f"`sum_v` must be the sum of {self.n} unit vectors, each entry in [0, {self.n}]; "
                f"got {self.sum_v.min():g} to {self.sum_v.max():g}. Count with `add`."
            )

    @classmethod
    def empty(cls, n_concepts: int, weighting: str = "binary") -> ConceptCounts:
        """Start with no image."""
        check_count(n_concepts, "n_concepts", MOST_CLASSES)
        return cls(np.zeros(n_concepts), np.zeros(n_concepts, dtype=np.int64), 0, weighting)

    @classmethod
    def from_profiles(
        cls,
        profiles: ConceptProfiles,
        indices: ArrayLike | None = None,
        *,
        weighting: str = "binary",
    ) -> ConceptCounts:
        """Count the images at `indices` of `profiles`, all by default."""
        _check_profiles(profiles)
        counts = cls.empty(profiles.n_concepts, weighting)
        part = profiles if indices is None else profiles.take(indices)
        counts.add(part.ids, part.weights(weighting))
        return counts

    def add(self, ids_nm: NDArray[Any], weights_nm: NDArray[Any] | None = None) -> None:
        """Add n images: their concepts and the entries of their unit concept vectors.

        Parameters
        ----------
        ids_nm : ndarray of shape (n, m), int
            Concepts of each image.
        weights_nm : ndarray of shape (n, m), float, optional
            What `ConceptProfiles.weights` gives for the weighting of these counts; left out,
            1/√m each, where that is "binary".

        Raises
        ------
        InvalidInputError, InvalidTypeError
            Where the weights are of another weighting, or a concept is not of the vocabulary or
            there twice.
        """
        self._change(ids_nm, weights_nm, 1)

    def remove(self, ids_nm: NDArray[Any], weights_nm: NDArray[Any] | None = None) -> None:
        """Remove n images that were added before; parameters are those of `add`."""
        self._change(ids_nm, weights_nm, -1)

    def _change(self, ids: ArrayLike, weights: ArrayLike | None, sign: int) -> None:
        v = len(self.sum_v)
        ids_nm = _checked_ids(ids, v)
        if sign < 0 and len(ids_nm) > self.n:
            raise InvalidInputError(
                f"At most the {self.n} images that were added can be removed; got {len(ids_nm)}. "
                "Remove from the counts that they were added to."
            )
        weights_nm = self._weights(ids_nm, weights)
        flat = ids_nm.ravel()
        changed_v = np.bincount(flat, minlength=v)
        count_v = self.count_v + sign * changed_v
        if count_v.min() < 0 or changed_v.max() > len(ids_nm):
            raise InvalidInputError(
                "Each image must hold distinct concepts, and only images that were added can be "
                f"removed; concept {np.argmax(changed_v)} is there {changed_v.max()} times in "
                f"{len(ids_nm)} images. Pass the `ids` of profiles."
            )
        self.sum_v = self.sum_v + sign * np.bincount(flat, weights=weights_nm.ravel(), minlength=v)
        self.count_v = count_v
        self.n += sign * len(ids_nm)

    def _weights(self, ids_nm: NDArray[np.int64], weights: ArrayLike | None) -> NDArray[Any]:
        """Return the entries of the concept vectors of images, as they were given or 1/√m."""
        equal = 1.0 / math.sqrt(ids_nm.shape[1])
        if weights is None:
            if self.weighting == "binary":
                return np.full(ids_nm.shape, equal, dtype=np.float32)
            raise InvalidInputError(
                f"Counts of weighting={self.weighting!r} need the weights of each image; got none. "
                f"Pass `profiles.weights({self.weighting!r})`."
            )
        weights_nm = array_of(weights, "weights_nm", np.float64)
        if weights_nm.shape != ids_nm.shape or not ((weights_nm >= 0) & (weights_nm < 1.001)).all():
            raise InvalidInputError(
                f"The weights must be one number in [0, 1] for each of {ids_nm.shape} concepts; "
                f"got shape {weights_nm.shape}. Pass what `profiles.weights` gives."
            )
        if self.weighting == "binary":
            if not np.allclose(weights_nm, equal, atol=1e-6):
                raise InvalidInputError(
                    f"The weights must be 1/√m, {equal:.4f}, in counts of weighting='binary'; got "
                    "others. Pass `profiles.weights('binary')`, or leave them out."
                )
            return np.full(ids_nm.shape, equal, dtype=np.float32)
        return weights_nm

    def __add__(self, other: ConceptCounts) -> ConceptCounts:
        if not isinstance(other, ConceptCounts):
            return NotImplemented
        if len(other.sum_v) != len(self.sum_v):
            raise InvalidInputError(
                "Counts must be of one vocabulary to be added; got "
                f"{len(self.sum_v)} and {len(other.sum_v)} concepts. Profile both with one."
            )
        check_same_weighting(self, other)
        return ConceptCounts(
            self.sum_v + other.sum_v,
            self.count_v + other.count_v,
            self.n + other.n,
            self.weighting,
        )

    def diversity(self) -> float:
        """CBD, in [0, 1]; see `concept_diversity`."""
        return _diversity(float(self.sum_v @ self.sum_v), self.n)

    def entropy(self) -> float:
        """Shannon entropy of the share of each concept, in nats, in [0, log v]."""
        return float(entropy(self.count_v)) if self.count_v.any() else 0.0

    def richness(self) -> int:
        """Return the number of different concepts seen, in [0, v]."""
        return int(np.count_nonzero(self.count_v))

    def coverage(self) -> float:
        """Share of the vocabulary seen, in [0, 1]."""
        return self.richness() / len(self.count_v)


@dataclass
class ConceptGram:
    """Second moments of concept vectors, VᵀV (v, v): the spectral diversity of shards adds.

    Parameters
    ----------
    gram_vv : ndarray of shape (v, v), float64
        Sum of the outer products of the concept vectors.
    weighting : {"binary", "softmax"}
        Of the concept vectors, see `ConceptProfiles.weights`; only those of one are added.

    Examples
    --------
    >>> gram = ConceptGram(np.zeros((2, 2)))
    >>> gram.add(np.eye(2)); gram.add(np.eye(2))
    >>> round(gram.log_det(), 3)  # log det of diag(3, 3)
    2.197
    """

    gram_vv: NDArray[np.float64] = field(repr=False)
    weighting: str = "binary"

    def __post_init__(self) -> None:
        check_choice(self.weighting, WEIGHTINGS, "weighting")
        self.gram_vv = array_of(self.gram_vv, "gram_vv", np.float64)
        shape = self.gram_vv.shape
        if len(shape) != 2 or shape[0] != shape[1] or not np.isfinite(self.gram_vv).all():
            raise InvalidInputError(
                "`gram_vv` must be a square array of finite numbers, one row and column a concept; "
                f"got shape {shape}. Begin with zeros."
            )

    @classmethod
    def from_profiles(
        cls,
        profiles: ConceptProfiles,
        indices: ArrayLike | None = None,
        *,
        weighting: str = "binary",
    ) -> ConceptGram:
        """Sum over the images at `indices`; O(n m²) time, O(v²) memory."""
        _check_profiles(profiles)
        gram = cls(np.zeros((profiles.n_concepts, profiles.n_concepts)), weighting)
        part = profiles if indices is None else profiles.take(indices)
        vectors_nv = _sparse_vectors(part, weighting)
        gram.gram_vv += (vectors_nv.T @ vectors_nv).toarray()
        return gram

    def add(self, vectors_nv: ArrayLike) -> None:
        """Add dense vectors, one row an image, of the weighting of this sum."""
        vectors = array_of(vectors_nv, "vectors_nv", np.float64)
        v = len(self.gram_vv)
        if vectors.ndim != 2 or vectors.shape[1] != v or not np.isfinite(vectors).all():
            raise InvalidInputError(
                f"`vectors_nv` must be 2-D with {v} columns, one a concept, of finite numbers; got "
                f"shape {vectors.shape}. Pass one row an image."
            )
        self.gram_vv = self.gram_vv + vectors.T @ vectors

    def __add__(self, other: ConceptGram) -> ConceptGram:
        if not isinstance(other, ConceptGram):
            return NotImplemented
        check_same_weighting(self, other)
        if len(self.gram_vv) != len(other.gram_vv):
            raise InvalidInputError(
                "Sums must be of one vocabulary to be added; got "
                f"{len(self.gram_vv)} and {len(other.gram_vv)} concepts. Profile both with one."
            )
        return ConceptGram(self.gram_vv + other.gram_vv, self.weighting)

    def log_det(self) -> float:
        """Return log det(I + VᵀV); O(v³) time over the concepts seen."""
        seen = np.flatnonzero(self.gram_vv.diagonal())
        return _log_det_of_one_plus(self.gram_vv[np.ix_(seen, seen)])


def _check_profiles(profiles: object) -> None:
    if not isinstance(profiles, ConceptProfiles):
        raise InvalidTypeError(
            f"`profiles` must be a ConceptProfiles; got {type(profiles).__name__}. "
            "Make one with `ConceptProfiles.from_embeddings`."
        )


def _checked_ids(ids: ArrayLike, v: int) -> NDArray[np.int64]:
    """Return the concepts of images, (n, m), each in [0, v)."""
    ids_nm = array_of(ids, "ids_nm")
    if ids_nm.ndim != 2 or ids_nm.dtype.kind not in "iu" or not ids_nm.shape[1]:
        raise InvalidTypeError(
            "`ids_nm` must be a 2-D array of whole numbers, the concepts of each image; got shape "
            f"{ids_nm.shape} and dtype {ids_nm.dtype}. Pass the `ids` of profiles."
        )
    if ids_nm.size and (ids_nm.min() < 0 or ids_nm.max() >= v):
        bad = ids_nm.min() if ids_nm.min() < 0 else ids_nm.max()
        raise InvalidInputError(
            f"`ids_nm` must be in [0, {v - 1}], the positions of {v} concepts; got {bad}. Pass "
            "profiles of the same vocabulary."
        )
    return ids_nm.astype(np.int64, copy=False)


def check_same_weighting(
    one: ConceptCounts | ConceptGram, other: ConceptCounts | ConceptGram
) -> None:
    """Raise where two sums of concept vectors are of two weightings."""
    if one.weighting != other.weighting:
        raise InvalidInputError(
            "Sums of concept vectors must be of one weighting to be added; got "
            f"{one.weighting!r} and {other.weighting!r}. Make both with one `weighting=`."
        )


def spectral_diversity(
    vectors: ConceptProfiles | ArrayLike,
    indices: ArrayLike | None = None,
    *,
    weighting: str = "binary",
) -> float:
    """Return log det(I + VᵀV) of a set: how many directions its concept vectors fill.

    Parameters
    ----------
    vectors : ConceptProfiles, or array-like of shape (n, f)
        Concept profiles, or any dense features, used as they are.
    indices : array-like of int or bool, optional
        The set; everything by default.
    weighting : {"binary", "softmax"}
        Entries of the concept vectors; not used for dense features.

    Returns
    -------
    float
        In nats, ≥ 0; grows with every image and with the spread of the spectrum.

    Notes
    -----
    It looks at all orders of overlap where CBD looks at pairs, and follows GD more closely
    (docs/results/correlation.md). It measures; for picking images CBD is better.
    O(min(n, v)³) time on the smaller of the two Gram matrices, which have one determinant.
    """
    if isinstance(vectors, ConceptProfiles):
        check_choice(weighting, WEIGHTINGS, "weighting")
        part = vectors if indices is None else vectors.take(indices)
        _diversity(0.0, len(part))
        matrix = _sparse_vectors(part, weighting)
        seen = np.flatnonzero(np.bincount(part.ids.ravel()))
        side = matrix[:, seen] if len(seen) < len(part) else matrix.T
        return _log_det_of_one_plus((side.T @ side).toarray())
    dense = check_host_embeddings(vectors, "vectors")
    if indices is not None:
        dense = dense[check_indices(indices, len(dense))]
    dense = dense.astype(np.float64)
    side = dense if dense.shape[1] < dense.shape[0] else dense.T
    return _log_det_of_one_plus(side.T @ side)


def _sparse_vectors(profiles: ConceptProfiles, weighting: str) -> sparse.csr_array:
    n, m = profiles.ids.shape
    return sparse.csr_array(
        (
            profiles.weights(weighting).astype(np.float64).ravel(),
            profiles.ids.ravel(),
            np.arange(0, n * m + 1, m),
        ),
        shape=(n, profiles.n_concepts),
    )


def _log_det_of_one_plus(gram: NDArray[np.float64]) -> float:
    plus = gram + np.eye(len(gram))
    try:
        diagonal = cholesky(plus, lower=True).diagonal()
    except (LinAlgError, ValueError) as exc:  # not finite: squares beyond float64
        raise InvalidInputError(
            "I + VᵀV must be positive definite and finite for its determinant; "
            f"{exc}. Pass sums of outer products, or scale the features down."
        ) from exc
    return 2.0 * float(np.log(diagonal).sum())


def geometric_diversity(features: ArrayLike, *, jitter: float = 0.0) -> float:
    """Return the Geometric Diversity (GD) of a set: log det of the Gram matrix.

    Parameters
    ----------
    features : array-like of shape (n, d)
        Feature vectors of the set, one row an image; not modified.
    jitter : float
        Added to the diagonal, ≥ 0. A set of more than d images spans no n-dimensional
        volume, so its GD needs one.

    Returns
    -------
    float
        In nats, larger is more diverse; −inf where two images coincide and jitter is 0.

    Raises
    ------
    InvalidInputError
        Where n > d and jitter is 0, or the features are empty or not finite.

    Notes
    -----
    ``GD = log det(F Fᵀ + jitter·I)`` by Cholesky. O(n² d + n³) time and O(n²) memory for
    n ≤ d; for n > d the (d, d) side is used, which has the same determinant up to a
    factor: O(n d² + d³) time, O(d²) memory.

    References
    ----------
    Aghababaeyan, Abdellatif, Briand, Ramesh, Bagherzadeh: "Black-Box Testing of Deep
    Neural Networks through Test Case Diversity", IEEE TSE 2023, section 3.

    Examples
    --------
    >>> round(geometric_diversity(np.eye(3) * 2.0), 3)  # log det of diag(4, 4, 4)
    4.159
    """
    array = check_host_embeddings(features, "features").astype(np.float64)
    n, d = array.shape
    if not 0 <= check_real(jitter, "jitter") < np.inf or (n > d and jitter == 0):
        raise InvalidInputError(
            f"GD of {n} images in {d} dimensions needs `jitter` > 0; got {jitter}. "
            "Pass a small one, such as 1e-3, and the same for every set that you compare."
        )
    if n > d:
        # det(jI_n + FFᵀ) = j^(n−d) · det(jI_d + FᵀF)
        return _log_det(array.T @ array, jitter) + float((n - d) * math.log(jitter))
    return _log_det(array @ array.T, jitter)


def _log_det(gram: NDArray[Any], jitter: float) -> float:
    if not np.isfinite(gram).all():
        raise InvalidInputError(
            "`features` must be of a size that can be squared; got products beyond float64. Scale "
            "them down, all sets alike."
        )
    gram.flat[:: len(gram) + 1] += jitter
    # A pivot below this is rounding: the images span no volume.
    smallest = len(gram) * np.finfo(gram.dtype).eps * gram.diagonal().max()
    try:
        diagonal = cholesky(gram, lower=True, check_finite=False, overwrite_a=True).diagonal()
    except LinAlgError:
        return float("-inf")
    if diagonal.min() ** 2 <= smallest:
        return float("-inf")
    return 2.0 * float(np.log(diagonal).sum())
