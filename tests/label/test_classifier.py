"""Tests of `clip_al.label.head.classifier`."""

from __future__ import annotations

import math
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from modAL.models import ActiveLearner
from modAL.uncertainty import margin_sampling
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.utils.validation import check_is_fitted

import clip_al
from clip_al import ClipClassifier, UncertaintyCoverageSampling
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError, TextPriorWarning
from clip_al.label.head.linear import BIAS_RIDGE, SCALE_SPREAD, Problem, fit_head, objective
from tests.reference import contents, random_unit

K, D = 5, 16
NAMES = ["ant", "bee", "cat", "dog", "elk"]


@pytest.fixture
def T(rng):
    return random_unit(rng, K, D)


def make_images(rng, T, n, noise=0.15):
    """Images near their texts, with the gap between images and texts that CLIP has."""
    y = np.arange(n) % len(T)
    Z = T[y] + 0.3 + noise * rng.standard_normal((n, T.shape[1]))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), y


class Encoder:
    """An encoder of texts, as far as the head looks at it."""

    model_id = "toy"

    def __init__(self, T):
        self.rows, self.calls = T, []

    def encode_texts(self, texts, *, templates):
        self.calls.append((list(texts), list(templates)))
        return self.rows

    def __deepcopy__(self, memo):
        raise AssertionError("the model would be loaded again")


def softmax(row):
    powers = [math.exp(x - max(row)) for x in row]
    return [power / sum(powers) for power in powers]


# The objective


def slow_objective(x, problem, strength):
    """The equation, term by term."""
    n, d = problem.feature_nd.shape
    k = problem.target_nk.shape[1]
    R, b = x[: d * k].reshape(d, k), x[d * k : d * k + k]
    total = sum(r**2 for r in R.ravel()) / (2 * strength)
    total += BIAS_RIDGE / 2 * sum((v - problem.bias) ** 2 for v in b)
    if problem.cosine_nk is not None:
        total += (x[-1] - problem.log_scale) ** 2 / (2 * SCALE_SPREAD**2)
    for i in range(n):
        row = []
        for j in range(k):
            logit = b[j] + sum(problem.feature_nd[i, c] * R[c, j] for c in range(d))
            if problem.cosine_nk is not None:
                logit += math.exp(x[-1]) * problem.cosine_nk[i, j]
            row.append(logit)
        for j, p in enumerate(softmax(row) if not problem.multi_label else row):
            y = problem.target_nk[i, j]
            if problem.multi_label:
                p = 1 / (1 + math.exp(-p))
                total -= problem.weight_n[i] * (y * math.log(p) + (1 - y) * math.log(1 - p))
            elif y:
                total -= problem.weight_n[i] * math.log(p)
    return total


def make_problem(rng, texts, multi_label):
    Y = np.eye(3)[[0, 1, 2, 0, 1, 1]]
    if multi_label:
        Y[0] = 1
    S = rng.standard_normal((6, 3)) / 3 if texts else None
    weights = rng.random(6)
    return Problem(rng.standard_normal((6, 4)), S, Y, weights, multi_label, 1.0, -0.5)


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("multi_label", [True, False])
def test_the_objective_is_the_equation_and_its_gradient_the_difference(rng, texts, multi_label):
    problem = make_problem(rng, texts, multi_label)
    x = rng.standard_normal(15 + texts) / 2
    value, gradient = objective(x, problem, 2.0)
    assert value == pytest.approx(slow_objective(x, problem, 2.0), rel=1e-9)
    for i in range(len(x)):
        step = np.zeros(len(x))
        step[i] = 1e-5
        rise = objective(x + step, problem, 2.0)[0] - objective(x - step, problem, 2.0)[0]
        assert gradient[i] == pytest.approx(rise / 2e-5, abs=1e-5)


@pytest.mark.parametrize("texts", [True, False])
def test_a_fit_ends_where_the_gradient_is_zero(rng, texts):
    problem = make_problem(rng, texts, False)
    _, x = fit_head(problem, 2.0)
    assert np.abs(objective(x, problem, 2.0)[1]).max() < 1e-3


# Zero-shot


