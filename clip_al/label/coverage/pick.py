"""Coverage: pick the images that stand for many images that matter and that nothing stands for yet.

Pure functions on arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import one_blas_thread
from clip_al.arrays.checks import check_embeddings, check_n_instances, check_number
from clip_al.arrays.given import array_of, whole_numbers
from clip_al.arrays.types import Embeddings, as_array
from clip_al.errors import InvalidInputError
from clip_al.label.coverage.draws import draw_evenly, inclusion_probabilities
from clip_al.label.coverage.kernel import (
    EXACT_UP_TO,
    Space,
    covered,
    kernel,
    measure,
    pick_lazily,
    placed,
    write_gains,
)

RADIUS = 0.6
"""Of the kernel, in median distances of the pool; what was measured is in decisions/0004."""
N_REFERENCES, REFERENCES_A_PICK = 2_000, 3
N_CANDIDATES, CANDIDATES_A_PICK = 10_000, 6
PICKS_A_DRAW = 1_000
"""More picks than this are picked in parts, each from a draw of its own."""


class CoveragePicks(NamedTuple):
    """What `pick_by_coverage` returns."""

    indices: NDArray[np.int64]
    """Positions in the pool, best first."""
    gain: NDArray[np.float64]
    """How much of the pool's weight, in [0, 1], each added to what is covered."""


