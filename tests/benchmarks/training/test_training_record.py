"""A record of a training holds what the training went through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.training import training_record
from benchmarks.training.networks import SmallViT, make_network
from benchmarks.training.training import BATCH_SIZE, learning_rate, predict, train
from benchmarks.training.training_record import record_training
from tests.benchmarks.toy_images import colours

N, K = 100, 3


@pytest.fixture(scope="module")
def pictures():
    return colours(N, k=K)


SETTINGS = {
    "n_classes": K, "n_steps": 7, "early_steps": 3, "n_early": 2, "n_checkpoints": 3, "seed": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def record(pictures):
    return record_training(*pictures, **SETTINGS)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_shapes_and_types(record, pictures):
    images, given_n = pictures
    assert record.images is images
    assert record.given_n is given_n
    assert record.prob_enk.shape == (4, N, K)  # 448 images: passes end in batches 2, 4, 5; the last
    assert record.early_prob_rnk.shape == (2, N, K)
    assert record.features_nf.shape == (N, 64)
    for array in (record.prob_enk, record.early_prob_rnk, record.features_nf):
        assert array.dtype == np.float32
    np.testing.assert_allclose(record.prob_enk.sum(2), 1, rtol=1e-5)


def test_snapshots_are_those_of_a_plain_training(record, pictures):
    images, given_n = pictures
    proxy = make_network("resnet", K, seed=4)
    probs = {}

    def look(step, rate):
        probs[step] = predict(proxy, images)[0]

    train(proxy, images, given_n, n_steps=7, seed=4, on_step=look)
    np.testing.assert_array_equal(record.prob_enk, np.stack([probs[s] for s in (2, 4, 5, 7)]))
    np.testing.assert_array_equal(record.features_nf, predict(proxy, images)[1])


def test_checkpoints_lie_along_the_training(record, pictures):
    images, given_n = pictures
    proxy = make_network("resnet", K, seed=4)
    assert [rate for rate, _ in record.checkpoints] == [learning_rate(s / 7) for s in (1, 3, 5)]
    at = dict(zip((2, 4, 6), record.checkpoints, strict=True))

    def look(step, rate):
        if step in at:
            assert at[step][0] == rate
            assert same(at.pop(step)[1], proxy)

    train(proxy, images, given_n, n_steps=7, seed=4, on_step=look)
    assert not at
    assert not any(network.training for _, network in record.checkpoints)


def test_early_networks_differ_from_each_other(record, pictures):
    first, second = record.early_models
    assert not same(first, second)
    for early, prob_nk in zip(record.early_models, record.early_prob_rnk, strict=True):
        assert not early.training
        np.testing.assert_array_equal(predict(early, pictures[0])[0], prob_nk)


def test_the_seed_decides(record, pictures):
    images, given_n = pictures[0].copy(), pictures[1].copy()
    again = record_training(*pictures, **SETTINGS)
    other = record_training(*pictures, **SETTINGS | {"seed": 5})
    np.testing.assert_array_equal(again.prob_enk, record.prob_enk)
    np.testing.assert_array_equal(again.early_prob_rnk, record.early_prob_rnk)
    assert not np.array_equal(other.prob_enk, record.prob_enk)
    assert not np.array_equal(other.early_prob_rnk, record.early_prob_rnk)
    np.testing.assert_array_equal(pictures[0], images)
    np.testing.assert_array_equal(pictures[1], given_n)


def test_another_network_and_size(pictures):
    images, given_n = pictures
    small = record_training(
        images[:20, :8, :8], given_n[:20], n_classes=K, network="vit",
        n_steps=2, early_steps=1, n_early=1, n_checkpoints=5, seed=0,
    )  # fmt: skip
    assert isinstance(small.early_models[0], SmallViT)
    assert small.features_nf.shape == (20, 96)
    assert len(small.checkpoints) == 2  # there are no more steps


@pytest.mark.parametrize(("n", "n_steps"), [(100, 7), (64, 5), (10, 9), (1000, 3), (300, 400)])
def test_passes_end_where_as_many_images_were_read(n, n_steps):
    ends = [
        step for step in range(1, n_steps)
        if step * BATCH_SIZE // n > (step - 1) * BATCH_SIZE // n
    ]  # fmt: skip
    found = training_record._ends_of_passes(n, n_steps).tolist()
    if len(ends) < training_record.MAX_SNAPSHOTS:
        assert found == ends
        return
    assert len(found) == training_record.MAX_SNAPSHOTS - 1
    assert set(found) <= set(ends)
    assert found[0] == ends[0]
    assert found[-1] == ends[-1]
    gaps = np.diff(found)
    assert gaps.max() <= 2 * gaps.min()
