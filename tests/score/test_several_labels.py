"""Tests of `multi_label_suspects`: the fit against slow equations, what it finds, its messages."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from clip_al.errors import InvalidInputError, ModelMismatchError
from clip_al.score.several_labels.held_out import STRENGTHS, held_out_scores
from clip_al.score.several_labels.pair_noise import (
    PRIOR_ADDED,
    PRIOR_MISSING,
    SD_BIAS,
    SD_LABEL,
    SD_SHARE,
    SD_SLOPE,
    _Problem,
    fit_pair_noise,
)
from clip_al.score.several_labels.suspects import (
    LabelSuspect,
    MultiLabelSuspects,
    multi_label_suspects,
)
from clip_al.table.embedding_table import EmbeddingTable
from tests.reference import random_unit

N, D, K = 400, 16, 4
NAMES = ["car", "dog", "sky", "tree"]


def images_of(rng, n=N, noise=0.35):
    """Images that show some of four things, two often and one rarely, and the things' texts."""
    T = random_unit(rng, K, D)
    Y = (rng.random((n, K)) < [0.4, 0.3, 0.2, 0.08]).astype(int)
    Z = Y @ T + 0.3 + noise * rng.standard_normal((n, D)) / 2
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32), Y, T


def flip(rng, Y, share=0.1):
    """Take a share of each label's images from it, and give it to as many others."""
    given = Y.copy()
    for j in range(Y.shape[1]):
        n = max(1, round(share * Y[:, j].sum()))
        for value in (0, 1):
            given[rng.choice(np.flatnonzero(Y[:, j] != value), n, replace=False), j] = value
    return given


def test_scores_are_those_of_fits_without_the_image(rng):
    Z, Y, _ = images_of(rng, 30)
    scores = held_out_scores(Z, Y.astype(bool))
    assert scores.dtype == np.float32
    errors = {}
    for strength in STRENGTHS:  # the slow way: a fit for each image
        left = [
            Ridge(alpha=strength).fit(np.delete(Z, i, 0), np.delete(Y, i, 0)).predict(Z[i : i + 1])
            for i in range(30)
        ]
        errors[strength] = np.concatenate(left)
    spread = Y.mean(axis=0) * (1 - Y.mean(axis=0))
    off = {s: (((e - Y) ** 2).mean(axis=0) / spread).mean() for s, e in errors.items()}
    best = min(STRENGTHS, key=off.get)
    np.testing.assert_allclose(scores, errors[best], atol=2e-4)


def test_an_images_own_label_does_not_speak_for_itself(rng):
    Z, Y, _ = images_of(rng, 60)
    before = held_out_scores(Z, Y.astype(bool))
    for j in range(K):  # the ridge stays the same here
        changed = Y.copy()
        changed[5, j] = 1 - changed[5, j]
        after = held_out_scores(Z, changed.astype(bool))
        np.testing.assert_allclose(after[5], before[5], atol=1e-4)
        assert np.abs(after[6:] - before[6:]).max() > 1e-4


def test_the_density_is_the_equation_and_its_gradient_the_difference(rng):
    features = [rng.standard_normal((20, 3)), rng.standard_normal((20, 3))]
    given = rng.random((20, 3)) < 0.4
    problem = _Problem(features, given)
    x = problem.start() + 0.3 * rng.standard_normal(len(problem.start()))
    assert check_grad(lambda x: problem.cost(x)[0], lambda x: problem.cost(x)[1], x) < 1e-4
    common, own, bias, deviation, shares = (x[part] for part in problem.parts)
    own, deviation = own.reshape(2, 3), deviation.reshape(2, 3)
    value = 0.0
    for j in range(3):
        rate = given[:, j].mean()
        wrong = [0.8 / (1 + np.exp(-(shares[e] + deviation[e, j]))) for e in (0, 1)]
        added, missing = wrong[0] * min(rate / (1 - rate), 1), wrong[1]
        for i in range(20):
            logit = bias[j] + sum((common[f] + own[f, j]) * features[f][i, j] for f in (0, 1))
            shown = 1 / (1 + np.exp(-logit))
            p = (1 - missing) * shown + added * (1 - shown)
            value -= np.log(p if given[i, j] else 1 - p)
        value += (bias[j] - np.log(rate / (1 - rate))) ** 2 / (2 * SD_BIAS**2)
    value += (own**2).sum() / (2 * SD_SLOPE**2) + (deviation**2).sum() / (2 * SD_LABEL**2)
    value += ((shares - [PRIOR_ADDED, PRIOR_MISSING]) ** 2).sum() / (2 * SD_SHARE**2)
    assert problem.cost(x)[0] == pytest.approx(value)