@pytest.mark.parametrize("fitted", [True, False])
def test_without_labels_it_is_the_softmax_of_the_scaled_cosines(rng, T, fitted):
    Z, y = make_images(rng, T, 20)
    head = ClipClassifier(NAMES, class_embeddings=T, logit_scale=20)
    if fitted:
        head.fit(Z[:0], y[:0])
    P = head.predict_proba(Z)
    for z, row in zip(Z.astype(float), P, strict=True):
        expected = softmax([20 * float(z @ t) / np.linalg.norm(z) for t in T.astype(float)])
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_scale_and_bias_are_the_encoders_and_a_sigmoid_uses_both(rng, T):
    encoder = Encoder(T)
    encoder.logit_scale, encoder.logit_bias = 30.0, -12.0
    Z, _ = make_images(rng, T, 20)
    cosine = Z @ T.T
    head = ClipClassifier(NAMES, encoder, multi_label=True)
    np.testing.assert_allclose(head.predict_proba(Z), 1 / (1 + np.exp(12 - 30 * cosine)), atol=1e-4)
    own = ClipClassifier(NAMES, encoder, multi_label=True, logit_bias=0.0, logit_scale=1.0)
    np.testing.assert_allclose(own.predict_proba(Z), 1 / (1 + np.exp(-cosine)), atol=1e-4)


def test_an_encoder_says_what_its_model_multiplies_by_and_adds():
    encoder = clip_al.ClipEncoder("mini", device="cpu")
    scale = np.exp(float(encoder._load().model.logit_scale.detach()))
    assert encoder.logit_scale == pytest.approx(scale)
    assert encoder.logit_bias is None
    encoder._load().model.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    assert encoder.logit_bias == -10.0
    Z = encoder.encode_texts(["a photo of a cat", "a photo of a ship"])
    head = ClipClassifier(["cat", "ship"], encoder, multi_label=True).fit(Z[:0], [])
    assert head.head_.scale == pytest.approx(scale)
    assert head.head_.bias_k.tolist() == [-10, -10]
    assert head.predict_proba(Z).argmax(axis=1).tolist() == [0, 1]


def test_before_fit_a_head_with_texts_answers_and_says_that_it_is_not_fitted(rng, T):
    Z, _ = make_images(rng, T, 20)
    head = ClipClassifier(NAMES, class_embeddings=T)
    assert set(head.predict(Z)) <= set(NAMES)
    with pytest.raises(NotFittedError):
        check_is_fitted(head)
    check_is_fitted(head.fit(Z[:0], []))
    with pytest.raises(NotFittedError, match="must be fitted before it predicts"):
        ClipClassifier().predict_proba(Z)


# With labels


def test_few_labels_never_fall_behind_the_names_and_many_catch_what_names_miss(rng, T):
    Z, y = make_images(rng, T, 400, noise=0.3)
    head = ClipClassifier(class_embeddings=T)
    zero_shot = np.mean(head.predict(Z[200:]) == y[200:])
    assert head.fit(Z[:10], y[:10]).score(Z[200:], y[200:]) > zero_shot - 0.03
    moved = T + 0.5 * random_unit(rng, K, D)
    plain = LogisticRegression(C=30).fit(Z[:100], y[:100]).score(Z[200:], y[200:])
    assert ClipClassifier(class_embeddings=moved).fit(Z[:100], y[:100]).score(
        Z[200:], y[200:]
    ) > max(0.9 * plain, plain - 0.03)


def test_all_classes_are_columns_and_none_needs_a_label(rng, T):
    Z, y = make_images(rng, T, 50)
    only = np.flatnonzero(y < 2)[:8]
    head = ClipClassifier(NAMES, class_embeddings=T).fit(Z[only], np.array(NAMES)[y[only]])
    assert head.classes_.tolist() == NAMES
    assert head.predict_proba(Z).shape == (50, K)
    np.testing.assert_allclose(head.predict_proba(Z).sum(axis=1), 1)


@pytest.mark.parametrize("classes", [None, [7, 3, 9, 1, 4]])
def test_names_positions_and_classes_give_one_fit(rng, T, classes):
    Z, y = make_images(rng, T, 60)
    labels = y if classes is None else np.array(classes)[y]
    by_number = ClipClassifier(NAMES, class_embeddings=T, classes=classes).fit(Z, labels)
    by_name = ClipClassifier(NAMES, class_embeddings=T).fit(Z, np.array(NAMES)[y])
    assert by_name.predict_proba(Z).tolist() == by_number.predict_proba(Z).tolist()
    assert set(by_number.predict(Z)) <= set(labels)
    assert set(by_name.predict(Z)) <= set(NAMES)


def test_the_order_of_rows_does_not_matter(rng, T):
    Z, y = make_images(rng, T, 40, noise=0.4)
    order = rng.permutation(40)
    first = ClipClassifier(class_embeddings=T).fit(Z, y)
    second = ClipClassifier(class_embeddings=T).fit(Z[order], y[order])
    np.testing.assert_allclose(first.predict_proba(Z), second.predict_proba(Z), atol=1e-6)


