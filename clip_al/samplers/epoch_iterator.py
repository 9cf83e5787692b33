"""The samplers' iterator: fast, and able to say where it is and to be moved there."""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_int
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.samplers.epoch_plan import EpochPlan

CHUNK = 4096
"""Indices that become Python ints at a time: they fit the processor's cache."""


class Shard(NamedTuple):
    """The part of each epoch that one process reads: every `num_replicas`-th item.

    Parameters
    ----------
    n_items : int
        How many items that makes.
    num_replicas, rank : int
        How many processes share the epoch, and which of them this is.
    """

    n_items: int
    num_replicas: int = 1
    rank: int = 0

    def of(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this part of an epoch's order, wrapped around or cut off to fit."""
        if self.num_replicas == 1:
            return order
        total = self.n_items * self.num_replicas
        if total <= len(order):
            return order[self.rank : total : self.num_replicas].copy()
        places = np.arange(self.rank, total, self.num_replicas)
        places %= len(order)
        return order[places]


class _Chunks:
    """An epoch's items, a list iterator at a time, and how many of them were read."""

    def __init__(
        self, plan: EpochPlan, epoch: int, seed: int, seed_is_drawn: bool, shard: Shard
    ) -> None:
        self.plan, self.shard = plan, shard
        self.epoch, self.seed, self.seed_is_drawn = epoch, seed, seed_is_drawn
        # Hosts make iterators that they throw away, so the order waits for the first item.
        self.order: NDArray[np.int64] | None = None
        self.chunk: Iterator[int] = iter(())
        self.end = 0  # position after the chunk
        self.is_used_up = False

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> Iterator[int]:
        if self.end == self.shard.n_items:
            self.is_used_up = True
            self.order = None
            raise StopIteration
        if self.order is None:
            self.order = self.shard.of(self.plan.order(self.seed, self.epoch))
        # tolist makes Python ints, which datasets index by.
        items = self.order[self.end : self.end + CHUNK].tolist()
        self.end += len(items)
        self.chunk = iter(items)
        return self.chunk

    @property
    def n_read(self) -> int:
        return self.end - operator.length_hint(self.chunk)

    def move_to(self, position: int, epoch: int, seed: int) -> None:
        """Make `position` of an epoch the next item."""
        if (epoch, seed) != (self.epoch, self.seed):
            self.order = None
        self.epoch, self.seed, self.end = epoch, seed, position
        # Who reads the chunk asks for the next once this one has nothing left.
        for _ in self.chunk:
            pass


class EpochIterator(itertools.chain[int]):
    """Iterator over one epoch that can say where it is, and be moved there.

    `state_dict` and `load_state_dict` are what torchdata's `StatefulDataLoader` asks for.
    A state is absolute, so that a resumed iterator's state can be resumed from again; it
    holds numbers and strings only: `epoch`, `yielded`, `seed`, `fingerprint`, of one
    process of several `num_replicas` and `rank`, and `check`, a checksum of these.

    Notes
    -----
    Made by `iter(sampler)`. It keeps the subset and epoch that were set then. `chain` reads
    the items in C: a `__next__` of ours would cost more than all the rest of an epoch.
    Loading costs one permutation, whatever the position.

    Examples
    --------
    >>> from clip_al.samplers.epoch_plan import make_plan
    >>> plan = make_plan([7, 3, 5], shuffle=False)
    >>> iterator = EpochIterator.start(plan, epoch=0, seed=0)
    >>> next(iterator), iterator.state_dict()["yielded"]
    (7, 1)
    """

    _chunks: _Chunks

    @classmethod
    def start(
        cls,
        plan: EpochPlan,
        epoch: int,
        seed: int,
        *,
        seed_is_drawn: bool = False,
        shard: Shard | None = None,
    ) -> EpochIterator:
        """Return an iterator before the first item.

        Parameters
        ----------
        plan : EpochPlan
            What the epoch is made of.
        epoch, seed : int
            Which order it has.
        seed_is_drawn : bool
            Whether nobody asked for this seed, so that it gives way to a state's.
        shard : Shard, optional
            The part to read; by default all of it.
        """
        chunks = _Chunks(plan, epoch, seed, seed_is_drawn, shard or Shard(len(plan)))
        iterator = cast(EpochIterator, cls.from_iterable(chunks))
        iterator._chunks = chunks
        return iterator

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of items read, and what both refer to."""
        chunks = self._chunks
        state = {
            "epoch": chunks.epoch,
            "yielded": chunks.n_read,
            "seed": chunks.seed,
            "fingerprint": chunks.plan.fingerprint,
        }
        if chunks.shard.num_replicas > 1:
            state |= {"num_replicas": chunks.shard.num_replicas, "rank": chunks.shard.rank}
        return {**state, "check": _check_of(state)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken.

        Parameters
        ----------
        state_dict : mapping
            What `state_dict` returned, of any process: all have read as many items.

        Raises
        ------
        InvalidInputError
            Where the state is of another subset, other settings, another `random_state`
            or another number of processes, or this iterator has ended.
        InvalidTypeError
            Where it is no such state.
        """
        chunks = self._chunks
        state = check_state(state_dict)
        if chunks.is_used_up:
            raise InvalidInputError(
                "The iterator must not have ended; got a state for one that has. Load it into "
                "a new one, `iter(sampler)`."
            )
        n_replicas = chunks.shard.num_replicas
        if state["num_replicas"] != n_replicas:
            raise InvalidInputError(
                f"The state must be of {n_replicas} process(es), as many as run now; got one of "
                f"{state['num_replicas']}: what is left would overlap with what was read. Resume "
                "with as many processes, or start the epoch anew."
            )
        if state["fingerprint"] != chunks.plan.fingerprint:
            raise InvalidInputError(
                "The state must be of this sampler's subset and settings, fingerprint "
                f"{chunks.plan.fingerprint}; got one of {state['fingerprint']}. Give the sampler "
                "what it had when the state was taken (indices, shuffle, weights, replay, …), or "
                "start the epoch anew."
            )
        if state["seed"] != chunks.seed and not chunks.seed_is_drawn:
            raise InvalidInputError(
                f"The state must be of this sampler's `random_state`, {chunks.seed}; got one of "
                f"{state['seed']}. Pass `random_state={state['seed']}` to resume from it."
            )
        check_int(state["yielded"], "yielded", smallest=0, largest=chunks.shard.n_items)
        # States of 0.1.0 have none.
        check = state.get("check")
        if check is not None and (not isinstance(check, str) or check != _check_of(state)):
            raise InvalidInputError(
                "The state must be as `state_dict` returned it; its numbers are others, it is "
                "damaged or was edited. Load another checkpoint, or start the epoch anew."
            )
        chunks.move_to(state["yielded"], state["epoch"], state["seed"])


def _check_of(state: Mapping[str, Any]) -> str:
    """Return a checksum of a state, by which a number that changed is noticed."""
    names = ("epoch", "yielded", "seed", "fingerprint", "num_replicas", "rank")
    whole = {"num_replicas": 1, "rank": 0, **state}
    values = json.dumps([whole[name] for name in names])
    return hashlib.blake2b(values.encode(), digest_size=4).hexdigest()


def check_state(state: Any) -> dict[str, Any]:
    """Return a copy of a state, with `num_replicas` and `rank` where it is of one process."""
    needed = ("epoch", "yielded", "seed", "fingerprint")
    if not isinstance(state, Mapping) or not all(key in state for key in needed):
        what = sorted(map(str, state)) if isinstance(state, Mapping) else repr(state)
        raise InvalidTypeError(
            f"A state must be a mapping that holds {', '.join(needed)}; got {what}. Pass what "
            "`state_dict` of the sampler's iterator returned."
        )
    whole = {"num_replicas": 1, "rank": 0, **state}
    for key in ("epoch", "yielded", "seed", "num_replicas", "rank"):
        whole[key] = check_int(whole[key], key, smallest=0)
    if not isinstance(whole["fingerprint"], str):
        raise InvalidTypeError(
            f"A state's `fingerprint` must be text; got {whole['fingerprint']!r}. Pass what "
            "`state_dict` of the sampler's iterator returned."
        )
    return whole
