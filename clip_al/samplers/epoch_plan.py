"""What an epoch of the samplers is made of: a subset, weights, a share of earlier data."""

from __future__ import annotations

import hashlib
import json
import numbers
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_count
from clip_al.arrays.given import array_of, check_flag
from clip_al.errors import InvalidInputError, InvalidTypeError


@runtime_checkable
class Chosen(Protocol):
    """What a `Selection` is known by here."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Positions of what was chosen."""

    @property
    def n_images(self) -> int:
        """Of the dataset."""

    @property
    def fingerprint(self) -> str:
        """The same for equal selections."""


MOST_ITEMS = 2**30
"""Of an epoch, whose order is kept as a whole: 8 bytes an item."""
Positions: TypeAlias = "Chosen | ArrayLike"
"""A selection, positions in the dataset, or a mask."""


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """What an epoch is made of; `make_plan` checks and builds it.

    Parameters
    ----------
    indices : ndarray of shape (k,), int64
        The subset: distinct positions in the dataset.
    shuffle : bool
        Whether an epoch is in random order; else in the order of `indices`, replay last.
    n_samples : int
        Items of an epoch that come from the subset.
    replacement : bool
        Whether an image may be drawn more than once an epoch.
    weights : ndarray of shape (k,), float64, optional
        Of each image of the subset; at least 0.
    replay : ndarray of shape (r,), int64, optional
        Earlier positions, none of them in the subset.
    n_replay : int
        Items of an epoch that come from `replay`.

    Notes
    -----
    8 bytes for each position and each weight. `order` costs O(items) time and memory, and
    O(k) more where it draws; drawing with weights and replacement costs O(items log k).
    """

    indices: NDArray[np.int64]
    shuffle: bool
    n_samples: int
    replacement: bool = False
    weights: NDArray[np.float64] | None = None
    replay: NDArray[np.int64] | None = None
    n_replay: int = 0

    def __len__(self) -> int:
        return self.n_samples + self.n_replay

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return the items of an epoch: the same for the same plan, seed and epoch."""
        rng = np.random.default_rng((seed, epoch))
        order = self._drawn(rng)
        if self.replay is not None:
            order = np.concatenate([order, _evenly(self.replay, self.n_replay, rng)])
        return rng.permutation(order) if self.shuffle else order

    def _drawn(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return this epoch's part of the subset, in the order of `indices`."""
        k, n = len(self.indices), self.n_samples
        if self.replacement:
            positions = self._with_replacement(rng)
        elif n == k:
            return self.indices
        elif self.weights is None:
            positions = rng.choice(k, n, replace=False, shuffle=False)
        else:
            # Each image waits an exponential time at the rate of its weight: the first n
            # are a draw without replacement (Efraimidis and Spirakis 2006). Logarithms,
            # because a quotient of tiny weights overflows.
            with np.errstate(divide="ignore"):
                waiting_k = np.log(rng.standard_exponential(k)) - np.log(self.weights)
            positions = np.argpartition(waiting_k, n - 1)[:n]
        return self.indices[np.sort(positions)]

    def _with_replacement(self, rng: np.random.Generator) -> NDArray[np.int64]:
        k, n = len(self.indices), self.n_samples
        if self.weights is None:
            return rng.integers(k, size=n)
        cumulative_k = np.cumsum(self.weights)
        # Sorted keys make the searches neighbours in memory. side="right" passes over
        # weights of 0, and random() < 1 keeps every key below the last sum.
        keys_n = np.sort(rng.random(n)) * cumulative_k[-1]
        return np.asarray(np.searchsorted(cumulative_k, keys_n, side="right"), dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides an order, seed and epoch apart: 32 hexadecimal digits."""
        settings = [self.shuffle, self.n_samples, self.replacement, self.n_replay]
        digest = hashlib.blake2b(json.dumps(["plan", 1, *settings]).encode(), digest_size=16)
        for array in (self.indices, self.weights, self.replay):
            digest.update(b"none" if array is None else f"{len(array)}:".encode())
            if array is not None:
                # Little-endian, so that every machine agrees.
                digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def _evenly(positions: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw n positions, ascending; their counts differ by one at most."""
    passes, rest = divmod(n, len(positions))
    drawn = rng.choice(positions, rest, replace=False, shuffle=False)
    return np.sort(np.concatenate([np.tile(positions, passes), drawn]))


def make_plan(
    indices: Positions,
    *,
    shuffle: bool,
    weights: ArrayLike | None = None,
    replacement: bool | None = None,
    n_samples: int | None = None,
    replay: Positions | None = None,
    replay_fraction: float | None = None,
) -> EpochPlan:
    """Check what a user gave and return the plan; see `SelectedSubsetSampler`.

    Examples
    --------
    >>> plan = make_plan([7, 3, 5], shuffle=False, replay=[1, 3], replay_fraction=0.25)
    >>> plan.order(seed=0, epoch=0)
    array([7, 3, 5, 1])
    """
    chosen_k, n_images = as_positions(indices, "indices")
    shuffle = check_flag(shuffle, "shuffle")
    if replacement is None:
        replacement = weights is not None
    replacement = check_flag(replacement, "replacement")
    n = len(chosen_k) if n_samples is None else check_count(n_samples, "n_samples", MOST_ITEMS)
    weights_k = None
    if weights is not None:
        weights_k = _checked_weights(weights, chosen_k, n_images)
    available = len(chosen_k) if weights_k is None else int(np.count_nonzero(weights_k))
    if n > available and not replacement:
        raise InvalidInputError(
            f"`n_samples` must be at most {available}, the images that can be drawn without "
            f"replacement; got {n}. Lower it or pass `replacement=True`."
        )
    replay_r = _checked_replay(replay, replay_fraction, chosen_k)
    n_replay = 0
    if replay_r is not None and replay_fraction is not None:
        n_replay = max(1, round(n * replay_fraction / (1 - replay_fraction)))
    return EpochPlan(chosen_k, shuffle, n, replacement, weights_k, replay_r, n_replay)


def as_positions(value: Positions, name: str) -> tuple[NDArray[np.int64], int | None]:
    """Return a read-only copy of distinct positions, and the dataset's size where known.

    Parameters
    ----------
    value : Selection, array-like of int, or array-like of bool
        A Selection is what has `indices`, `n_images` and `fingerprint`; of a mask, the
        positions that are true.
    name : str
        What the caller calls it, for the messages.
    """
    n_images = None
    if isinstance(value, Chosen):
        array, n_images = array_of(value.indices, name), int(value.n_images)
    else:
        array = array_of(value, name)
    if array.ndim == 1 and array.dtype == np.bool_:
        n_images = array.size
        array = np.flatnonzero(array)
    if array.size == 0:
        raise InvalidInputError(
            f"`{name}` must name at least one image; got none. Pass what a selection returned."
        )
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidTypeError(
            f"`{name}` must be a 1-D array of whole numbers, a boolean mask or a Selection; got "
            f"shape {array.shape} and dtype {array.dtype}. Pass positions in the dataset."
        )
    positions = array.astype(np.int64)
    n_different = np.unique(positions).size
    if positions.min() < 0 or n_different != positions.size:
        raise InvalidInputError(
            f"`{name}` must name each image once, counted from 0; got {positions.size}, the "
            f"lowest {positions.min()}, {n_different} different. Pass what a selection returned."
        )
    if n_images is not None and positions.max() >= n_images:
        raise InvalidInputError(
            f"`{name}` must be in [0, {n_images - 1}], the positions of the {n_images} images "
            f"of its selection; got {positions.max()}. Select again."
        )
    positions.flags.writeable = False
    return positions, n_images


def _checked_weights(
    weights: ArrayLike, indices: NDArray[np.int64], n_images: int | None
) -> NDArray[np.float64]:
    array = array_of(weights, "weights")
    if array.dtype.kind not in "fiu":
        raise InvalidTypeError(
            f"`weights` must hold numbers; got dtype {array.dtype}. Pass one number an image."
        )
    if n_images is not None and array.shape == (n_images,):
        array = array[indices]
    elif array.shape != indices.shape:
        every = "" if n_images is None else f" or of all {n_images} images"
        raise InvalidInputError(
            f"`weights` must be one for each of the {len(indices)} images of the subset{every}; "
            f"got shape {array.shape}. Pass them in the order of the subset."
        )
    array = array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise InvalidInputError(
            f"`weights` must be finite and at least 0; got {array[bad[0]]} for image "
            f"{indices[bad[0]]}. Shift or clip them first."
        )
    total = array.sum()
    if not 0 < total < np.inf:
        raise InvalidInputError(
            f"`weights` must have a sum that is positive and finite; got {total}. Give at least "
            "one image of the subset a weight, and none a vast one."
        )
    array.flags.writeable = False
    return array


def _checked_replay(
    replay: Positions | None, replay_fraction: float | None, indices: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    if (replay is None) != (replay_fraction is None):
        raise InvalidInputError(
            "`replay` and `replay_fraction` must be given together; got only "
            f"`{'replay_fraction' if replay is None else 'replay'}`. Pass both or neither."
        )
    if replay is None:
        return None
    if isinstance(replay_fraction, bool) or not isinstance(replay_fraction, numbers.Real):
        raise InvalidTypeError(
            f"`replay_fraction` must be a number; got {replay_fraction!r}. Pass a float."
        )
    if not 0 < replay_fraction < 1:
        raise InvalidInputError(
            "`replay_fraction` must be above 0 and below 1, a share of the epoch; got "
            f"{replay_fraction}. For none, leave `replay` out."
        )
    earlier, _ = as_positions(replay, "replay")
    kept = earlier[~np.isin(earlier, indices)]
    if kept.size == 0:
        raise InvalidInputError(
            "`replay` must name at least one image outside the subset; got "
            f"{earlier.size}, all of them in it. Leave `replay` out."
        )
    kept.flags.writeable = False
    return kept
