"""Scores from a training equal slow loops written from their equations."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks.baselines.el2n import el2n_scores
from benchmarks.baselines.forgetting import forgetting_scores
from benchmarks.baselines.glister import ROUNDS, STEP, glister_indices
from benchmarks.baselines.grand import BLOCK, grand_scores, image_gradients
from benchmarks.baselines.moso import mean_gradient, moso_scores
from benchmarks.training.networks import in_float32, make_network
from benchmarks.training.training import to_input, train
from tests.benchmarks.toy_images import colours

K = 3
NAMES = ["cnn", "resnet", "vit"]


@pytest.fixture(scope="module")
def pictures():
    """One more than a block, so that the last one is short."""
    images, given_n = colours(BLOCK + 6, k=K)
    given_n[:9] = (given_n[:9] + 1) % K  # wrong labels
    return images, given_n


def trained(pictures, name, seed=0, n_steps=12):
    network = make_network(name, K, seed=seed, image_size=16)
    return train(network, *pictures, n_steps=n_steps, seed=seed)


def slow_gradients(network, images, given_n):
    """One backward pass an image, float64."""
    twin = in_float32(network).double()
    rows = []
    for image, label in zip(images, given_n, strict=True):
        twin.zero_grad()
        x = to_input(torch.from_numpy(image[None])).double()
        # `forward`, with nothing turned to float32 on the way.
        logits = twin.head(twin._pool(x))
        F.cross_entropy(logits, torch.tensor([label])).backward()
        rows.append(torch.cat([p.grad.flatten() for p in twin.parameters()]).numpy())
    return np.array(rows)


# Forgetting


def test_forgetting_counts_events():
    rng = np.random.default_rng(0)
    correct_en = rng.random((6, 40)) < 0.4
    correct_en[:, 0] = False
    correct_en[:, 1] = True
    given = correct_en.copy()
    expected = []
    for image in correct_en.T.tolist():
        events, learned = 0, False
        for now, then in itertools.pairwise(image):
            events += now and not then
        for right in image:
            learned = learned or right
        expected.append(events if learned else len(image) + 1)
    scores = forgetting_scores(correct_en)
    assert scores.dtype == np.float64
    assert scores.tolist() == expected
    assert scores[0] == 7 > np.delete(scores, np.flatnonzero(~correct_en.any(0))).max()
    assert scores[1] == 0
    np.testing.assert_array_equal(correct_en, given)


# EL2N


def test_el2n_is_the_mean_length_of_the_error():
    rng = np.random.default_rng(1)
    prob_rnk = rng.dirichlet(np.ones(4), (3, 20)).astype(np.float32)
    given_n = rng.integers(0, 4, 20)
    given = prob_rnk.copy()
    expected = []
    for i in range(20):
        total = 0.0
        for r in range(3):
            squares = sum((float(prob_rnk[r, i, k]) - (k == given_n[i])) ** 2 for k in range(4))
            total += squares**0.5
        expected.append(total / 3)
    scores = el2n_scores(prob_rnk, given_n)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    np.testing.assert_array_equal(prob_rnk, given)


# GraNd


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_single_backward_passes(pictures, name):
    network = trained(pictures, name)
    blocks = list(image_gradients(network, *pictures))
    assert [len(block) for block in blocks] == [BLOCK, 6]
    expected = slow_gradients(network, *pictures)
    found = torch.cat(blocks).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_grand_is_the_mean_length_of_the_gradient(pictures):
    models = [trained(pictures, "resnet", seed, 4).train() for seed in (0, 1)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    expected = np.mean(
        [np.linalg.norm(slow_gradients(model, *pictures), axis=1) for model in models], 0
    )
    images = pictures[0].copy()
    scores = grand_scores(models, *pictures)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-3)
    np.testing.assert_array_equal(scores, grand_scores(models, *pictures))
    np.testing.assert_array_equal(images, pictures[0])
    for model, state in zip(models, before, strict=True):
        assert model.training
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


# MoSo


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_gradient_is_the_mean(pictures, name):
    network = trained(pictures, name)
    expected = slow_gradients(network, *pictures).mean(0)
    found = mean_gradient(network, *pictures, block=50).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-3)


def test_moso_is_the_agreement_with_the_rest(pictures):
    checkpoints = [(0.1, trained(pictures, "cnn", 0, 4)), (0.03, trained(pictures, "cnn", 0, 12))]
    n = len(pictures[0])
    expected = np.zeros(n)
    for rate, network in checkpoints:
        grad_np = slow_gradients(network, *pictures)
        for z in range(n):
            rest_p = sum(grad_np[i] for i in range(n) if i != z) / (n - 1)
            expected[z] += rate * rest_p @ grad_np[z] / len(checkpoints)
    scores = moso_scores(checkpoints, *pictures)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(scores, moso_scores(checkpoints, *pictures))


def test_moso_approximates_moving_an_image_out(pictures):
    """After a step without an image the loss of the rest is higher by the score over n."""
    network = in_float32(trained(pictures, "cnn", 0, 12)).double()
    grad_np = slow_gradients(network, *pictures)
    n, rate = len(grad_np), 1e-4
    start = torch.cat([p.detach().flatten() for p in network.parameters()])
    x, y = to_input(torch.from_numpy(pictures[0])).double(), torch.from_numpy(pictures[1])

    def put(weights_p):
        sizes = [p.numel() for p in network.parameters()]
        with torch.no_grad():
            for p, part in zip(network.parameters(), weights_p.split(sizes), strict=True):
                p.copy_(part.reshape(p.shape))

    def loss_of_rest(z, step_p):
        put(start - rate * torch.from_numpy(step_p))
        with torch.no_grad():
            losses = F.cross_entropy(network.head(network._pool(x)), y, reduction="none")
        return float((losses.sum() - losses[z]) / (n - 1))

    risen = []
    for z in (0, 3, 20, 40):
        whole_p, rest_p = grad_np.sum(0) / n, (grad_np.sum(0) - grad_np[z]) / n
        risen.append(loss_of_rest(z, rest_p) - loss_of_rest(z, whole_p))
    put(start)
    scores = moso_scores([(rate, network.float())], *pictures)[[0, 3, 20, 40]] / n
    np.testing.assert_allclose(risen, scores, rtol=0.1, atol=1e-3 * np.abs(scores).max())


# Glister


def outputs(n=60, f=5, k=4, seed=0):
    """Features, probabilities of a linear layer on them, and labels it mostly agrees with."""
    rng = np.random.default_rng(seed)
    features_nf = rng.standard_normal((n, f)).astype(np.float32)
    logits_nk = features_nf @ rng.standard_normal((f, k))
    prob_nk = np.exp(logits_nk) / np.exp(logits_nk).sum(1, keepdims=True)
    given_n = np.where(rng.random(n) < 0.3, rng.integers(0, k, n), prob_nk.argmax(1))
    return features_nf, prob_nk.astype(np.float32), given_n


def slow_glister(features_nf, prob_nk, given_n, n_wanted, sizes):
    """Gradients written out, one image at a time."""
    n, k = prob_nk.shape

    def gradient(prob_k, i):
        error = [float(prob_k[j]) - (j == given_n[i]) for j in range(k)]
        return np.outer(error, [*features_nf[i].astype(float), 1.0])

    picked = []
    for size in sizes:
        step = sum(gradient(prob_nk[i], i) for i in picked) / max(len(picked), 1)
        loss = 0
        for i in range(n):
            row = np.array([*features_nf[i].astype(float), 1.0])
            logits = np.log(prob_nk[i].astype(float))
            if picked:
                logits = logits - STEP * step @ row
            moved = np.exp(logits) / np.exp(logits).sum()
            loss = loss + gradient(moved, i) / n
        gains = {
            i: float((gradient(prob_nk[i], i) * loss).sum()) for i in range(n) if i not in picked
        }
        picked += sorted(gains, key=lambda i: (-gains[i], i))[:size]
    assert len(picked) == n_wanted
    return picked


def test_few_images_are_picked_one_by_one():
    case = outputs()
    found = glister_indices(*case, ROUNDS)
    assert found.dtype == np.int64
    assert found.tolist() == slow_glister(*case, ROUNDS, [1] * ROUNDS)
    assert glister_indices(*case, 4).tolist() == found[:4].tolist()


@pytest.mark.parametrize("n_wanted", [16, 31, 45, 60])
def test_more_are_picked_in_rounds(n_wanted):
    case = outputs(seed=1)
    before = [array.copy() for array in case]
    found = glister_indices(*case, n_wanted)
    ends = [-(-r * n_wanted // ROUNDS) for r in range(ROUNDS + 1)]
    assert found.tolist() == slow_glister(*case, n_wanted, np.diff(ends).tolist())
    assert len(set(found.tolist())) == n_wanted
    np.testing.assert_array_equal(found, glister_indices(*case, n_wanted))
    for array, copied in zip(case, before, strict=True):
        np.testing.assert_array_equal(array, copied)


def test_the_steps_matter():
    """Were G never computed anew, the order would be that of the first gains."""
    case = outputs(seed=1)
    once = slow_glister(*case, 45, [45])
    assert glister_indices(*case, 45).tolist() != once


def test_ties_go_to_the_lowest_index():
    features_nf, prob_nk, given_n = (np.concatenate([a, a]) for a in outputs(10))
    found = glister_indices(features_nf, prob_nk, given_n, 20)
    places = {int(i): place for place, i in enumerate(found)}
    assert all(places[i] < places[i + 10] for i in range(10))


def test_a_probability_of_zero_is_no_trouble():
    features_nf, prob_nk, given_n = outputs()
    prob_nk[:20] = np.eye(4, dtype=np.float32)[given_n[:20]]
    prob_nk[20:25] = np.eye(4, dtype=np.float32)[(given_n[20:25] + 1) % 4]
    found = glister_indices(features_nf, prob_nk, given_n, 60)
    assert sorted(found.tolist()) == list(range(60))
