"""Tests of order: the lowest and the highest, ties by lowest position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.arrays import order
from clip_al.arrays.labels import group_by_class
from clip_al.arrays.order import highest_of_parts, lowest
from tests.reference import contents, top

# lowest


@given(
    values=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, -0.0]), min_size=1, max_size=30),
    share=st.floats(0, 1),
)
def test_the_lowest_values_with_ties_at_the_lowest_position(values, share):
    k = 1 + int(share * (len(values) - 1))
    array = np.array(values)
    before = contents(array)
    expected = sorted(sorted(range(len(values)), key=lambda i: (values[i], i))[:k])
    assert lowest(array, k).tolist() == expected
    assert contents(array) == before


@pytest.mark.parametrize("k", [3, 4, 10**6])
def test_all_values_where_there_are_no_more(k):
    assert lowest(np.array([2.0, 1.0, 3.0]), k).tolist() == [0, 1, 2]


# The highest of each part


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 60),
    k=st.integers(1, 30),
    levels=st.sampled_from([2, 5, 1000]),
)
def test_parts_of_any_size_give_their_highest(seed, n, k, levels):
    rng = np.random.default_rng(seed)
    total = rng.integers(-levels, levels, n) / levels
    members = rng.permutation(n)[: rng.integers(1, n + 1)]
    groups = np.array_split(members, k) if seed % 2 else [members[i::k] for i in range(k)]
    parts = [(np.sort(part), int(rng.integers(0, len(part) + 1))) for part in groups]
    parts[0] = (parts[0][0], max(1, parts[0][1]))  # something is asked for
    expected = sorted(
        int(part[i]) for part, quota in parts for i in top(total[part].tolist(), quota)
    )
    with pytest.MonkeyPatch.context() as patch:
        for limit in (0, np.inf):  # a partition of each, and one sort of all
            patch.setattr(order, "SMALL_PART", limit)
            assert sorted(highest_of_parts(total, parts).tolist()) == expected


def test_a_thousand_small_classes_give_their_highest(rng):
    n = 20_000
    total, y = rng.integers(0, 50, n) / 50, rng.integers(0, 1000, n)
    parts = [(part, min(c % 12, len(part))) for c, part in enumerate(group_by_class(y, 1000))]
    assert n < order.SMALL_PART * len(parts)
    found = np.sort(highest_of_parts(total, parts))
    expected = [part[top(total[part].tolist(), quota)] for part, quota in parts]
    assert found.tolist() == sorted(np.concatenate(expected).tolist())
