"""Tests of `alignment_sampling`; the contract tests hold it to what every strategy does."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from modAL.models import ActiveLearner
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from clip_al import AlignmentDiversitySampling, EmbeddingTable
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.score.alignment_diversity import sample_diversity_scores, semantic_alignment_scores
from clip_al.score.scaling import standardize_scores
from tests.helpers import NAMES, images_near
from tests.reference import contents, random_unit

N, K, D = 80, 4, 12


@pytest.fixture
def T(rng):
    return random_unit(rng, K, D)


@pytest.fixture
def truth():
    return np.arange(N) % K


@pytest.fixture
def pool(rng, T, truth):
    return images_near(T, truth, rng)


class Says:
    """A learner that takes images for what it is told."""

    def __init__(self, labels):
        self.labels = labels

    def predict(self, X):
        assert len(X) == len(self.labels)
        return self.labels


# Which classes


def test_before_the_first_fit_clips_own_classes_count(pool, T, truth):
    strategy = AlignmentDiversitySampling(T)
    learner = ActiveLearner(LogisticRegression(), query_strategy=strategy)
    indices, images = learner.query(pool, n_instances=8)
    assert (images == pool[indices]).all()
    likeliest = (pool @ T.T).argmax(axis=1)
    assert strategy.select(pool, 8, y=likeliest).tolist() == indices.tolist()
    assert np.bincount(likeliest[indices]).tolist() == [2, 2, 2, 2]
    assert strategy(None, pool, 8)[0].tolist() == indices.tolist()


def test_after_it_the_learners_do(rng, pool, T, truth):
    strategy = AlignmentDiversitySampling(T)
    learner = ActiveLearner(
        LogisticRegression(),
        query_strategy=strategy,
        X_training=pool[:20],
        y_training=(truth[:20] + 1) % K,
    )
    predicted = learner.predict(pool)
    assert (predicted != (pool @ T.T).argmax(axis=1)).any()
    indices, _ = learner.query(pool, n_instances=6)
    assert indices.tolist() == strategy.select(pool, 6, y=predicted).tolist()
    assert indices.tolist() != strategy.select(pool, 6).tolist()


def test_a_skorch_network_before_and_after_its_first_fit(pool, T, truth):
    skorch = pytest.importorskip("skorch")
    network = skorch.NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=D,
        module__out_features=K,
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        verbose=0,
    )
    strategy = AlignmentDiversitySampling(T)
    learner = ActiveLearner(network, query_strategy=strategy)
    cold, images = learner.query(pool, n_instances=2)
    assert cold.tolist() == strategy.select(pool, 2).tolist()
    learner.teach(images, truth[cold])
    warm, _ = learner.query(pool, n_instances=2)
    assert warm.tolist() == strategy.select(pool, 2, y=learner.predict(pool)).tolist()


def test_a_learner_of_names(pool, T, truth):
    names = np.array(NAMES)
    strategy = AlignmentDiversitySampling(T, class_names=NAMES)
    learner = ActiveLearner(
        GaussianNB(), query_strategy=strategy, X_training=pool[:20], y_training=names[truth[:20]]
    )
    indices, _ = learner.query(pool, n_instances=2)
    codes = [NAMES.index(name) for name in learner.predict(pool)]
    assert indices.tolist() == strategy.select(pool, 2, y=codes).tolist()


def test_a_learner_of_fewer_classes_than_there_are(pool, T, truth):
    part = truth < 2
    strategy = AlignmentDiversitySampling(T)
    learner = ActiveLearner(
        LogisticRegression(),
        query_strategy=strategy,
        X_training=pool[part][:10],
        y_training=truth[part][:10],
    )
    indices, _ = learner.query(pool, n_instances=10)
    assert np.bincount(learner.predict(pool)[indices], minlength=K).tolist() == [5, 5, 0, 0]


# What is picked


@pytest.mark.parametrize("alignment", ["contrastive", "cosine"])
@pytest.mark.parametrize("scale", ["class", "global", "none"])
@pytest.mark.parametrize("alpha", ["ratio", 0.7])
def test_picks_are_the_highest_sums(pool, T, truth, alignment, scale, alpha):
    strategy = AlignmentDiversitySampling(
        T, alignment=alignment, scale=scale, alpha=alpha, class_balance="none"
    )
    indices, metrics = strategy(Says(truth), pool, 10)
    sas = semantic_alignment_scores(pool, truth, T, alignment=alignment)
    sds = sample_diversity_scores(pool, truth, 0.1)
    weight = 10 / N if alpha == "ratio" else alpha
    total = standardize_scores(sas, truth, scale) + weight * standardize_scores(
        sds, truth, scale
    ).astype(float)
    np.testing.assert_allclose(metrics, np.sort(total)[::-1][:10], atol=1e-5)
    np.testing.assert_allclose(total[indices], metrics, atol=1e-5)
    assert (np.diff(metrics) <= 0).all()


def test_equal_quotas_where_a_class_has_few_images(pool, T):
    labels = np.array([0] * 60 + [1] * 15 + [2] * 4 + [3])
    indices, _ = AlignmentDiversitySampling(T)(Says(labels), pool, 17)
    assert np.bincount(labels[indices]).tolist() == [6, 6, 4, 1]
    indices, _ = AlignmentDiversitySampling(T, class_balance="proportional")(Says(labels), pool, 16)
    assert np.bincount(labels[indices], minlength=K).tolist() == [12, 3, 1, 0]


@pytest.mark.parametrize("n_instances", [1, 2, 3])
def test_fewer_picks_than_classes(pool, T, truth, n_instances):
    indices, metrics = AlignmentDiversitySampling(T)(Says(truth), pool, n_instances)
    assert len(set(truth[indices])) == n_instances == len(metrics)


@pytest.mark.parametrize("k", [5, np.int64(5)])
def test_a_count_of_neighbours_takes_what_a_small_class_has(pool, T, k):
    labels = np.array([0] * 76 + [1] * 3 + [2])
    strategy = AlignmentDiversitySampling(
        T, n_neighbors=k, class_balance="none", alpha=1, scale="none"
    )
    indices, metrics = strategy(Says(labels), pool, N)
    total = np.empty(N)
    total[indices] = metrics
    sds = total - semantic_alignment_scores(pool, labels, T, alignment="contrastive")
    for label, count in ((0, 5), (1, 2)):
        part = labels == label
        expected = sample_diversity_scores(pool[part], np.zeros(part.sum(), int), count)
        np.testing.assert_allclose(sds[part], expected, atol=1e-4)
    assert sds[-1] == pytest.approx(0, abs=1e-6)


def test_without_a_weight_diversity_is_not_measured(pool, T, truth, monkeypatch):
    monkeypatch.setattr("clip_al.label.alignment_sampling._diversity", None)
    strategy = AlignmentDiversitySampling(T, alpha=0, class_balance="none", scale="none")
    sas = semantic_alignment_scores(pool, truth, T, alignment="contrastive")
    expected = np.argsort(-sas, kind="stable")[:9]
    assert strategy(Says(truth), pool, 9)[0].tolist() == expected.tolist()
    with pytest.raises(TypeError, match="not callable"):
        AlignmentDiversitySampling(T)(Says(truth), pool, 9)


def test_shares_of_named_classes_are_met(pool, T, truth):
    shares = {NAMES[0]: 0.75, NAMES[2]: 0.25}
    strategy = AlignmentDiversitySampling(T, class_names=NAMES, class_balance=shares)
    indices, _ = strategy(Says(np.array(NAMES)[truth]), pool, 8)
    assert np.bincount(truth[indices], minlength=4).tolist() == [6, 0, 2, 0]


def test_the_device_is_passed_on(pool, T, truth):
    expected = AlignmentDiversitySampling(T)(Says(truth), pool, 9)
    found = AlignmentDiversitySampling(T, device="cpu")(Says(truth), pool, 9)
    assert contents(*found) == contents(*expected)
    with pytest.raises(InvalidInputError, match="`device` must be one that torch can use here"):
        AlignmentDiversitySampling(T, device="nonsense")(Says(truth), pool, 9)


def test_the_temperature_is_passed_on(pool, T, truth):
    settings = {"class_balance": "none", "scale": "none", "alpha": 0}
    strategy = AlignmentDiversitySampling(T, temperature=0.3, **settings)
    _, metrics = strategy(Says(truth), pool, N)
    expected = semantic_alignment_scores(pool, truth, T, alignment="contrastive", temperature=0.3)
    np.testing.assert_allclose(metrics, np.sort(expected)[::-1], atol=1e-5)


# Where the pool comes from


def test_row_numbers_of_a_bound_table(tmp_path, pool, T, truth):
    table = EmbeddingTable.from_array(
        tmp_path / "table", pool, [str(i) for i in range(N)], model_id="toy"
    )
    strategy = AlignmentDiversitySampling(T, table=table)
    rows = np.arange(N)[::-1, None]
    learner = ActiveLearner(
        GaussianNB(), query_strategy=strategy, X_training=rows[:9], y_training=truth[:9]
    )
    indices, picked = learner.query(rows, n_instances=2)
    assert picked.tolist() == rows[indices].tolist()
    expected = AlignmentDiversitySampling(T).select(pool[::-1], 2, y=learner.predict(rows))
    assert indices.tolist() == expected.tolist()
    assert strategy.select(rows, 2).tolist() == (
        AlignmentDiversitySampling(T).select(pool[::-1], 2).tolist()
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_and_scales(pool, T, dtype):
    settings = {"alignment": "cosine"}  # the contrastive one is all but tied on easy images
    expected = AlignmentDiversitySampling(T, **settings).select(pool, 12)
    found = AlignmentDiversitySampling(3 * T, **settings).select((2 * pool).astype(dtype), 12)
    assert np.isin(found, expected).mean() > 0.8


def test_class_embeddings_of_a_table(tmp_path, pool, T):
    texts = EmbeddingTable.from_array(tmp_path / "texts", T, NAMES, model_id="toy")
    expected = AlignmentDiversitySampling(T).select(pool, 5)
    assert AlignmentDiversitySampling(texts).select(pool, 5).tolist() == expected.tolist()


def test_what_comes_back_may_be_changed_and_inputs_are_not(pool, T, truth):
    before = contents(pool, T, truth)
    indices, metrics = AlignmentDiversitySampling(T)(Says(truth), pool, 5)
    indices[:], metrics[:] = 0, 0
    assert contents(pool, T, truth) == before


# Errors


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"alignment": "dot"}, InvalidInputError, "`alignment` must be one of"),
        ({"scale": "log"}, InvalidInputError, "`scale` must be one of"),
        ({"class_balance": "fair"}, InvalidInputError, "`class_balance` must be one of 'none'"),
        ({"class_balance": None}, InvalidTypeError, "`class_balance` must be 'none', 'prop"),
        ({"alpha": "x"}, InvalidInputError, "`alpha` must be a number or 'ratio'"),
        ({"alpha": None}, InvalidTypeError, "`alpha` must be a number or 'ratio'"),
        ({"n_neighbors": 0}, InvalidInputError, "`n_neighbors` must be at least 1"),
        ({"n_neighbors": 1.5}, InvalidInputError, "`n_neighbors`, as a fraction of the class, mu"),
        ({"n_neighbors": True}, InvalidTypeError, "`n_neighbors` must be a whole number or a fr"),
        ({"temperature": 0}, InvalidInputError, "`temperature` must be at least"),
        ({"class_names": NAMES[:3]}, InvalidInputError, "each of the 4 classes; got 3 names"),
        ({"class_embeddings": np.full((4, D), np.nan)}, InvalidInputError, "must be finite; row 0"),
        ({"class_embeddings": np.zeros((4, D))}, InvalidInputError, "row 0 of `T` is all zeros"),
    ],
)
def test_bad_settings(pool, T, truth, settings, error, message):
    strategy = AlignmentDiversitySampling(T).set_params(**settings)
    with pytest.raises(error, match=re.escape(message)):
        strategy(Says(truth), pool, 3)


def test_embeddings_of_another_model(pool):
    message = re.escape(
        "`X` must have 5 columns, as `class_embeddings`; got 12. Encode both with one model, or "
        "pass `embeddings=`."
    )
    with pytest.raises(ModelMismatchError, match=f"^{message}$"):
        AlignmentDiversitySampling(np.eye(5)).select(pool, 3)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            np.array(NAMES)[np.arange(N) % K],
            InvalidTypeError,
            "`what images are taken for` must hold class numbers, as no class names were given; "
            "got ['ant']. Pass `class_names=`, in the order of the class embeddings.",
        ),
        (
            np.full(N, 4),
            InvalidInputError,
            "`what images are taken for` must be in [0, 3], the numbers of the 4 classes; got 4 "
            "at position 0. Count classes from 0, in the order of their names or embeddings.",
        ),
    ],
)
def test_predictions_that_are_no_classes(pool, T, labels, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        AlignmentDiversitySampling(T)(Says(labels), pool, 3)


@pytest.mark.parametrize("n_instances", [0, N + 1])
def test_too_many_or_no_picks(pool, T, truth, n_instances):
    with pytest.raises(InvalidInputError, match=r"`n_instances` must be in \[1, 80\]"):
        AlignmentDiversitySampling(T)(Says(truth), pool, n_instances)
    with pytest.raises(InvalidInputError, match=r"`n_instances` must be in \[1, 80\]"):
        AlignmentDiversitySampling(T).select(pool, n_instances)


def test_other_errors_of_the_learner_are_its_own(pool, T):
    class Broken:
        def predict(self, X):
            raise ZeroDivisionError("of the learner")

    with pytest.raises(ZeroDivisionError, match="of the learner"):
        AlignmentDiversitySampling(T)(Broken(), pool, 2)