def test_the_probability_is_bayes_rule(rng):
    features, given = [rng.standard_normal((20, 3)).astype(np.float32)], rng.random((20, 3)) < 0.4
    noise = fit_pair_noise(features, given)
    wrong = noise.wrong(features, given)
    for i, j in [(0, 0), (7, 1), (19, 2)]:
        z = (features[0][i, j] - noise.centre_mk[0, j]) / noise.spread_mk[0, j]
        shown = 1 / (1 + np.exp(-(noise.bias_k[j] + noise.slope_mk[0, j] * z)))
        p = (1 - noise.missing_k[j]) * shown + noise.added_k[j] * (1 - shown)
        expected = noise.missing_k[j] * shown / (1 - p)
        if given[i, j]:
            expected = noise.added_k[j] * (1 - shown) / p
        assert wrong[i, j] == pytest.approx(expected, rel=1e-4)


def test_wrong_labels_come_first_given_or_missing(rng):
    Z, Y, T = images_of(rng)
    given = flip(rng, Y)
    wrong = given != Y
    found = multi_label_suspects(Z, given, class_names=NAMES, class_embeddings=T)
    assert found.probabilities.shape == (N, K)
    assert found.probabilities.dtype == np.float32
    assert (found.probabilities >= 0).all()
    assert (found.probabilities <= 1).all()
    precision = average_precision_score(wrong.ravel(), found.probabilities.ravel())
    assert precision > 0.6  # of 6 % wrong labels by chance 0.06
    top = found.top(20)
    assert np.mean([wrong[s.index, NAMES.index(s.label)] for s in top]) > 0.8
    assert {s.is_given for s in top} == {True, False}
    assert all(s.is_given == given[s.index, NAMES.index(s.label)] for s in top)
    without = multi_label_suspects(Z, given)
    assert precision > average_precision_score(wrong.ravel(), without.probabilities.ravel())


def test_of_right_labels_few_are_likelier_wrong(rng):
    Z, Y, _ = images_of(rng)
    assert multi_label_suspects(Z, Y).n_wrong < 0.01 * N * K


def test_a_models_own_probabilities_take_the_place_of_other_images(rng):
    _, Y, _ = images_of(rng)
    Z = random_unit(rng, N, D)  # images that say nothing
    given = flip(rng, Y)
    P = np.clip(Y * 0.8 + 0.1 + 0.08 * rng.standard_normal((N, K)), 0, 1)
    found = multi_label_suspects(Z, given, probabilities=P)
    wrong = given != Y
    assert average_precision_score(wrong.ravel(), found.probabilities.ravel()) > 0.95
    parts = [np.stack([1 - p, p], axis=1) for p in P.T]
    again = multi_label_suspects(Z, given, probabilities=parts)
    np.testing.assert_array_equal(again.probabilities, found.probabilities)


def test_labels_that_all_or_no_images_have(rng):
    Z, Y, T = images_of(rng, 60)
    Y[:, 0], Y[:, 1] = 1, 0
    found = multi_label_suspects(Z, Y, class_embeddings=T)
    assert np.isfinite(found.probabilities).all()
    one = multi_label_suspects(Z[:2], Y[:2, 2:3])
    assert np.isfinite(one.probabilities).all()
    assert one.probabilities.shape == (2, 1)


