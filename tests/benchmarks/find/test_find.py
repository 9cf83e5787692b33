"""The scripts behind the page on near-copies and search."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.find import copy_thresholds, search_minus


@pytest.fixture
def data(tmp_path):
    """The files that the scripts read, with two pictures a class and random embeddings."""
    rng = np.random.default_rng(0)
    for name in copy_thresholds_classes():
        for split in ("test", "train"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                Image.fromarray(pixels).save(folder / f"{i:04d}.jpg")
    (tmp_path / "real_clip").mkdir()
    classes = np.array(copy_thresholds_classes())
    words = sorted({w for members in search_minus.KINDS.values() for w in members.values()})
    words += list(search_minus.KINDS)
    texts = rng.standard_normal((len(words), 512))
    labels = np.arange(60) % 10
    photos = rng.standard_normal((60, 512)).astype(np.float32)
    np.savez(
        tmp_path / "real_clip" / "cifar10_test500_openai_vitb32.npz",
        embeddings=photos / np.linalg.norm(photos, axis=1, keepdims=True),
        labels=labels,
        class_names=classes,
    )
    np.savez(
        tmp_path / "real_clip" / "class_texts_openai_vitb32.npz",
        openimages_names=np.array([word.capitalize() for word in words]),
        openimages_embeddings=texts.astype(np.float16),
    )
    return tmp_path


def copy_thresholds_classes():
    from benchmarks.data.cifar import CLASSES

    return list(CLASSES)


def test_each_edit_and_the_nearest_other(data, tmp_path, capsys):
    picture = tmp_path / "pairs.png"
    command = ["--data", str(data), "--each", "2", "--picture", str(picture)]
    records = copy_thresholds.main(command)
    names = [record["what"] for record in records]
    assert names[: len(copy_thresholds.EDITS)] == list(copy_thresholds.EDITS)
    assert [name.split(",")[0] for name in names[-2:]] == ["another photo"] * 2
    assert records[0]["median"] > records[-1]["median"]
    for record in records:
        assert 1 >= record["0.9"] >= record["0.95"] >= record["0.98"] >= record["0.99"] >= 0
    assert "20 photos of CIFAR-10, mini" in capsys.readouterr().out
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height


def test_each_weight(data):
    records = search_minus.main(["--data", str(data)])
    assert [record["weight"] for record in records] == list(search_minus.WEIGHTS)
    unwanted = [record["unwanted"] for record in records]
    assert unwanted[0] > unwanted[-1]
    assert all(0 < record["precision"] <= 1 for record in records)
