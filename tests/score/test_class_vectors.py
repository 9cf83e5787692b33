"""Tests of `clip_al.score.class_vectors`."""

from __future__ import annotations

import re

import numpy as np
import pytest

from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.score.class_vectors import (
    TEXT_WEIGHTS,
    _first_not_beaten,
    best_text_weight,
    blend_class_vectors,
    check_text_weight,
    unit_class_embeddings,
)
from clip_al.table.embedding_table import EmbeddingTable
from tests.reference import contents, random_unit


@pytest.fixture
def T(rng):
    return random_unit(rng, 5, 16)


def make_images(rng, T, n, noise=0.15):
    y = np.arange(n) % len(T)
    return T[y] + noise * rng.standard_normal((n, T.shape[1])).astype(np.float32), y


# Blends


@pytest.mark.parametrize("weight", TEXT_WEIGHTS)
def test_a_blend_is_the_unit_weighted_mean(rng, T, weight):
    means = random_unit(rng, 5, 16)
    before = contents(T, means)
    blend = blend_class_vectors(T, means, weight)
    for text, mean, row in zip(T, means, blend, strict=True):
        expected = weight * text + (1 - weight) * mean
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)
    assert blend.dtype == np.float32
    assert contents(T, means) == before


@pytest.mark.parametrize("weight", TEXT_WEIGHTS)
def test_a_class_without_images_keeps_its_text(T, weight):
    means = np.zeros_like(T)
    np.testing.assert_allclose(blend_class_vectors(T, means, weight), T, atol=1e-6)


def test_what_cancels_out_keeps_its_text(T):
    np.testing.assert_allclose(blend_class_vectors(T, -T, 0.5), T, atol=1e-6)


# The best weight


def test_texts_win_where_each_class_has_few_images(rng, T):
    Z, y = make_images(rng, T, 10, noise=0.4)
    assert best_text_weight(Z, y, T) == 1.0


def test_mean_images_win_where_texts_are_those_of_other_classes(rng, T):
    Z, y = make_images(rng, T, 400)
    assert best_text_weight(Z, y, np.roll(T, 1, axis=0)) < 0.5


def test_mean_images_win_where_texts_say_nothing(rng, T):
    Z, y = make_images(rng, T, 400)
    assert best_text_weight(Z, y, random_unit(rng, 5, 16)) < 0.5


@pytest.mark.parametrize("seed", range(10))
def test_texts_stay_where_labels_are_random_as_no_weight_is_better(T, seed):
    rng = np.random.default_rng(seed)
    Z, y = make_images(rng, T, 200)
    assert best_text_weight(Z, rng.permutation(y), T, random_state=seed) >= 0.75


def test_texts_stay_where_means_are_better_by_chance_alone():
    # Two more hits of three that differ: one coin toss in two.
    alone_ww = np.array([[0, 1], [2, 0]])
    assert _first_not_beaten(alone_ww) == 0
    assert _first_not_beaten(10 * alone_ww) == 1


def test_of_equals_the_text_wins(rng, T):
    Z, y = make_images(rng, T, 100, noise=0.01)
    assert best_text_weight(Z, y, T) == 1.0


def test_wrong_labels_do_not_decide(rng, T):
    Z, y = make_images(rng, T, 400)
    y[:120] = rng.integers(5, size=120)
    assert best_text_weight(Z, y, np.roll(T, 1, axis=0)) < 0.5


def test_classes_of_one_image_leave_nothing_to_decide(T):
    assert best_text_weight(T, np.arange(5), np.roll(T, 1, axis=0)) == 1.0


def test_classes_without_images_and_images_that_cancel_out(rng, T):
    Z, y = make_images(rng, T[:2], 40)
    assert best_text_weight(Z, y, T) in TEXT_WEIGHTS
    opposite = np.repeat([[1.0, 0.0], [-1.0, 0.0]], 2, axis=0)
    weight = best_text_weight(opposite, np.zeros(4, int), np.eye(2, dtype=np.float32))
    assert weight in TEXT_WEIGHTS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_and_scale_and_a_second_call(rng, tmp_path, T, dtype):
    Z, y = make_images(rng, T, 400)
    expected = best_text_weight(Z, y, np.roll(T, 1, axis=0))
    np.save(tmp_path / "z.npy", (3 * Z).astype(dtype))
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    before = contents(y)
    assert best_text_weight(mapped, y, np.roll(T, 1, axis=0)) == expected
    assert contents(y) == before