def test_a_weight_of_zero_leaves_a_row_out_of_the_fit(rng, T):
    Z, y = make_images(rng, T, 40, noise=0.3)
    wrong = y.copy()
    wrong[20:] = (y[20:] + 1) % K
    weight = np.where(np.arange(40) < 20, 1.0, 0.0)
    head = ClipClassifier(class_embeddings=T)
    assert head.fit(Z, wrong, sample_weight=weight).score(Z, y) > head.fit(Z, wrong).score(Z, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_are_left_alone_and_tables_are_read_in_their_type(rng, T, dtype, tmp_path):
    Z, y = make_images(rng, T, 40)
    np.save(tmp_path / "Z.npy", Z.astype(dtype))
    table = np.load(tmp_path / "Z.npy", mmap_mode="r")
    before = contents(y, T)
    head = ClipClassifier(class_embeddings=T).fit(table[:20], y[:20])
    P = head.predict_proba(table)
    assert contents(y, T) == before
    expected = ClipClassifier(class_embeddings=T).fit(Z[:20], y[:20]).predict_proba(Z)
    np.testing.assert_allclose(P, expected, atol=0.02 if dtype == np.float16 else 1e-4)


def test_lengths_of_rows_do_not_matter(rng, T):
    Z, y = make_images(rng, T, 40)
    expected = ClipClassifier(class_embeddings=T).fit(Z, y).predict_proba(Z)
    P = ClipClassifier(class_embeddings=3 * T).fit(5 * Z, y).predict_proba(7 * Z)
    np.testing.assert_allclose(P, expected, atol=1e-5)


def test_without_texts_it_is_a_logistic_regression_of_the_classes_seen(rng, T):
    Z, y = make_images(rng, T, 100)
    head = ClipClassifier().fit(Z[:50], np.array(NAMES)[y[:50]])
    assert head.classes_.tolist() == NAMES
    assert head.score(Z[50:], np.array(NAMES)[y[50:]]) > 0.9
    assert head.text_weight_ == 0


def test_a_class_of_one_image_and_one_image_in_all(rng, T):
    Z, y = make_images(rng, T, 40)
    rows = np.array([0, 1, 5, 10])
    for labelled in (rows, rows[:1]):
        P = ClipClassifier(class_embeddings=T).fit(Z[labelled], y[labelled]).predict_proba(Z)
        assert np.isfinite(P).all()
        assert (P.argmax(axis=1) == y).mean() > 0.8


# Wrong texts


def test_wrong_texts_are_left_out_with_a_warning_and_cost_little(rng):
    T = random_unit(rng, 10, 32)
    Z, y = make_images(rng, T, 300, noise=0.2)
    rows = np.arange(20)
    head = ClipClassifier(class_embeddings=np.roll(T, 1, axis=0))
    with pytest.warns(TextPriorWarning, match="are in another order than the labels") as caught:
        head.fit(Z[rows], y[rows])
    assert len(caught) == 1
    assert head.text_weight_ == 0
    plain = LogisticRegression(C=30).fit(Z[rows], y[rows])
    assert head.score(Z[20:], y[20:]) > plain.score(Z[20:], y[20:]) - 0.03


def test_right_texts_do_not_warn_at_few_labels_nor_at_many(rng, T):
    Z, y = make_images(rng, T, 400, noise=0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (5, 10, 400):
            ClipClassifier(class_embeddings=T).fit(Z[:n], y[:n])


def test_texts_can_be_left_out_and_kept_by_request(rng, T):
    Z, y = make_images(rng, T, 40)
    wrong = np.roll(T, 1, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        never = ClipClassifier(class_embeddings=wrong, text_prior="never").fit(Z, y)
        always = ClipClassifier(class_embeddings=wrong, text_prior="always").fit(Z, y)
    assert never.text_weight_ == 0
    assert always.text_weight_ > 0
    assert never.score(Z, y) > 0.9


# Several labels an image


def test_several_labels_an_image(rng, T):
    n = 200
    Y = (rng.random((n, K)) < 0.3).astype(int)
    Z = Y @ T + 0.3 + 0.2 * rng.standard_normal((n, D))
    head = ClipClassifier(NAMES, class_embeddings=T, multi_label=True)
    assert head.predict_proba(Z).shape == (n, K)
    head.fit(Z[:60], Y[:60])
    P = head.predict_proba(Z[60:])
    assert P.shape == (n - 60, K)
    assert np.ptp(P.sum(axis=1)) > 0.1
    assert (head.predict(Z[60:]) == Y[60:]).mean() > 0.85
    assert head.predict(Z[60:]).dtype == np.int64


def many_labels(rng, n):
    """Images that show two of five things or none, one thing rare, and the texts of the things."""
    T = random_unit(rng, K, D)
    Y = (rng.random((n, K)) < [0.3, 0.3, 0.3, 0.3, 0.04]).astype(int)
    Z = Y @ T + 0.4 + 0.3 * rng.standard_normal((n, D))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), Y, T


def mean_precision(head, Z, Y):
    return average_precision_score(Y, head.predict_proba(Z), average="macro")


def test_several_labels_an_image_from_the_first_query_on(rng):
    Z, Y, T = many_labels(rng, 600)
    test, pool = np.arange(400, 600), np.arange(400)
    vague = T + 0.7 * random_unit(rng, K, D)
    head = ClipClassifier(NAMES, class_embeddings=vague, multi_label=True)
    strategy = UncertaintyCoverageSampling(multi_label=True)
    learner = ActiveLearner(estimator=head, query_strategy=strategy)
    zero_shot = mean_precision(learner.estimator, Z[test], Y[test])
    for _ in range(4):
        known = np.setdiff1d(np.arange(400), pool)
        P = learner.predict_proba(Z[pool])
        assert P.shape == (len(pool), K)
        indices, rows = learner.query(Z[pool], n_instances=15)
        assert rows.shape == (15, D)
        same = strategy.select(Z[pool], 15, probabilities=P, labelled=learner.X_training)
        assert indices.tolist() == same.tolist()
        if len(known):  # what is labelled covers: without it other images are picked
            alone = strategy.select(Z[pool], 15, probabilities=P)
            assert indices.tolist() != alone.tolist()
        learner.teach(rows, Y[pool[indices]])
        pool = np.delete(pool, indices)
    assert learner.y_training.shape == (60, K)
    known = np.setdiff1d(np.arange(400), pool)
    assert mean_precision(learner.estimator, Z[test], Y[test]) > zero_shot + 0.02
    # Equal weight for a label of one in twenty-five: more of it than chance would bring.
    assert Y[known, 4].sum() > 2 * 60 * Y[:400, 4].mean()


def test_right_texts_of_several_labels_are_kept_and_wrong_ones_named(rng):
    Z, Y, T = many_labels(rng, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (2, 20, 60):
            ClipClassifier(class_embeddings=T, multi_label=True).fit(Z[:n], Y[:n])
    wrong = ClipClassifier(class_embeddings=np.roll(T, 1, axis=0), multi_label=True)
    with pytest.warns(TextPriorWarning, match="the 60 labelled images"):
        wrong.fit(Z[:60], Y[:60])
    assert wrong.text_weight_ == 0


@pytest.mark.parametrize("label_doubt", ["mean", "worst"])
def test_doubt_of_several_labels_picks_what_is_open(rng, label_doubt):
    Z, Y, _ = many_labels(rng, 300)
    P = Y.astype(float)
    open_ = rng.choice(300, 12, replace=False)
    P[open_, 0] = 0.5
    strategy = UncertaintyCoverageSampling(multi_label=True, label_doubt=label_doubt, radius=0.1)
    assert set(strategy.select(Z, 12, probabilities=P).tolist()) == set(open_.tolist())


# scikit-learn and modAL


def test_parameters_clones_and_pickles(rng, T):
    Z, y = make_images(rng, T, 40)
    encoder = Encoder(T)
    head = ClipClassifier(NAMES, encoder, random_state=3).fit(Z, y)
    copy = clone(head)
    assert copy.get_params() == head.get_params()
    assert copy.encoder is encoder
    assert not hasattr(copy, "head_")
    assert copy.fit(Z, y).predict_proba(Z).tolist() == head.predict_proba(Z).tolist()
    assert encoder.calls == [(NAMES, list(head.templates))]
    plain = ClipClassifier(NAMES, class_embeddings=T).fit(Z, y)
    again = pickle.loads(pickle.dumps(plain))
    assert again.predict_proba(Z).tolist() == plain.predict_proba(Z).tolist()


def test_a_learner_is_queried_before_its_first_label_and_taught(rng, T):
    Z, y = make_images(rng, T, 200)
    labels, pool = np.array(NAMES)[y], np.arange(200)
    learner = ActiveLearner(
        estimator=ClipClassifier(NAMES, class_embeddings=T), query_strategy=margin_sampling
    )
    for _ in range(3):
        indices, rows = learner.query(Z[pool], n_instances=4)
        assert len(rows) == 4
        learner.teach(rows, labels[pool[indices]])
        pool = np.delete(pool, indices)
    assert learner.X_training.shape == (12, D)
    assert learner.score(Z[pool], labels[pool]) > 0.9


def test_a_second_fit_starts_anew(rng, T):
    Z, y = make_images(rng, T, 60)
    head = ClipClassifier(class_embeddings=T).fit(Z[:40], y[:40])
    first = ClipClassifier(class_embeddings=T).fit(Z[40:], y[40:])
    assert head.fit(Z[40:], y[40:]).predict_proba(Z).tolist() == first.predict_proba(Z).tolist()


def test_it_is_public():
    assert clip_al.ClipClassifier is ClipClassifier
    assert "ClipClassifier" in clip_al.__all__


# Errors


@pytest.mark.parametrize(
    ("settings", "labels", "error", "message"),
    [
        ({"class_names": NAMES}, None, InvalidInputError, "`class_names` need `encoder=`"),
        ({"class_names": "ant", "class_embeddings": 1}, None, InvalidTypeError,
         "`class_names` must be a sequence of strings; got 'ant'. Pass one name a class."),
        ({"class_names": ["a", "a", "b", "c", "d"], "class_embeddings": 1}, ["a", "b"],
         InvalidInputError, "`class_names` must be distinct where labels are names; got 'a' more"),
        ({"class_names": NAMES[:4], "class_embeddings": 1}, None, InvalidInputError,
         "`class_embeddings` must have one row for each of the 4 class names; got 5."),
        ({"class_embeddings": 1, "classes": [1, 2]}, None, InvalidInputError,
         "`classes` must hold 5 distinct labels, one a class; got [1, 2]."),
        ({"class_embeddings": 1, "classes": [5, 6, 7, 8, 9]}, [5, 6, 4], InvalidInputError,
         "`y` must hold labels of `classes`; got 4 at position 2."),
        ({"class_names": NAMES, "class_embeddings": 1}, ["ant", "fox", "bee"], InvalidInputError,
         "`y` must name one of the 5 classes (ant, bee, cat, dog, elk); got 'fox' at position 1."),
        ({"class_embeddings": 1}, [0, 5, 1], InvalidInputError,
         "`y` must be in [0, 4], the numbers of the 5 classes; got 5 at position 1."),
        ({"class_embeddings": 1}, [0, 1], InvalidInputError,
         "`y` must have one label for each of the 3 images; got shape (2,)."),
        ({"class_embeddings": 1, "text_prior": True}, None, InvalidInputError,
         "`text_prior` must be one of 'auto', 'always', 'never'; got True. Choose one."),
        ({"class_embeddings": 1, "multi_label": True}, [0, 1, 2], InvalidInputError,
         "`y` must be of shape (3, 5) and hold zeros and ones with multi_label=True"),
        ({"class_embeddings": 1, "center": [0.0]}, None, InvalidInputError,
         "`center` must hold 16 finite numbers, as many as an embedding; got shape (1,)."),
        ({"class_embeddings": 1, "logit_scale": -1}, None, InvalidInputError,
         "`logit_scale` must be finite, above 0, at most 1e+06; got -1. Change it."),
    ],
)  # fmt: skip
def test_errors_say_what_must_hold(rng, T, settings, labels, error, message):
    Z, y = make_images(rng, T, 3)
    if "class_embeddings" in settings:
        settings = {**settings, "class_embeddings": T}
    head = ClipClassifier(**settings)
    with pytest.raises(error, match=re.escape(message)):
        head.fit(Z, y if labels is None else labels)


def test_no_rows_without_texts_rows_of_zeros_and_another_width(rng, T):
    Z, y = make_images(rng, T, 6)
    with pytest.raises(InvalidInputError, match="at least one labelled image where there are no"):
        ClipClassifier().fit(Z[:0], y[:0])
    head = ClipClassifier(class_embeddings=T)
    with pytest.raises(ModelMismatchError, match="`Z` must have 16 columns, as the classes; got 8"):
        head.fit(Z[:, :8], y)
    T[2] = 0
    with pytest.raises(InvalidInputError, match="row 2 of `class_embeddings` is all zeros"):
        head.fit(Z, y)


@pytest.mark.parametrize("weight", [[1.0], [1, 1, 1, 1, 1, -1], [1, 1, 1, 1, 1, np.nan]])
def test_sample_weights_are_checked(rng, T, weight):
    Z, y = make_images(rng, T, 6)
    with pytest.raises(InvalidInputError, match="`sample_weight` must hold 6 finite numbers"):
        ClipClassifier(class_embeddings=T).fit(Z, y, sample_weight=weight)
