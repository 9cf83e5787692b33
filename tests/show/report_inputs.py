"""A selection of real digits with everything that a report can show, some of it hostile."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.subset.selection import Selection

N_IMAGES = 120
HOSTILE_CLASS = "<script>alert(1)</script>"
HOSTILE_CONCEPT = "</script><img src=x onerror=alert(2)>"
HOSTILE_ID = 'a"b<b>bold</b>\u2028&amp;.png'
CLASSES = [HOSTILE_CLASS, "<b>one</b>", *map(str, range(2, 10))]
CONCEPTS = [HOSTILE_CONCEPT, "$x$", "dark", *[f"part {i}" for i in range(5, 64)], "bright", "left"]


def digits():
    """Return images (n, 8, 8) uint8, their classes, and unit rows of their pixels."""
    data = load_digits()
    Z = data.data[:N_IMAGES].astype(np.float32) + 0.01
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    return (data.images[:N_IMAGES] * 255 / 16).astype(np.uint8), data.target[:N_IMAGES], Z


def digit_selection(ids=None):
    """Return a selection of thirty digits, of which ten labels are wrong."""
    _, y, _ = digits()
    rng = np.random.default_rng(0)
    given = y.copy()
    wrong = np.arange(0, N_IMAGES, 12)
    given[wrong] = (y[wrong] + 1) % 10
    label_score = -rng.random(N_IMAGES)
    label_score[wrong] -= 2
    return Selection.from_indices(
        rng.choice(N_IMAGES, 30, replace=False),
        N_IMAGES,
        scores={"total": rng.normal(size=N_IMAGES), "label_score": label_score, "likeliest": y},
        settings={"model": "toy@1", "random_state": 7, "alpha": {"inner": "<i>"}},
        y=given,
        class_names=CLASSES,
        groups=np.where(np.arange(N_IMAGES) % 2, "night", "<u>day</u>"),
        ids=ids,
    )


def hostile_ids():
    return [HOSTILE_ID, *[f"folder/{i:03d}.png" for i in range(1, N_IMAGES)]]


def digit_profiles():
    """Concepts are single pixels, so that it is known which image shows which."""
    vocabulary = ConceptVocabulary.from_names(CONCEPTS).with_embeddings(np.eye(64))
    return ConceptProfiles.from_embeddings(digits()[2], vocabulary, 5, similarity="standardized")


def write_images(folder, n=N_IMAGES):
    images, _, _ = digits()
    for i in range(n):
        path = folder / f"folder/{i:03d}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(images[i]).resize((32, 32)).save(path)
