"""Learners of several labels an image: every form of answer, modAL's learners, and refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest
from modAL.models import ActiveLearner, Committee
from modAL.multilabel import avg_confidence
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier

from clip_al import ClipClassifier, ClipSelector, SelectionOptimizer, expected_accuracy
from clip_al.errors import InvalidInputError
from clip_al.label.alignment_sampling import AlignmentDiversitySampling
from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.label.uncertainty import ensemble_variance, entropy, label_uncertainty, margin

LEARNERS = {
    "MultiOutputClassifier": lambda: MultiOutputClassifier(LogisticRegression()),
    "OneVsRestClassifier": lambda: OneVsRestClassifier(LogisticRegression()),
    "ClassifierChain": lambda: ClassifierChain(LogisticRegression()),
    "RandomForestClassifier": lambda: RandomForestClassifier(5, random_state=0),
    "KNeighborsClassifier": lambda: KNeighborsClassifier(3),
}
every_learner = pytest.mark.parametrize("name", LEARNERS)


@pytest.fixture
def Y():
    return np.random.default_rng(4).integers(2, size=(20, 3))


def columns_of(answer):
    """Return (n, k) the slow way."""
    return np.stack([p[:, 1] for p in answer], 1) if isinstance(answer, list) else answer


def strategies(vocabulary):
    return {
        "coverage": UncertaintyCoverageSampling(multi_label=True),
        "coverage, worst": UncertaintyCoverageSampling(multi_label=True, label_doubt="worst"),
        "concepts": CBDMarginSampling(vocabulary, m=4, multi_label=True),
        "concepts, entropy": CBDMarginSampling(
            vocabulary, m=4, multi_label=True, label_doubt="worst", uncertainty="entropy"
        ),
    }


@every_learner
@pytest.mark.parametrize("which", ["coverage", "coverage, worst", "concepts", "concepts, entropy"])
def test_what_a_learner_answers_is_what_its_columns_would_pick(Z, Y, vocabulary, name, which):
    strategy = strategies(vocabulary)[which]
    learner = ActiveLearner(LEARNERS[name](), query_strategy=strategy)
    learner.teach(Z[:20], Y)
    pool = Z[20:]
    indices, images = learner.query(pool, n_instances=4)
    P = columns_of(learner.predict_proba(pool))
    assert P.shape == (len(pool), 3)
    expected = strategy.select(pool, 4, probabilities=P, labelled=Z[:20])
    assert indices.tolist() == expected.tolist()
    assert images.shape == (4, Z.shape[1])


@every_learner
def test_rounds_of_a_learner_and_before_its_first_label(Z, name):
    truth = np.random.default_rng(4).integers(2, size=(60, 3))
    strategy = UncertaintyCoverageSampling(multi_label=True)
    learner = ActiveLearner(LEARNERS[name](), query_strategy=strategy)
    pool = np.arange(60)
    for n in (12, 4, 4):
        indices, _ = learner.query(Z[pool], n_instances=n)
        learner.teach(Z[pool[indices]], truth[pool[indices]])
        pool = np.delete(pool, indices)
    assert learner.y_training.shape == (20, 3)


def test_a_learner_of_modals_own_multilabel_strategies(Z, Y):
    pool = Z[20:]
    ours = UncertaintyCoverageSampling(multi_label=True)
    picks = {}
    for name, strategy in (("ours", ours), ("theirs", avg_confidence)):
        learner = ActiveLearner(LEARNERS["OneVsRestClassifier"](), query_strategy=strategy)
        learner.teach(Z[:20], Y)
        picks[name] = learner.query(pool, n_instances=4)[0]
        learner.teach(pool[picks[name]], Y[:4])
    assert all(len(set(picked.tolist())) == 4 for picked in picks.values())


def test_a_committee_of_several_labels(Z, Y):
    strategy = UncertaintyCoverageSampling(multi_label=True)
    members = [
        ActiveLearner(LEARNERS["OneVsRestClassifier"](), X_training=Z[rows], y_training=Y[rows])
        for rows in (np.arange(14), np.arange(6, 20))
    ]
    committee = Committee(members, query_strategy=strategy)
    indices, _ = committee.query(Z[20:], n_instances=3)
    P = np.mean([member.predict_proba(Z[20:]) for member in members], axis=0)
    seen = np.unique(Z[:20], axis=0, return_index=True)[1]
    expected = strategy.select(Z[20:], 3, probabilities=P, labelled=Z[np.sort(seen)])
    assert indices.tolist() == expected.tolist()


def test_a_label_that_was_always_the_same_in_what_was_taught(Z, Y):
    Y = np.column_stack([Y, np.zeros(20, int)])
    learner = ActiveLearner(
        LEARNERS["RandomForestClassifier"](),
        query_strategy=UncertaintyCoverageSampling(multi_label=True),
        X_training=Z[:20],
        y_training=Y,
    )
    answer = learner.predict_proba(Z[20:])
    assert answer[3].shape == (40, 1)
    P = np.column_stack([columns_of(answer[:3]), np.zeros(40)])
    expected = learner.query_strategy.select(Z[20:], 3, probabilities=P, labelled=Z[:20])
    assert learner.query(Z[20:], n_instances=3)[0].tolist() == expected.tolist()


# The measure


def test_each_label_counts_as_two_classes(rng):
    P = rng.random((30, 3))
    pairs = [np.stack([1 - p, p], axis=1) for p in P.T]
    for measure, function in (("margin", margin), ("entropy", entropy)):
        each = np.stack([function(pair) for pair in pairs], axis=1)
        np.testing.assert_allclose(label_uncertainty(P, measure=measure), each.mean(axis=1))
        worst = each.min(axis=1) if measure == "margin" else each.max(axis=1)
        found = label_uncertainty(P, measure=measure, label_doubt="worst")
        np.testing.assert_allclose(found, worst)
        np.testing.assert_array_equal(
            label_uncertainty(pairs, measure=measure), label_uncertainty(P, measure=measure)
        )
    least = label_uncertainty(P, measure="least_confidence")
    np.testing.assert_allclose(least, (1 - label_uncertainty(P)) / 2)


def test_the_variance_of_an_ensemble_by_label(rng):
    P = rng.random((4, 30, 3))
    pairs = [np.stack([1 - P[:, :, j], P[:, :, j]], axis=2) for j in range(3)]
    each = np.stack([ensemble_variance(pair) for pair in pairs], axis=1)
    found = label_uncertainty(P, measure="ensemble_variance")
    np.testing.assert_allclose(found, each.mean(axis=1))
    worst = label_uncertainty(P, measure="ensemble_variance", label_doubt="worst")
    np.testing.assert_allclose(worst, each.max(axis=1))
    with pytest.raises(InvalidInputError, match=re.escape("(models, images, labels) of at least")):
        label_uncertainty(P[0], measure="ensemble_variance")


# What has no meaning for several labels says so


@pytest.mark.parametrize("make", [UncertaintyCoverageSampling, CBDMarginSampling])
def test_answers_of_several_labels_are_not_taken_for_classes(Z, Y, vocabulary, make):
    strategy = make(vocabulary=vocabulary)
    learner = MultiOutputClassifier(LogisticRegression()).fit(Z[:20], Y)
    message = "got a list of 3 arrays, one a label: those of several labels an image. Pass multi_l"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        strategy(learner, Z[20:], 4)
    rest = OneVsRestClassifier(LogisticRegression()).fit(Z[:20], Y)
    with pytest.raises(InvalidInputError, match=r"several labels, pass `multi_label=True`\.$"):
        strategy(rest, Z[20:], 4)


def test_alignment_takes_an_image_for_one_class(Z, Y):
    strategy = AlignmentDiversitySampling(np.eye(Z.shape[1])[:3])
    learner = OneVsRestClassifier(LogisticRegression()).fit(Z[:20], Y)
    message = "`what images are taken for` must have one label for each image here; got shape (40"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        strategy(learner, Z[20:], 4)


def test_concepts_alone_need_no_answer_and_take_any_learner(Z, Y, vocabulary):
    strategy = CBDSampling(vocabulary, m=4)
    learner = ActiveLearner(
        LEARNERS["MultiOutputClassifier"](),
        query_strategy=strategy,
        X_training=Z[:20],
        y_training=Y,
    )
    indices, _ = learner.query(Z[20:], n_instances=4)
    assert indices.tolist() == strategy.select(Z[20:], 4, labelled=Z[:20]).tolist()


def test_quotas_and_alignment_of_a_selector(Z, Y):
    T = np.eye(Z.shape[1])[:3]
    message = "quotas go by the one class of an image, and an image of two would count in both"
    with pytest.raises(InvalidInputError, match=message):
        ClipSelector(0.5, class_embeddings=T).fit(Z[:20], Y)
    with pytest.raises(InvalidInputError, match=message):
        SelectionOptimizer(0.5).select(np.arange(20.0), None, Y, n_classes=3)


def test_accuracy_to_expect_is_of_one_label_an_image(Z, Y):
    head = ClipClassifier(class_embeddings=np.eye(Z.shape[1])[:3]).fit(Z[:20], Y.argmax(axis=1))
    with pytest.raises(InvalidInputError, match=re.escape("got shape (20, 3), several an image")):
        expected_accuracy(head, Z, np.arange(20), Y)
