"""The image tower as a network: it starts where the CLIP model stands."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks.training.tower import ImageTower
from benchmarks.training.training import predict
from clip_al import ClipEncoder


def digit_images(n):
    gray = (load_digits().images[:n] * 255 / 16).astype(np.uint8)
    return np.repeat(gray.repeat(4, 1).repeat(4, 2)[..., None], 3, axis=3)


def test_it_starts_with_the_embeddings_of_the_model_and_an_even_guess():
    images = digit_images(12)
    prob, features = predict(ImageTower("mini", None, 5), images)
    np.testing.assert_allclose(prob, 0.2, atol=1e-6)
    emb = ClipEncoder("mini", progress=False).encode_images(images)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), emb.shape[1] ** 0.5, rtol=1e-5)
    # Images are enlarged by torch here and by PIL there.
    assert (features * emb).sum(axis=1).min() > 0.95 * emb.shape[1] ** 0.5


def test_each_network_has_weights_of_its_own():
    one, two = (ImageTower("mini", None, 3) for _ in range(2))
    with torch.no_grad():
        for weight in one.parameters():
            weight.add_(1.0)
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all((first - second == 1.0).float().mean() > 0.9 for first, second in pairs)
