"""Tests of `UncertaintyCoverageSampling`: where its inputs come from, and its messages.

What it picks is tested in `test_coverage.py`.
"""

from __future__ import annotations

import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
from modAL.models import ActiveLearner
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.svm import LinearSVC

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label.coverage.pick import pick_by_coverage, pick_equal_shares
from clip_al.label.coverage.weights import coverage_weights
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling, labelled_cover, zero_shot
from clip_al.label.explain import explain_picks
from tests.reference import contents, random_unit


class Table:
    model_id = "toy"

    def __init__(self, embeddings):
        self.embeddings = embeddings

    def __len__(self):
        return len(self.embeddings)

    def __getitem__(self, rows):
        return self.embeddings[rows]


@pytest.fixture
def T():
    return random_unit(np.random.default_rng(8), 4, 12)


@pytest.fixture
def learner(Z):
    return ActiveLearner(
        LogisticRegression(),
        query_strategy=UncertaintyCoverageSampling(),
        X_training=Z[:9],
        y_training=np.arange(9) % 3,
    )


def exactly(message):
    return f"^{re.escape(message)}$"


def test_the_defaults_are_those_that_were_measured():
    assert UncertaintyCoverageSampling().get_params() == {
        "class_embeddings": None,
        "logit_scale": 100.0,
        "vocabulary": None,
        "m": 10,
        "radius": 0.6,
        "multi_label": False,
        "label_doubt": "mean",
        "table": None,
        "random_state": 0,
    }


def test_picks_are_coverage_by_weights(Z, probabilities):
    picks = UncertaintyCoverageSampling().select(Z, 7, probabilities=probabilities, labelled=Z[:6])
    expected = pick_by_coverage(
        Z,
        7,
        weights=coverage_weights(probabilities),
        labelled=Z[:6],
        labelled_cover=labelled_cover(6, 4),
    )
    assert picks.tolist() == expected.indices.tolist()
    assert picks.dtype == np.int64


def test_a_query_through_modal(Z, learner):
    pool = Z[9:]
    indices, images = learner.query(pool, n_instances=2)
    assert (images == pool[indices]).all()
    P = learner.predict_proba(pool)
    strategy = UncertaintyCoverageSampling()
    assert indices.tolist() == strategy.select(pool, 2, probabilities=P, labelled=Z[:9]).tolist()


def test_three_rounds_of_a_shrinking_pool(Z, learner):
    pool, y = np.arange(9, 60), np.arange(60) % 3
    for _ in range(3):
        indices, images = learner.query(Z[pool], n_instances=4)
        learner.teach(images, y[pool[indices]])
        pool = np.delete(pool, indices)
    assert len(learner.X_training) == 9 + 12
    assert len(pool) == 60 - 9 - 12


def test_it_works_before_the_first_label(Z):
    strategy = UncertaintyCoverageSampling()
    expected = pick_by_coverage(Z, 5).indices.tolist()
    unfitted = ActiveLearner(LogisticRegression(), query_strategy=strategy)
    assert unfitted.query(Z, n_instances=5)[0].tolist() == expected
    assert strategy(None, Z, 5)[0].tolist() == expected
    assert strategy.select(Z, 5).tolist() == expected
    assert strategy.select(Z, 5, labelled=[]).tolist() == expected


def test_with_class_names_each_class_gets_its_share(Z, T):
    class_n, prob_n = zero_shot(Z, T)
    sims = Z @ T.T
    assert class_n.tolist() == sims.argmax(axis=1).tolist()
    softmax = np.exp(100 * (sims - sims.max(axis=1, keepdims=True)))
    np.testing.assert_allclose(prob_n, 1 / softmax.sum(axis=1), rtol=1e-3)
    strategy = UncertaintyCoverageSampling(T)
    picks = strategy.select(Z, 8)
    assert np.bincount(class_n[picks]).tolist() == [2, 2, 2, 2]
    expected = pick_equal_shares(Z, 8, class_n, weights=prob_n).indices
    assert picks.tolist() == expected.tolist()


def test_labelled_images_count_for_the_class_that_clip_sees(Z, T):
    class_n, _ = zero_shot(Z, T)
    of_first = np.flatnonzero(class_n == 0)[:2]
    picks = UncertaintyCoverageSampling(T).select(Z, 6, labelled=Z[of_first])
    assert np.bincount(class_n[picks], minlength=4).tolist() == [0, 2, 2, 2]


def test_a_bound_table(Z, T, probabilities):
    bound = UncertaintyCoverageSampling(table=Table(Z))
    rows, plain = np.arange(10, 60), UncertaintyCoverageSampling()
    P = probabilities[10:]
    expected = plain.select(Z[10:], 5, probabilities=P, labelled=Z[:4]).tolist()
    assert bound.select(rows, 5, probabilities=P, labelled=np.arange(4)).tolist() == expected
    taught = SimpleNamespace(
        X_training=np.arange(4)[:, None], predict_proba=lambda X: P, estimator=LogisticRegression()
    )
    assert bound(taught, rows[:, None], 5)[0].tolist() == expected


def test_embeddings_and_labelled_beside_raw_images(Z, probabilities):
    files = [f"{i}.jpg" for i in range(60)]
    taught = SimpleNamespace(predict_proba=lambda X: probabilities, X_training=np.zeros((3, 8, 8)))
    strategy = UncertaintyCoverageSampling()
    indices, _ = strategy(taught, files, 5, embeddings=Z)
    assert indices.tolist() == strategy.select(Z, 5, probabilities=probabilities).tolist()
    table = strategy.select(Table(Z), 5, probabilities=probabilities, labelled=Table(Z[:3]))
    assert (
        table.tolist()
        == strategy.select(Z, 5, probabilities=probabilities, labelled=Z[:3].tolist()).tolist()
    )