def pick_by_coverage(
    Z: Any,
    n_instances: int,
    *,
    weights: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    labelled: Embeddings | None = None,
    labelled_cover: float = 1.0,
    radius: float = RADIUS,
    random_state: int = 0,
    gain_bn: NDArray[np.float64] | None = None,
    space: Space | None = None,
) -> CoveragePicks:
    """Pick images near to as much weight as possible that nothing labelled or picked is near to.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Embeddings of the pool, any float type, memory-mapped or not; not modified.
    n_instances : int
        How many to pick, in [1, n].
    weights : array-like of shape (n,), optional
        How much each image matters, at least 0 and not all 0; 1 by default.
    strata : array-like of shape (n,), int, optional
        A group of each image. Where a pool is drawn from, each group is drawn its share to
        the image, so that none is missed by chance.
    labelled : array-like of shape (l, d), optional
        Embeddings of what is labelled.
    labelled_cover : float
        In [0, 1]: how much of their neighbourhood labelled images cover.
    radius : float
        Of the kernel, in median distances of the pool, above 0.
    random_state : int
        Of the draws from pools of more than 4,000 images; smaller ones need none.
    gain_bn : ndarray of shape (n_instances, n), float64, optional
        Written: what each image would have added at each step, where it was a candidate. Of
        the highest the lowest index is the pick, those picked already apart. O(b c r) time.
    space : Space, optional
        Centre and radius, as `measure` returns them, where `Z` is no even draw of the pool.

    Returns
    -------
    CoveragePicks
        `indices` (n_instances,) int64, distinct, best first, ties by lowest index; `gain`
        (n_instances,) float64, what each added to the covered share of the weight.

    Raises
    ------
    InvalidInputError
        Where shapes do not fit, or a row that is read is not finite or has no direction.

    Notes
    -----
    With ``e = unit(z − mean z)``, ``K_ij = exp(−‖e_i − e_j‖² / (radius h)²)`` and h² the
    median squared distance, each step takes the i of the largest
    ``Σ_j w_j max(K_ij − cov_j, 0)`` and sets ``cov_j ← max(cov_j, K_ij)``; cov starts at
    `labelled_cover` × the largest K to a labelled image. The objective is monotone and
    submodular, so a gain computed earlier is a bound, and the greedy set covers at least
    1 − 1/e of what the best set of its size does.

    Up to 4,000 images the sum runs over all of them and all are candidates. Above, r
    references (2,000, or 3 a pick) stand for the sum and c candidates (10,000, or 6 a pick)
    for the choice. Both are drawn with probability half even and half by weight, and a
    reference counts by its weight over that probability, so that the sum is estimated
    without bias and no reference counts more than twice the mean.

    Time O((c + l) r d + looks · r), memory O(c (r + d) + n) beside the pool, of which the
    c rows alone are read. At most 4 · 10⁷ / r labelled images, evenly spaced, are looked at.
    Nothing of size n × n, n × r or l × r is made. More than 1,000 picks are picked in parts,
    each from a draw of its own.

    References
    ----------
    Ours; the objective is facility location, as in Bae et al.: "Generalized Coverage for
    More Robust Low-Budget Active Learning" (MaxHerding), ECCV 2024, and "Uncertainty
    Herding: One Active Learning Method for All Label Budgets", ICLR 2025. Minoux:
    "Accelerated Greedy Algorithms for Maximizing Submodular Set Functions", 1978.

    Examples
    --------
    >>> Z = [[1, 0.1], [1, 0], [1, -0.1], [0.1, 1]]
    >>> pick_by_coverage(Z, 2).indices
    array([1, 3])
    >>> pick_by_coverage(Z, 1, labelled=[[1, 0]]).indices
    array([3])
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    n = len(image_emb_nd)
    n_instances = check_n_instances(n_instances, n)
    weight_n = _check_weights(weights, n)
    stratum_n = None if strata is None else _check_groups(strata, n, "strata")
    known_ld = _check_labelled(labelled, image_emb_nd.shape[1])
    cover = check_number(labelled_cover, "labelled_cover", low=0.0, high=1.0)
    rng = np.random.default_rng(random_state)
    with one_blas_thread():
        reach = check_number(radius, "radius", above=0.0)
        space = measure(image_emb_nd, reach, rng) if space is None else space
        pool = _Pool(image_emb_nd, weight_n, stratum_n, space, cover)
        return pool.pick(np.arange(n), n_instances, known_ld, rng, gain_bn)


def pick_equal_shares(
    Z: Any,
    n_instances: int,
    groups: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    labelled: Embeddings | None = None,
    labelled_groups: ArrayLike | None = None,
    radius: float = RADIUS,
    random_state: int = 0,
    gain_bn: NDArray[np.float64] | None = None,
) -> CoveragePicks:
    """Pick from each group the same number of images, by coverage of the group.

    Parameters
    ----------
    Z, n_instances, weights, labelled, radius, random_state, gain_bn
        As in `pick_by_coverage`.
    groups : array-like of shape (n,), int
        Of each image, at least 0; the class that it is taken for, for instance.
    labelled_groups : array-like of shape (l,), int, optional
        Of each labelled image; they count towards their group's share.

    Returns
    -------
    CoveragePicks
        Group after group in turn: the first pick of each, largest group first, then the
        second of each. `gain` is the share of the weight of its group.

    Notes
    -----
    The next pick goes to the group of which least is labelled or picked and some image is
    left, ties to the largest, then to the lowest number. Time and memory are those of
    `pick_by_coverage`, once for each group; distances are measured in the whole pool.

    Examples
    --------
    >>> Z = [[1, 0.1], [1, 0], [1, -0.1], [0.1, 1], [0, 1]]
    >>> pick_equal_shares(Z, 2, [0, 0, 0, 1, 1], weights=[1, 1, 1, 2, 1]).indices
    array([1, 3])
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    n = len(image_emb_nd)
    n_instances = check_n_instances(n_instances, n)
    weight_n = _check_weights(weights, n)
    group_n = _check_groups(groups, n, "groups")
    known_ld = _check_labelled(labelled, image_emb_nd.shape[1])
    known_l = np.zeros(0, np.int64)
    if labelled_groups is not None:
        known_l = whole_numbers(labelled_groups, "labelled_groups", _length(known_ld))
    turns = _turns(group_n, known_l, n_instances)
    rng = np.random.default_rng(random_state)
    indices, gain = np.empty(n_instances, np.int64), np.empty(n_instances)
    order = np.argsort(group_n, kind="stable")
    starts = np.searchsorted(group_n[order], np.arange(group_n.max() + 2))
    with one_blas_thread():
        space = measure(image_emb_nd, check_number(radius, "radius", above=0.0), rng)
        pool = _Pool(image_emb_nd, weight_n, None, space)
        for group in np.unique(turns):
            places = np.flatnonzero(turns == group)
            members = order[starts[group] : starts[group + 1]]
            gain_pn = None if gain_bn is None else gain_bn[places]
            picks = pool.pick(members, len(places), known_ld, rng, gain_pn)
            indices[places], gain[places] = picks
            if gain_bn is not None:
                gain_bn[places] = gain_pn
    return CoveragePicks(indices, gain)


def _turns(group_n: NDArray[Any], known_l: NDArray[Any], n_instances: int) -> NDArray[np.int64]:
    """Return the group of each pick, in order."""
    left_g = np.bincount(group_n)
    held_g = np.bincount(known_l, minlength=len(left_g))[: len(left_g)]
    size_g = left_g.copy()
    turns = np.empty(n_instances, np.int64)
    for step in range(n_instances):
        open_g = np.flatnonzero(left_g)
        least_g = open_g[held_g[open_g] == held_g[open_g].min()]
        group = least_g[np.argmax(size_g[least_g])]
        turns[step] = group
        held_g[group] += 1
        left_g[group] -= 1
    return turns


