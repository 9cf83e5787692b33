"""Tests of `clip_al.concepts.profiles`: the fast top-m equals a full sort of all similarities."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_al.arrays.blocks import map_blocks
from clip_al.concepts.profiles import ConceptProfiles, ConceptStatistics, concept_directions
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.label.explain import explain_picks
from tests import reference
from tests.helpers import Table, exactly
from tests.reference import contents, make_vocabulary, quarter_unit, random_unit


def expected_similarities(Z, vocabulary, similarity):
    if similarity == "centred":
        return reference.centred(Z, vocabulary.embeddings)
    sim_nv = reference.cosines(Z, vocabulary.embeddings)
    return reference.standardised(sim_nv) if similarity == "standardized" else sim_nv


def assert_top_m(profiles, sim_nv, atol=1e-4):
    """Each row holds distinct concepts, falling, with their similarity, and none is left out."""
    order = reference.top_m(sim_nv, profiles.m)
    assert profiles.ids.dtype == np.int32
    assert profiles.similarities.dtype == np.float32
    assert profiles.ids.shape == profiles.similarities.shape == order.shape
    for ids, sims, expected, row in zip(
        profiles.ids, profiles.similarities, order, sim_nv, strict=True
    ):
        assert len(set(ids)) == len(ids)
        assert (np.diff(sims) <= 0).all()
        np.testing.assert_allclose(sims, row[ids], atol=atol)
        np.testing.assert_allclose(sims, row[expected], atol=atol)


# The top m


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
@pytest.mark.parametrize(
    ("v", "m"),
    [(1, 1), (3, 2), (15, 15), (16, 5), (17, 2), (31, 3), (32, 2), (48, 3), (48, 4), (100, 10)],
)
def test_profiles_equal_a_full_sort(rng, v, m, similarity):
    Z, vocabulary = random_unit(rng, 25, 8), make_vocabulary(random_unit(rng, v, 8))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m, similarity=similarity)
    sim_nv = expected_similarities(Z, vocabulary, similarity)
    assert_top_m(profiles, sim_nv)
    # At these sizes no two similarities are as close as float32 rounds.
    assert (profiles.ids == reference.top_m(sim_nv, m)).all()


@pytest.mark.parametrize("v", [5, 16, 33, 100, 320])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_equal_similarities_go_to_the_lowest_concept(rng, v, m):
    Z, vocabulary = quarter_unit(rng, 40, 8), make_vocabulary(quarter_unit(rng, v, 8))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m, similarity="cosine")
    sim_nv = Z @ vocabulary.embeddings.T
    assert (profiles.ids == reference.top_m(sim_nv, m)).all()
    assert (profiles.similarities == np.take_along_axis(sim_nv, profiles.ids, 1)).all()


@pytest.mark.parametrize("v", [16, 20, 64])
def test_all_similarities_equal(v):
    vocabulary = make_vocabulary(np.tile([[1.0, 0.0]], (v, 1)))
    profiles = ConceptProfiles.from_embeddings([[1.0, 0.0]], vocabulary, 3, similarity="cosine")
    assert profiles.ids.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("v", [4, 16, 20, 64])
def test_negative_similarities_are_ranked_alike(rng, v):
    T = np.abs(random_unit(rng, v, 5))
    vocabulary, Z = make_vocabulary(T), -np.abs(random_unit(rng, 10, 5))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 3, similarity="cosine")
    assert (profiles.similarities < 0).all()
    assert (profiles.ids == reference.top_m(reference.cosines(Z, T), 3)).all()


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 12),
    v=st.integers(1, 70),
    share=st.floats(0, 1),
    tied=st.booleans(),
)
def test_profiles_equal_a_full_sort_at_any_size(seed, n, v, share, tied):
    rng = np.random.default_rng(seed)
    make = quarter_unit if tied else random_unit
    Z, vocabulary, m = make(rng, n, 6), make_vocabulary(make(rng, v, 6)), 1 + int(share * (v - 1))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m, similarity="cosine")
    sim_nv = expected_similarities(Z, vocabulary, False)
    assert_top_m(profiles, sim_nv, atol=1e-6)
    if tied:
        assert (profiles.ids == reference.top_m(sim_nv.round(6), m)).all()


# Kinds of input

KINDS = [
    "float64",
    "fortran",
    "strided",
    "memmap",
    "list",
    "readonly",
    "big-endian",
    "table",
    "longer",
    "each of its own length",
]


def make_inputs(Z, tmp_path):
    np.save(tmp_path / "z.npy", Z)
    readonly = Z.copy()
    readonly.setflags(write=False)
    return {
        "float64": Z.astype(np.float64),
        "fortran": np.asfortranarray(Z),
        "strided": np.repeat(Z, 2, axis=0)[::2],
        "memmap": np.load(tmp_path / "z.npy", mmap_mode="r"),
        "list": Z.tolist(),
        "readonly": readonly,
        "big-endian": Z.astype(">f4"),
        "table": Table(Z, "toy"),
        "longer": Z * 7.5,
        "each of its own length": Z * np.linspace(0.1, 9, len(Z), dtype=np.float32)[:, None],
    }


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_one_answer(Z, vocabulary, tmp_path, kind, similarity):
    X = make_inputs(Z, tmp_path)[kind]
    before = contents(getattr(X, "embeddings", X), vocabulary.embeddings)
    one = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity=similarity)
    other = ConceptProfiles.from_embeddings(X, vocabulary, 5, similarity=similarity)
    assert (one.ids == other.ids).all()
    np.testing.assert_allclose(one.similarities, other.similarities, atol=2e-5)
    assert contents(getattr(X, "embeddings", X), vocabulary.embeddings) == before


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_float16_is_taken_for_what_it_says(Z, vocabulary, similarity):
    half = Z.astype(np.float16)
    profiles = ConceptProfiles.from_embeddings(half, vocabulary, 5, similarity=similarity)
    # Its rows are within 1e-3 of unit length, so they may or may not have been scaled.
    assert_top_m(profiles, expected_similarities(half, vocabulary, similarity), atol=2e-3)


def test_bytes_repeat(Z, vocabulary):
    one, other = (ConceptProfiles.from_embeddings(Z, vocabulary) for _ in range(2))
    assert contents(one.ids, one.similarities) == contents(other.ids, other.similarities)


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_several_blocks_give_what_one_gives(rng, vocabulary, monkeypatch, similarity):
    Z = random_unit(rng, 200, 12)
    one = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity=similarity)
    starts = []

    def counting(function, n, rows):
        starts.append(-(-n // rows))
        return map_blocks(function, n, rows)

    monkeypatch.setattr("clip_al.concepts.profiles.map_blocks", counting)
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", 700)
    monkeypatch.setattr("clip_al.concepts.profiles.CACHED_ROWS", 40)
    other = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity=similarity)
    assert min(starts) >= 4  # of 64 rows, and of 40 for the statistics
    assert (one.ids == other.ids).all()
    np.testing.assert_allclose(one.similarities, other.similarities, atol=2e-5)


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_the_number_of_cores_changes_no_byte(rng, vocabulary, monkeypatch, similarity):
    Z = random_unit(rng, 300, 12)
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", 700)
    results = []
    for n_cores in (1, 2, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=n_cores: set(range(n)))
        profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity=similarity)
        results.append(contents(profiles.ids, profiles.similarities))
    assert results[0] == results[1] == results[2]


@given(seed=st.integers(0, 2**16), n=st.integers(2, 30))
def test_permuted_images_have_permuted_profiles(seed, n):
    rng = np.random.default_rng(seed)
    Z, vocabulary = random_unit(rng, n, 6), make_vocabulary(random_unit(rng, 20, 6))
    order = rng.permutation(n)
    one = ConceptProfiles.from_embeddings(Z, vocabulary, 4)
    other = ConceptProfiles.from_embeddings(Z[order], vocabulary, 4)
    np.testing.assert_allclose(other.similarities, one.similarities[order], rtol=1e-3, atol=1e-3)
    sim_nv = expected_similarities(Z[order], vocabulary, True)
    np.testing.assert_allclose(
        np.take_along_axis(sim_nv, other.ids, 1),
        np.take_along_axis(sim_nv, one.ids[order], 1),
        rtol=1e-3,
        atol=1e-3,
    )


# Statistics


@pytest.mark.parametrize("similarity", ["centred", "standardized"])
@pytest.mark.parametrize("block_bytes", [200, 2**25])
def test_statistics_equal_those_of_all_similarities(rng, monkeypatch, block_bytes, similarity):
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", block_bytes)
    Z, T = random_unit(rng, 80, 9), random_unit(rng, 30, 9)
    statistics = ConceptStatistics.from_embeddings(Z, make_vocabulary(T), similarity=similarity)
    products_nv = Z.astype(np.float64) @ concept_directions(T, similarity).T
    np.testing.assert_allclose(statistics.mean_v, products_nv.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(statistics.std_v, products_nv.std(axis=0), rtol=1e-5)
    assert statistics.n == 80
    assert statistics.similarity == similarity
    assert statistics.mean_v.dtype == statistics.std_v.dtype == np.float64


def test_directions_have_unit_length_and_point_away_from_the_mean(rng):
    T = random_unit(rng, 30, 9) + 2.0
    found = concept_directions(T, "centred")
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    away = T - T.mean(axis=0)
    assert ((found * away).sum(axis=1) > 0.999 * np.linalg.norm(away, axis=1)).all()
    assert concept_directions(T, "cosine") is T


def test_a_text_that_is_the_mean_is_similar_to_nothing(rng):
    T = np.eye(2, 6)
    vocabulary = make_vocabulary(np.vstack([T, T.mean(axis=0, keepdims=True)]))
    assert (concept_directions(vocabulary.embeddings[:1].repeat(3, 0), "centred") == 0).all()
    profiles = ConceptProfiles.from_embeddings(random_unit(rng, 20, 6), vocabulary, 3)
    assert np.isfinite(profiles.similarities).all()


def test_statistics_of_images_that_are_nearly_alike(rng):
    Z = random_unit(rng, 1, 12, np.float64) + 1e-3 * random_unit(rng, 500, 12, np.float64)
    Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)
    vocabulary = make_vocabulary(random_unit(rng, 40, 12))
    statistics = ConceptStatistics.from_embeddings(Z, vocabulary, similarity="standardized")
    expected = reference.cosines(Z, vocabulary.embeddings).std(axis=0)
    np.testing.assert_allclose(statistics.std_v, expected, rtol=1e-2)


@pytest.mark.parametrize("n", [2, 50])
def test_a_spread_of_nothing_counts_as_one(rng, n):
    Z = np.repeat(random_unit(rng, 1, 12), n, axis=0)
    vocabulary = make_vocabulary(random_unit(rng, 40, 12))
    statistics = ConceptStatistics.from_embeddings(Z, vocabulary, similarity="standardized")
    scale_v, shift_v = statistics.scale_and_shift()
    assert (scale_v == 1.0).all()
    np.testing.assert_allclose(shift_v, -statistics.mean_v)


@pytest.mark.parametrize("similarity", ["centred", "standardized"])
def test_identical_images_have_identical_profiles(rng, similarity):
    Z = np.repeat(random_unit(rng, 1, 12), 50, axis=0)
    vocabulary = make_vocabulary(random_unit(rng, 40, 12))
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, similarity=similarity)
    assert np.abs(profiles.similarities - profiles.similarities[0]).max() < 1e-4


def test_two_images_are_enough_to_standardise(rng):
    Z, T = random_unit(rng, 2, 6), random_unit(rng, 5, 6)
    vocabulary = make_vocabulary(T)
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity="standardized")
    # Of two images, one lies a standard deviation above the mean and one below.
    np.testing.assert_allclose(np.abs(profiles.similarities), 1.0, atol=1e-3)


def test_one_image_cannot_be_standardised(vocabulary, Z):
    message = (
        "Standardising needs a pool of at least 2 images; got 1. Pass the pool's `statistics=`, "
        "or another `similarity=`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptProfiles.from_embeddings(Z[:1], vocabulary, similarity="standardized")


def test_one_image_has_a_centred_profile(vocabulary, Z):
    profiles = ConceptProfiles.from_embeddings(Z[:1], vocabulary, 5)
    assert_top_m(profiles, reference.centred(Z[:1], vocabulary.embeddings))


def test_statistics_of_another_kind_are_refused(vocabulary, Z):
    statistics = ConceptStatistics.from_embeddings(Z, vocabulary, similarity="standardized")
    message = (
        "`statistics` must be for similarity='centred'; got some for 'standardized'. Pass "
        "similarity='standardized'."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptProfiles.from_embeddings(Z, vocabulary, statistics=statistics)


def test_a_part_is_profiled_like_the_pool(Z, vocabulary):
    pool = ConceptProfiles.from_embeddings(Z, vocabulary, 5)
    part = pool.profile(Z[3:4])
    assert part.statistics is pool.statistics
    assert (part.ids == pool.ids[3:4]).all()
    np.testing.assert_allclose(part.similarities, pool.similarities[3:4], atol=1e-5)


def test_a_part_of_plain_profiles_is_plain(Z, vocabulary):
    pool = ConceptProfiles.from_embeddings(Z, vocabulary, 5, similarity="cosine")
    part = pool.profile(Z[3:4])
    assert pool.statistics is None
    assert part.statistics is None
    assert (part.ids == pool.ids[3:4]).all()


def test_statistics_of_another_pool_are_used(rng, Z, vocabulary):
    other = random_unit(rng, 30, 12)
    statistics = ConceptStatistics.from_embeddings(other, vocabulary, similarity="standardized")
    profiles = ConceptProfiles.from_embeddings(
        Z, vocabulary, 5, similarity="standardized", statistics=statistics
    )
    sim_nv = reference.cosines(Z, vocabulary.embeddings)
    assert profiles.statistics is statistics
    assert_top_m(profiles, (sim_nv - statistics.mean_v) / statistics.std_v)


# Bad input


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite(Z, vocabulary, bad):
    Z[5, 2] = bad
    with pytest.raises(InvalidInputError, match=r"^`Z` must be finite; row 5 holds NaN or infin"):
        ConceptProfiles.from_embeddings(Z, vocabulary)


def test_an_empty_pool(vocabulary):
    with pytest.raises(InvalidInputError, match=r"`Z` must hold at least one image; got shape \(0"):
        ConceptProfiles.from_embeddings(np.empty((0, 12)), vocabulary)


@pytest.mark.parametrize("make", [ConceptProfiles, ConceptStatistics])
def test_a_vocabulary_of_another_width(Z, vocabulary, make):
    message = "`Z` must have 12 columns; got 7. Encode both with one model."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make.from_embeddings(Z[:, :7], vocabulary)


@pytest.mark.parametrize("make", [ConceptProfiles, ConceptStatistics])
def test_a_vocabulary_of_another_model(Z, vocabulary, make):
    message = (
        "The images and the vocabulary must be encoded by one model; got other and toy. Encode "
        "the vocabulary with other."
    )
    with pytest.raises(ModelMismatchError, match=exactly(message)):
        make.from_embeddings(Table(Z, "other"), vocabulary)


def test_a_vocabulary_of_an_unknown_model_is_taken(Z, vocabulary):
    unnamed = make_vocabulary(vocabulary.embeddings)
    one = ConceptProfiles.from_embeddings(Table(Z, "other"), unnamed, 3)
    assert (one.ids == ConceptProfiles.from_embeddings(Z, vocabulary, 3).ids).all()


@pytest.mark.parametrize("make", [ConceptProfiles, ConceptStatistics])
def test_a_vocabulary_without_embeddings(Z, make):
    message = (
        "`vocabulary` must have embeddings; got names alone. Call `vocabulary.encode(encoder)` or "
        "`.with_embeddings(T)` first."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        make.from_embeddings(Z, ConceptVocabulary.from_names(["dog", "cat"]))


@pytest.mark.parametrize("m", [0, -1, 41])
def test_more_or_fewer_concepts_than_there_are(Z, vocabulary, m):
    message = f"`m` must be in [1, 40]; got {m}. Change it."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptProfiles.from_embeddings(Z, vocabulary, m)


@pytest.mark.parametrize("m", [2.0, True, None])
def test_a_number_of_concepts_that_is_none(Z, vocabulary, m):
    message = f"`m` must be a whole number; got {m!r}. Pass an int."
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        ConceptProfiles.from_embeddings(Z, vocabulary, m)


def test_statistics_of_another_vocabulary(Z, vocabulary, rng):
    statistics = ConceptStatistics.from_embeddings(Z, make_vocabulary(random_unit(rng, 9, 12)))
    message = (
        "`statistics` must be of this vocabulary, 40 concepts; got those of 9. Measure them with "
        "it."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptProfiles.from_embeddings(Z, vocabulary, statistics=statistics)


def test_an_embedding_of_zeros(Z, vocabulary):
    Z[9] = 0
    with pytest.raises(InvalidInputError, match="must have a direction; row 9 is all zeros"):
        ConceptProfiles.from_embeddings(Z, vocabulary)


# Weights, take, names, files


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
def test_weights_are_the_entries_of_the_concept_vectors(profiles, weighting):
    before = contents(profiles.ids, profiles.similarities)
    weights = profiles.weights(weighting)
    dense = reference.concept_vectors(profiles, weighting)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, np.take_along_axis(dense, profiles.ids, 1), atol=1e-6)
    np.testing.assert_allclose((weights**2).sum(axis=1), 1.0, atol=1e-6)
    assert contents(profiles.ids, profiles.similarities) == before


def test_weights_of_extreme_similarities_are_finite(vocabulary):
    similarities = np.array([[3e4, 0.0], [-3e4, -3e4]], dtype=np.float32)
    ids = np.array([[0, 1], [2, 3]], dtype=np.int32)
    weights = ConceptProfiles(ids, similarities, vocabulary, None).weights("softmax")
    np.testing.assert_allclose(weights, [[1.0, 0.0], [0.5**0.5, 0.5**0.5]])


def test_an_unknown_weighting(profiles):
    message = "`weighting` must be one of 'binary', 'softmax'; got 'idf'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        profiles.weights("idf")


def test_take_keeps_the_order_that_is_asked_for(profiles):
    part = profiles.take([5, 0])
    assert (part.ids == profiles.ids[[5, 0]]).all()
    assert (part.similarities == profiles.similarities[[5, 0]]).all()
    assert part.statistics is profiles.statistics
    assert len(part) == 2


def test_take_refuses_an_image_that_is_not_there(profiles):
    with pytest.raises(InvalidInputError, match=r"`indices` must be in \[0, 59\], .* got 60"):
        profiles.take([60])


def test_names_sizes_and_repr(Z, rng):
    profiles = ConceptProfiles.from_embeddings(
        [[0.1, 0.9, 0.3]],
        ConceptVocabulary.from_names(["a", "b", "c"]).with_embeddings(np.eye(3)),
        2,
        similarity="cosine",
    )
    assert profiles.names(0) == ["b", "c"]
    assert (len(profiles), profiles.m, profiles.n_concepts) == (1, 2, 3)
    assert repr(profiles) == "ConceptProfiles(n=1, m=2, n_concepts=3)"


@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_what_is_saved_is_loaded(Z, vocabulary, tmp_path, similarity):
    saved = ConceptProfiles.from_embeddings(Z, vocabulary, 4, similarity=similarity)
    saved.save(tmp_path / "profiles.npz")
    loaded = ConceptProfiles.load(tmp_path / "profiles.npz", vocabulary)
    assert contents(loaded.ids, loaded.similarities) == contents(saved.ids, saved.similarities)
    assert loaded.vocabulary is vocabulary
    assert loaded.similarity == similarity
    assert contents(loaded.profile(Z[:3]).ids) == contents(saved.profile(Z[:3]).ids)
    if similarity != "cosine":
        assert loaded.statistics.n == 60


def test_loading_with_another_vocabulary(profiles, tmp_path):
    path = tmp_path / "profiles.npz"
    profiles.save(path)
    message = (
        f"`vocabulary` must be the one that {path} was made with, 40 concepts; got another of 2. "
        "Load that one."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptProfiles.load(path, ConceptVocabulary.from_names(["a", "b"]))


def test_a_large_pool_is_measured_on_evenly_spaced_images(rng, vocabulary):
    Z = random_unit(rng, 100, 12)
    some = ConceptStatistics.from_embeddings(Z, vocabulary, max_images=30)
    spaced = ConceptStatistics.from_embeddings(Z[::4], vocabulary, max_images=None)
    assert some.n == 25
    np.testing.assert_array_equal(some.mean_v, spaced.mean_v)
    np.testing.assert_array_equal(some.std_v, spaced.std_v)
    assert ConceptStatistics.from_embeddings(Z, vocabulary).n == 100


def test_a_bad_row_of_a_large_pool_is_named_by_its_place_in_the_pool(rng, vocabulary):
    Z = random_unit(rng, 100, 12)
    Z[96, 3] = np.nan
    with pytest.raises(InvalidInputError, match="`Z` must be finite; row 96 holds NaN"):
        ConceptStatistics.from_embeddings(Z, vocabulary, max_images=30)
    Z[96] = 0.0
    with pytest.raises(InvalidInputError, match="row 96 is all zeros"):
        ConceptStatistics.from_embeddings(Z, vocabulary, max_images=30)


@pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("similarity", ["centred", "standardized", "cosine"])
def test_torch_profiles_as_numpy_does(rng, device, similarity):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    vocabulary, Z = make_vocabulary(random_unit(rng, 50, 12)), random_unit(rng, 40, 12)
    expected = ConceptProfiles.from_embeddings(Z, vocabulary, 7, similarity=similarity)
    found = ConceptProfiles.from_embeddings(Z, vocabulary, 7, similarity=similarity, device=device)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.similarities, expected.similarities, atol=1e-5)


def test_torch_breaks_ties_by_the_lowest_concept():
    T = np.repeat(np.eye(3), 3, axis=0)  # three equal concepts in each of three directions
    vocabulary = ConceptVocabulary.from_names([str(i) for i in range(9)]).with_embeddings(T)
    Z = np.array([[0.9, 0.4, 0.1], [0.1, 0.2, 0.9]])
    for device in (None, "cpu:0"):
        found = ConceptProfiles.from_embeddings(
            Z, vocabulary, 4, similarity="cosine", device=device
        )
        assert found.ids.tolist() == [[0, 1, 2, 3], [6, 7, 8, 3]]


# What is said, and what is not


def test_words_are_those_that_reach_the_floor(rng):
    v, d = 200, 32
    T = random_unit(rng, v, d)
    vocabulary = ConceptVocabulary.from_names([f"word {i}" for i in range(v)]).with_embeddings(T)
    Z = T[rng.integers(0, v, 300)] + 0.05 * rng.standard_normal((300, d)).astype(np.float32)
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 10)
    floor = math.sqrt(2 * math.log(v)) - 1.1
    assert profiles.floor == pytest.approx(floor)
    for i in range(20):
        scored = zip(profiles.names(i), profiles.similarities[i], strict=True)
        assert profiles.words(i) == [name for name, s in scored if s >= floor]
        assert profiles.fits[i].sum() == len(profiles.words(i))
    assert 0 < profiles.fits[:, 1:].mean() < 1
    assert profiles.fits[:, 0].all()


def test_an_image_between_all_words_is_said_to_show_none(rng):
    T = random_unit(rng, 30, 32)
    vocabulary = ConceptVocabulary.from_names([f"word {i}" for i in range(30)]).with_embeddings(T)
    Z = np.vstack([T, T.mean(axis=0, keepdims=True)])
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 5)
    assert [bool(profiles.words(i)) for i in range(31)] == [True] * 30 + [False]
    assert len(profiles.names(30)) == 5
    assert "nothing in the vocabulary fits" in profiles.take([30])._repr_html_()
    assert explain_picks([30, 3], profiles)[0].concepts == ()


def test_plain_cosines_have_no_floor(rng):
    T = random_unit(rng, 30, 8)
    vocabulary = ConceptVocabulary.from_names([f"word {i}" for i in range(30)]).with_embeddings(T)
    profiles = ConceptProfiles.from_embeddings(-T, vocabulary, 30, similarity="cosine")
    assert profiles.floor == -math.inf
    assert profiles.words(0) == profiles.names(0)