def test_given_probabilities_spare_the_classifier(Z, probabilities):
    def refuse(X):
        raise AssertionError("asked")

    silent = SimpleNamespace(predict_proba=refuse)
    strategy = UncertaintyCoverageSampling()
    indices, metrics = strategy(silent, Z, 3, probabilities=probabilities)
    assert indices.tolist() == strategy.select(Z, 3, probabilities=probabilities).tolist()
    assert metrics.shape == (3,)
    assert (metrics > 0).all()


def test_several_labels_an_image(Z, rng):
    Y = rng.integers(2, size=(20, 3))
    several = MultiOutputClassifier(LogisticRegression()).fit(Z[:20], Y)
    strategy = UncertaintyCoverageSampling(multi_label=True)
    indices, _ = strategy(several, Z[20:], 4)
    P = np.stack([part[:, 1] for part in several.predict_proba(Z[20:])], axis=1)
    assert indices.tolist() == strategy.select(Z[20:], 4, probabilities=P).tolist()
    worst = UncertaintyCoverageSampling(multi_label=True, label_doubt="worst")
    assert len(worst.select(Z[20:], 4, probabilities=P)) == 4


def test_settings_are_kept_cloned_and_pickled(Z, T, probabilities):
    strategy = UncertaintyCoverageSampling(T, radius=0.5)
    assert strategy.get_params()["class_embeddings"] is T
    expected = strategy.select(Z, 5, probabilities=probabilities)
    for copy in (clone(strategy), pickle.loads(pickle.dumps(strategy))):
        assert contents(copy.select(Z, 5, probabilities=probabilities)) == contents(expected)
    assert set(vars(strategy)) == set(strategy.get_params())  # nothing of a query is kept


def test_picks_are_explained_in_concepts(Z, vocabulary, profiles):
    strategy = UncertaintyCoverageSampling(vocabulary=vocabulary, m=6)
    picks = strategy.select(Z, 4)
    found = strategy.explain(picks, Z)
    assert [e.index for e in found] == picks.tolist()
    assert [list(e.concepts) for e in found] == [profiles.words(i) for i in picks]
    again = strategy.explain(picks[:1], Z, labelled=Z[picks[:1]])
    assert again[0].added == ()


def test_profiles_at_hand_explain_without_a_vocabulary(Z, vocabulary, profiles):
    strategy, picks = UncertaintyCoverageSampling(), [3, 1, 7]
    expected = explain_picks(picks, profiles, labelled=profiles.take([0, 2]))
    found = strategy.explain(picks, profiles=profiles, labelled=profiles.take([0, 2]))
    assert found == expected
    with pytest.raises(InvalidInputError, match="`profiles` must have one row for each of the 2"):
        strategy.explain([0], Z[:2], profiles=profiles)


def test_explaining_needs_a_vocabulary(Z):
    message = (
        "`vocabulary` must be an encoded ConceptVocabulary to explain picks; got none. Pass one "
        "when you construct the strategy."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        UncertaintyCoverageSampling().explain([0], Z)


# Bad input


def test_a_classifier_without_probabilities(Z):
    message = (
        "The classifier must have `predict_proba`; LinearSVC has none. Wrap it, as in "
        "`CalibratedClassifierCV(LinearSVC())`, or pass `probabilities=`."
    )
    learner = ActiveLearner(
        LinearSVC(),
        query_strategy=UncertaintyCoverageSampling(),
        X_training=Z[:6],
        y_training=np.arange(6) % 2,
    )
    for classifier in (LinearSVC(), learner):
        with pytest.raises(InvalidTypeError, match=exactly(message)):
            UncertaintyCoverageSampling()(classifier, Z, 3)


def test_more_columns_than_class_names(Z, T, probabilities):
    message = (
        "`probabilities` must have at most 3 columns, one for each row of `class_embeddings`; "
        "got 4. Pass the texts of all classes."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        UncertaintyCoverageSampling(T[:3]).select(Z, 3, probabilities=probabilities)


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"n_instances": 61}, InvalidInputError, r"must be in \[1, 60\].*got 61\. Lower it"),
        ({"n_instances": 2.0}, InvalidTypeError, "must be a whole number; got 2.0"),
        ({"probabilities": np.ones((59, 1))}, InvalidInputError, "each of the 60 images; got 59"),
        ({"labelled": np.ones((3, 5))}, InvalidInputError, "`labelled` must have 12 columns; got"),
        (
            {"labelled": object()},
            InvalidTypeError,
            "`labelled` must be a sequence or an",
        ),
    ],
)
def test_arguments_that_do_not_fit(Z, more, error, message):
    with pytest.raises(error, match=message):
        UncertaintyCoverageSampling().select(Z, **more)


def test_class_embeddings_of_another_width(Z, T):
    with pytest.raises(InvalidInputError, match="`class_embeddings` must have 12 columns; got 7"):
        UncertaintyCoverageSampling(T[:, :7]).select(Z, 3)


def test_an_empty_pool():
    with pytest.raises(InvalidInputError, match="must hold at least one image"):
        UncertaintyCoverageSampling().select(np.empty((0, 12)), 1)
