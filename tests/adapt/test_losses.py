"""Tests of `clip_al.adapt.losses`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_al.adapt import losses
from clip_al.adapt.losses import LOSSES

# Reference: over all b × b pairs of an image and a text, as the definitions have it


def log_sum(values):
    largest = max(values)
    return largest + math.log(sum(math.exp(value - largest) for value in values))


def diagonal(logits, y):
    b = len(y)
    pair = [[logits[i][y[j]] for j in range(b)] for i in range(b)]
    rows = [log_sum(pair[i]) - pair[i][i] for i in range(b)]
    columns = [log_sum([pair[i][j] for i in range(b)]) - pair[j][j] for j in range(b)]
    return (sum(rows) + sum(columns)) / (2 * b)


def multi_positive(logits, y):
    b, k = len(y), len(logits[0])
    rows, columns = [], []
    for i in range(b):
        own = logits[i][y[i]]
        wrong_texts = [logits[i][c] for c in range(k) if c != y[i]]
        wrong_images = [logits[j][y[i]] for j in range(b) if y[j] != y[i]]
        rows.append(log_sum([own, *wrong_texts]) - own)
        columns.append(log_sum([own, *wrong_images]) - own)
    return (sum(rows) + sum(columns)) / (2 * b)


def probability(row, c):
    return math.exp(row[c] - log_sum(list(row)))


def image_to_text(logits, y):
    return -sum(math.log(probability(row, c)) for row, c in zip(logits, y, strict=True)) / len(y)


def gce(logits, y, q=0.7):
    p = [probability(row, c) for row, c in zip(logits, y, strict=True)]
    return sum((1 - value**q) / q for value in p) / len(y)


REFERENCE = {
    "diagonal": diagonal,
    "multi-positive": multi_positive,
    "image-to-text": image_to_text,
    "gce": gce,
}


def drawn(seed, b, k):
    rng = np.random.default_rng(seed)
    return 5 * rng.standard_normal((b, k)), rng.integers(0, k, b)


def value(name, logits, y):
    return LOSSES[name](torch.from_numpy(logits), torch.from_numpy(y)).item()


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**16), b=st.integers(1, 9), k=st.integers(2, 6))
def test_losses_equal_the_loop(name, seed, b, k):
    logits, y = drawn(seed, b, k)
    assert value(name, logits, y) == pytest.approx(REFERENCE[name](logits, y), abs=1e-10)


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 2**16), b=st.integers(1, 9), k=st.integers(2, 6))
def test_losses_do_not_depend_on_the_order_of_images_and_classes(name, seed, b, k):
    logits, y = drawn(seed, b, k)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(b), rng.permutation(k)
    moved = np.argsort(columns)[y][rows]
    permuted = value(name, np.ascontiguousarray(logits[rows][:, columns]), moved)
    assert permuted == pytest.approx(value(name, logits, y), abs=1e-10)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("y", [[0, 1, 2, 0], [1, 1, 1, 1], [0, 1, 1, 1]])
def test_gradients_are_those_of_finite_differences(name, y):
    logits, _ = drawn(0, 4, 3)
    tensor = torch.from_numpy(logits).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, torch.tensor(y)), tensor)


def test_the_diagonal_loss_punishes_equal_classes_and_the_others_do_not():
    logits, y = np.array([[50.0, 0.0], [50.0, 0.0], [0.0, 50.0]]), np.array([0, 0, 1])
    assert value("diagonal", logits, y) == pytest.approx(2 / 3 * math.log(2))
    for name in ("multi-positive", "image-to-text", "gce"):
        assert value(name, logits, y) == pytest.approx(0.0, abs=1e-10)


def test_texts_of_absent_classes_are_negatives_of_all_but_the_diagonal_loss():
    logits, y = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]), np.array([0, 1])
    without = np.array([[1.0, 0.0, -9.0], [0.0, 1.0, -9.0]])
    assert value("diagonal", logits, y) == value("diagonal", without, y)
    for name in ("multi-positive", "image-to-text", "gce"):
        assert value(name, logits, y) > value(name, without, y) + 0.1


@pytest.mark.parametrize("q", [0.01, 0.3, 1.0])
def test_generalized_cross_entropy_follows_q(q):
    logits, y = drawn(1, 6, 3)
    found = losses.generalized_cross_entropy(torch.from_numpy(logits), torch.from_numpy(y), q)
    assert found.item() == pytest.approx(gce(logits, y, q), abs=1e-10)


def test_generalized_cross_entropy_tends_to_cross_entropy():
    logits, y = drawn(1, 6, 3)
    near = losses.generalized_cross_entropy(torch.from_numpy(logits), torch.from_numpy(y), 1e-6)
    assert near.item() == pytest.approx(image_to_text(logits, y), rel=1e-4)


def test_generalized_cross_entropy_gives_up_on_what_is_improbable():
    logits = torch.tensor([[20.0, 0.0]], requires_grad=True)
    losses.generalized_cross_entropy(logits, torch.tensor([1])).backward()
    robust = logits.grad.abs().max().item()
    logits.grad = None
    losses.image_to_text(logits, torch.tensor([1])).backward()
    assert robust < 1e-5 < 0.99 < logits.grad.abs().max().item()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_extreme_similarities_stay_finite(name):
    logits = np.array([[100.0, -100.0], [100.0, -100.0]], dtype=np.float32)
    for y in ([0, 0], [1, 1], [0, 1]):
        tensor = torch.from_numpy(logits).requires_grad_()
        loss = LOSSES[name](tensor, torch.tensor(y))
        loss.backward()
        assert math.isfinite(loss.item())
        assert bool(tensor.grad.isfinite().all())
