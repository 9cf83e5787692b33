"""Tests of `clip_al.concepts.profile_checks`: what reaches a compiled loop was looked at."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al import CBDMarginSampling, CBDSampling, ConceptCounts, ConceptProfiles
from clip_al.concepts.diversity import ConceptGram
from clip_al.concepts.profiles import ConceptStatistics
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label.greedy import pick_diverse
from tests.reference import random_profiles

V = 9


@pytest.fixture
def vocabulary():
    return ConceptVocabulary.from_names([f"word {i}" for i in range(V)])


def arrays(**changes):
    ids = np.array([[0, 1, 2], [5, 4, 3]], dtype=np.int32)
    return {"ids": ids, "similarities": np.zeros((2, 3), np.float32), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.full((2, 3), 10**6)}, "name the concept 1000000 of a vocabulary of 9"),
        ({"ids": np.full((2, 3), -1)}, "name the concept -1 of"),
        ({"ids": np.full((2, 3), 2**63, np.uint64)}, "name the concept 9223372036854775808"),
        ({"ids": np.zeros((2, 3), int)}, "a concept twice for one image"),
        ({"ids": np.zeros((2, 0), int)}, r"`ids` has shape \(2, 0\)"),
        ({"ids": np.zeros((2, 3))}, "2-D of float64"),
        ({"ids": [[0, 1, 2], [3]]}, "nested sequences of equal lengths"),
        ({"ids": None}, "0-D of object"),
        ({"similarities": np.zeros((3, 3))}, r"`similarities` \(3, 3\)"),
        ({"similarities": np.full((2, 3), np.nan)}, "not finite"),
        ({"similarities": np.full((2, 3), 1e300)}, "not finite"),
        ({"similarities": [[0.0, 1.0, 2.0]] * 2}, "do not fall"),
    ],
)
def test_profiles_that_cannot_be_are_refused(vocabulary, changes, message):
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        ConceptProfiles(**arrays(**changes), vocabulary=vocabulary, statistics=None)


def test_profiles_of_other_whole_numbers_are_taken(vocabulary):
    profiles = ConceptProfiles(
        [[8, 0], [1, 2]], np.array([[1, 0], [0, 0]], np.float64), vocabulary, None
    )
    assert (profiles.ids.dtype, profiles.similarities.dtype) == (np.int32, np.float32)
    assert profiles.names(0) == ["word 8", "word 0"]


@pytest.mark.parametrize("vocabulary_", [None, ["a"], 9])
def test_profiles_need_a_vocabulary(vocabulary_):
    with pytest.raises(InvalidTypeError, match="must be a ConceptVocabulary"):
        ConceptProfiles(**arrays(), vocabulary=vocabulary_, statistics=None)


def test_profiles_need_statistics_of_their_vocabulary(vocabulary):
    other = ConceptStatistics(np.zeros(4), np.ones(4), 3)
    with pytest.raises(InvalidInputError, match="9 concepts; got those of 4"):
        ConceptProfiles(**arrays(), vocabulary=vocabulary, statistics=other)
    with pytest.raises(InvalidTypeError, match="must be a ConceptStatistics"):
        ConceptProfiles(**arrays(), vocabulary=vocabulary, statistics={"n": 3})


@pytest.mark.parametrize("index", [2, -1, 10**30])
def test_names_of_an_image_that_is_not_there(vocabulary, index):
    profiles = ConceptProfiles(**arrays(), vocabulary=vocabulary, statistics=None)
    with pytest.raises(InvalidInputError, match=r"`index` must be in \[0, 1\]"):
        profiles.names(index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_v": [np.nan, 0.0]}, "a mean is beyond 1 or not finite"),
        ({"mean_v": [1e30, 0.0]}, "a mean is beyond 1 or not finite"),
        ({"std_v": [-1.0, 0.0]}, "a spread is below 0"),
        ({"std_v": [np.inf, 0.0]}, "a spread is below 0, beyond 1 or not finite"),
        ({"std_v": [0.1]}, r"shape \(2,\) and `std_v` \(1,\)"),
        ({"mean_v": ["a", "b"]}, "`mean_v` must be an array of float64"),
        ({"n": 0}, "`n` must be at least 1"),
        ({"similarity": "cosine"}, "'centred', 'standardized'"),
    ],
)
def test_statistics_that_cannot_be_are_refused(changes, message):
    parts = {"mean_v": [0.1, 0.2], "std_v": [0.1, 0.2], "n": 5, **changes}
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        ConceptStatistics(**parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sum_v": np.full(V, np.nan)}, "each entry in"),
        ({"sum_v": np.full(V, 1e300)}, "each entry in"),
        ({"sum_v": np.zeros((V, 1))}, "one number a concept"),
        ({"count_v": np.zeros(V - 1, int)}, "one whole number for each of 9"),
        ({"count_v": np.full(V, -1)}, "got -1"),
        ({"count_v": np.full(V, 2**62)}, "got 4611686018427387904"),
        ({"n": -1}, "`n` must be at least 0"),
        ({"n": 2.0}, "`n` must be a whole number"),
    ],
)
def test_counts_that_cannot_be_are_refused(changes, message):
    parts = {"sum_v": np.zeros(V), "count_v": np.zeros(V, int), "n": 3, **changes}
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        ConceptCounts(**parts)


@pytest.mark.parametrize(
    ("ids", "weights", "message"),
    [
        ([[0, 10**6]], None, r"in \[0, 8\], .* got 1000000"),
        ([[0, -1]], None, "got -1"),
        ([[1, 1]], None, "distinct concepts"),
        ([0, 1], None, "2-D array of whole numbers"),
        ([[0, 1], [2]], None, "nested sequences"),
        (np.zeros((2, 0), int), None, "2-D array of whole numbers"),
        ([[0, 1]], [[0.7]], "one number in"),
        ([[0, 1]], [[np.nan, 0.5]], "one number in"),
    ],
)
@pytest.mark.parametrize("weighting", ["binary", "softmax"])
def test_concepts_that_cannot_be_counted_are_refused(ids, weights, message, weighting):
    counts = ConceptCounts.empty(V, weighting)
    if weighting == "softmax" and weights is None and np.ndim(ids[-1]) and len(ids[-1]) > 1:
        weights = [[0.8, 0.6]]
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        counts.add(ids, weights)
    assert (counts.n, counts.richness()) == (0, 0)


def test_concepts_that_were_not_added_are_not_removed():
    counts = ConceptCounts.empty(V)
    counts.add([[0, 1]])
    with pytest.raises(InvalidInputError, match="only images that were added can be removed"):
        counts.remove([[2, 3]])
    assert counts.count_v.tolist() == [1, 1] + [0] * 7


def test_sums_of_outer_products_that_cannot_be_are_refused():
    with pytest.raises(InvalidInputError, match="square array"):
        ConceptGram(np.zeros((2, 3)))
    gram = ConceptGram(np.zeros((2, 2)))
    with pytest.raises(InvalidInputError, match="2-D with 2 columns"):
        gram.add(np.zeros((1, 3)))
    with pytest.raises(InvalidInputError, match="positive definite"):
        ConceptGram(-np.eye(2)).log_det()


@pytest.mark.parametrize("bad", [10**6, -1])
@pytest.mark.parametrize("target", ["uniform", "pool"])
def test_ids_that_were_changed_afterwards_do_not_reach_the_loop(rng, bad, target):
    profiles = random_profiles(rng, 12, 20, 4)
    profiles.ids[3, 2] = bad
    message = "in \\[0, 19\\]"
    with pytest.raises(InvalidInputError, match=message):
        CBDSampling(target=target).select(profiles=profiles, n_instances=3)
    P = np.full((12, 2), 0.5)
    with pytest.raises(InvalidInputError, match=message):
        CBDMarginSampling(target=target, candidate_factor=9).select(
            profiles=profiles, n_instances=3, probabilities=P
        )


@pytest.mark.parametrize(
    "changes", [{"n_instances": 6}, {"sum_v": np.zeros(3)}, {"target_v": np.zeros(3)}]
)
def test_shapes_that_do_not_fit_do_not_reach_the_loop(rng, changes):
    profiles = random_profiles(rng, 5, 9, 4)
    parts = {"n_instances": 2, "sum_v": np.zeros(9), **changes}
    with pytest.raises(InvalidInputError, match="The arrays of the profiles were changed"):
        pick_diverse(profiles.ids, profiles.weights(), **parts)
