"""Tests of `clip_al.samplers.epoch_iterator`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.samplers.epoch_iterator import CHUNK, EpochIterator, Shard, check_state
from clip_al.samplers.epoch_plan import make_plan
from tests.helpers import exactly

SUBSET = make_plan(np.arange(0, 40, 2), shuffle=True)
LARGE = make_plan(np.arange(2 * CHUNK + 3), shuffle=True)


def start(plan=SUBSET, epoch=0, seed=0, **settings):
    return EpochIterator.start(plan, epoch, seed, **settings)


def take(iterator, n):
    return [next(iterator) for _ in range(n)]


# Position

POSITIONS = st.sampled_from(
    [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(LARGE) - 1, len(LARGE)]
)


@given(POSITIONS)
def test_a_state_says_how_many_items_were_read(n):
    iterator = start(LARGE, epoch=3, seed=5)
    take(iterator, n)
    state = iterator.state_dict()
    assert len(state.pop("check")) == 8
    assert state == {"epoch": 3, "yielded": n, "seed": 5, "fingerprint": LARGE.fingerprint}


@given(POSITIONS, POSITIONS)
def test_an_iterator_goes_on_where_the_state_was_taken(n, n_before):
    whole = list(start(LARGE, epoch=1))
    iterator = start(LARGE, epoch=1)
    take(iterator, n)
    # Through JSON, as a checkpoint might keep it; into one that has read already.
    state = json.loads(json.dumps(iterator.state_dict()))
    resumed = start(LARGE, epoch=7)
    take(resumed, min(n_before, len(LARGE) - 1))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert list(resumed) == whole[n:]


def test_resuming_again_and_again_reads_everything_once():
    whole, read, state = list(start()), [], start().state_dict()
    while state["yielded"] < len(SUBSET):
        iterator = start(epoch=9)
        iterator.load_state_dict(state)
        read += take(iterator, 1)
        state = iterator.state_dict()
    assert read == whole


def test_the_position_behind_the_last_item_stays():
    iterator = start()
    read = list(iterator)
    assert len(read) == iterator.state_dict()["yielded"] == 20
    assert next(iterator, None) is None
    assert iterator.state_dict()["yielded"] == 20


def test_a_state_is_not_changed_by_reading_on():
    iterator = start()
    state = iterator.state_dict()
    take(iterator, 3)
    assert state["yielded"] == 0


def test_a_state_that_is_loaded_is_not_changed():
    state = start().state_dict()
    before = dict(state)
    start().load_state_dict(state)
    assert state == before


def test_an_iterator_that_nobody_reads_orders_nothing(monkeypatch):
    monkeypatch.setattr(type(SUBSET), "order", lambda *_: pytest.fail("ordered"))
    iterator = start()
    iterator.load_state_dict(iterator.state_dict())
    assert iterator.state_dict()["yielded"] == 0


def test_what_comes_are_python_ints():
    assert {type(index) for index in start()} == {int}


# Shards


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_shard_has_its_own_position(rank):
    shard = Shard(7, 3, rank)
    whole = [*start(), start().__next__()]  # wrapped around: 21 items
    iterator = start(shard=shard)
    assert take(iterator, 4) == whole[rank::3][:4]
    state = iterator.state_dict()
    assert (state["yielded"], state["num_replicas"], state["rank"]) == (4, 3, rank)
    resumed = start(shard=shard)
    resumed.load_state_dict(state)
    assert list(resumed) == whole[rank::3][4:]


def test_a_state_of_another_rank_moves_every_rank_as_far():
    iterator = start(shard=Shard(10, 2, 0))
    take(iterator, 6)
    resumed = start(shard=Shard(10, 2, 1))
    resumed.load_state_dict(iterator.state_dict())
    assert list(resumed) == list(start())[1::2][6:]


def test_a_state_of_another_number_of_processes_is_refused():
    message = (
        "The state must be of 2 process(es), as many as run now; got one of 4: what is left "
        "would overlap with what was read. Resume with as many processes, or start the epoch "
        "anew."
    )
    state = start(shard=Shard(5, 4, 0)).state_dict()
    with pytest.raises(InvalidInputError, match=exactly(message)):
        start(shard=Shard(10, 2, 0)).load_state_dict(state)


def test_a_state_of_a_single_process_is_refused_by_one_of_several_and_back():
    single, one_of_two = start(), start(shard=Shard(10, 2, 0))
    with pytest.raises(InvalidInputError, match=r"must be of 2 process.*got one of 1:"):
        one_of_two.load_state_dict(single.state_dict())
    with pytest.raises(InvalidInputError, match=r"must be of 1 process.*got one of 2:"):
        single.load_state_dict(one_of_two.state_dict())


# What is refused


def test_a_state_of_another_subset_is_refused():
    other = make_plan(np.arange(1, 41, 2), shuffle=True)
    message = (
        f"The state must be of this sampler's subset and settings, fingerprint "
        f"{SUBSET.fingerprint}; got one of {other.fingerprint}. Give the sampler what it had "
        "when the state was taken (indices, shuffle, weights, replay, …), or start the epoch "
        "anew."
    )
    iterator = start()
    with pytest.raises(InvalidInputError, match=exactly(message)):
        iterator.load_state_dict(start(other).state_dict())
    assert list(iterator) == list(start())


def test_a_state_of_another_seed_is_refused():
    message = (
        "The state must be of this sampler's `random_state`, 0; got one of 7. Pass "
        "`random_state=7` to resume from it."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        start().load_state_dict(start(seed=7).state_dict())


def test_a_seed_that_nobody_chose_gives_way():
    taken = start(seed=7)
    take(taken, 4)
    iterator = start(seed=123, seed_is_drawn=True)
    iterator.load_state_dict(taken.state_dict())
    assert list(iterator) == list(start(seed=7))[4:]


def test_an_iterator_that_has_ended_takes_no_state():
    iterator = start()
    list(iterator)
    message = (
        "The iterator must not have ended; got a state for one that has. Load it into a new "
        "one, `iter(sampler)`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        iterator.load_state_dict(start().state_dict())


@pytest.mark.parametrize(
    ("state", "what"),
    [({}, "[]"), ({"yielded": 3, "a": 1}, "['a', 'yielded']"), (3, "3"), (None, "None")],
)
def test_what_is_no_state_is_refused(state, what):
    message = (
        "A state must be a mapping that holds epoch, yielded, seed, fingerprint; got "
        f"{what}. Pass what `state_dict` of the sampler's iterator returned."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        start().load_state_dict(state)


@pytest.mark.parametrize("yielded", [-1, 21])
def test_a_position_outside_the_epoch_is_refused(yielded):
    state = {**start().state_dict(), "yielded": yielded}
    with pytest.raises(InvalidInputError, match=r"^`yielded` must be "):
        start().load_state_dict(state)


def test_a_position_that_is_no_whole_number_is_refused():
    with pytest.raises(InvalidTypeError, match=r"^`yielded` must be a whole number; got 1\.5"):
        check_state({**start().state_dict(), "yielded": 1.5})


def test_a_checked_state_says_which_shard_it_is_of():
    assert check_state(start().state_dict())["num_replicas"] == 1
    state = start(shard=Shard(10, 2, 1)).state_dict()
    assert check_state(state) == state


@pytest.mark.parametrize("change", [{"yielded": 3}, {"epoch": 1}, {"check": "00000000"}])
def test_a_number_that_changed_is_noticed(change):
    iterator = start()
    take(iterator, 5)
    state = {**iterator.state_dict(), **change}
    with pytest.raises(InvalidInputError, match="damaged or was edited"):
        start().load_state_dict(state)
    del state["check"]  # as 0.1.0 wrote them
    start().load_state_dict(state)


def test_a_state_without_a_fingerprint_of_text_is_refused():
    with pytest.raises(InvalidTypeError, match=r"`fingerprint` must be text; got \[\]"):
        start().load_state_dict({**start().state_dict(), "fingerprint": []})


@pytest.mark.parametrize(
    ("n", "n_items", "n_shards"), [(10, 4, 3), (10, 3, 3), (2, 1, 5), (1, 3, 2)]
)
def test_shards_wrap_around_or_are_cut_off(n, n_items, n_shards):
    order = np.arange(n) + 100
    whole = [order[i % n] for i in range(n_items * n_shards)]
    for rank in range(n_shards):
        shard = Shard(n_items, n_shards, rank)
        assert shard.of(order).tolist() == whole[rank::n_shards]


def test_many_processes_cost_no_memory():
    assert Shard(1, 2**62, 7).of(np.arange(5)).tolist() == [2]
