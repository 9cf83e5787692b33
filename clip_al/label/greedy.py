"""Greedy picking: one image at a time, each the best addition to those picked before.

Knows nothing of vocabularies or models.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_host_embeddings, check_n_instances, check_real
from clip_al.errors import InvalidInputError

LANES = 64
TIE = 1e-9
"""Costs this close are a tie: the same sums in another order differ by less."""
LOOK_COST, POSTINGS_COST = 4, 10
"""Of a look at the heap beside its m reads, and of making a posting, in updates by a posting."""
UNIT = 2.0**-20
"""In which weights are counted, so that their sums are exact in any order; 8 million images fit."""


def pick_diverse(
    ids_cm: NDArray[np.int32],
    weights_cm: NDArray[np.float32],
    n_instances: int,
    *,
    sum_v: NDArray[np.float64],
    n_chosen: int = 0,
    target_v: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pick the candidates that add most concept diversity, greedily.

    Parameters
    ----------
    ids_cm, weights_cm : ndarray of shape (c, m)
        Concepts of each candidate and the entries of its unit concept vector.
    n_instances : int
        How many to pick, in [1, c].
    sum_v : ndarray of shape (v,)
        Sum of the concept vectors that are chosen already; not modified.
    n_chosen : int
        How many those are.
    target_v : ndarray of shape (v,), optional
        Mean concept vector that the chosen set is to approach; without it, the step
        takes the candidate least similar to the sum, which is the largest gain of CBD.

    Returns
    -------
    picks : ndarray of shape (n_instances,), int64
        Positions among the candidates, best first, ties by lowest position.
    cost : ndarray of shape (n_instances,), float64
        What each step minimised: ``v_i · Σ v − (n + 1) v_i · target``.

    Notes
    -----
    With a target t, the step minimises ‖(Σ v + v_i) / (n + 1) − t‖², which is kernel
    herding on concept vectors. An inverted index from concept to candidates then keeps every
    candidate's product with the sum up to date: a pick costs the postings of its m
    concepts and one scan of c numbers. O(c m + b (c + postings)) time, O(c m + v) memory.

    Without one, costs only rise, so the lowest of costs computed earlier is a bound: the
    candidate that has it is computed again until one's cost stands, which then is the
    lowest. A heap holds the bounds: O(c m + r (m + log c)) time for r looks, and O(c) memory.
    Where the looks come to cost more than the postings would have, as with many picks of
    evenly spread concepts, the rest is picked by postings, with a bound for each of √c blocks of
    candidates: O(c m + b (√c + postings)) time. Both pick the same.

    References
    ----------
    Chen, Welling, Smola: "Super-Samples from Kernel Herding", UAI 2010, Eq. 8.
    """
    _check_concepts(ids_cm, weights_cm, n_instances, sum_v, target_v)
    picks = np.empty(n_instances, dtype=np.int64)
    cost = np.empty(n_instances)
    if target_v is None:
        first = float(weights_cm.flat[0])
        unit = first if (weights_cm == weights_cm.flat[0]).all() else UNIT
        units_v = np.rint(sum_v / unit).astype(np.int64)
        done = _pick_lazily(ids_cm, weights_cm, unit, units_v, picks, cost)
        if done < n_instances:
            _pick_by_postings(ids_cm, weights_cm, unit, units_v, done, picks, cost)
        return picks, cost
    similarity_c = np.einsum("cm,cm->c", weights_cm, sum_v[ids_cm])
    pull_c = np.einsum("cm,cm->c", weights_cm, target_v[ids_cm])
    _pick_diverse(ids_cm, weights_cm, similarity_c, pull_c, n_chosen, len(sum_v), picks, cost)
    return picks, cost


def _check_concepts(
    ids_cm: NDArray[np.int32],
    weights_cm: NDArray[np.float32],
    n_instances: int,
    sum_v: NDArray[np.float64],
    target_v: NDArray[np.float64] | None,
) -> None:
    """Raise where an index would leave an array: compiled loops do not look; O(c m)."""
    c, m = ids_cm.shape
    v = len(sum_v)
    fits = weights_cm.shape == (c, m) and (target_v is None or target_v.shape == (v,))
    if not (fits and m and 1 <= n_instances <= c and ids_cm.min() >= 0 and ids_cm.max() < v):
        raise InvalidInputError(
            f"Concepts must be positions in [0, {v - 1}], and weights as many; got "
            f"{ids_cm.min(initial=0)} to {ids_cm.max(initial=0)} of shape {ids_cm.shape} for "
            f"{n_instances} picks. The arrays of the profiles were changed: profile again."
        )


