"""Samplers that feed a selection to torch's `DataLoader`: here the one for a single process.

Which sampler for which host: `DistributedSelectedSubsetSampler` where each process must
take its own share (plain torch, Lightning); this one, with a `random_state`, where the host
deals out the batches itself (accelerate, Hugging Face's Trainer).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.distributed
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from clip_al.arrays.checks import check_int
from clip_al.errors import InvalidInputError
from clip_al.samplers.epoch_iterator import EpochIterator, Shard
from clip_al.samplers.epoch_plan import EpochPlan, Positions, make_plan


class SelectedSubsetSampler(Sampler[int]):
    """Yield the chosen positions of a dataset, in another order each epoch.

    The dataset stays as it is: nothing is copied or wrapped, and an index in a log or a
    weight file keeps its meaning.

    Parameters
    ----------
    indices : Selection, array-like of int, or array-like of bool
        Distinct positions in the dataset, or a mask over it; copied, not modified.
    shuffle : bool
        Whether each epoch has its own random order; without it, that of `indices`, with
        what is replayed behind it.
    random_state : int, optional
        Seed: the same seed and epoch give the same items in the same order. With None a
        seed is drawn once, when the sampler is made; a state takes it along.
    weights : array-like of float, optional
        Importance of each image of the subset, in its order, at least 0, any scale; with a
        Selection or a mask also of every image of the dataset. Each epoch is then drawn
        anew, in proportion to the weights.
    replacement : bool, optional
        Whether an image can be drawn several times an epoch. By default it can where there
        are weights. Drawing without is sequential: the next image always comes from those
        left, in proportion to their weights.
    n_samples : int, optional
        Items of the subset an epoch; by default its size.
    replay : Selection, array-like of int, or array-like of bool, optional
        Images of earlier rounds, to mix in against catastrophic forgetting. Those that are
        in the subset too are not replayed: they come anyway.
    replay_fraction : float, optional
        Share of `replay` in each epoch, in (0, 1): with n items of the subset,
        n f / (1 − f) more, rounded, at least 1. Drawn anew each epoch, evenly and without
        replacement; where there are too few, each comes several times.

    Attributes
    ----------
    indices : ndarray of int64
        The subset; read-only.
    epoch : int
        What `set_epoch` set; 0 before.
    random_state : int
        The seed in use.
    fingerprint : str
        Hash of subset and settings; a state is of one fingerprint.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where an argument is not as above. Iterating raises where several processes train
        together and each has drawn its own seed.

    Notes
    -----
    Call `set_epoch(epoch)` before each epoch, as for torch's `DistributedSampler`; iterating
    has no side effect, so that without it every epoch repeats the first, draws and all.

    Resuming: torchdata's `StatefulDataLoader` saves and loads the state of the iterator and
    refuses the state of another subset. `torchdata.nodes.SamplerWrapper` does not ask for
    it: it counts items and skips them, which is right for the same subset and a given
    `random_state`; keep `fingerprint` in the checkpoint to check the first.

    8 bytes an index, once; 8 more for each item while iterating. An epoch of a million items
    costs about a tenth of torch's `SubsetRandomSampler`, drawn by weight about six tenths
    (`python -m benchmarks.speed.sampler`).

    References
    ----------
    Efraimidis, Spirakis: "Weighted random sampling with a reservoir", Information
    Processing Letters 97, 2006 (drawing without replacement).

    Examples
    --------
    >>> sampler = SelectedSubsetSampler([7, 3, 5], shuffle=False)
    >>> list(sampler), len(sampler)
    ([7, 3, 5], 3)
    >>> sampler.update([2, 8, 6], replay=[7, 3, 5], replay_fraction=0.25)
    >>> len(sampler)
    4
    """

    def __init__(
        self,
        indices: Positions,
        *,
        shuffle: bool = True,
        random_state: int | None = None,
        weights: ArrayLike | None = None,
        replacement: bool | None = None,
        n_samples: int | None = None,
        replay: Positions | None = None,
        replay_fraction: float | None = None,
    ) -> None:
        self._seed_is_drawn = random_state is None
        if random_state is None:
            random_state = int(np.random.default_rng().integers(2**31))
        self.random_state = check_int(random_state, "random_state", smallest=0)
        self.shuffle = shuffle
        self.epoch = 0
        self._settings: dict[str, Any] = {
            "replacement": replacement,
            "n_samples": n_samples,
            "replay_fraction": replay_fraction,
        }
        self._plan = make_plan(
            indices, shuffle=shuffle, weights=weights, replay=replay, **self._settings
        )

    @property
    def indices(self) -> NDArray[np.int64]:
        """The subset."""
        return self._plan.indices

    @property
    def fingerprint(self) -> str:
        """Hash of subset and settings, the seed apart."""
        return self._plan.fingerprint

    def update(
        self,
        indices: Positions,
        *,
        weights: ArrayLike | None = None,
        n_samples: int | None = None,
        replay: Positions | None = None,
        replay_fraction: float | None = None,
    ) -> None:
        """Swap the subset, between rounds; a loader that holds the sampler follows.

        Iterators that run keep theirs to the end. States of the old subset are refused
        from now on, unless the new one is the same.

        Parameters
        ----------
        indices, weights, replay
            As for a new sampler; weights and replay must come anew where there were any.
        n_samples, replay_fraction
            As they were, unless given.
        """
        old = self._plan
        for name, before, now in (
            ("weights", old.weights, weights),
            ("replay", old.replay, replay),
        ):
            if before is not None and now is None:
                raise InvalidInputError(
                    f"`{name}` must come anew with the subset, as this sampler has some; got "
                    "none. Pass it, or make a new sampler without."
                )
        settings = dict(self._settings)
        if n_samples is not None:
            settings["n_samples"] = n_samples
        if replay_fraction is not None:
            settings["replay_fraction"] = replay_fraction
        self._use(
            make_plan(indices, shuffle=old.shuffle, weights=weights, replay=replay, **settings)
        )
        self._settings = settings

    def _use(self, plan: EpochPlan) -> None:
        self._plan = plan

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; call it before each epoch, as for a `DistributedSampler`."""
        self.epoch = check_int(epoch, "epoch", smallest=0)

    def __iter__(self) -> EpochIterator:
        if self._seed_is_drawn and world_size() > 1:
            raise InvalidInputError(
                "`random_state` must be given where several processes train together; got None, "
                "so that each has drawn its own and what they read overlaps. Pass the same "
                "number in all."
            )
        return EpochIterator.start(
            self._plan,
            self.epoch,
            self.random_state,
            seed_is_drawn=self._seed_is_drawn,
            shard=self._shard(),
        )

    def _shard(self) -> Shard:
        return Shard(len(self._plan))

    def __len__(self) -> int:
        return len(self._plan)


def world_size() -> int:
    """Return how many processes train together; 1 before a group is set up."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
