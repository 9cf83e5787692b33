"""Tests of `query_inputs`: where a query's embeddings, labelled set and target come from."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from modAL.models import ActiveLearner, Committee
from scipy import sparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from clip_al import (
    AlignmentDiversitySampling,
    CBDMarginSampling,
    CBDSampling,
    UncertaintyCoverageSampling,
)
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label import query_inputs as pool
from tests import reference
from tests.helpers import Table, exactly
from tests.reference import contents, make_vocabulary, random_profiles, random_unit

# pool_embeddings


def test_given_embeddings_come_first(Z):
    given = Z.copy()
    assert pool.pool_embeddings(np.arange(60), given, Table(Z)) is given
    assert pool.pool_embeddings(None, given, None) is given


def test_without_a_table_the_pool_is_the_embeddings(Z):
    assert pool.pool_embeddings(Z, None, None) is Z


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_bound_table_is_read_at_the_rows(Z, shape):
    X = np.array([5, 0, 59]).reshape(shape)
    assert (pool.pool_embeddings(X, None, Table(Z)) == Z[[5, 0, 59]]).all()


@pytest.mark.parametrize("n", [59, 61])
def test_embeddings_of_another_pool_are_refused(Z, n):
    message = (
        f"`embeddings` must have one row for each of the {n} images of the pool; got 60. Pass "
        "those of the same pool, in the same order."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.pool_embeddings(np.zeros((n, 2)), Z, None)


def test_no_pool_at_all_is_refused():
    message = "A pool is needed; got none of `X`, `embeddings=` and `profiles=`. Pass one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.pool_embeddings(None, None, None)


@pytest.mark.parametrize(
    ("X", "what"),
    [
        (np.zeros((3, 1)), "shape (3, 1) and dtype float64"),
        (np.zeros((3, 2), dtype=int), "shape (3, 2) and dtype int64"),
        (np.zeros(3, dtype=bool), "shape (3,) and dtype bool"),
    ],
)
def test_a_bound_table_wants_row_numbers(Z, X, what):
    message = (
        f"With a table bound, `X` must hold row numbers of the table; got {what}. Pass integers, "
        "or `embeddings=`."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        pool.pool_embeddings(X, None, Table(Z))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([60], "`X` must be in [0, 59], the positions of 60 images; got 60."),
        ([-1], "`X` must be in [0, 59], the positions of 60 images; got -1."),
        ([3, 3], "`X` must name each image once; got 3 more than once."),
    ],
)
def test_rows_that_are_not_in_the_table_are_refused(Z, X, message):
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}"):
        pool.pool_embeddings(np.array(X), None, Table(Z))


# check_profiles


def test_profiles_of_the_pool_come_back(profiles, Z):
    assert pool.check_profiles(profiles, Z) is profiles
    assert pool.check_profiles(profiles, None) is profiles


def test_profiles_of_another_pool_are_refused(profiles, Z):
    message = (
        "`profiles` must have one row for each of the 59 images of the pool; got 60. Pass "
        "`profiles.take(pool_indices)`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.check_profiles(profiles, Z[:59])


def test_what_is_no_profiles_is_refused(Z):
    message = (
        "`profiles` must be a ConceptProfiles; got ndarray. Make one with "
        "`ConceptProfiles.from_embeddings`."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        pool.check_profiles(Z, Z)


# training_embeddings


def test_the_training_set_of_a_learner_is_found(profiles, Z):
    assert pool.training_embeddings(SimpleNamespace(X_training=Z), profiles, None) is Z


@pytest.mark.parametrize(
    "learner",
    [
        object(),
        None,
        SimpleNamespace(X_training=None),
        SimpleNamespace(X_training=[[0.0] * 12, [0.0] * 11]),
        SimpleNamespace(X_training=["a text", "another"]),
        SimpleNamespace(X_training=np.zeros((4, 11))),
        SimpleNamespace(X_training=np.zeros((4, 3, 8, 8))),
        SimpleNamespace(X_training=np.zeros(12)),
    ],
)
def test_a_learner_without_embeddings_has_no_labelled_set(profiles, learner):
    assert pool.training_embeddings(learner, profiles, None) is None


def test_row_numbers_of_a_learner_are_read_from_the_table(profiles, Z):
    learner = SimpleNamespace(X_training=np.array([[4], [9]]))
    assert (pool.training_embeddings(learner, profiles, Table(Z)) == Z[[4, 9]]).all()


def test_an_image_that_was_taught_twice_is_no_error(profiles, Z):
    learner = SimpleNamespace(X_training=np.array([[4], [4]]))
    assert (pool.training_embeddings(learner, profiles, Table(Z)) == Z[[4, 4]]).all()


def test_embeddings_of_a_learner_with_a_table_bound(profiles, Z):
    assert pool.training_embeddings(SimpleNamespace(X_training=Z), profiles, Table(Z)) is Z


# count_labelled


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
def test_labelled_images_count_alike_however_they_are_given(Z, profiles, weighting):
    part = profiles.take([3, 7, 50])
    expected = ConceptCounts.from_profiles(part, weighting=weighting)
    for labelled in (part, expected, Z[[3, 7, 50]], Z[[3, 7, 50]].tolist()):
        counts = pool.count_labelled(labelled, profiles, weighting)
        np.testing.assert_allclose(counts.sum_v, expected.sum_v, atol=1e-5)
        assert counts.count_v.tolist() == expected.count_v.tolist()
        assert counts.n == 3


@pytest.mark.parametrize("labelled", [None, [], np.empty((0, 12)), ConceptCounts.empty(40)])
def test_nothing_labelled_counts_nothing(profiles, labelled):
    counts = pool.count_labelled(labelled, profiles, "binary")
    assert (counts.n, counts.count_v.sum(), counts.sum_v.sum()) == (0, 0, 0.0)
    assert len(counts.sum_v) == 40


def test_counting_leaves_the_caller_his_counts(profiles):
    labelled = ConceptCounts.from_profiles(profiles, [1, 2])
    before = contents(labelled.sum_v, labelled.count_v)
    counts = pool.count_labelled(labelled, profiles, "binary")
    part = profiles.take([3])
    counts.add(part.ids, part.weights())
    assert contents(labelled.sum_v, labelled.count_v) == before


def test_labelled_profiles_of_another_vocabulary_are_refused(profiles, rng):
    message = (
        "`labelled` must be profiled with the pool's vocabulary of 40 concepts; got 9. Use "
        "`profiles.profile(embeddings)`."
    )
    other = random_profiles(rng, 4, 9, 3)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.count_labelled(other, profiles, "binary")


@pytest.mark.parametrize(("mine", "other"), [("binary", "softmax"), ("softmax", "binary")])
def test_labelled_counts_of_another_weighting_are_refused(profiles, mine, other):
    message = (
        f"`labelled` must be counts of the strategy's weighting, {mine!r}; got counts of "
        f"{other!r}. Make them with `ConceptCounts.from_profiles(…, weighting={mine!r})`, or pass "
        "the profiles."
    )
    counts = ConceptCounts.from_profiles(profiles, [1, 2], weighting=other)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.count_labelled(counts, profiles, mine)


def test_labelled_counts_of_another_vocabulary_are_refused(profiles):
    with pytest.raises(InvalidInputError, match="Counts must be of one vocabulary"):
        pool.count_labelled(ConceptCounts.empty(9), profiles, "binary")


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (np.ones((2, 11)), "must have 12 columns; got 11"),
        (np.full((2, 12), np.nan), "must be finite; row 0, 1 holds NaN"),
    ],
)
def test_bad_labelled_embeddings_are_refused(profiles, labelled, message):
    with pytest.raises(InvalidInputError, match=message):
        pool.count_labelled(labelled, profiles, "binary")


# target_vector


@pytest.mark.parametrize("weighting", ["binary", "softmax"])
def test_targets_are_mean_concept_vectors(profiles, weighting):
    part = profiles.take([2, 4, 5])
    vectors = reference.concept_vectors(profiles, weighting)
    for target, expected in [("pool", vectors), ("uncertain", vectors[[2, 4, 5]])]:
        got = pool.target_vector(target, profiles, part, weighting)
        np.testing.assert_allclose(got, expected.mean(axis=0), atol=1e-6)


def test_the_uniform_target_is_none(profiles):
    assert pool.target_vector("uniform", profiles, profiles, "binary") is None


@pytest.mark.parametrize("make", [list, np.array, tuple, lambda x: np.array(x, dtype=np.float32)])
def test_a_target_of_ones_own(profiles, make):
    values = [0.5 * j for j in range(40)]
    target = pool.target_vector(make(values), profiles, profiles, "binary")
    assert target.dtype == np.float64
    assert target.tolist() == values


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        (np.zeros(39), "(39,)"),
        (np.zeros((40, 1)), "(40, 1)"),
        (np.full(40, np.nan), "(40,)"),
        (np.full(40, np.inf), "(40,)"),
        (None, "()"),
        (0.5, "()"),
    ],
)
def test_a_target_of_another_shape_is_refused(profiles, target, shape):
    message = (
        "`target` must be 'uniform', 'pool', 'uncertain' or one finite number for each of the 40 "
        f"concepts; got shape {shape}. Pass the mean concept vector that you want."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.target_vector(target, profiles, profiles, "binary")


def test_an_unknown_target_is_refused(profiles):
    message = "`target` must be one of 'uniform', 'pool', 'uncertain'; got 'labelled'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        pool.target_vector("labelled", profiles, profiles, "binary")


def test_profiles_without_text_embeddings_refuse_a_training_set(Z, vocabulary, tmp_path):
    # Loaded with names alone, nothing tells what width an embedding would have.
    ConceptProfiles.from_embeddings(Z, vocabulary).save(tmp_path / "p.npz")
    names = ConceptVocabulary.from_names(vocabulary.names)
    loaded = ConceptProfiles.load(tmp_path / "p.npz", names)
    with pytest.raises(InvalidInputError, match="the profiles' vocabulary must have embeddings"):
        pool.training_embeddings(SimpleNamespace(X_training=Z), loaded, None)


def test_the_width_of_the_vocabulary_decides(rng, Z):
    profiles = ConceptProfiles.from_embeddings(
        random_unit(rng, 5, 7), make_vocabulary(random_unit(rng, 9, 7)), 3
    )
    assert pool.training_embeddings(SimpleNamespace(X_training=Z), profiles, None) is None


# Learners as modAL makes them


def taught(Z, as_lists):
    X = Z[:6].tolist() if as_lists else Z[:6]
    y = [0, 1, 0, 1, 0, 1]
    learner = ActiveLearner(GaussianNB(), X_training=X, y_training=y if as_lists else np.array(y))
    learner.teach(Z[6:8].tolist() if as_lists else Z[6:8], [0, 1] if as_lists else np.array([0, 1]))
    return learner


def test_a_learner_taught_with_lists_is_counted(profiles, Z):
    found = pool.training_embeddings(taught(Z, True), profiles, None)
    np.testing.assert_allclose(found, Z[:8])


def test_a_committee_is_counted_once_for_each_image(profiles, Z):
    first, second = taught(Z, False), taught(Z, False)
    second.teach(Z[9:10], np.array([1]))
    committee = Committee([first, second])
    found = pool.training_embeddings(committee, profiles, None)
    np.testing.assert_array_equal(found, np.concatenate([Z[:8], Z[9:10]]))


def test_a_committee_of_row_numbers_is_counted(profiles, Z):
    learners = [SimpleNamespace(X_training=np.array(rows)) for rows in ([[4], [9]], [[9], [2]])]
    committee = SimpleNamespace(learner_list=learners)
    found = pool.training_embeddings(committee, profiles, Table(Z))
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, Z[[4, 9, 2]].tolist()))


@pytest.mark.parametrize("kind", ["lists", "committee"])
def test_queries_go_by_what_was_taught(vocabulary, Z, kind):
    learner = taught(Z, kind == "lists")
    asked = Committee([learner, taught(Z, False)]) if kind == "committee" else learner
    for strategy in (CBDSampling(vocabulary, m=6), UncertaintyCoverageSampling()):
        expected, _ = strategy(taught(Z, False), Z[8:], 6)
        alone, _ = strategy(asked, Z[8:], 6, labelled=[])
        found, _ = strategy(asked, Z[8:], 6)
        assert found.tolist() == expected.tolist()
        assert found.tolist() != alone.tolist()


@pytest.mark.parametrize("strategy", [CBDMarginSampling, UncertaintyCoverageSampling])
def test_a_classifier_without_probabilities_is_named(vocabulary, Z, strategy):
    y = np.arange(6) % 2
    inside = ActiveLearner(LinearSVC(), X_training=Z[:6], y_training=y)
    message = (
        "The classifier must have `predict_proba`; LinearSVC has none. Wrap it, as in "
        "`CalibratedClassifierCV(LinearSVC())`, or pass `probabilities=`."
    )
    ask = strategy(vocabulary=vocabulary)
    for classifier in (LinearSVC().fit(Z[:6], y), inside, Committee([inside, inside])):
        with pytest.raises(InvalidTypeError, match=exactly(message)):
            ask(classifier, Z, 3)


def test_the_remedy_works(vocabulary, Z):
    calibrated = CalibratedClassifierCV(LinearSVC(), cv=2).fit(Z[:20], np.arange(20) % 2)
    for strategy in (CBDMarginSampling(vocabulary), UncertaintyCoverageSampling()):
        assert len(strategy(calibrated, Z, 3)[0]) == 3


def test_what_cannot_predict_is_named(Z):
    with pytest.raises(InvalidTypeError, match="must have `predict`; PCA has none"):
        AlignmentDiversitySampling(Z[:4])(PCA(), Z, 3)


def test_a_sparse_pool_with_embeddings(vocabulary, Z):
    X = sparse.csr_matrix(np.eye(len(Z)))
    for strategy in (
        CBDSampling(vocabulary, m=6),
        UncertaintyCoverageSampling(),
        AlignmentDiversitySampling(Z[:4]),
    ):
        found, _ = strategy(None, X, 4, embeddings=Z)
        assert found.tolist() == strategy(None, Z, 4)[0].tolist()
