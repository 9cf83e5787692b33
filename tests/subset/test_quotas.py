"""Tests of `clip_al.subset.quotas`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.quotas import (
    attribute_quotas,
    class_attribute,
    group_attribute,
    plan_cells,
    share_equally,
    share_out,
)
from clip_al.subset.selection_checks import encode_groups
from tests.helpers import exactly
from tests.reference import contents

# Reference


def water_fill(total, capacity):
    """Give one image at a time to the value that has fewest; of those, the largest, lowest."""
    quota = [0] * len(capacity)
    for _ in range(total):
        open_k = [k for k in range(len(capacity)) if quota[k] < capacity[k]]
        quota[min(open_k, key=lambda k: (quota[k], -capacity[k], k))] += 1
    return quota


def largest_remainder(weights, total):
    """Floor of the exact share, then one each by falling remainder, in whole numbers."""
    exact = [divmod(int(w) * total, int(sum(weights))) for w in weights]
    quota = [whole for whole, _ in exact]
    order = sorted(range(len(weights)), key=lambda k: (-exact[k][1], k))
    for k in order[: total - sum(quota)]:
        quota[k] += 1
    return quota


capacities = st.lists(st.integers(0, 12), min_size=1, max_size=7).filter(sum)


def attribute(counts, names=None):
    return class_attribute(np.repeat(np.arange(len(counts)), counts), len(counts), names)


def quotas(rule, total, counts, names=None, **kw):
    sizes = np.array(counts)
    return attribute_quotas(rule, attribute(counts, names), total, sizes, sizes, **kw)


# Shares


@given(capacity=capacities, part=st.floats(0, 1))
def test_equal_shares_equal_the_loop(capacity, part):
    total = int(part * sum(capacity))
    assert share_equally(total, capacity).tolist() == water_fill(total, capacity)


@given(capacity=capacities, part=st.floats(0, 1))
def test_proportional_shares_equal_the_loop(capacity, part):
    total = int(part * sum(capacity))
    assert share_out(capacity, total, capacity).tolist() == largest_remainder(capacity, total)


@given(
    weights=st.lists(st.floats(0, 5), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.1),
    capacity=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    part=st.floats(0, 1),
)
def test_a_capacity_is_kept_and_the_total_too(weights, capacity, part):
    total = int(part * sum(capacity))
    quota = share_out(weights, total, capacity)
    assert quota.sum() == total
    assert (quota <= capacity).all()
    assert (quota >= 0).all()


@given(capacity=capacities, parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_equal_shares_of_less_lie_within_those_of_more(capacity, parts):
    less, more = sorted(int(part * sum(capacity)) for part in parts)
    assert (share_equally(less, capacity) <= share_equally(more, capacity)).all()


# Rules


def test_proportional_and_equal():
    assert quotas("proportional", 5, [6, 3, 1]).tolist() == [3, 2, 0]
    assert quotas("equal", 5, [6, 3, 1]).tolist() == [2, 2, 1]


@pytest.mark.parametrize("rule", [[3, 1, 1], [0.6, 0.2, 0.2], {0: 3, 1: 1, 2: 1}])
def test_given_counts_and_shares(rule):
    before = contents(rule) if isinstance(rule, list) else dict(rule)
    assert quotas(rule, 5, [6, 3, 1]).tolist() == [3, 1, 1]
    assert before == (contents(rule) if isinstance(rule, list) else rule)


@pytest.mark.parametrize("rule", [{"cat": 3, "ox": 2}, {0: 3, 2: 2}, {np.int64(0): 0.6, "ox": 0.4}])
def test_classes_left_out_of_a_mapping_give_nothing(rule):
    assert quotas(rule, 5, [6, 3, 4], ["cat", "dog", "ox"]).tolist() == [3, 0, 2]


def test_one_image_may_be_a_count_or_a_share():
    assert quotas([0, 1, 0], 1, [6, 3, 4]).tolist() == [0, 1, 0]


def test_shares_are_rounded_to_the_total():
    assert quotas([1 / 3, 1 / 3, 1 / 3], 5, [6, 3, 4]).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            [3, 1, 2],
            "`class_balance` must sum to 5 (counts, the images to choose) or 1 (shares); got "
            "numbers that sum to 6. Change them.",
        ),
        (
            [2.5, 1.5, 1.0],
            "`class_balance` must sum to 5 (counts, the images to choose) or 1 (shares); got "
            "numbers that sum to 5. Change them.",
        ),
        (
            [1, 1, 3],
            "`class_balance` must not ask for more images than there are; class 'ox' has 1, "
            "asked for 3. Lower its part, or the ratio.",
        ),
        (
            [0.5, 0.5],
            "`class_balance` must hold one number, at least 0, for each of the 3 class values; "
            "got [0.5, 0.5]. Pass counts or shares.",
        ),
        (
            [6, -1, 0],
            "`class_balance` must hold one number, at least 0, for each of the 3 class values; "
            "got [6, -1, 0]. Pass counts or shares.",
        ),
        (
            {"cow": 5},
            "`class_balance` must name one of the 3 class values ('cat', 'dog', 'ox'); got "
            "'cow'. Correct the name.",
        ),
        (
            {3: 5},
            "`class_balance` must name one of the 3 class values ('cat', 'dog', 'ox'); got 3. "
            "Correct the name.",
        ),
        (
            "even",
            "`class_balance` must be one of 'proportional', 'equal'; got 'even'. Choose one.",
        ),
    ],
)
def test_what_is_no_rule_is_refused(rule, message):
    with pytest.raises(InvalidInputError, match=exactly(message)):
        quotas(rule, 5, [6, 3, 1], ["cat", "dog", "ox"])


def test_a_rule_of_another_type_is_refused():
    with pytest.raises(InvalidTypeError, match="must be 'none', 'proportional', 'equal', numb"):
        quotas([[1, 2], [3]], 5, [6, 3, 1])


def test_within_a_class_only_shares_are_taken():
    with pytest.raises(InvalidInputError, match=r"sum to 1 .shares.*apply within each class"):
        quotas([3, 1, 1], 5, [6, 3, 1], within=" of class 'a'")


# Cells


def cells(total, y=None, groups=None, candidates=None, **rules):
    n = len(y if y is not None else groups)
    parts = plan_cells(
        total,
        np.arange(n) if candidates is None else np.array(candidates, dtype=np.int64),
        classes=None if y is None else class_attribute(np.array(y), max(y) + 1, None),
        class_rule=rules.get("class_rule"),
        groups=None if groups is None else group_attribute(encode_groups(groups, n_images=n)),
        group_rule=rules.get("group_rule"),
    )
    return [(part.tolist(), quota) for part, quota in parts]


def test_without_rules_all_candidates_are_one_cell():
    assert cells(2, [0, 1, 0]) == [([0, 1, 2], 2)]
    assert cells(1, [0, 1, 0], candidates=[0, 2]) == [([0, 2], 1)]


def test_a_class_is_a_cell_and_so_is_a_group():
    assert cells(2, [0, 1, 0], class_rule="equal") == [([0, 2], 1), ([1], 1)]
    assert cells(2, groups=["b", "a", "b"], group_rule="equal") == [([1], 1), ([0, 2], 1)]


def test_groups_share_the_quota_of_their_class():
    y, groups = [0, 0, 0, 0, 1, 1, 1, 1], list("aaabaabb")
    found = cells(4, y, groups, class_rule="equal", group_rule="equal")
    assert found == [([0, 1, 2], 1), ([3], 1), ([4, 5], 1), ([6, 7], 1)]
    found = cells(6, y, groups, class_rule="equal", group_rule=[0.7, 0.3])
    assert found == [([0, 1, 2], 2), ([3], 1), ([4, 5], 2), ([6, 7], 1)]


def test_candidates_limit_what_a_class_can_give():
    found = cells(3, [0, 0, 0, 1, 1, 1], candidates=[0, 3, 4, 5], class_rule="proportional")
    assert found == [([0], 1), ([3, 4, 5], 2)]


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 40),
    part=st.floats(0.01, 1),
    class_rule=st.sampled_from([None, "proportional", "equal"]),
    group_rule=st.sampled_from([None, "proportional", "equal"]),
)
def test_cells_part_the_candidates_and_their_quotas_sum(seed, n, part, class_rule, group_rule):
    rng = np.random.default_rng(seed)
    y, groups = rng.integers(0, 4, n).tolist(), rng.integers(10, 13, n)
    candidates = np.flatnonzero(rng.random(n) < 0.8)
    total = int(part * len(candidates))
    found = cells(
        total, y, groups, candidates.tolist(), class_rule=class_rule, group_rule=group_rule
    )
    assert sum(quota for _, quota in found) == total
    assert all(0 <= quota <= len(members) for members, quota in found)
    assert sorted(i for members, _ in found for i in members) == candidates.tolist()


def test_groups_that_are_numbers_may_be_named_by_them():
    found = cells(2, groups=[20, 10, 20], group_rule={10: 1, 20: 1})
    assert found == [([1], 1), ([0, 2], 1)]
