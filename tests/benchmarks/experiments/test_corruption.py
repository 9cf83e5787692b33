"""Corrupted images: the cells, one of them run, and the page."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments.corruption import EXPERIMENT, METHODS, cells
from benchmarks.harness.cells import SIZES, Options
from benchmarks.training.subsets import Condition, Proxy, choose, fields_of, load_condition, task_of
from tests.benchmarks.experiment_checks import rendered_twice
from tests.benchmarks.subset_cells import TINY, check_subset_cells, records_of


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_distinct_whole_and_in_groups(size):
    found = cells(size)
    check_subset_cells(EXPERIMENT, found)
    assert {cell["method"] for cell in found} == set(METHODS)


def test_sizes_keep_their_budgets():
    seconds = {size: sum(map(EXPERIMENT.cost_s, cells(size))) for size in SIZES}
    assert seconds["quick"] <= 100
    assert seconds["standard"] <= 800


def test_the_share_of_corrupted_images_is_counted():
    options = Options()
    cell = {**cells("quick")[-1], **TINY, "corrupted_share": 0.2, "method": "default"}
    values = EXPERIMENT.run(cell, options)
    condition = Condition(**fields_of(Condition, cell))
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    corrupted_n = load_condition(condition, options).corrupted_n
    indices = choose("default", task, cell["ratio"])
    assert values["corrupted"] == np.mean([corrupted_n[i] for i in indices])
    assert values["wrong"] == 0
    everything = EXPERIMENT.run({**cell, "ratio": 1.0}, options)
    assert everything["corrupted"] == pytest.approx(0.2)
    assert not set(values) & set(cell)


def test_the_page_is_made_of_the_records_whatever_their_order(tmp_path):
    records = records_of(cells("quick"), corrupted=lambda share: share / 9)
    shuffled = records.sample(frac=1, random_state=0)
    text, plots = rendered_twice(EXPERIMENT, records, tmp_path, shuffled)
    values = ("accuracy", "corrupted")
    names = sorted(f"corruption-{value}-{share}.svg" for value in values for share in (30, 70))
    assert list(plots) == names
    chosen = records[
        (records["corrupted_share"] == 0.2) & (records["method"] == "Moderate-DS")
        & (records["ratio"] == 0.7)
    ]  # fmt: skip
    for value in values:
        assert f"| {100 * chosen[value].mean():.1f}" in text
