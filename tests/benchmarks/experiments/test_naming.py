"""Tests of the experiment that asks whether profiles name what is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.data.real_clip import RealPool
from benchmarks.experiments import naming
from benchmarks.harness.cells import Options, UnavailableError
from clip_al.concepts.profiles import ConceptProfiles, ConceptStatistics
from clip_al.concepts.vocabulary import ConceptVocabulary
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
    found = naming.run(cell, Options())
    assert {name: found[name] for name in ("class_named", "nouns_named", "same_class_auc")} == {
        "class_named": 1.0, "nouns_named": 1.0, "same_class_auc": 1.0,
    }  # fmt: skip
    assert found["n_nouns"] == 2
    assert (found["class_lost"], found["class_said"], found["class_silent"]) == (0.0, 1.0, 0.0)


def test_the_floor_is_counted_by_hand():
    profiles = ConceptProfiles(
        np.array([[0, 1], [1, 2], [2, 0]], np.int32),
        np.array([[9.0, -9.0], [9.0, 9.0], [-9.0, -9.0]], np.float32),
        ConceptVocabulary.from_names(["a", "b", "c"]),
        ConceptStatistics(np.zeros(3), np.ones(3), 3),
    )
    # Right are 0 (said), 1 of the first (lost), 2 of the second (said), 0 of the third (lost).
    assert naming.what_is_said(profiles, [{0, 1}, {2}, {0}], "x") == {
        "x_lost": 0.5, "x_silent": pytest.approx(1 / 3), "x_said": 1.0,
    }  # fmt: skip


def test_photos_of_a_class_without_a_word_are_counted_apart(monkeypatch):
    rng = np.random.default_rng(0)
    K, y = random_unit(rng, 10, 32), np.arange(200) % 10
    pool = RealPool(K[y], y, K, None)
    monkeypatch.setattr(naming, "load_real_pool", lambda *_: pool)
    names = np.array([f"thing {i}" for i in range(40)])
    texts = {"lvis_names": names, "lvis_embeddings": random_unit(rng, 40, 32)}
    monkeypatch.setattr(naming, "_read", lambda *_: texts)
    found = naming.run_missing(5, 3, Options())
    assert found["class_lost"] == found["class_silent"] == 0
    assert found["missing_silent"] > 0.1


def test_a_missing_file_is_named(data):
    (data / "real_clip" / "flickr8k_1000_vitb32.npz").unlink()
    with pytest.raises(UnavailableError, match=r"^flickr8k_1000_vitb32.npz is not there"):
        naming.run({"similarity": "cosine", "vocabulary": "lvis", "m": 1}, Options())


def test_ties_count_half():
    scores, positive = np.array([1.0, 1.0, 2.0]), np.array([True, False, True])
    assert naming.area_under_curve(scores, positive) == pytest.approx(0.75)


def test_every_cell_is_asked_for_once():
    cells = pd.DataFrame(naming.cells("standard"))
    assert len(cells) == len(cells.drop_duplicates()) == 29