class _Pool(NamedTuple):
    """What is picked from: embeddings, weights, strata, and where distances are measured."""

    image_emb_nd: NDArray[Any]
    weight_n: NDArray[np.float64] | None
    stratum_n: NDArray[Any] | None
    space: Space
    labelled_cover: float = 1.0

    def pick(
        self,
        rows: NDArray[np.int64],
        n_wanted: int,
        labelled_ld: NDArray[Any] | None,
        rng: np.random.Generator,
        gain_bn: NDArray[np.float64] | None = None,
    ) -> CoveragePicks:
        """Pick among some rows, ascending, which alone are to be covered; in parts if many."""
        indices, gain = np.empty(n_wanted, np.int64), np.empty(n_wanted)
        for start in range(0, n_wanted, PICKS_A_DRAW):
            stop = min(start + PICKS_A_DRAW, n_wanted)
            candidates, places, weight_r = self._draw(rows, stop - start, rng)
            emb_cd = placed(self.image_emb_nd, candidates, self.space.mean_d)
            emb_rd = emb_cd[places]
            cover_r = covered(labelled_ld, emb_rd, self.space)
            cover_r *= np.float32(self.labelled_cover)
            if start:
                earlier_td = self.image_emb_nd[np.sort(indices[:start])]
                np.maximum(cover_r, covered(earlier_td, emb_rd, self.space), out=cover_r)
            sim_cr = kernel(emb_cd, emb_rd, self.space.square_radius)
            picks = np.empty(stop - start, np.int64)
            before_r = cover_r.copy()
            pick_lazily(sim_cr, weight_r, cover_r, picks, gain[start:stop])
            if gain_bn is not None:
                gain_bc = np.empty((len(picks), len(candidates)))
                write_gains(sim_cr, weight_r, before_r, picks, gain_bc)
                gain_bn[start:stop, candidates] = gain_bc
            indices[start:stop] = candidates[picks]
            rows = np.setdiff1d(rows, indices[start:stop], assume_unique=True)
        return CoveragePicks(indices, gain)

    def _draw(
        self, rows: NDArray[np.int64], n_wanted: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Draw candidates, references among them, and what each reference counts."""
        n = len(rows)
        weight_n = np.ones(n) if self.weight_n is None else self.weight_n[rows]
        stratum_n = None if self.stratum_n is None else self.stratum_n[rows]
        exact = n <= EXACT_UP_TO
        n_candidates = n if exact else max(N_CANDIDATES, CANDIDATES_A_PICK * n_wanted)
        n_references = n if exact else max(N_REFERENCES, REFERENCES_A_PICK * n_wanted)
        chance_n = inclusion_probabilities(weight_n, n_candidates)
        drawn = draw_evenly(chance_n, stratum_n, rng)
        # Drawn among the candidates, so that no further row is read.
        chance_c = np.minimum(inclusion_probabilities(weight_n, n_references), chance_n)[drawn]
        stratum_c = None if stratum_n is None else stratum_n[drawn]
        places = draw_evenly(chance_c / chance_n[drawn], stratum_c, rng)
        weight_r = weight_n[drawn[places]] / chance_c[places]
        total = weight_r.sum()
        weight_r /= total if total else 1.0
        return rows[drawn], places, weight_r.astype(np.float32)


def _check_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
    if weights is None:
        return None
    weight_n = array_of(weights, "weights", np.float64)
    if weight_n.shape != (n,):
        raise InvalidInputError(
            f"`weights` must hold one number for each of the {n} images; got shape "
            f"{weight_n.shape}. Pass those of the same pool, in the same order."
        )
    if not (np.isfinite(weight_n).all() and weight_n.min() >= 0.0):
        raise InvalidInputError(
            f"`weights` must be finite and at least 0; got {weight_n.min()}. Clip them."
        )
    return weight_n if weight_n.any() else None


def _check_groups(groups: ArrayLike, n: int, name: str) -> NDArray[Any]:
    group_n = array_of(groups, name)
    if group_n.shape != (n,) or group_n.dtype.kind not in "iu" or group_n.min() < 0:
        raise InvalidInputError(
            f"`{name}` must hold one whole number, at least 0, for each of the {n} images; got "
            f"shape {group_n.shape} and dtype {group_n.dtype}. Pass the predicted class of each."
        )
    return whole_numbers(group_n, name, n)


def _length(labelled_ld: NDArray[Any] | None) -> int:
    return 0 if labelled_ld is None else len(labelled_ld)


def _check_labelled(labelled: Embeddings | None, width: int) -> NDArray[Any] | None:
    if labelled is None or len(as_array(labelled)) == 0:
        return None
    return check_embeddings(labelled, "labelled", width=width, finite=False)
