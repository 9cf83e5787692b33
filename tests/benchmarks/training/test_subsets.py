"""From a condition to subsets, what is in them, and what a network learns from them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.harness.cells import Options
from benchmarks.training import subsets
from benchmarks.training.networks import make_network
from benchmarks.training.subsets import (
    ALL,
    OURS,
    PROXY_SEED,
    Condition,
    Material,
    Proxy,
    choose,
    fields_of,
    fitted_selector,
    load_condition,
    n_chosen,
    run_cell,
    subset_facts,
    task_of,
    train_accuracy,
)
from benchmarks.training.training import accuracy, train
from clip_al import ClipEncoder, ClipSelector

NOISY = Condition("digits", 20, 5, 0.2, "symmetric", 0.0, 3)
CORRUPTED = replace(NOISY, noise=0.0, corrupted_share=0.1)
PROXY = Proxy("resnet", 6, 3, 2, 2)
OPTIONS = Options()


@pytest.fixture(scope="module")
def task():
    return task_of(NOISY, OPTIONS, PROXY)


def test_a_condition_has_exactly_its_share_of_wrong_labels():
    material = load_condition(NOISY, OPTIONS)
    assert len(material.given_n) == 200
    assert (material.given_n != material.pool.y).sum() == 40
    assert not material.corrupted_n.any()


def test_pairs_turn_to_the_next_class():
    material = load_condition(replace(NOISY, noise_kind="pair"), OPTIONS)
    turned = material.given_n != material.pool.y
    np.testing.assert_array_equal(
        material.given_n[turned], (material.pool.y[turned] + 1) % len(material.pool.classes)
    )


def test_the_embeddings_are_those_of_the_corrupted_images():
    clean, material = load_condition(NOISY, OPTIONS), load_condition(CORRUPTED, OPTIONS)
    np.testing.assert_array_equal(material.given_n, material.pool.y)
    assert material.corrupted_n.sum() == 20
    differs = (clean.pool.images != material.pool.images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(differs, material.corrupted_n)
    encoded = ClipEncoder("mini").encode_images(material.pool.images)
    np.testing.assert_allclose(material.emb_nd, encoded, atol=1e-5)
    assert not np.allclose(clean.emb_nd[differs], encoded[differs], atol=1e-2)


def test_what_cells_share_is_made_once():
    same = Condition(**fields_of(Condition, {**asdict(NOISY), "method": "random"}))
    assert load_condition(same, OPTIONS) is load_condition(NOISY, OPTIONS)
    assert task_of(same, OPTIONS, PROXY) is task_of(NOISY, OPTIONS, PROXY)
    other = task_of(replace(NOISY, seed=4), OPTIONS, PROXY)
    assert (other.given_n != task_of(NOISY, OPTIONS, PROXY).given_n).any()


def test_the_proxy_is_trained_once_for_all_methods_and_ratios(monkeypatch):
    calls = []
    real = subsets.record_training
    monkeypatch.setattr(
        subsets, "record_training", lambda *args, **kw: calls.append(kw) or real(*args, **kw)
    )
    task = task_of(replace(NOISY, per_class=10), OPTIONS, PROXY)
    choose("random", task, 0.5)
    choose("default", task, 0.5)
    assert calls == []
    for ratio in (0.3, 0.6):
        choose("EL2N", task, ratio)
        choose("Herding", task, ratio)
    (call,) = calls
    asked = {"network": "resnet", "n_steps": 6, "early_steps": 3, "n_early": 2, "n_checkpoints": 2}
    assert call == {**asked, "n_classes": 10, "seed": PROXY_SEED + 3, "device": "cpu"}


@pytest.mark.parametrize(
    "method", [*OURS, "random", "Moderate-DS", "EL2N", "cleanlab pruning", "CCS"]
)
def test_a_method_chooses_that_many_images_and_again_the_same(method, task):
    indices = choose(method, task, 0.35)
    assert len(indices) == len(set(indices.tolist())) == 70
    assert indices.dtype == np.int64
    assert indices.min() >= 0 and indices.max() < 200  # noqa: PT018
    choose.cache_clear()
    fitted_selector.cache_clear()
    np.testing.assert_array_equal(choose(method, task, 0.35), indices)


def test_our_methods_are_a_selector_with_those_settings(task):
    for method, settings in (
        ("default", {}),
        ("short", {"preset": "short"}),
        ("cosine", {"preset": "short", "alignment": "cosine"}),
    ):
        selector = ClipSelector(
            0.3, class_embeddings=task.class_emb_kd, random_state=3, **settings
        ).fit(task.emb_nd, task.given_n)
        np.testing.assert_array_equal(choose(method, task, 0.3), selector.selection_.indices)


def test_the_seed_reaches_the_adapter_of_a_variant():
    assert OURS["GCE adapter"](7)["adapter"].random_state == 7


def test_all_is_every_image_and_what_is_chosen_cannot_be_changed(task):
    indices = choose(ALL, task, 1.0)
    np.testing.assert_array_equal(indices, np.arange(200))
    with pytest.raises(ValueError, match="read-only"):
        indices[0] = 1


def test_an_unknown_method_is_refused(task):
    with pytest.raises(ValueError, match=r"must be one of all, random, .*; got 'best'"):
        choose("best", task, 0.3)


def test_numbers_are_those_of_the_selector(task):
    selector = fitted_selector("default", task)
    for ratio in (0.0025, 0.0125, 0.3, 0.3325, 0.9, 1.0):
        assert n_chosen(ratio, 200) == len(selector.select(ratio))
    with pytest.raises(ValueError, match="selects none"):
        n_chosen(0.001, 200)


def test_facts_are_those_of_a_loop():
    material = load_condition(NOISY, OPTIONS)
    rng = np.random.default_rng(0)
    material = Material(
        material.pool, material.emb_nd, material.class_emb_kd, material.given_n,
        rng.random(200) < 0.3,
    )  # fmt: skip
    indices = rng.permutation(200)[:60]
    wrong = corrupted = 0
    counts = dict.fromkeys(range(10), 0)
    for i in indices:
        wrong += int(material.given_n[i] != material.pool.y[i])
        corrupted += int(material.corrupted_n[i])
        counts[int(material.pool.y[i])] += 1
    balance = min(counts.values()) / max(counts.values())
    expected = {"n": 60, "wrong": wrong / 60, "balance": balance, "corrupted": corrupted / 60}
    assert subset_facts(indices, material) == pytest.approx(expected)
    assert wrong * corrupted * balance > 0


def test_accuracy_is_that_of_a_new_network_trained_on_the_given_labels():
    material = load_condition(NOISY, OPTIONS)
    indices = np.random.default_rng(1).permutation(200)[:80]
    found = train_accuracy(indices, material, network="cnn", n_steps=8, seed=5)
    model, chosen = make_network("cnn", 10, seed=5), np.sort(indices)
    train(model, material.pool.images[chosen], material.given_n[chosen], n_steps=8, seed=5)
    assert found == accuracy(model, material.pool.test_images, material.pool.y_test)
    turned = train_accuracy(indices[::-1], material, network="cnn", n_steps=8, seed=5)
    assert turned == found


def test_a_cell_is_choosing_looking_and_training(task):
    cell = {
        **asdict(NOISY), **asdict(PROXY), "method": "default", "ratio": 0.4,
        "network": "cnn", "steps": 8,
    }  # fmt: skip
    values = run_cell(cell, OPTIONS)
    material, indices = load_condition(NOISY, OPTIONS), choose("default", task, 0.4)
    expected = train_accuracy(indices, material, network="cnn", n_steps=8, seed=3)
    assert values == {**subset_facts(indices, material), "accuracy": expected}
    assert not set(values) & set(cell)
