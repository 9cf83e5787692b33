"""Tests of the experiment that asks whether profiles name what is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiments import naming
from benchmarks.harness.cells import Options, UnavailableError
from tests.reference import random_unit


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Photos and captions whose texts are the images themselves, so that all are named."""
    rng = np.random.default_rng(0)
    names = ["cat", "dog", "ship", "kite", "tree", "wave"]
    texts = random_unit(rng, len(names), 16)
    folder = tmp_path / "real_clip"
    folder.mkdir()
    y = np.arange(30) % 3
    near = texts[y] + 0.05 * random_unit(rng, 30, 16)
    arrays = {
        "class_texts_openai_vitb32": {"lvis_embeddings": texts, "lvis_names": np.array(names)},
        "cifar10_test500_openai_vitb32": {
            "embeddings": near, "labels": y, "class_names": np.array(["cat", "dog", "ship"]),
        },
        "flickr8k_1000_vitb32": {
            "embeddings": texts[3:], "captions": np.array(["a kite", "two trees", "an apple"]),
        },
    }  # fmt: skip
    for name, columns in arrays.items():
        np.savez(folder / f"{name}.npz", **columns)
    monkeypatch.setattr(naming, "data_folder", lambda _data: tmp_path)
    naming._read.cache_clear()
    return tmp_path


def test_what_is_there_is_named(data):
    cell = {"similarity": "centred", "vocabulary": "lvis", "m": 1}
    assert naming.run(cell, Options()) == {
        "class_named": 1.0,
        "nouns_named": 1.0,
        "n_nouns": 2,
        "same_class_auc": 1.0,
    }


def test_a_missing_file_is_named(data):
    (data / "real_clip" / "flickr8k_1000_vitb32.npz").unlink()
    with pytest.raises(UnavailableError, match=r"^flickr8k_1000_vitb32.npz is not there"):
        naming.run({"similarity": "cosine", "vocabulary": "lvis", "m": 1}, Options())


def test_ties_count_half():
    scores, positive = np.array([1.0, 1.0, 2.0]), np.array([True, False, True])
    assert naming.area_under_curve(scores, positive) == pytest.approx(0.75)


def test_every_cell_is_asked_for_once():
    cells = pd.DataFrame(naming.cells("standard"))
    assert len(cells) == len(cells.drop_duplicates()) == 24
