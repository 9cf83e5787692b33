"""Tests of `benchmarks.experiments.expected_accuracy`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiments import expected_accuracy as experiment
from benchmarks.experiments.expected_accuracy import EXPERIMENT, OURS, POOLS, RIVALS, Drawn
from tests.benchmarks.experiment_checks import check_cells, rendered_twice
from tests.reference import random_unit

K, D = 3, 8


@pytest.fixture
def whole(rng):
    T = random_unit(rng, K, D).astype(np.float64)
    y = np.arange(600) % K
    Z = T[y] + 0.35 * rng.standard_normal((600, D))
    return Drawn(Z / np.linalg.norm(Z, axis=1, keepdims=True), y, T, 100.0)


def test_cells_are_grouped_and_none_is_of_a_seed_that_chose():
    for size in ("quick", "standard"):
        cells = EXPERIMENT.cells(size)
        check_cells(EXPERIMENT, cells)
        assert min(cell["seed"] for cell in cells) >= experiment.REPORTED > experiment.CHOOSING + 22
        assert {cell["pool"] for cell in cells} == set(POOLS)


def test_a_draw_is_long_tailed_and_of_its_seed(whole):
    one = experiment.draw(whole, 1)
    counts = np.sort(np.bincount(one.code_n, minlength=K))
    assert counts[-1] > 2 * counts[0] > 0
    assert len(one.code_n) <= experiment.N_IMAGES
    np.testing.assert_array_equal(experiment.draw(whole, 1).emb_nd, one.emb_nd)
    other = experiment.draw(whole, 2)
    assert other.emb_nd.shape != one.emb_nd.shape or (other.emb_nd != one.emb_nd).any()


def test_right_labels_count_what_was_given(whole):
    prob = np.eye(K)[np.zeros(600, dtype=int)]  # a head that knows class 0 alone
    after = experiment.Round(np.flatnonzero(whole.code_n == 1)[:60], None, prob)
    assert experiment.labels_right(whole, after) == pytest.approx((200 + 60) / 600)


def run_of(gains, true_gains):
    frame = pd.DataFrame(
        {"labels": [50, 100, 150, 200][: len(gains)], "gain": gains, "true_gain": true_gains}
    )
    frame["true_all"] = 0.5 + np.r_[0.0, np.cumsum(true_gains)[:-1]]
    return frame.assign(pool="p", seed=1)


def test_stopping_by_hand():
    run = run_of([0.04, 0.005, 0.03, 0.0], [0.05, 0.02, 0.01, 0.01])
    assert experiment._stop(run, run.gain, 0.01) == pytest.approx((100, 0.04))
    assert experiment._stop(run, run.gain, 0.0) == pytest.approx((250, 0.0))
    table = experiment.stopping(run)
    assert table.loc["p", "worth 1.0"] == "100 labels, 4.0 lost (250, 0.0)"


def test_the_page(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "load_whole", lambda name, options: whole)
    monkeypatch.setattr(experiment, "N_IMAGES", 140)
    monkeypatch.setattr(experiment, "LABELS", (50, 100))
    experiment.label_in_rounds.cache_clear()
    rows = []
    for labels in (50, 100):
        cell = {"pool": POOLS[0], "seed": 1_000, "labels": labels}
        rows.append({**cell, **EXPERIMENT.run(cell, None)})
    experiment.label_in_rounds.cache_clear()
    assert rows[0]["unlabelled"] == rows[0]["images"] - 50
    assert rows[1] == {"pool": POOLS[0], "seed": 1_000, "labels": 100, "unlabelled": 0}
    low, high = rows[0]["unlabelled_interval"]
    assert low <= rows[0]["true_unlabelled"] <= high
    text, _ = rendered_twice(EXPERIMENT, pd.DataFrame(rows), tmp_path)
    for word in (OURS, *RIVALS, "within 3", "promised", "Where to stop", f"{POOLS[0]}: 50"):
        assert word in text
