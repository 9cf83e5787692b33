"""Tests of `benchmarks.experiments.heads`, its rivals and its pools."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.baselines.heads import (
    clap,
    logistic_regression,
    lp_plus_plus,
    tuned_logistic_regression,
)
from benchmarks.data.class_text_pools import TextPool
from benchmarks.experiments import heads
from benchmarks.experiments.heads import EXPERIMENT, HEADS, OURS, PLAIN, TUNED
from tests.benchmarks.experiment_checks import check_cells, rendered_twice
from tests.reference import random_unit

K, D = 4, 16


@pytest.fixture
def pool(rng):
    T = random_unit(rng, K, D).astype(np.float64)
    y = np.arange(80) % K
    Z = T[y] + 0.2 * rng.standard_normal((80, D))
    return TextPool(Z / np.linalg.norm(Z, axis=1, keepdims=True), y, T)


def softmax(logit_nk):
    power = np.exp(logit_nk - logit_nk.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


# Rivals


@pytest.mark.parametrize("head", HEADS)
def test_every_head_answers_for_every_class_and_learns(pool, head):
    rows, test = heads.draw(pool, 5, seed=0)
    logits = HEADS[head](pool, rows, test)
    assert logits.shape == (len(test), K)
    assert (logits.argmax(axis=1) == pool.code_n[test]).mean() > 0.9


def test_classes_without_labels_have_no_probability_in_a_logistic_regression(pool):
    Z, y = pool.image_emb_nd, pool.code_n
    rows = np.flatnonzero(y < 2)
    for fit in (logistic_regression, tuned_logistic_regression):
        P = softmax(fit(Z[rows], y[rows], Z, K))
        assert P[:, 2:].max() == 0


def test_clap_stays_at_texts_that_fit_and_leaves_those_that_do_not(pool):
    Z, y, T = pool
    near = clap(Z[:20], y[:20], T, Z)
    assert np.abs(near / 100 - Z @ T.T).max() < 0.2
    far = clap(Z[:20], y[:20], np.roll(T, 1, axis=0), Z)
    assert np.abs(far / 100 - Z @ np.roll(T, 1, axis=0).T).max() > 0.2


def test_lp_plus_plus_lowers_its_loss(pool):
    Z, y, T = pool
    logits = lp_plus_plus(Z[:8], y[:8], T, Z[:8])
    start = np.log(K)
    assert -np.log(softmax(logits)[np.arange(8), y[:8]]).mean() < start / 2


# The experiment


@pytest.mark.parametrize("size", ["quick", "standard"])
def test_cells_differ_and_stand_in_groups(size):
    check_cells(EXPERIMENT, EXPERIMENT.cells(size))


def test_seeds_that_are_reported_are_not_those_of_choosing():
    seeds = {cell["seed"] for cell in EXPERIMENT.cells("standard")}
    assert len(seeds) == 20
    assert min(seeds) >= heads.REPORTED > 8


def test_draws_are_balanced_leave_a_test_and_are_those_of_the_seed(pool):
    rows, test = heads.draw(pool, 5, seed=3)
    assert np.bincount(pool.code_n[rows]).tolist() == [5] * K
    assert sorted([*rows, *test]) == list(range(80))
    assert heads.draw(pool, 5, seed=3)[0].tolist() == rows.tolist()
    assert heads.draw(pool, 5, seed=4)[0].tolist() != rows.tolist()
    many, rest = heads.draw(pool, 1_000, seed=3)
    assert np.bincount(pool.code_n[rest]).tolist() == [heads.KEPT] * K
    assert len(many) + len(rest) == 80


def test_no_permuted_text_is_that_of_its_class(pool):
    for seed in range(10):
        given = heads.permuted(pool, seed)
        assert not (given.text_emb_kd == pool.text_emb_kd).all(axis=1).any()
        assert sorted(given.text_emb_kd[:, 0]) == sorted(pool.text_emb_kd[:, 0])


def test_calibration_error_by_hand():
    right = np.array([True, False, True, True])
    confidence = np.array([0.9, 0.9, 0.4, 0.4])
    assert heads.calibration_error(confidence, right) == pytest.approx(0.5 * 0.4 + 0.5 * 0.6)


def test_the_page(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "load_text_pool", lambda name, options: pool)
    rows = []
    for cell in EXPERIMENT.cells("quick"):
        if cell["per_class"] in (0, 2) and cell["pool"] in ("food", "products"):
            rows.append({**cell, **EXPERIMENT.run(cell, None)})
    text, _ = rendered_twice(EXPERIMENT, pd.DataFrame(rows), tmp_path)
    for word in (OURS, PLAIN, TUNED, "LP++", "CLAP", "permuted texts", "## food", "Calibration"):
        assert word in text
