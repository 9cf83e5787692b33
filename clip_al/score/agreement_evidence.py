"""What labels, names and images say of each other: counts, and what chance alone would give.

Trusts what it is given. A label is compared with two guesses at it: the class whose text is
nearest, and the class whose mean image is nearest, from a half of the images without this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.device import host
from clip_al.score.neighbors import unit_rows

NONE = -1
"""In place of a class: no guess, as no other image has the label."""
SHORTEST = 1e-6
TOLD_APART = 0.25
"""Of two classes: the share taken rightly less the share taken wrongly, from 0 to 1."""
MAX_MOVED = 2_000
"""Classes whose names an assignment is looked for; it takes O(k³) time."""


class Hits(NamedTuple):
    """How many labels a guess names, beside what shuffled labels give.

    `share` and `chance` are shares of the labels; `kappa` is (share − chance) / (1 − chance),
    0 where labels are shuffled and 1 where all are named; `error` is the standard deviation of
    `kappa` over shuffles, infinite where every shuffle gives the same.
    """

    share: float
    chance: float
    kappa: float
    error: float

    @property
    def is_above_chance(self) -> bool:
        """Whether fewer than one shuffle in 30,000 would give as many."""
        return self.kappa > 4 * self.error

    def is_below(self, kappa: float) -> bool:
        """Whether there are images enough to say that the agreement is lower than this."""
        return self.kappa + 2.5 * self.error < kappa


def hits_of(guess_s: NDArray[np.int64], label_s: NDArray[np.int64], n_classes: int) -> Hits:
    """Count hits, with the exact mean and variance over all orders of the labels.

    O(s + k). The variance is Hoeffding's, "A combinatorial central limit theorem", 1951.

    Examples
    --------
    >>> hits_of(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2)[:3]
    (1.0, 0.5, 1.0)
    """
    known_s = guess_s != NONE
    guess_s, label_s = guess_s[known_s], label_s[known_s]
    n = len(label_s)
    if n < 2:
        return Hits(0.0, 0.0, 0.0, np.inf)
    guess_k = np.bincount(guess_s, minlength=n_classes) / n
    label_k = np.bincount(label_s, minlength=n_classes) / n
    both = guess_k * label_k
    chance = float(both.sum())
    share = float((guess_s == label_s).mean())
    spread = chance - float((both * (guess_k + label_k)).sum()) + chance**2
    if chance >= 1.0 or spread <= 1e-12:
        return Hits(share, chance, 0.0, np.inf)
    error = float(np.sqrt(spread / (n - 1))) / (1 - chance)
    return Hits(share, chance, (share - chance) / (1 - chance), error)


@dataclass(frozen=True)
class Looked:
    """Images that are looked at, as unit rows, and their place in the dataset.

    Parameters
    ----------
    rows : ndarray of shape (s,), int64
        Positions, ascending.
    unit_sd : ndarray of shape (s, d), float32
    half_s : ndarray of shape (s,), bool
        Which of two random halves each image belongs to.
    """

    rows: NDArray[np.int64]
    unit_sd: NDArray[np.float32]
    half_s: NDArray[np.bool_]


def look_at(
    image_emb_nd: NDArray[Any], n_looked: int, rng: np.random.Generator, rows: Any = None
) -> Looked:
    """Draw images and read them."""
    n = len(image_emb_nd)
    if rows is None:
        rows = np.sort(rng.choice(n, n_looked, replace=False)) if n_looked < n else np.arange(n)
    half_s = np.zeros(len(rows), dtype=bool)
    half_s[rng.permutation(len(rows))[::2]] = True
    return Looked(rows, host(unit_rows(image_emb_nd, rows)), half_s)


def guess_by_text(looked: Looked, text_emb_kd: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the class whose text is nearest to each image, less what all images have of it."""
    texts = text_emb_kd.T.astype(np.float32)
    typical_k = looked.unit_sd.mean(axis=0) @ texts
    return _nearest(looked.unit_sd, texts, typical_k)