def test_more_images_than_a_block(rng, monkeypatch, T):
    Z, y = make_images(rng, T, 400)
    expected = best_text_weight(Z, y, np.roll(T, 1, axis=0))
    monkeypatch.setattr("clip_al.score.class_vectors.block_rows", lambda _: 7)
    assert best_text_weight(Z, y, np.roll(T, 1, axis=0)) == expected


@pytest.mark.parametrize("weight", [0, 1, 0.5, np.float32(0.25), np.int64(1)])
def test_a_weight_is_a_float(weight):
    checked = check_text_weight(weight)
    assert type(checked) is float
    assert checked == weight
    assert check_text_weight("auto") == "auto"


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan, np.inf, "text"])
def test_a_weight_out_of_range(weight):
    message = re.escape(f"`text_weight` must be in [0, 1] or 'auto'; got {weight!r}. Choose one.")
    with pytest.raises(InvalidInputError, match=f"^{message}$"):
        check_text_weight(weight)


@pytest.mark.parametrize("weight", [None, True, [0.5]])
def test_a_weight_of_another_type(weight):
    message = re.escape(
        f"`text_weight` must be a number or 'auto'; got {weight!r}. Pass 0.5, for instance."
    )
    with pytest.raises(InvalidTypeError, match=f"^{message}$"):
        check_text_weight(weight)


# Class embeddings


def test_class_embeddings_are_unit_copies(T):
    given = 3.0 * T.astype(np.float64)
    unit, model = unit_class_embeddings(given, None, T)
    np.testing.assert_allclose(unit, T, atol=1e-6)
    assert unit.dtype == np.float32
    assert not np.shares_memory(unit_class_embeddings(T, None, T)[0], T)
    assert model == ""


def test_the_model_is_that_of_the_table_or_of_the_source(tmp_path, T):
    table = EmbeddingTable.from_array(tmp_path / "images", T, list("abcde"), model_id="toy")
    assert unit_class_embeddings(T, None, table)[1] == "toy"
    assert unit_class_embeddings(T, "toy", table)[1] == "toy"
    assert unit_class_embeddings(T, "other", T)[1] == "other"
    texts = EmbeddingTable.from_array(tmp_path / "texts", T, list("abcde"), model_id="toy")
    np.testing.assert_array_equal(
        unit_class_embeddings(texts, texts.model_id, table)[0],
        unit_class_embeddings(T, None, T)[0],
    )


def test_another_model_than_that_of_the_table(tmp_path, T):
    table = EmbeddingTable.from_array(tmp_path / "images", T, list("abcde"), model_id="toy")
    with pytest.raises(ModelMismatchError, match=r"was made by toy, got other\. Encode with toy"):
        unit_class_embeddings(T, "other", table)


def test_another_width(T):
    message = re.escape(
        "Class embeddings must have 7 columns, as `Z`; got 16. Encode both with one model."
    )
    with pytest.raises(ModelMismatchError, match=f"^{message}$"):
        unit_class_embeddings(T, None, np.ones((3, 7)))


@pytest.mark.parametrize(
    ("T", "what"),
    [
        (np.eye(3)[:1], "there is one alone"),
        (np.diag([1.0, 0.0, 1.0]), "row 1 is all zeros"),
    ],
)
def test_a_class_without_an_embedding(T, what):
    message = re.escape(
        f"Each of at least two classes must have an embedding; {what}. Encode the names of all "
        "classes, in their order."
    )
    with pytest.raises(InvalidInputError, match=f"^{message}$"):
        unit_class_embeddings(T, None, np.eye(3))


def test_class_embeddings_that_are_not_finite():
    with pytest.raises(InvalidInputError, match=r"^`class_embeddings` must be finite; row 1 holds"):
        unit_class_embeddings([[1, 0], [np.nan, 1]], None, np.eye(2))
