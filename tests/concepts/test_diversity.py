"""Tests of `clip_al.concepts.diversity`: the counting identities equal the pairwise definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_al.concepts.diversity import (
    ConceptCounts,
    ConceptGram,
    concept_diversity,
    geometric_diversity,
    spectral_diversity,
)
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.errors import InvalidInputError, InvalidTypeError
from tests import reference
from tests.helpers import exactly
from tests.reference import contents, random_profiles, random_unit

WEIGHTINGS = ["binary", "softmax"]
weightings = pytest.mark.parametrize("weighting", WEIGHTINGS)
sets = {"seed": st.integers(0, 2**16), "n": st.integers(1, 12), "m": st.integers(1, 6)}


def part_of(rng, n):
    return rng.permutation(n)[: int(rng.integers(1, n + 1))]


# CBD


@weightings
@given(**sets)
def test_cbd_is_the_mean_pairwise_distance(weighting, seed, n, m):
    profiles = random_profiles(np.random.default_rng(seed), n, 9, m)
    vectors = reference.concept_vectors(profiles, weighting)
    value = concept_diversity(profiles, weighting=weighting)
    assert value == pytest.approx(reference.pairwise_cbd(vectors), abs=1e-6)
    assert type(value) is float
    assert 0.0 <= value <= 1.0


@weightings
def test_cbd_of_a_part_is_that_of_its_images(rng, weighting):
    profiles = random_profiles(rng, 20, 9, 4)
    rows = part_of(rng, 20)
    expected = reference.pairwise_cbd(reference.concept_vectors(profiles, weighting)[rows])
    value = concept_diversity(profiles, rows, weighting=weighting)
    assert value == pytest.approx(expected, abs=1e-6)
    mask = np.isin(np.arange(20), rows)
    assert concept_diversity(profiles, mask, weighting=weighting) == pytest.approx(value, abs=1e-12)


@weightings
@given(**sets)
def test_cbd_does_not_depend_on_the_order(weighting, seed, n, m):
    rng = np.random.default_rng(seed)
    profiles = random_profiles(rng, n, 9, m)
    value = concept_diversity(profiles, weighting=weighting)
    permuted = concept_diversity(profiles, rng.permutation(n), weighting=weighting)
    assert permuted == pytest.approx(value, abs=1e-12)


@weightings
@given(**sets)
def test_a_duplicate_adds_no_diversity(weighting, seed, n, m):
    rng = np.random.default_rng(seed)
    profiles = random_profiles(rng, n, 9, m)
    counts = ConceptCounts.from_profiles(profiles, weighting=weighting)
    # The image that is nearest to the rest on average: no other adds less.
    similarity = reference.concept_vectors(profiles, weighting) @ counts.sum_v
    nearest = int(np.argmax(similarity))
    before = counts.diversity()
    twin = profiles.take([nearest])
    counts.add(twin.ids, twin.weights(weighting))
    assert counts.diversity() <= before + 1e-6


@weightings
def test_a_pair_of_duplicates_has_none(rng, weighting):
    profiles = random_profiles(rng, 1, 9, 4)
    counts = ConceptCounts.from_profiles(profiles, weighting=weighting)
    assert (counts + counts).diversity() == pytest.approx(0.0, abs=1e-6)


@weightings
def test_one_image_and_identical_images_have_no_diversity(rng, weighting):
    profiles = random_profiles(rng, 5, 9, 4)
    same = ConceptProfiles(
        np.repeat(profiles.ids[:1], 6, 0),
        np.repeat(profiles.similarities[:1], 6, 0),
        profiles.vocabulary,
        None,
    )
    assert concept_diversity(profiles, [3], weighting=weighting) == 0.0
    assert concept_diversity(same, weighting=weighting) == pytest.approx(0.0, abs=1e-6)


@weightings
def test_images_that_share_nothing_have_all(weighting):
    profiles = random_profiles(np.random.default_rng(0), 3, 9, 3)
    profiles.ids[:] = np.arange(9).reshape(3, 3)
    assert concept_diversity(profiles, weighting=weighting) == pytest.approx(1.0, abs=1e-6)


def test_binary_is_the_default_of_the_measure(rng):
    profiles = random_profiles(rng, 8, 9, 3)
    binary, softmax = (concept_diversity(profiles, weighting=w) for w in WEIGHTINGS)
    assert concept_diversity(profiles) == binary
    assert binary != pytest.approx(softmax, abs=1e-3)


def test_weighted_and_binary_agree_where_all_similarities_do(rng):
    profiles = random_profiles(rng, 8, 9, 3)
    profiles.similarities[:] = 2.5
    values = [concept_diversity(profiles, weighting=w) for w in WEIGHTINGS]
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_gini_simpson_identity(rng):
    profiles = random_profiles(rng, 50, 9, 3)
    c = [int((profiles.ids == j).sum()) for j in range(9)]
    expected = 1 - (sum(x * x for x in c) / 3 - 50) / (50 * 49)
    assert concept_diversity(profiles) == pytest.approx(expected, abs=1e-12)


@weightings
@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], InvalidInputError, "The set must hold at least one image; got none."),
        ([0, 5], InvalidInputError, r"`indices` must be in \[0, 4\], .* got 5"),
        ([-1], InvalidInputError, r"`indices` must be in \[0, 4\], .* got -1"),
        ([1, 1], InvalidInputError, "must name each image once; got 1 more than once"),
        ([0.5], InvalidTypeError, "must be a 1-D array of whole numbers"),
        ([False] * 5, InvalidInputError, "The set must hold at least one image; got none."),
    ],
)
@pytest.mark.parametrize("measure", [concept_diversity, spectral_diversity])
def test_bad_sets_are_refused(rng, weighting, indices, error, message, measure):
    profiles = random_profiles(rng, 5, 9, 3)
    with pytest.raises(error, match=message):
        measure(profiles, indices, weighting=weighting)


@pytest.mark.parametrize("measure", [concept_diversity, spectral_diversity])
def test_an_unknown_weighting_is_refused(rng, measure):
    profiles = random_profiles(rng, 5, 9, 3)
    message = "`weighting` must be one of 'binary', 'softmax'; got 'idf'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        measure(profiles, weighting="idf")


@weightings
@pytest.mark.parametrize("measure", [concept_diversity, spectral_diversity])
def test_measures_leave_profiles_and_indices_alone(rng, weighting, measure):
    profiles, rows = random_profiles(rng, 9, 9, 3), np.array([4, 1, 7])
    before = contents(profiles.ids, profiles.similarities, rows)
    first = measure(profiles, rows, weighting=weighting)
    assert measure(profiles, rows, weighting=weighting) == first
    assert contents(profiles.ids, profiles.similarities, rows) == before


# Counts


@weightings
@given(**sets)
def test_counts_are_the_sum_of_the_concept_vectors(weighting, seed, n, m):
    profiles = random_profiles(np.random.default_rng(seed), n, 9, m)
    counts = ConceptCounts.from_profiles(profiles, weighting=weighting)
    vectors = reference.concept_vectors(profiles, weighting)
    np.testing.assert_allclose(counts.sum_v, vectors.sum(axis=0), atol=1e-5)
    assert counts.count_v.tolist() == (vectors > 0).sum(axis=0).tolist()
    assert counts.n == n


@weightings
@given(**sets)
def test_counts_of_shards_add(weighting, seed, n, m):
    rng = np.random.default_rng(seed)
    profiles = random_profiles(rng, n, 9, m)
    cut = int(rng.integers(0, n + 1))
    shards = [np.arange(cut), np.arange(cut, n)]
    whole = ConceptCounts.from_profiles(profiles, weighting=weighting)
    first, second = (ConceptCounts.from_profiles(profiles, s, weighting=weighting) for s in shards)
    before = contents(first.sum_v, first.count_v, second.sum_v, second.count_v)
    merged = first + second
    np.testing.assert_allclose(merged.sum_v, whole.sum_v, atol=1e-9)
    assert merged.count_v.tolist() == whole.count_v.tolist()
    assert merged.n == whole.n
    assert contents(first.sum_v, first.count_v, second.sum_v, second.count_v) == before


@weightings
@given(**sets)
def test_what_is_added_can_be_removed(weighting, seed, n, m):
    profiles = random_profiles(np.random.default_rng(seed), n + 3, 9, m)
    counts = ConceptCounts.from_profiles(profiles, np.arange(3), weighting=weighting)
    before = counts + ConceptCounts.empty(9, weighting)
    more = profiles.take(np.arange(3, n + 3))
    counts.add(more.ids, more.weights(weighting))
    assert counts.n == n + 3
    counts.remove(more.ids, more.weights(weighting))
    np.testing.assert_allclose(counts.sum_v, before.sum_v, atol=1e-9)
    assert counts.count_v.tolist() == before.count_v.tolist()
    assert counts.n == 3
    assert counts.diversity() == pytest.approx(before.diversity(), abs=1e-9)


@given(**sets)
def test_entropy_richness_and_coverage(seed, n, m):
    profiles = random_profiles(np.random.default_rng(seed), n, 9, m)
    counts = ConceptCounts.from_profiles(profiles)
    vectors = reference.concept_vectors(profiles, "binary")
    seen = len({int(j) for j in profiles.ids.ravel()})
    assert counts.entropy() == pytest.approx(reference.concept_entropy(vectors), abs=1e-9)
    assert counts.richness() == seen
    assert counts.coverage() == pytest.approx(seen / 9)


def test_counts_without_an_image():
    counts = ConceptCounts.empty(5)
    assert (counts.n, counts.entropy(), counts.richness(), counts.coverage()) == (0, 0.0, 0, 0.0)
    with pytest.raises(InvalidInputError, match="The set must hold at least one image; got none"):
        counts.diversity()


def test_adding_no_image_changes_nothing():
    counts = ConceptCounts.empty(5)
    counts.add(np.empty((0, 2), dtype=np.int32), np.empty((0, 2), dtype=np.float32))
    assert (counts.n, counts.count_v.sum(), counts.sum_v.sum()) == (0, 0, 0.0)


def test_counts_of_two_vocabularies_do_not_add():
    message = (
        "Counts must be of one vocabulary to be added; got 3 and 4 concepts. Profile both with one."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptCounts.empty(3) + ConceptCounts.empty(4)


@pytest.mark.parametrize(
    "make",
    [lambda w: ConceptCounts.empty(3, w), lambda w: ConceptGram(np.zeros((3, 3)), w)],
    ids=["counts", "gram"],
)
def test_sums_of_two_weightings_do_not_add(make):
    message = (
        "Sums of concept vectors must be of one weighting to be added; got 'binary' and "
        "'softmax'. Make both with one `weighting=`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make("binary") + make("softmax")
    assert (make("softmax") + make("softmax")).weighting == "softmax"
    with pytest.raises(InvalidInputError, match="`weighting` must be one of 'binary', 'softmax'"):
        make("tf-idf")


def test_weights_of_another_weighting_are_not_counted(rng):
    profiles = random_profiles(rng, 5, 9, 3)
    counts = ConceptCounts.empty(9)
    with pytest.raises(InvalidInputError, match=r"must be 1/√m, 0.5774, in counts of weighting="):
        counts.add(profiles.ids, profiles.weights("softmax"))
    with pytest.raises(InvalidInputError, match="Counts of weighting='softmax' need the weights"):
        ConceptCounts.empty(9, "softmax").add(profiles.ids)
    assert counts.n == 0


def test_every_measure_has_one_default_weighting(rng):
    profiles = random_profiles(rng, 12, 9, 3)
    counts = ConceptCounts.from_profiles(profiles)
    assert counts.diversity() == pytest.approx(concept_diversity(profiles), abs=1e-6)
    gram = ConceptGram.from_profiles(profiles)
    assert (counts.weighting, gram.weighting) == ("binary", "binary")
    assert gram.log_det() == pytest.approx(spectral_diversity(profiles), abs=1e-6)
    vectors = reference.concept_vectors(profiles, "binary")
    assert spectral_diversity(profiles) == pytest.approx(spectral_diversity(vectors), abs=1e-5)


def test_more_than_was_added_cannot_be_removed(rng):
    profiles = random_profiles(rng, 3, 9, 2)
    counts = ConceptCounts.from_profiles(profiles, [0, 1])
    message = (
        "At most the 2 images that were added can be removed; got 3. Remove from the counts that "
        "they were added to."
    )
    before = contents(counts.sum_v, counts.count_v)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        counts.remove(profiles.ids, profiles.weights())
    assert contents(counts.sum_v, counts.count_v) == before
    assert counts.n == 2


# Spectral


@weightings
@given(**sets)
def test_spectral_diversity_is_a_log_determinant(weighting, seed, n, m):
    profiles = random_profiles(np.random.default_rng(seed), n, 9, m)
    expected = reference.spectral(reference.concept_vectors(profiles, weighting))
    value = spectral_diversity(profiles, weighting=weighting)
    assert value == pytest.approx(expected, abs=1e-5)
    gram = ConceptGram.from_profiles(profiles, weighting=weighting)
    assert gram.log_det() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("n", "f"), [(1, 1), (3, 8), (8, 3), (5, 5)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_spectral_diversity_of_dense_features(rng, n, f, dtype):
    features = rng.standard_normal((n, f)).astype(dtype)
    before = contents(features)
    value = spectral_diversity(features)
    assert value == pytest.approx(reference.spectral(features), abs=1e-6)
    assert contents(features) == before


def test_spectral_diversity_of_a_part_of_dense_features(rng):
    features = rng.standard_normal((9, 4))
    expected = reference.spectral(features[[7, 2]])
    assert spectral_diversity(features, [7, 2]) == pytest.approx(expected, abs=1e-9)


def test_spectral_diversity_grows_with_every_image(rng):
    profiles = random_profiles(rng, 12, 9, 3)
    values = [spectral_diversity(profiles, np.arange(n)) for n in range(1, 13)]
    assert min(np.diff(values)) > 0
    assert values[0] == pytest.approx(math.log(2), abs=1e-6)


def test_spectral_diversity_of_a_duplicate_is_less_than_of_something_new():
    profiles = random_profiles(np.random.default_rng(0), 3, 9, 3)
    profiles.ids[:] = [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    profiles.similarities[1] = profiles.similarities[0]
    assert spectral_diversity(profiles, [0, 1]) == pytest.approx(math.log(3), abs=1e-6)
    assert spectral_diversity(profiles, [0, 2]) == pytest.approx(math.log(4), abs=1e-6)


@weightings
def test_grams_of_shards_add(rng, weighting):
    profiles = random_profiles(rng, 12, 9, 3)
    first = ConceptGram.from_profiles(profiles, np.arange(5), weighting=weighting)
    second = ConceptGram.from_profiles(profiles, np.arange(5, 12), weighting=weighting)
    whole = spectral_diversity(profiles, weighting=weighting)
    assert (first + second).log_det() == pytest.approx(whole, abs=1e-6)
    second.add(reference.concept_vectors(profiles, weighting)[:5])
    assert second.log_det() == pytest.approx(whole, abs=1e-5)


def test_a_gram_without_an_image_is_zero():
    assert ConceptGram(np.zeros((3, 3))).log_det() == 0.0


# GD


@pytest.mark.parametrize(("n", "d"), [(1, 1), (3, 3), (5, 30), (30, 30)])
@pytest.mark.parametrize("jitter", [0.0, 1e-3, 2.0])
def test_gd_is_the_log_determinant_of_the_gram_matrix(rng, n, d, jitter):
    features = rng.standard_normal((n, d))
    before = contents(features)
    value = geometric_diversity(features, jitter=jitter)
    assert value == pytest.approx(reference.gd(features, jitter), rel=1e-9, abs=1e-9)
    assert contents(features) == before


@pytest.mark.parametrize(("n", "d"), [(4, 3), (50, 8)])
@pytest.mark.parametrize("jitter", [1e-3, 2.0])
def test_gd_of_more_images_than_dimensions(rng, n, d, jitter):
    features = rng.standard_normal((n, d))
    value = geometric_diversity(features, jitter=jitter)
    assert value == pytest.approx(reference.gd(features, jitter), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_gd_is_computed_in_double_precision(rng, dtype, order):
    features = np.array(rng.standard_normal((6, 20)), dtype=dtype, order=order)
    expected = reference.gd(features.astype(np.float64))
    assert geometric_diversity(features) == pytest.approx(expected, abs=1e-9)


def test_gd_of_a_memory_mapped_array(rng, tmp_path):
    features = rng.standard_normal((6, 20))
    np.save(tmp_path / "f.npy", features)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert geometric_diversity(mapped) == geometric_diversity(features)


@given(seed=st.integers(0, 2**16))
def test_gd_does_not_depend_on_the_order(seed):
    rng = np.random.default_rng(seed)
    features = random_unit(rng, 6, 20)
    permuted = features[rng.permutation(6)]
    assert geometric_diversity(permuted) == pytest.approx(geometric_diversity(features), abs=1e-9)


@given(seed=st.integers(0, 2**16), d=st.integers(2, 20))
def test_gd_of_two_images_that_coincide_is_minus_infinity(seed, d):
    features = np.random.default_rng(seed).standard_normal((min(d, 5), d))
    features[-1] = features[0]
    assert geometric_diversity(features) == -math.inf


def test_gd_of_a_duplicate_with_jitter_is_that_of_the_jitter(rng):
    z = random_unit(rng, 1, 4, np.float64)
    value = geometric_diversity(np.repeat(z, 2, axis=0), jitter=1e-3)
    assert value == pytest.approx(math.log((1 + 1e-3) ** 2 - 1))


@pytest.mark.parametrize(
    ("shape", "jitter", "message"),
    [
        ((4, 3), 0.0, "GD of 4 images in 3 dimensions needs `jitter` > 0; got 0.0."),
        ((3, 4), -0.5, "GD of 3 images in 4 dimensions needs `jitter` > 0; got -0.5."),
        ((3, 4), math.nan, "GD of 3 images in 4 dimensions needs `jitter` > 0; got nan."),
    ],
)
def test_a_jitter_that_cannot_be_is_refused(shape, jitter, message):
    whole = (
        f"{message} Pass a small one, such as 1e-3, and the same for every set that you compare."
    )
    features = np.ones(shape)
    with pytest.raises(InvalidInputError, match=exactly(whole)):
        geometric_diversity(features, jitter=jitter)


@pytest.mark.parametrize("measure", [geometric_diversity, spectral_diversity])
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((0, 3)), "must hold at least one image"),
        (np.ones(3), "must be 2-D"),
        ([[1.0, np.nan]], "must be finite; row 0 holds NaN or infinity"),
    ],
)
def test_bad_features_are_refused(measure, features, message):
    with pytest.raises(InvalidInputError, match=message):
        measure(features)
