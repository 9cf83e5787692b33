"""What test modules of several packages share: messages, toy tables, learners and images."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

NAMES = ["ant", "bee", "cat", "dog"]


def exactly(message):
    """Return the pattern, for `pytest.raises`, of this message and no other."""
    return f"^{re.escape(message)}$"


class Table:
    """What strategies and scores look at in an EmbeddingTable."""

    def __init__(self, embeddings, model_id="toy"):
        self.embeddings, self.model_id = embeddings, model_id

    def __len__(self):
        return len(self.embeddings)

    def __getitem__(self, rows):
        return self.embeddings[rows]


def learner_of(P):
    """Return a learner without a training set that gives `P` for any images."""
    return SimpleNamespace(predict_proba=lambda X: P)


def images_near(T, y, rng):
    """Return unit rows, one for each class number in `y`, near its class's text; float32."""
    rows = T[y] + 0.2 * rng.standard_normal((len(y), T.shape[1]))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