def test_ranking_ties_and_the_table(tmp_path):
    P = np.array([[0.1, 0.9], [0.9, 0.2], [0.6, 0.0]], np.float32)
    given = np.array([[True, False], [True, False], [False, True]])
    found = MultiLabelSuspects(P, given, ("a", "b"), ("x", "y", "z"))
    assert found.top() == found.top(3)
    assert [(s.index, s.id, s.label, s.is_given) for s in found.top()] == [
        (0, "x", "b", False),
        (1, "y", "a", True),
        (2, "z", "a", False),
    ]
    assert len(found.top(6)) == 6
    assert (found.n_wrong, found.wrongly_given.tolist(), found.wrongly_missing.tolist()) == (
        3, [1, 0], [1, 1],
    )  # fmt: skip
    frame = found.to_frame(2)
    assert frame.columns.tolist() == ["index", "id", "label", "suspected", "probability"]
    assert frame["suspected"].tolist() == ["missing", "given"]
    assert str(found) == (
        "3 of 6 labels (3 images × 2) are likelier wrong than right: 1 given, 2 missing\n"
        "  a: 1 given, 1 missing\n"
        "  b: 0 given, 1 missing"
    )
    assert str(found.top(1)[0]) == "x: 'b' is missing, and perhaps shown (90%)"
    bare = MultiLabelSuspects(P, given)
    assert bare.top(1) == [LabelSuspect(0, None, 1, False, pytest.approx(0.9))]
    assert str(bare.top(2)[1]) == "image 1: 0 is given, and perhaps wrong (90%)"
    assert "id" not in bare.to_frame()
    nothing = MultiLabelSuspects(P / 10, given)
    assert nothing.top() == []
    assert len(nothing.to_frame()) == 0
    assert pickle.loads(pickle.dumps(found)).top() == found.top()
    with pytest.raises(InvalidInputError, match=re.escape("`n` must be in [1, 6]; got 7")):
        found.top(7)


def test_ids_and_model_of_a_table(rng, tmp_path):
    Z, Y, T = images_of(rng, 40)
    ids = [f"{i}.jpg" for i in range(40)]
    table = EmbeddingTable.from_array(tmp_path / "t", Z, ids, model_id="one")
    found = multi_label_suspects(table, Y, class_embeddings=T)
    assert found.ids == tuple(ids)
    assert multi_label_suspects(table, Y, ids=[f"{i}" for i in range(40)]).ids[3] == "3"

    class Encoder:
        model_id = "other"

        def key(self):
            return {"weights": self.model_id, "preprocessing": None}

        def encode_texts(self, texts, *, templates=None):
            return T

    with pytest.raises(ModelMismatchError, match="one"):
        multi_label_suspects(table, Y, class_names=NAMES, encoder=Encoder())
    Encoder.model_id = "one"
    again = multi_label_suspects(table, Y, class_names=NAMES, encoder=Encoder())
    np.testing.assert_array_equal(again.probabilities, found.probabilities)


def test_it_does_not_depend_on_the_order_of_images_or_labels(rng):
    Z, Y, T = images_of(rng, 80)
    found = multi_label_suspects(Z, Y, class_embeddings=T).probabilities
    rows, columns = rng.permutation(80), rng.permutation(K)
    again = multi_label_suspects(Z[rows], Y[rows][:, columns], class_embeddings=T[columns])
    np.testing.assert_allclose(again.probabilities, found[rows][:, columns], atol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Y": np.ones((40, 2)) * 3}, "`Y` must hold zeros and ones; got 3.0"),
        ({"Y": np.ones(40)}, "`Y` must be of shape (40, k)"),
        ({"class_names": ["a"]}, "`class_names` must name each of the 4 columns of `Y`; got 1"),
        ({"class_embeddings": np.eye(D)[:3]}, "one row for each of the 4 columns of `Y`; got 3"),
        ({"ids": ["a"]}, "`ids` must name each of the 40 images; got 1"),
        ({"probabilities": np.ones((40, 3))}, "one column for each of the 4 labels; got 3"),
        ({"encoder": object()}, "`encoder` must come with `class_names`"),
        ({"Z": np.ones((1, D)), "Y": [[1, 0, 0, 1]]}, "at least two images, as each is judged"),
    ],
)
def test_messages(rng, change, message):
    Z, Y, _ = images_of(rng, 40)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        multi_label_suspects(**{"Z": Z, "Y": Y, **change})