def guess_by_means(looked: Looked, label_s: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Return the class whose mean image is nearest, by the labels of the other half."""
    guess_s = np.full(len(label_s), NONE, dtype=np.int64)
    for half in (False, True):
        asked, seen = looked.half_s == half, looked.half_s != half
        occurs, mean_cd = class_means(looked.unit_sd[seen], label_s[seen], n_classes)
        if len(occurs) < 2:
            continue
        centre_d = mean_cd.mean(axis=0)
        mean_cd -= centre_d
        length_c = np.linalg.norm(mean_cd, axis=1, keepdims=True)
        mean_cd /= np.where(length_c > SHORTEST, length_c, np.inf)
        nearest = _nearest(looked.unit_sd[asked], mean_cd.T, mean_cd @ centre_d)
        guess_s[asked] = np.where(np.isin(label_s[asked], occurs), occurs[nearest], NONE)
    return guess_s


def class_means(
    unit_sd: NDArray[np.float32], label_s: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the classes that occur, and the mean row of each."""
    from scipy import sparse

    count_k = np.bincount(label_s, minlength=n_classes)
    occurs = np.flatnonzero(count_k)
    s = len(label_s)
    place_k = np.zeros(n_classes, dtype=np.int64)
    place_k[occurs] = np.arange(len(occurs))
    ones = np.ones(s, dtype=np.float32)
    member_cs = sparse.csr_array((ones, (place_k[label_s], np.arange(s))), (len(occurs), s))
    mean_cd: NDArray[np.float32] = (member_cs @ unit_sd) / count_k[occurs, None]
    return occurs, mean_cd.astype(np.float32)


def _nearest(
    unit_sd: NDArray[np.float32], texts_dk: NDArray[Any], less_k: NDArray[Any]
) -> NDArray[np.int64]:
    nearest_s = np.empty(len(unit_sd), dtype=np.int64)

    def find(rows: slice) -> None:
        nearest_s[rows] = (unit_sd[rows] @ texts_dk - less_k).argmax(axis=1)

    for _ in map_blocks(find, len(unit_sd), block_rows(max(texts_dk.shape))):
        pass
    return nearest_s


def more_often(
    first_s: NDArray[np.bool_], second_s: NDArray[np.bool_], n_tries: float, least: float = 0.3
) -> bool:
    """Whether, where one of two hits alone, the second does so more often than chance gives.

    A sign test at 1 in 1,000 over all tries; and the second must hit `least` of the images
    that are compared, so that no small effect in many images counts.
    """
    from scipy.stats import binom

    n_first, n_second = int((first_s & ~second_s).sum()), int((second_s & ~first_s).sum())
    if len(second_s) == 0 or second_s.mean() < least:
        return False
    return bool(binom.sf(n_second - 1, n_first + n_second, 0.5) < 1e-3 / n_tries)


def better_lag(
    guess_s: NDArray[np.int64],
    rows: NDArray[np.int64],
    codes_n: NDArray[np.int64],
    lags: NDArray[np.int64],
) -> int:
    """Return by how many rows the labels stand too late, where a lag fits better than none; or 0.

    Counted over the images whose label changes, so that labels in sorted order are judged at
    the borders of the classes: below some ten borders there is too little to say. O(s) a lag.
    """
    best, most = 0, -1.0
    for lag in lags[lags != 0].tolist():
        inside = (rows + lag >= 0) & (rows + lag < len(codes_n)) & (guess_s != NONE)
        given, moved = codes_n[rows[inside]], codes_n[rows[inside] + lag]
        changed = given != moved
        guess = guess_s[inside][changed]
        first, second = guess == given[changed], guess == moved[changed]
        if more_often(first, second, len(lags)):
            gain = float(second.sum() - first.sum()) / len(rows)
            best, most = (lag, gain) if gain > most else (best, most)
    return best


def name_order(
    looked: Looked,
    label_s: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    guess_s: NDArray[np.int64],
) -> list[list[int]]:
    """Return cycles of classes whose names change places; none where they fit as they are.

    Class c of a cycle has the images that the name of the next class in it fits, and so on
    round. The assignment of names to mean images is that of the largest sum of similarities,
    among the classes whose mean image another name fits better; each cycle must then name
    more single images than the names as they are.
    """
    from scipy.optimize import linear_sum_assignment

    k = len(text_emb_kd)
    occurs, mean_cd = class_means(looked.unit_sd, label_s, k)
    mean_cd -= mean_cd.mean(axis=0)
    sim_best = _nearest(mean_cd, text_emb_kd.T, np.zeros(k, dtype=np.float32))
    moved = occurs[sim_best != occurs]
    moved = np.union1d(moved, sim_best[sim_best != occurs])
    moved = np.intersect1d(moved, occurs)
    if not 2 <= len(moved) <= MAX_MOVED:
        return []
    sim_cc = mean_cd[np.searchsorted(occurs, moved)] @ text_emb_kd[moved].T
    to_c = moved[linear_sum_assignment(sim_cc, maximize=True)[1]]
    cycles = _cycles(dict(zip(moved.tolist(), to_c.tolist(), strict=True)))
    return [cycle for cycle in cycles if _fits_better(cycle, guess_s, label_s, len(moved))]


def _fits_better(
    cycle: list[int], guess_s: NDArray[np.int64], label_s: NDArray[np.int64], n_tries: int
) -> bool:
    """Whether the names fit single images better: of four in five classes, and of all together."""
    after_k = np.arange(int(label_s.max()) + 1)
    after_k[cycle] = np.roll(cycle, -1)
    concerned = np.isin(label_s, cycle)
    label_i, guess_i = label_s[concerned], guess_s[concerned]
    first, second = guess_i == label_i, guess_i == after_k[label_i]
    gain_k = np.bincount(label_i, weights=second.astype(np.int64) - first)
    enough = bool((gain_k[cycle] > 0).sum() >= 0.8 * len(cycle))
    return enough and more_often(first, second, n_tries)


def _cycles(to: dict[int, int]) -> list[list[int]]:
    """Return the cycles of a permutation that are longer than one."""
    left, found = dict(to), []
    while left:
        start, at = next(iter(left.items()))
        cycle = [start]
        del left[start]
        while at != start:
            cycle.append(at)
            at = left.pop(at)
        if len(cycle) > 1:
            found.append(cycle)
    return found


def one_class_twice(
    guess_s: NDArray[np.int64], label_s: NDArray[np.int64], n_classes: int
) -> list[tuple[int, int]]:
    """Return pairs of classes whose images cannot be told apart.

    Of the images of two classes that are taken for one of the two, as many are taken for the
    first whichever label they have. O(s log s): pairs that are never confused are not looked at.
    """
    known = guess_s != NONE
    pair_p, count_p = np.unique(label_s[known] * n_classes + guess_s[known], return_counts=True)
    count = dict(zip(pair_p.tolist(), count_p.tolist(), strict=True))
    size_k = np.bincount(label_s[known], minlength=n_classes)
    found = []
    for pair in pair_p.tolist():
        a, b = divmod(pair, n_classes)
        if a >= b:
            continue
        aa, ab = count.get(a * n_classes + a, 0), count[pair]
        ba, bb = count.get(b * n_classes + a, 0), count.get(b * n_classes + b, 0)
        if not ba or aa + ab < max(10, size_k[a] / 2) or ba + bb < max(10, size_k[b] / 2):
            continue  # too few, or of images that are mostly of other classes
        p, q = aa / (aa + ab), bb / (ba + bb)
        error = np.sqrt(p * (1 - p) / (aa + ab) + q * (1 - q) / (ba + bb))
        if p + q - 1 + 2 * error < TOLD_APART:
            found.append((a, b))
    return found
