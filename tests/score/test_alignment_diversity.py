"""Tests of `clip_al.score.alignment_diversity`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_al import EmbeddingTable
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.score.alignment_diversity import (
    class_prototypes,
    label_log_probabilities,
    sample_diversity_scores,
    semantic_alignment_scores,
    standardize_scores,
)
from tests.helpers import exactly
from tests.reference import contents, cosines, quarter_unit, random_unit

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# Reference


def slow_sas(Z, y, T):
    """Eq. 1: cosine of each image and the text of its class."""
    sim = cosines(Z, T)
    return np.array([sim[i, y[i]] for i in range(len(Z))])


def slow_log_probabilities(Z, y, T, temperature):
    """Log of the softmax over classes of cosine / temperature, at the label."""
    out = []
    for i, row in enumerate(cosines(Z, T) / temperature):
        largest = max(row)
        total = sum(math.exp(x - largest) for x in row)
        out.append(row[y[i]] - largest - math.log(total))
    return np.array(out)


def slow_sds(Z, y, k_of_size):
    """Eq. 2: mean distance of each image to the k nearest of its class, itself left out."""
    Z = np.asarray(Z, dtype=np.float64)
    Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    out = np.zeros(len(Z))
    for i in range(len(Z)):
        others = [j for j in range(len(Z)) if j != i and y[j] == y[i]]
        k = k_of_size(len(others) + 1)
        distances = sorted(math.sqrt(((Z[i] - Z[j]) ** 2).sum()) for j in others)
        out[i] = sum(distances[:k]) / k if others else 0.0
    return out


def slow_standardised(scores, y):
    out = []
    for i, score in enumerate(scores):
        own = [float(scores[j]) for j in range(len(scores)) if y[j] == y[i]]
        mean = sum(own) / len(own)
        std = math.sqrt(sum((x - mean) ** 2 for x in own) / len(own))
        out.append((float(score) - mean) / std if std > 0 else 0.0)
    return np.array(out)


def tenth(n):
    return max(1, math.floor(0.1 * n + 0.5))


class Turned:
    """Stands for an adapter: mirrors and stretches both spaces, differently."""

    temperature_ = 0.07

    def transform_images(self, Z):
        return self._unit(np.asarray(Z)[:, ::-1] * np.linspace(1, 2, Z.shape[1]))

    def transform_texts(self, T):
        return self._unit(np.asarray(T)[:, ::-1] * np.linspace(2, 1, T.shape[1]))

    def _unit(self, rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def data(rng):
    """Seventy images of classes 0 (one image), 1 (two), 2, 3 and 5; class 4 has none."""
    y = rng.permutation(np.array([0] + [1] * 2 + [2] * 20 + [3] * 35 + [5] * 12))
    return random_unit(rng, 70, 12), y, random_unit(rng, 6, 12)


KINDS = ["float16", "float64", "memmap", "table", "readonly", "fortran", "list", "big-endian"]


def make_input(kind, Z, folder):
    np.save(folder / "z.npy", Z)
    readonly = Z.copy()
    readonly.setflags(write=False)
    ids = [str(i) for i in range(len(Z))]
    return {
        "float16": Z.astype(np.float16),
        "float64": Z.astype(np.float64),
        "memmap": np.load(folder / "z.npy", mmap_mode="r"),
        "table": EmbeddingTable.from_array(folder / "table", Z, ids, model_id="toy"),
        "readonly": readonly,
        "fortran": np.asfortranarray(Z),
        "list": Z.tolist(),
        "big-endian": Z.astype(">f4"),
    }[kind]


SCORES = {
    "cosine": semantic_alignment_scores,
    "contrastive": lambda Z, y, T: semantic_alignment_scores(
        Z, y, T, alignment="contrastive", temperature=0.1
    ),
    "diversity": lambda Z, y, T: sample_diversity_scores(Z, y),
}


# All scores


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_one_answer(data, tmp_path, score, kind):
    Z, y, T = data
    X = make_input(kind, Z, tmp_path)
    tolerance = 5e-3 if kind == "float16" else 1e-5
    np.testing.assert_allclose(SCORES[score](X, y, T), SCORES[score](Z, y, T), atol=tolerance)


@pytest.mark.parametrize("score", SCORES)
def test_inputs_stay_as_they_are_and_a_second_call_is_identical(data, score):
    before = contents(*data)
    first = SCORES[score](*data)
    assert contents(SCORES[score](*data)) == contents(first)
    assert contents(*data) == before
    assert first.dtype == np.float32
    assert first.shape == (70,)


@pytest.mark.parametrize("score", SCORES)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 25))
def test_scores_follow_a_permutation_of_images_and_of_classes(score, seed, n):
    rng = np.random.default_rng(seed)
    Z, T, y = random_unit(rng, n, 5), random_unit(rng, 4, 5), rng.integers(0, 4, n)
    rows, classes = rng.permutation(n), rng.permutation(4)
    values = SCORES[score](Z, y, T)
    permuted = SCORES[score](Z[rows], np.argsort(classes)[y[rows]], T[classes])
    np.testing.assert_allclose(permuted, values[rows], atol=2e-5)


@pytest.mark.parametrize("score", SCORES)
def test_lengths_do_not_matter(data, score):
    Z, y, T = data
    longer = Z.astype(np.float64) * np.geomspace(1e-25, 1e25, 70)[:, None]
    nearly = Z * np.linspace(1 - 9e-5, 1 + 9e-5, 70, dtype=np.float32)[:, None]
    for X in (longer, nearly):
        np.testing.assert_allclose(SCORES[score](X, y, T), SCORES[score](Z, y, T), atol=1e-5)
    np.testing.assert_allclose(SCORES[score](Z, y, T * 7.5), SCORES[score](Z, y, T), atol=1e-5)


@pytest.mark.parametrize("score", SCORES)
def test_a_bad_row_is_named_by_its_place(data, score):
    Z, y, T = data
    Z[41, 3] = np.nan
    with pytest.raises(InvalidInputError, match="`Z` must be finite; row 41 holds NaN"):
        SCORES[score](Z, y, T)
    Z[41] = 0
    with pytest.raises(InvalidInputError, match="row 41 is all zeros"):
        SCORES[score](Z, y, T)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (np.zeros(69, int), InvalidInputError, r"for each of the 70 images; got shape \(69,\)"),
        (np.zeros((70, 1), int), InvalidInputError, r"70 images; got shape \(70, 1\)"),
        ([], InvalidInputError, r"for each of the 70 images; got shape \(0,\)"),
        (np.full(70, -1), InvalidInputError, r"`y` must be in \[0, \d\], .* got -1 at position 0"),
        (np.zeros(70), InvalidTypeError, "must hold class numbers or class names; got .* float64"),
        (["cat"] * 70, InvalidTypeError, "as no class names were given; got"),
    ],
)
def test_what_are_no_labels_is_refused(data, score, y, error, message):
    Z, _, T = data
    with pytest.raises(error, match=message):
        SCORES[score](Z, y, T)


# semantic_alignment_scores and label_log_probabilities


def test_cosine_equals_the_loop(data):
    np.testing.assert_allclose(semantic_alignment_scores(*data), slow_sas(*data), atol=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_contrastive_equals_the_loop(data, temperature):
    values = semantic_alignment_scores(*data, alignment="contrastive", temperature=temperature)
    expected = slow_log_probabilities(*data, temperature)
    np.testing.assert_allclose(values, expected, atol=3e-7 / temperature)
    assert (values <= 0).all()


def test_many_images_over_several_blocks(rng):
    Z, T, y = random_unit(rng, 1300, 4), random_unit(rng, 3, 4), rng.integers(0, 3, 1300)
    np.testing.assert_allclose(semantic_alignment_scores(Z, y, T), slow_sas(Z, y, T), atol=1e-6)
    log_prob, likeliest = label_log_probabilities(Z, y, T, temperature=0.5)
    np.testing.assert_allclose(log_prob, slow_log_probabilities(Z, y, T, 0.5), atol=1e-5)
    np.testing.assert_array_equal(likeliest, cosines(Z, T).argmax(axis=1))


def test_log_probabilities_and_the_contrastive_score_are_one(data):
    log_prob, likeliest = label_log_probabilities(*data)
    np.testing.assert_array_equal(
        semantic_alignment_scores(*data, alignment="contrastive"), log_prob
    )
    assert log_prob.dtype == np.float32
    assert likeliest.dtype == np.int64
    np.testing.assert_array_equal(likeliest, cosines(data[0], data[2]).argmax(axis=1))


def test_equally_likely_classes_go_to_the_lowest(rng):
    Z = quarter_unit(rng, 30, 6)
    T = np.repeat(quarter_unit(rng, 2, 6), 2, axis=0)[[1, 2, 3, 0]]
    _, likeliest = label_log_probabilities(Z, np.zeros(30, int), T)
    assert likeliest.tolist() == [max(range(4), key=lambda j: (z @ T[j], -j)) for z in Z]


def test_probabilities_of_all_labels_sum_to_one(data):
    Z, _, T = data
    values = [label_log_probabilities(Z, np.full(70, c), T, temperature=0.3)[0] for c in range(6)]
    np.testing.assert_allclose(np.exp(values).sum(axis=0), 1.0, atol=1e-5)


def test_the_only_class_is_certain(data):
    Z, _, T = data
    log_prob, likeliest = label_log_probabilities(Z, np.zeros(70, int), T[:1])
    assert log_prob.tolist() == [0.0] * 70
    assert likeliest.tolist() == [0] * 70


def test_a_low_temperature_overflows_nothing(data):
    values, likeliest = label_log_probabilities(*data, temperature=1e-6)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values == 0.0, likeliest == data[1])


@pytest.mark.parametrize("like", [1.0, -1.0])
def test_the_ends_of_the_range_of_the_cosine(rng, like):
    T = random_unit(rng, 40, 33)
    values = semantic_alignment_scores(T * like, np.arange(40), T)
    assert np.abs(values).max() <= 1.0
    np.testing.assert_allclose(values, like, atol=1e-6)


@pytest.mark.parametrize("n", [70, 3])
def test_alignment_of_adapted_images_and_texts(data, n):
    Z, y, T = data[0][:n], data[1][:n], data[2]
    adapted = Turned().transform_images(Z), y, Turned().transform_texts(T)
    values = semantic_alignment_scores(Z, y, T, adapter=Turned())
    np.testing.assert_allclose(values, slow_sas(*adapted), atol=1e-6)
    assert not np.allclose(values, slow_sas(Z, y, T), atol=1e-2)
    log_prob, likeliest = label_log_probabilities(Z, y, T, adapter=Turned())
    np.testing.assert_allclose(log_prob, slow_log_probabilities(*adapted, 0.07), atol=2e-5)
    np.testing.assert_array_equal(likeliest, cosines(adapted[0], adapted[2]).argmax(axis=1))


def test_an_adapter_over_several_blocks(data, monkeypatch):
    expected = semantic_alignment_scores(*data, adapter=Turned())
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", 4 * 12 * 9)
    np.testing.assert_allclose(
        semantic_alignment_scores(*data, adapter=Turned()), expected, atol=1e-6
    )


def test_the_temperature_is_given_or_the_adapters_or_clips(data):
    def contrastive(**settings):
        return semantic_alignment_scores(*data, alignment="contrastive", **settings)

    np.testing.assert_array_equal(contrastive(), contrastive(temperature=0.01))
    np.testing.assert_array_equal(
        contrastive(adapter=Turned()), contrastive(adapter=Turned(), temperature=0.07)
    )
    assert not np.allclose(contrastive(adapter=Turned(), temperature=1), contrastive())


@pytest.mark.parametrize("temperature", [0, -0.1, 1e-7, math.nan, math.inf])
def test_a_temperature_out_of_range_is_refused(data, temperature):
    message = (
        f"`temperature` must be at least 1e-06 and finite; got {float(temperature)}. "
        "Pass 0.01, for instance."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        label_log_probabilities(*data, temperature=temperature)


@pytest.mark.parametrize("temperature", [True, "0.1"])
def test_a_temperature_that_is_no_number_is_refused(data, temperature):
    message = f"`temperature` must be a number; got {temperature!r}. Pass 0.01, for instance."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        label_log_probabilities(*data, temperature=temperature)


def test_a_label_without_a_class_embedding_is_refused(data):
    Z, y, T = data
    at = int(np.flatnonzero(y == 5)[0])
    with pytest.raises(InvalidInputError, match=rf"in \[0, 4\], .* got 5 at position {at}\."):
        semantic_alignment_scores(Z, y, T[:5])


def test_texts_of_another_width_are_refused(data):
    Z, y, T = data
    with pytest.raises(InvalidInputError, match="`T` must have 12 columns; got 11"):
        semantic_alignment_scores(Z, y, T[:, 1:])


def test_a_class_text_of_zeros_is_refused(data):
    Z, y, T = data
    T[4] = 0
    message = "Every class must have a text embedding; row 4 of `T` is all zeros. Encode its name."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        semantic_alignment_scores(Z, y, T)


def test_a_class_text_that_is_not_finite_is_refused(data):
    Z, y, T = data
    T[4, 0] = np.inf
    with pytest.raises(InvalidInputError, match="`T` must be finite; row 4 holds NaN or infinity"):
        semantic_alignment_scores(Z, y, T)


def test_an_unknown_alignment_is_refused(data):
    message = "`alignment` must be one of 'cosine', 'contrastive'; got 'dot'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        semantic_alignment_scores(*data, alignment="dot")


def test_torch_multiplies_to_the_same_probabilities(data, monkeypatch):
    # "cpu:0" is torch's name for the same device, and so takes torch's way without a GPU.
    expected, likeliest = label_log_probabilities(*data)
    values, found = label_log_probabilities(*data, device="cpu:0")
    np.testing.assert_allclose(values, expected, atol=1e-4)
    np.testing.assert_array_equal(found, likeliest)


@gpu
@needs_gpu
def test_the_gpu_gives_the_same_probabilities(data):
    expected, likeliest = label_log_probabilities(*data)
    values, found = label_log_probabilities(*data, device="cuda")
    np.testing.assert_allclose(values, expected, atol=1e-3)
    np.testing.assert_array_equal(found, likeliest)


# sample_diversity_scores


@pytest.mark.parametrize("backend", ["auto", "numpy", "torch", "faiss"])
def test_diversity_equals_the_loop(data, backend):
    Z, y, _ = data
    values = sample_diversity_scores(Z, y, backend=backend)
    np.testing.assert_allclose(values, slow_sds(Z, y, tenth), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 11])
def test_diversity_with_a_count_equals_the_loop(data, k):
    Z, y, _ = data
    keep = np.isin(y, [2, 3, 5])
    values = sample_diversity_scores(Z[keep], y[keep], k)
    np.testing.assert_allclose(values, slow_sds(Z[keep], y[keep], lambda n: k), atol=1e-6)


def test_the_only_image_of_a_class_has_no_diversity(data):
    Z, y, _ = data
    values = sample_diversity_scores(Z, y)
    assert values[y == 0].tolist() == [0.0]
    assert values[y != 0].min() > 0.1
    assert sample_diversity_scores(Z[y == 0], [0], 10).tolist() == [0.0]


def test_absent_and_far_apart_class_numbers_change_nothing(data):
    Z, y, _ = data
    np.testing.assert_array_equal(
        sample_diversity_scores(Z, y * 10**12), sample_diversity_scores(Z, y)
    )


def test_duplicates_are_worth_less(rng):
    Z = random_unit(rng, 10, 8)
    twice = np.concatenate([Z, Z[:1]])
    values, alone = (sample_diversity_scores(X, np.zeros(len(X), int), 1) for X in (twice, Z))
    assert values[[0, 10]].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(values[1:10], alone[1:], atol=1e-6)


def test_identical_images_have_no_diversity(rng):
    Z = np.repeat(random_unit(rng, 1, 300), 30, axis=0)
    assert sample_diversity_scores(Z, np.arange(30) % 3).tolist() == [0.0] * 30


def test_other_classes_do_not_matter(data):
    Z, y, _ = data
    values = sample_diversity_scores(Z, y)
    for c in (2, 3, 5):
        alone = sample_diversity_scores(Z[y == c], np.full((y == c).sum(), c))
        np.testing.assert_allclose(values[y == c], alone, atol=1e-6)


def test_diversity_of_adapted_images(data):
    Z, y, _ = data
    values = sample_diversity_scores(Z, y, adapter=Turned())
    expected = slow_sds(Turned().transform_images(Z), y, tenth)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert not np.allclose(values, sample_diversity_scores(Z, y), atol=1e-2)


def test_a_count_that_a_class_does_not_have_names_the_class(data):
    Z, y, _ = data
    message = (
        "`n_neighbors` must be below the number of images of class 1, 2; got 2. "
        "Lower it, or pass a fraction such as 0.1, which fits every class."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        sample_diversity_scores(Z, y, 2)


def test_a_class_is_named_by_its_label_not_by_its_place(data):
    Z, y, _ = data
    keep = y == 5
    with pytest.raises(InvalidInputError, match="images of class 5, 12; got 12"):
        sample_diversity_scores(Z[keep], y[keep], 12)


@gpu
@needs_gpu
def test_the_gpu_gives_the_same_diversity(data):
    Z, y, _ = data
    values = sample_diversity_scores(Z, y, device="cuda")
    np.testing.assert_allclose(values, sample_diversity_scores(Z, y), atol=1e-5)


# class_prototypes


@pytest.mark.parametrize("adapter", [None, Turned()])
def test_prototypes_equal_the_loop(data, adapter):
    Z, y, _ = data
    before = contents(Z, y)
    prototypes = class_prototypes(Z * 3, y, 7, adapter=adapter)
    rows = Z if adapter is None else adapter.transform_images(Z)
    for c in range(7):
        own = [row.astype(np.float64) / np.linalg.norm(row) for row in rows[y == c]]
        mean = sum(own) / len(own) if own else np.zeros(12)
        expected = mean / np.linalg.norm(mean) if own else mean
        np.testing.assert_allclose(prototypes[c], expected, atol=1e-6)
    assert prototypes.dtype == np.float32
    assert prototypes.shape == (7, 12)
    assert contents(Z, y) == before


def test_classes_without_images_and_images_that_cancel_out_have_no_prototype(rng):
    Z = random_unit(rng, 5, 6)
    prototypes = class_prototypes(np.concatenate([Z, -Z]), np.zeros(10, int), 2)
    assert not prototypes.any()


def test_prototypes_of_labels_beyond_the_classes_are_refused(data):
    Z, y, _ = data
    with pytest.raises(InvalidInputError, match=r"`y` must be in \[0, 4\]"):
        class_prototypes(Z, y, 5)


@pytest.mark.parametrize("n_classes", [0, -1])
def test_no_classes_are_refused(data, n_classes):
    with pytest.raises(InvalidInputError, match="`n_classes` must be at least 1; got"):
        class_prototypes(*data[:2], n_classes)


# standardize_scores


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_standardising_equals_the_loop(rng, data, dtype):
    y = data[1]
    scores = rng.normal(3, 0.2, 70).astype(dtype)
    before = contents(scores, y)
    within = standardize_scores(scores, y)
    np.testing.assert_allclose(within, slow_standardised(scores, y), atol=1e-5)
    overall = standardize_scores(scores, y, "global")
    np.testing.assert_allclose(overall, slow_standardised(scores, [0] * 70), atol=1e-5)
    np.testing.assert_array_equal(standardize_scores(scores, scale="global"), overall)
    np.testing.assert_array_equal(standardize_scores(scores, y, "none"), scores.astype(np.float32))
    assert within.dtype == overall.dtype == np.float32
    assert contents(scores, y) == before


def test_classes_of_equal_scores_and_of_one_image_get_zero():
    scores = np.array([0.1] * 7 + [5.0] + [1.0, 3.0])
    y = [0] * 7 + [9] + [4, 4]
    assert standardize_scores(scores, y).tolist() == [0.0] * 8 + [-1.0, 1.0]
    assert standardize_scores(np.full(7, 0.1), scale="global").tolist() == [0.0] * 7


def test_rounding_is_not_taken_for_a_spread(rng):
    scores = np.float32(0.3) + np.float32(3e-8) * rng.integers(-1, 2, 50).astype(np.float32)
    assert len(set(scores.tolist())) > 1
    assert standardize_scores(scores, np.zeros(50, int)).tolist() == [0.0] * 50


@given(seed=st.integers(0, 2**16), shift=st.floats(-5, 5), scale=st.floats(0.1, 100))
def test_standardised_scores_ignore_shift_and_scale(seed, shift, scale):
    rng = np.random.default_rng(seed)
    scores, y = rng.standard_normal(30), rng.integers(0, 3, 30)
    values = standardize_scores(scores, y)
    np.testing.assert_allclose(standardize_scores(scores * scale + shift, y), values, atol=1e-4)


@pytest.mark.parametrize("scale", ["class", "global", "none"])
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, math.nan], "`score_n` must be finite; got nan at position 1. Drop that image"),
        ([-math.inf, 1.0], "`score_n` must be finite; got -inf at position 0. Drop that image"),
        ([[1.0, 2.0]], r"1-D array of numbers, one an image; got shape \(1, 2\)"),
        ([], r"1-D array of numbers, one an image; got shape \(0,\)"),
        (["a", "b"], r"got shape \(2,\) and dtype <U1"),
    ],
)
def test_what_are_no_scores_is_refused(scale, scores, message):
    with pytest.raises(InvalidInputError, match=message):
        standardize_scores(scores, [0, 0], scale)


def test_standardising_within_classes_needs_labels():
    message = "`y` must hold the labels for scale='class'; got None. Pass them, or scale='global'."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        standardize_scores([1.0, 2.0])


def test_labels_of_other_images_are_refused():
    with pytest.raises(InvalidInputError, match=r"each of the 2 images; got shape \(3,\)"):
        standardize_scores([1.0, 2.0], [0, 0, 0])


def test_an_unknown_scale_is_refused():
    message = "`scale` must be one of 'class', 'global', 'none'; got 'row'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        standardize_scores([1.0], [0], "row")
