"""One subset, several networks: the cells, one of them run, and the page."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments.architectures import EXPERIMENT, METHODS, cells, gain_plot
from benchmarks.experiments.subset_pages import prepare
from benchmarks.harness.cells import SIZES, Options
from tests.benchmarks.experiment_checks import rendered_twice
from tests.benchmarks.subset_cells import TINY, check_subset_cells, records_of


@pytest.mark.parametrize("size", SIZES)
def test_cells_are_distinct_whole_and_in_groups(size):
    check_subset_cells(EXPERIMENT, cells(size))


def test_sizes_keep_their_budgets():
    seconds = {size: sum(map(EXPERIMENT.cost_s, cells(size))) for size in SIZES}
    assert seconds["quick"] <= 100
    assert seconds["standard"] <= 700


@pytest.mark.parametrize("size", SIZES)
def test_every_network_is_trained_on_every_subset(size):
    networks = {"cnn", "resnet", "vit"} | ({"cnn-wide"} if size == "full" else set())
    subsets = {}
    for cell in cells(size):
        name = (cell["noise"], cell["seed"], cell["method"], cell["ratio"])
        subsets.setdefault(name, set()).add(cell["network"])
    assert all(found == networks for found in subsets.values())
    assert {name[2] for name in subsets} >= set(METHODS)


def test_networks_see_the_same_subset():
    cell = {**cells("quick")[-1], **TINY, "method": "default"}
    first, second = (
        EXPERIMENT.run({**cell, "network": name}, Options()) for name in ("cnn", "vit")
    )
    assert {**first, "accuracy": 0} == {**second, "accuracy": 0}
    assert 0 <= first["accuracy"] <= 1
    assert not set(first) & set(cell)


def test_the_page_is_made_of_the_records_whatever_their_order(tmp_path):
    records = records_of(cells("quick"))
    shuffled = records.sample(frac=1, random_state=0)
    text, plots = rendered_twice(EXPERIMENT, records, tmp_path, shuffled)
    names = [f"architectures-gain-{100 * noise:.0f}.svg" for noise in sorted(set(records["noise"]))]
    assert list(plots) == names
    chosen = records[
        (records["noise"] == 0.2) & (records["method"] == "Moderate-DS")
        & (records["network"] == "vit") & (records["ratio"] == 0.3)
    ]["accuracy"]  # fmt: skip
    assert f"| {100 * chosen.mean():.1f}" in text


def test_bars_are_differences_to_random():
    records = prepare(records_of(cells("standard")))
    part = records[records["noise"] == 0.2]
    axes = gain_plot(part).axes[0]
    means = part.groupby(["method", "network"])["accuracy"].mean()
    for bars in [c for c in axes.containers if hasattr(c, "patches")]:
        heights = [patch.get_height() for patch in bars.patches]
        gain = 100 * (means[bars.get_label()] - means["random"])
        np.testing.assert_allclose(heights, gain.to_numpy())
    assert [t.get_text() for t in axes.get_xticklabels()] == ["cnn", "resnet", "vit"]
