"""Tests of `benchmarks.harness.paired`."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from benchmarks.harness.paired import best_of, compare


def records(first, second, rounds=1):
    rows = []
    for method, scores in (("first", first), ("second", second)):
        for seed, score in enumerate(scores):
            for r in range(rounds):
                rows.append({"method": method, "seed": seed, "round": r, "score": score + r})
    return pd.DataFrame(rows)


def test_it_is_the_paired_t_test_over_seeds():
    first, second = [0.7, 0.9, 0.8, 0.75], [0.6, 0.85, 0.82, 0.7]
    found = compare(records(first, second), "first", "second", value="score")
    difference = np.subtract(first, second)
    assert found.mean == pytest.approx(difference.mean())
    assert found.deviation == pytest.approx(difference.std(ddof=1))
    assert (found.n, found.wins) == (4, 3)
    assert found.p == pytest.approx(ttest_rel(first, second).pvalue)


def test_rounds_of_a_seed_are_one_unit():
    first, second = [0.7, 0.9, 0.8], [0.6, 0.85, 0.82]
    once = compare(records(first, second), "first", "second", value="score")
    thrice = compare(records(first, second, rounds=3), "first", "second", value="score")
    assert (once.n, thrice.n) == (3, 3)
    assert thrice.p == pytest.approx(once.p)


def test_the_order_of_the_rows_does_not_matter():
    table = records([0.7, 0.9, 0.8], [0.6, 0.85, 0.82])
    shuffled = table.sample(frac=1, random_state=0)
    assert compare(table, "first", "second", value="score") == compare(
        shuffled, "first", "second", value="score"
    )


def test_only_units_that_have_both_count():
    found = compare(records([0.7, 0.9, 0.8], [0.6, 0.85]), "first", "second", value="score")
    assert found.n == 2


def test_one_unit_has_no_test():
    found = compare(records([0.7], [0.6]), "first", "second", value="score")
    assert found.mean == pytest.approx(0.1)
    assert math.isnan(found.p)
    assert math.isnan(found.deviation)


def test_equal_methods_do_not_differ():
    found = compare(records([0.7, 0.8], [0.7, 0.8]), "first", "second", value="score")
    assert (found.mean, found.wins, found.p) == (0.0, 0, 1.0)


def test_a_method_that_was_not_run_is_an_error():
    with pytest.raises(ValueError, match="No seed has both 'first' and 'third'"):
        compare(records([0.7], [0.6]), "first", "third", value="score")


def test_the_best_is_that_of_the_highest_mean():
    table = records([0.7, 0.9], [0.85, 0.6])
    assert best_of(table, ["second", "first", "absent"], value="score") == "first"
