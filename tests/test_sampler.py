"""Tests of `clip_al.sampler`."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.sampler import SelectedSubsetSampler
from tests.reference import contents

INDICES = [7, 3, 5, 11, 2, 13]


def exactly(message):
    return f"^{re.escape(message)}$"


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_index_comes_once_as_a_python_int(shuffle):
    sampler = SelectedSubsetSampler(INDICES, shuffle=shuffle, random_state=0)
    indices = list(sampler)
    assert sorted(indices) == sorted(INDICES)
    assert {type(index) for index in indices} == {int}
    assert len(sampler) == 6


def test_without_shuffling_the_order_stays():
    assert list(SelectedSubsetSampler(INDICES, shuffle=False)) == INDICES


def test_shuffling_is_the_default_and_changes_the_order():
    assert list(SelectedSubsetSampler(range(50), random_state=0)) != list(range(50))


@pytest.mark.parametrize("seed", [0, 1, np.int64(7)])
def test_a_seed_and_an_epoch_give_one_order(seed):
    one, other = (SelectedSubsetSampler(range(50), random_state=seed) for _ in range(2))
    for epoch in (0, 3):
        one.set_epoch(epoch)
        other.set_epoch(epoch)
        assert list(one) == list(other)


def test_epochs_and_seeds_differ():
    orders = []
    for seed in (0, 1):
        sampler = SelectedSubsetSampler(range(50), random_state=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 4


def test_an_epoch_repeats_until_another_is_set():
    sampler = SelectedSubsetSampler(range(50), random_state=0)
    assert list(sampler) == list(sampler)


def test_without_a_seed_one_is_drawn_once():
    sampler = SelectedSubsetSampler(range(50))
    assert list(sampler) == list(sampler)
    others = {tuple(SelectedSubsetSampler(range(50))) for _ in range(5)}
    assert len(others) > 1


def test_iterators_do_not_disturb_each_other():
    sampler = SelectedSubsetSampler(range(10), random_state=0)
    first, second = iter(sampler), iter(sampler)
    next(first)
    assert list(second) == list(sampler)
    assert list(first) == list(sampler)[1:]


def test_global_random_states_are_left_alone():
    def states():
        return contents(np.random.get_state()[1], torch.get_rng_state())  # noqa: NPY002

    before = states()
    list(SelectedSubsetSampler(range(50)))
    assert states() == before


def test_many_indices_come_in_order_over_the_chunks():
    n = 2 * 65536 + 3
    assert list(SelectedSubsetSampler(np.arange(n)[::-1], shuffle=False)) == list(range(n))[::-1]


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64])
def test_the_given_indices_are_neither_changed_nor_shared(dtype):
    indices = np.array(INDICES, dtype=dtype)
    before = contents(indices)
    sampler = SelectedSubsetSampler(indices, shuffle=False)
    list(sampler)
    assert contents(indices) == before
    indices[0] = 99
    assert list(sampler) == INDICES


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_data_loader_reads_the_chosen_images(num_workers):
    data = torch.arange(20) * 10
    loader = DataLoader(
        data,
        batch_size=4,
        sampler=SelectedSubsetSampler(INDICES, random_state=0),
        num_workers=num_workers,
    )
    batches = [batch.tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [4, 2]
    assert sorted(i for batch in batches for i in batch) == [10 * i for i in sorted(INDICES)]
    assert len(loader) == 2


def test_a_pickle_keeps_seed_and_epoch():
    sampler = SelectedSubsetSampler(range(50))
    sampler.set_epoch(3)
    assert list(pickle.loads(pickle.dumps(sampler))) == list(sampler)


@pytest.mark.parametrize("indices", [[], np.array([], dtype=int)])
def test_nothing_is_refused(indices):
    message = "`indices` must name at least one image; got none. Pass what a selection returned."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([0.5], "shape (1,) and dtype float64"),
        ([[1, 2]], "shape (1, 2) and dtype int64"),
        ([True, False], "shape (2,) and dtype bool"),
        (3, "shape () and dtype int64"),
        (["a"], "shape (1,) and dtype <U1"),
    ],
)
def test_what_are_no_positions_is_refused(indices, what):
    message = (
        f"`indices` must be a 1-D array of whole numbers; got {what}. Pass positions in the "
        "dataset."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize(
    ("indices", "what"),
    [
        ([3, -1], "2, the lowest -1, 2 different"),
        ([3, 1, 3], "3, the lowest 1, 2 different"),
    ],
)
def test_positions_that_cannot_be_are_refused(indices, what):
    message = (
        "`indices` must name each image once, counted from 0; got "
        f"{what}. Pass what a selection returned."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        SelectedSubsetSampler(indices)


@pytest.mark.parametrize("seed", [0.0, 1.5, "0", True, False])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    message = f"`random_state` must be a whole number; got {seed!r}. Pass an int."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        SelectedSubsetSampler([1, 2], random_state=seed)


def test_a_negative_seed_is_refused_and_zero_is_named_as_the_least():
    with pytest.raises(InvalidInputError, match=r"^`random_state` must be at least 0; got -1"):
        SelectedSubsetSampler([1, 2], random_state=-1)
