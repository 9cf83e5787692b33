"""Accuracy against ratio: the cells, one of them run, and the page."""

from __future__ import annotations

import pytest

from benchmarks.experiments.ratios import EXPERIMENT, KEY_METHODS, cells
from benchmarks.harness.cells import SIZES, Options
from benchmarks.training.subsets import (
    OURS,
    Condition,
    Proxy,
    choose,
    fields_of,
    load_condition,
    subset_facts,
    task_of,
    train_accuracy,
)
from tests.benchmarks.experiment_checks import rendered, rendered_twice
from tests.benchmarks.subset_cells import TINY, check_subset_cells, records_of


def made_up(cells):
    return records_of(cells, wrong=lambda share: share / 5)


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_distinct_whole_and_in_groups(size):
    check_subset_cells(EXPERIMENT, cells(size))


def test_sizes_keep_their_budgets():
    seconds = {size: sum(map(EXPERIMENT.cost_s, cells(size))) for size in SIZES}
    assert seconds["quick"] <= 100
    assert seconds["standard"] <= 4200


def test_key_methods_have_three_seeds_and_every_ratio_at_every_noise():
    for noise in (0.0, 0.2, 0.5):
        for method in KEY_METHODS:
            rows = [
                (c["ratio"], c["seed"])
                for c in cells("standard")
                if (c["noise"], c["method"], c["network"]) == (noise, method, "resnet")
            ]
            assert {ratio for ratio, _ in rows} == {0.2, 0.3, 0.5, 0.7, 0.9}
            assert {seed for _, seed in rows} >= {0, 1, 2}
    assert set(OURS) < {c["method"] for c in cells("full")}


def test_a_cell_is_what_a_plain_recomputation_gives():
    options = Options()
    cell = {**cells("quick")[-1], **TINY, "method": "EL2N", "network": "cnn"}
    values = EXPERIMENT.run(cell, options)
    condition = Condition(**fields_of(Condition, cell))
    material = load_condition(condition, options)
    task = task_of(condition, options, Proxy(**fields_of(Proxy, cell)))
    indices = choose("EL2N", task, cell["ratio"])
    expected = train_accuracy(indices, material, network="cnn", n_steps=4, seed=cell["seed"])
    assert values == {**subset_facts(indices, material), "accuracy": expected}
    assert not set(values) & set(cell)


def test_the_page_is_made_of_the_records_whatever_their_order(tmp_path):
    records = made_up(cells("quick"))
    shuffled = records.sample(frac=1, random_state=0)
    text, plots = rendered_twice(EXPERIMENT, records, tmp_path, shuffled)
    assert list(plots)[:2] == ["ratios-accuracy-0.svg", "ratios-accuracy-20.svg"]
    assert all(f"({name})" in text for name in plots)


def test_the_page_shows_means_and_verdicts(tmp_path):
    records = made_up(cells("standard"))
    text, _ = rendered(EXPERIMENT, records, tmp_path)
    part = records[(records["noise"] == 0.2) & (records["network"] == "resnet")]
    chosen = part[(part["method"] == "default") & (part["ratio"] == 0.3)]
    cell = f"{100 * chosen['accuracy'].mean():.1f} ± {100 * chosen['accuracy'].std():.1f}"
    wrong = f"{100 * chosen['wrong'].mean():.1f} ± {100 * chosen['wrong'].std():.1f}"
    assert f"| {cell} |" in text
    assert f"| {wrong} |" in text
    means = part[part["method"].isin(["default", "random"])].groupby(["method", "ratio"])
    gain = means["accuracy"].mean().unstack(0)
    better = int((gain["default"] > gain["random"]).sum())
    line = next(row for row in text.splitlines() if row.startswith("| against random |"))
    assert line.split("|")[3].strip().startswith(f"better at {better} of 5")
    assert "## 50 % of the labels wrong" in text
    assert "small transformer" in text


def test_a_page_of_few_records_is_written_too(tmp_path):
    few = [c for c in cells("quick") if c["method"] in ("all", "default") and c["noise"] == 0.0]
    assert "All labels right" in rendered(EXPERIMENT, made_up(few), tmp_path)[0]