@numba.njit(nogil=True, cache=True)
def _pick_lazily(ids_cm, weights_cm, unit, sum_v, picks, cost):  # type: ignore[no-untyped-def]
    """Write picks and costs; `sum_v`, in units, becomes the sum with the picks.

    Return how many are picked: all, or as many as until postings would have cost less.
    """
    c, m = ids_cm.shape
    order_c, bound_c = np.arange(c), np.empty(c, np.int64)
    n_holders_v = np.zeros(len(sum_v), np.int64)
    for i in range(c):
        bound_c[i] = _similarity(ids_cm[i], weights_cm[i], unit, sum_v)
        for p in range(m):
            n_holders_v[ids_cm[i, p]] += 1
    for place in range(c // 2 - 1, -1, -1):
        sink(bound_c, order_c, place, c)
    spent, by_postings = 0, POSTINGS_COST * c * m
    for step in range(len(picks)):
        if spent > by_postings:
            return step
        while True:
            best = order_c[0]
            similarity = _similarity(ids_cm[best], weights_cm[best], unit, sum_v)
            spent += LOOK_COST + m
            if similarity == bound_c[0]:
                break
            bound_c[0] = similarity
            sink(bound_c, order_c, 0, c)
        picks[step], cost[step] = best, similarity * unit * unit
        for p in range(m):
            sum_v[ids_cm[best, p]] += _in_units(weights_cm[best, p], unit)
            by_postings += n_holders_v[ids_cm[best, p]]
        c -= 1
        bound_c[0], order_c[0] = bound_c[c], order_c[c]
        sink(bound_c, order_c, 0, c)
    return len(picks)


@numba.njit(nogil=True, cache=True)
def _pick_by_postings(ids_cm, weights_cm, unit, sum_v, n_done, picks, cost):  # type: ignore[no-untyped-def]
    """Write the picks after the first `n_done`, whose concepts `sum_v` holds, in units."""
    c, m = ids_cm.shape
    units_cm = np.empty((c, m), np.int32)
    for i in range(c):
        for p in range(m):
            units_cm[i, p] = _in_units(weights_cm[i, p], unit)
    start_v, holder, held = _postings(ids_cm, units_cm, len(sum_v))
    similarity_c, open_c = np.empty(c, np.int64), np.ones(c, np.bool_)
    for i in range(c):
        similarity_c[i] = _similarity(ids_cm[i], weights_cm[i], unit, sum_v)
    for step in range(n_done):
        open_c[picks[step]] = False
    size = max(LANES, int(np.sqrt(c)))
    bound_s = np.array([similarity_c[i : i + size].min() for i in range(0, c, size)])
    for step in range(n_done, len(picks)):
        while True:  # similarities only rise, so bounds stay bounds
            block = bound_s.argmin()
            best, similarity = -1, np.int64(np.iinfo(np.int64).max)
            for i in range(block * size, min(c, (block + 1) * size)):
                if similarity_c[i] < similarity and open_c[i]:
                    best, similarity = i, similarity_c[i]
            if similarity == bound_s[block]:
                break
            bound_s[block] = similarity
        picks[step], cost[step] = best, similarity * unit * unit
        open_c[best] = False
        for p in range(m):
            weight, concept = np.int64(units_cm[best, p]), ids_cm[best, p]
            for slot in range(start_v[concept], start_v[concept + 1]):
                similarity_c[holder[slot]] += weight * held[slot]


@numba.njit(nogil=True, cache=True)
def _postings(ids_cm, values_cm, v):  # type: ignore[no-untyped-def]
    """Return where each concept's postings start, the candidates and their values."""
    c, m = ids_cm.shape
    start_v = np.zeros(v + 1, np.int64)
    for i in range(c):
        for p in range(m):
            start_v[ids_cm[i, p] + 1] += 1
    start_v = np.cumsum(start_v)
    end_v = start_v[:-1].copy()
    holder, held = np.empty(c * m, np.int32), np.empty(c * m, values_cm.dtype)
    for i in range(c):
        for p in range(m):
            slot = end_v[ids_cm[i, p]]
            holder[slot], held[slot] = i, values_cm[i, p]
            end_v[ids_cm[i, p]] = slot + 1
    return start_v, holder, held


@numba.njit(nogil=True, cache=True)
def _in_units(weight, unit):  # type: ignore[no-untyped-def]
    return np.int64(np.float64(weight) / unit + 0.5)


@numba.njit(nogil=True, cache=True)
def _similarity(ids_m, weights_m, unit, sum_v):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for p in range(len(ids_m)):
        total += _in_units(weights_m[p], unit) * sum_v[ids_m[p]]
    return total


@numba.njit(nogil=True, cache=True)
def sink(bound_c, order_c, place, size):  # type: ignore[no-untyped-def]
    """Restore a heap of (bound, order), lowest first, whose entry at `place` may have risen."""
    bound, order = bound_c[place], order_c[place]
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (bound_c[other], order_c[other]) < (bound_c[child], order_c[child]):
            child = other
        if (bound_c[child], order_c[child]) >= (bound, order):
            break
        bound_c[place], order_c[place] = bound_c[child], order_c[child]
        place = child
    bound_c[place], order_c[place] = bound, order


@numba.njit(nogil=True, cache=True)
def _pick_diverse(ids_cm, weights_cm, similarity_c, pull_c, n_chosen, v, picks, cost):  # type: ignore[no-untyped-def]
    m = ids_cm.shape[1]
    start_v, holder, held_weight = _postings(ids_cm, weights_cm, v)
    for step in range(len(picks)):
        best, best_cost = _lowest_cost(similarity_c, pull_c, n_chosen + step + 1)
        picks[step] = best
        cost[step] = best_cost
        similarity_c[best] = np.inf
        for p in range(m):
            concept = ids_cm[best, p]
            weight = np.float64(weights_cm[best, p])  # as exact as the first products
            for slot in range(start_v[concept], start_v[concept + 1]):
                similarity_c[holder[slot]] += weight * held_weight[slot]


@numba.njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _lowest_cost(similarity_c, pull_c, factor):  # type: ignore[no-untyped-def]
    """Return position and value of the lowest ``similarity - factor * pull``, the first of ties.

    The lowest value is found in independent lanes, which the compiler turns into vectors.
    """
    c = len(similarity_c)
    lane_min = np.full(LANES, np.inf)
    for start in range(0, c - LANES + 1, LANES):
        similarity, pull = similarity_c[start : start + LANES], pull_c[start : start + LANES]
        for lane in range(LANES):
            lane_min[lane] = min(lane_min[lane], similarity[lane] - factor * pull[lane])
    lowest_cost = lane_min.min()
    for i in range(c - c % LANES, c):
        lowest_cost = min(lowest_cost, similarity_c[i] - factor * pull_c[i])
    for i in range(c):
        x = similarity_c[i] - factor * pull_c[i]
        if x <= lowest_cost + TIE:
            return i, x
    return -1, lowest_cost


def pick_by_geometric_diversity(
    features: ArrayLike, n_instances: int, *, jitter: float = 1e-3
) -> NDArray[np.int64]:
    """Pick the set of largest Geometric Diversity, greedily (MAP of a determinantal process).

    Parameters
    ----------
    features : array-like of shape (n, d)
        Feature vectors, one row an image; not modified.
    n_instances : int
        How many to pick, in [1, n].
    jitter : float
        Added to the diagonal of the Gram matrix, > 0, so that more than d images can be
        ranked.

    Returns
    -------
    ndarray of shape (n_instances,), int64
        Best first, ties by lowest index.

    Notes
    -----
    The gain of image i is ``jitter + z_iᵀ M z_i`` with ``M = (I + Σ z zᵀ / jitter)⁻¹`` over
    the picked, and a pick changes M by rank one (Sherman–Morrison). O(b n d) time,
    O(n + d²) memory: the usual form, O(b² n), keeps b × n numbers and still has to compute
    b rows of the Gram matrix.

    References
    ----------
    Chen, Zhang, Zhou: "Fast Greedy MAP Inference for Determinantal Point Process to
    Improve Recommendation Diversity", NeurIPS 2018, Algorithm 1.
    """
    z_nd = check_host_embeddings(features, "features")
    z_nd = z_nd if z_nd.dtype.itemsize >= 4 else z_nd.astype(np.float32)
    n_instances = check_n_instances(n_instances, len(z_nd))
    if not 0 < check_real(jitter, "jitter") < np.inf:
        raise InvalidInputError(f"`jitter` must be above 0; got {jitter}. Pass 1e-3, for instance.")
    d = z_nd.shape[1]
    inverse_dd = np.eye(d)
    gain_n = np.einsum("nd,nd->n", z_nd, z_nd, dtype=np.float64)
    open_n = np.ones(len(z_nd), dtype=bool)
    picks = np.empty(n_instances, dtype=np.int64)
    for step in range(n_instances):
        pick = int(np.argmax(np.where(open_n, gain_n, -np.inf)))
        picks[step] = pick
        open_n[pick] = False
        direction_d = inverse_dd @ z_nd[pick].astype(np.float64)
        scale = 1.0 / (jitter + gain_n[pick])
        inverse_dd -= scale * np.outer(direction_d, direction_d)
        with np.errstate(over="ignore", invalid="ignore"):
            gain_n -= scale * (z_nd @ direction_d.astype(z_nd.dtype)).astype(np.float64) ** 2
        if not np.isfinite(gain_n).all():
            raise InvalidInputError(
                "`features` must be of a size that can be squared; got products beyond "
                f"{z_nd.dtype}. Scale them down, all sets alike."
            )
    return picks
