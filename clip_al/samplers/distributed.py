"""The sampler for several processes: each takes its own share of the selection."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch.distributed
from numpy.typing import ArrayLike
from torch.utils.data.distributed import DistributedSampler

from clip_al.arrays.checks import check_count, check_int
from clip_al.arrays.given import check_flag, listed
from clip_al.errors import InvalidInputError
from clip_al.samplers.epoch_iterator import Shard, check_state
from clip_al.samplers.epoch_plan import EpochPlan, Positions
from clip_al.samplers.sampler import SelectedSubsetSampler

MOST_PROCESSES = 2**20


class DistributedSelectedSubsetSampler(SelectedSubsetSampler, DistributedSampler[int]):
    """Yield one process's share of the chosen positions of a dataset.

    Every process orders the whole epoch alike, as `SelectedSubsetSampler` does with the
    same seed, and takes every `num_replicas`-th item. Being a `DistributedSampler` of
    torch, Lightning takes it as it is and does not share it out again. accelerate and
    Hugging Face's Trainer do so with *every* sampler: give those a `SelectedSubsetSampler`
    with a `random_state`. Under Lightning, make it in `train_dataloader`, where the
    process group is set up.

    Parameters
    ----------
    indices, shuffle, weights, replacement, n_samples, replay, replay_fraction
        As for `SelectedSubsetSampler`, the same in every process; counts are those of the
        epoch of all processes together.
    num_replicas : int, optional
        How many processes share an epoch; by default those of torch's default group.
    rank : int, optional
        Which of them this is, from 0; by default the rank in that group.
    random_state : int, optional
        Seed, the same in every process; with None it is 0.
    drop_last : bool
        Where the epoch does not divide: whether to leave out its last items, or to read
        its first ones again. Either way all processes read equally many.

    Raises
    ------
    InvalidInputError
        Where there is no process group and `num_replicas` and `rank` are not both given;
        where a share would be empty.

    Notes
    -----
    Call `set_epoch` before each epoch. A state is that of `SelectedSubsetSampler` with
    `num_replicas` and `rank`. It can be loaded by any rank, because hosts save that of rank
    0 only and all have read equally many; another number of processes is refused.

    Every process orders the whole epoch: O(items) time, and 16 bytes an item at the peak, of
    which 8 for each of its own stay while iterating (`python -m benchmarks.speed.sampler`).

    Examples
    --------
    >>> shares = [
    ...     DistributedSelectedSubsetSampler([7, 3, 5, 1], num_replicas=2, rank=rank)
    ...     for rank in (0, 1)
    ... ]
    >>> sorted([*shares[0], *shares[1]])
    [1, 3, 5, 7]
    """

    def __init__(
        self,
        indices: Positions,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        random_state: int | None = None,
        drop_last: bool = False,
        weights: ArrayLike | None = None,
        replacement: bool | None = None,
        n_samples: int | None = None,
        replay: Positions | None = None,
        replay_fraction: float | None = None,
    ) -> None:
        num_replicas, rank = _place(num_replicas, rank)
        drop_last = check_flag(drop_last, "drop_last")
        SelectedSubsetSampler.__init__(
            self,
            indices,
            shuffle=shuffle,
            random_state=0 if random_state is None else random_state,
            weights=weights,
            replacement=replacement,
            n_samples=n_samples,
            replay=replay,
            replay_fraction=replay_fraction,
        )
        # Its constructor also sets what hosts read: num_replicas, rank, seed, drop_last.
        DistributedSampler.__init__(
            self,
            range(len(self._plan)),  # type: ignore[arg-type]
            num_replicas=num_replicas,
            rank=rank,
            shuffle=shuffle,
            seed=self.random_state,
            drop_last=drop_last,
        )
        self._use(self._plan)

    def _use(self, plan: EpochPlan) -> None:
        each = len(plan) / self.num_replicas
        n_items = math.floor(each) if self.drop_last else math.ceil(each)
        if n_items == 0:
            raise InvalidInputError(
                f"An epoch must have at least {self.num_replicas} items, one for each process, "
                f"with `drop_last`; got {len(plan)}. Choose more or pass `drop_last=False`."
            )
        self._plan = plan
        self.dataset = range(len(plan))  # type: ignore[assignment]
        self.num_samples = n_items
        self.total_size = n_items * self.num_replicas

    def _shard(self) -> Shard:
        return Shard(self.num_samples, self.num_replicas, self.rank)

    def __len__(self) -> int:
        return self.num_samples


def _place(num_replicas: int | None, rank: int | None) -> tuple[int, int]:
    if num_replicas is None or rank is None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise InvalidInputError(
                "`num_replicas` and `rank` must be given where torch has no process group; got "
                f"{num_replicas} and {rank}. Call `torch.distributed.init_process_group` first, "
                "or pass `num_replicas=1, rank=0` for a single process."
            )
        num_replicas = torch.distributed.get_world_size() if num_replicas is None else num_replicas
        rank = torch.distributed.get_rank() if rank is None else rank
    num_replicas = check_count(num_replicas, "num_replicas", MOST_PROCESSES)
    return num_replicas, check_int(rank, "rank", smallest=0, largest=num_replicas - 1)


def check_shards(states: Iterable[Any]) -> None:
    """Raise an error unless the states of all processes make up one epoch without overlap.

    Parameters
    ----------
    states : iterable of mapping or SelectedSubsetSampler
        One for each process, in any order: its sampler, or a state of its iterator.

    Raises
    ------
    InvalidInputError
        Where two shards overlap or one is missing: processes with different subsets, seeds,
        epochs or group sizes, or with the same rank. The message names both.

    Examples
    --------
    Under `torch.distributed`, gather ``iter(sampler).state_dict()`` of all processes with
    `all_gather_object` first.

    >>> check_shards(
    ...     DistributedSelectedSubsetSampler([7, 3, 5], num_replicas=2, rank=r) for r in (0, 1)
    ... )
    """
    found = [
        check_state(iter(state).state_dict() if isinstance(state, SelectedSubsetSampler) else state)
        for state in listed(states, "states")
    ]
    if not found:
        raise InvalidInputError(
            "`states` must hold one for each process; got none. Gather them first."
        )
    first, seen = found[0], set()
    for state in found:
        for key in ("num_replicas", "fingerprint", "seed", "epoch"):
            if state[key] != first[key]:
                raise InvalidInputError(
                    f"Shards must agree in {key}, or they overlap; got {first[key]} in rank "
                    f"{first['rank']} and {state[key]} in rank {state['rank']}. Make every "
                    "process's sampler from the same indices, settings and `random_state`, and "
                    "set the same epoch."
                )
        if state["rank"] in seen:
            raise InvalidInputError(
                f"Shards must not overlap; got rank {state['rank']} of {state['num_replicas']} "
                "twice. Use `DistributedSelectedSubsetSampler` and give each process its own rank."
            )
        seen.add(state["rank"])
    missing = sorted(set(range(first["num_replicas"])) - seen)
    if missing:
        raise InvalidInputError(
            f"Shards must cover the epoch; got none of rank {missing[0]} of "
            f"{first['num_replicas']}. Gather the states of all processes."
        )
