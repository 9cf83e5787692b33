"""Samplers that feed a selection to torch's `DataLoader`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from clip_al.checks import check_int
from clip_al.errors import InvalidInputError, InvalidTypeError


class SelectedSubsetSampler(Sampler[int]):
    """Yield the chosen positions of a dataset, shuffled anew each epoch.

    The dataset stays as it is: nothing is copied, and an index in a log or a weight file
    keeps its meaning.

    Parameters
    ----------
    indices : array-like of int
        Distinct positions in the dataset; not modified.
    shuffle : bool
        Whether each epoch has its own order; without it, the order of `indices`.
    random_state : int, optional
        Seed of the orders: the same seed and epoch give the same order. With None a seed
        is drawn once, when the sampler is made.

    Examples
    --------
    >>> sampler = SelectedSubsetSampler([7, 3, 5], shuffle=False)
    >>> list(sampler), len(sampler)
    ([7, 3, 5], 3)
    """

    def __init__(
        self, indices: ArrayLike, shuffle: bool = True, random_state: int | None = None
    ) -> None:
        array = np.asarray(indices)
        if array.size == 0:
            raise InvalidInputError(
                "`indices` must name at least one image; got none. Pass what a selection returned."
            )
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise InvalidTypeError(
                "`indices` must be a 1-D array of whole numbers; got shape "
                f"{array.shape} and dtype {array.dtype}. Pass positions in the dataset."
            )
        if array.min() < 0 or np.unique(array).size != array.size:
            raise InvalidInputError(
                "`indices` must name each image once, counted from 0; got "
                f"{array.size}, the lowest {array.min()}, {np.unique(array).size} different. "
                "Pass what a selection returned."
            )
        self.indices = array.astype(np.int64)
        self.shuffle = shuffle
        self.epoch = 0
        if random_state is None:
            random_state = int(np.random.default_rng().integers(2**31))
        self.random_state = check_int(random_state, "random_state", smallest=0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; call it before each epoch, as for a `DistributedSampler`."""
        self.epoch = check_int(epoch, "epoch", smallest=0)

    def __iter__(self) -> Iterator[int]:
        order = self.indices
        if self.shuffle:
            order = np.random.default_rng((self.random_state, self.epoch)).permutation(order)
        # tolist makes Python ints, which datasets index by; chunks keep it lazy.
        for start in range(0, len(order), 65536):
            yield from order[start : start + 65536].tolist()

    def __len__(self) -> int:
        return len(self.indices)
