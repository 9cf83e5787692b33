"""Tests of `clip_al.integrations.scikit_activeml`.

What the host asks of every strategy in its own test template (skactiveml/tests, up to 0.5.2 in
its wheel) is asked here too: parameters, mapping of candidates, utilities, batches, cycles.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import clip_al
from clip_al.errors import MissingDependencyError, ModelMismatchError
from clip_al.label.coverage.pick import RADIUS
from clip_al.label.coverage_sampling import labelled_cover
from tests import coverage_reference
from tests.reference import contents, make_vocabulary, random_unit

pytest.importorskip("skactiveml", reason="scikit-activeml comes with the extra `activeml`")

from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.classifier import ParzenWindowClassifier, SklearnClassifier
from skactiveml.utils import MISSING_LABEL, is_labeled

from clip_al.integrations.scikit_activeml import (
    AlignmentDiversity,
    CBDMargin,
    UncertaintyCoverage,
)

N, N_LABELLED, K = 60, 9, 3
CLASS_NAMES = ["ant", "bee", "cat"]


def labels(n_labelled=N_LABELLED):
    y = np.full(N, MISSING_LABEL)
    y[:n_labelled] = np.arange(n_labelled) % K
    return y


def classifier(**settings):
    return ParzenWindowClassifier(**{"classes": [0, 1, 2], "random_state": 0, **settings})


@pytest.fixture
def class_embeddings():
    return random_unit(np.random.default_rng(5), K, 12)


@pytest.fixture(
    params=["coverage", "shares", "margin", "targeted", "softmax", "alignment", "unbalanced"]
)
def strategy(request, vocabulary, class_embeddings):
    """One of ours, with various settings."""
    return {
        "coverage": lambda: clip_al.UncertaintyCoverageSampling(radius=0.8),
        "shares": lambda: clip_al.UncertaintyCoverageSampling(class_embeddings),
        "margin": lambda: clip_al.CBDMarginSampling(vocabulary, m=6),
        "targeted": lambda: clip_al.CBDMarginSampling(vocabulary, m=6, target="pool"),
        "softmax": lambda: clip_al.CBDMarginSampling(
            vocabulary, m=6, weighting="softmax", uncertainty="entropy", candidate_factor=8
        ),
        "alignment": lambda: clip_al.AlignmentDiversitySampling(
            class_embeddings, class_names=CLASS_NAMES
        ),
        "unbalanced": lambda: clip_al.AlignmentDiversitySampling(
            class_embeddings, class_names=CLASS_NAMES, class_balance="none", alpha=0.5
        ),
    }[request.param]()


def wrap(strategy, **settings):
    wraps = {
        clip_al.CBDMarginSampling: CBDMargin,
        clip_al.AlignmentDiversitySampling: AlignmentDiversity,
        clip_al.UncertaintyCoverageSampling: UncertaintyCoverage,
    }
    return wraps[type(strategy)](strategy, **settings)


def array_call(strategy, Z, y, n, clf, rows=None):
    """What ours picks from the rows without a label, as positions in `Z`."""
    known = is_labeled(y)
    rows = np.flatnonzero(~known) if rows is None else rows
    clf = clone(clf).fit(Z, y)
    if not isinstance(strategy, clip_al.AlignmentDiversitySampling):
        more = {"probabilities": clf.predict_proba(Z[rows]), "labelled": Z[known]}
    else:
        more = {"y": clf.predict(Z[rows])}
    return rows[strategy.select(Z[rows], n, **more)]


# The same picks as the array call


@pytest.mark.parametrize("n", [1, 2, 7, N - N_LABELLED])
def test_queries_what_the_array_call_picks(strategy, Z, n):
    y = labels()
    queried = wrap(strategy).query(Z, y, classifier(), batch_size=n)
    np.testing.assert_array_equal(queried, array_call(strategy, Z, y, n, classifier()))
    assert queried.dtype == np.int64


def test_so_does_a_fitted_classifier(strategy, Z):
    y = labels()
    clf = classifier().fit(Z, y)
    queried = wrap(strategy).query(Z, y, clf, fit_clf=False, batch_size=5)
    np.testing.assert_array_equal(queried, array_call(strategy, Z, y, 5, classifier()))


def test_weights_of_samples_reach_the_classifier(strategy, Z):
    y, weight = labels(), np.linspace(0.1, 9.0, N)
    fitted = classifier().fit(Z, y, sample_weight=weight)
    queried = wrap(strategy).query(Z, y, classifier(), sample_weight=weight, batch_size=5)
    expected = wrap(strategy).query(Z, y, fitted, fit_clf=False, batch_size=5)
    np.testing.assert_array_equal(queried, expected)


def test_candidates_may_be_positions_or_samples(strategy, Z):
    y, rows = labels(), np.array([50, 12, 31, 44, 13, 20])
    expected = array_call(strategy, Z, y, 3, classifier(), rows)
    by_position = wrap(strategy).query(Z, y, classifier(), candidates=rows, batch_size=3)
    as_samples = wrap(strategy).query(Z, y, classifier(), candidates=Z[rows], batch_size=3)
    np.testing.assert_array_equal(by_position, expected)
    np.testing.assert_array_equal(rows[as_samples], expected)


def test_a_loop_on_real_digits_is_that_of_the_array_call():
    digits = load_digits()
    X, truth = digits.data[:600], digits.target[:600]
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    ours = clip_al.CBDMarginSampling(make_vocabulary(random_unit(np.random.default_rng(0), 90, 64)))
    clf = SklearnClassifier(LogisticRegression(), classes=list(range(10)))
    y = np.full(600, MISSING_LABEL)
    y[:30] = truth[:30]
    for _ in range(3):
        queried = CBDMargin(ours).query(X, y, clf, batch_size=20)
        np.testing.assert_array_equal(queried, array_call(ours, X, y, 20, clf))
        y[queried] = truth[queried]
    assert is_labeled(y).sum() == 90


def test_row_numbers_of_a_bound_table(tmp_path, Z, vocabulary, class_embeddings):
    table = clip_al.EmbeddingTable.from_array(tmp_path / "t", Z, model_id="toy")
    y, rows = labels(), np.arange(N)[:, None]
    for make, first in (
        (clip_al.CBDMarginSampling, vocabulary),
        (clip_al.UncertaintyCoverageSampling, None),
        (clip_al.AlignmentDiversitySampling, class_embeddings),
    ):
        clf = classifier().fit(rows, y)
        more = {"probabilities": clf.predict_proba(rows[9:]), "labelled": Z[:9]}
        if make is clip_al.AlignmentDiversitySampling:
            more = {"y": clf.predict(rows[9:])}
        expected = 9 + make(first).select(Z[9:], 6, **more)
        queried = wrap(make(first, table=table)).query(rows, y, classifier(), batch_size=6)
        np.testing.assert_array_equal(queried, expected)


# Before there is any label


def test_the_first_batch_is_that_of_cbd_sampling(Z, vocabulary):
    ours = clip_al.CBDMarginSampling(vocabulary, m=6, weighting="softmax")
    queried = CBDMargin(ours).query(Z, labels(0), classifier(), batch_size=5)
    expected = clip_al.CBDSampling(vocabulary, m=6, weighting="softmax").select(Z, 5)
    np.testing.assert_array_equal(queried, expected)
    assert ours.target == "uniform"


def test_or_that_of_coverage_with_and_without_class_texts(Z, class_embeddings):
    for texts in (None, class_embeddings):
        ours = clip_al.UncertaintyCoverageSampling(texts)
        queried = UncertaintyCoverage(ours).query(Z, labels(0), classifier(), batch_size=5)
        np.testing.assert_array_equal(queried, ours.select(Z, 5))


def test_or_by_the_classes_that_clip_sees(Z, class_embeddings):
    ours = clip_al.AlignmentDiversitySampling(class_embeddings)
    queried = AlignmentDiversity(ours).query(Z, labels(0), classifier(), batch_size=5)
    np.testing.assert_array_equal(queried, ours.select(Z, 5))


# Utilities


@pytest.mark.parametrize("n_labelled", [0, 1, N_LABELLED, N - 8])
def test_each_pick_has_the_highest_utility(strategy, Z, n_labelled):
    y = labels(n_labelled)
    picks, utilities = wrap(strategy).query(Z, y, classifier(), batch_size=7, return_utilities=True)
    assert utilities.shape == (7, N)
    assert len(set(picks)) == 7
    for step, row in enumerate(utilities):
        missing = np.union1d(np.flatnonzero(is_labeled(y)), picks[:step])
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(row)), missing)
        assert row[picks[step]] == pytest.approx(np.nanmax(row), abs=1e-5)
        assert np.isfinite(row[picks[step]])


def test_utilities_of_the_margin_are_what_a_greedy_step_gains(Z, vocabulary):
    ours = clip_al.CBDMarginSampling(vocabulary, m=6, candidate_factor=2)
    query = {"X": Z, "y": labels(), "clf": classifier(), "batch_size": 4}
    picks, utilities = CBDMargin(ours).query(**query, return_utilities=True)
    pool = clip_al.ConceptProfiles.from_embeddings(Z[9:], vocabulary, 6)
    vectors = np.zeros((N, len(vocabulary)))
    for profiles, rows in ((pool.profile(Z[:9]), range(9)), (pool, range(9, N))):
        for ids, weights, row in zip(profiles.ids, profiles.weights("binary"), rows, strict=True):
            vectors[row, ids] = weights
    chosen = list(range(9))
    for step, pick in enumerate(picks):
        open_n = np.isfinite(utilities[step])
        assert open_n.sum() == 8 - step
        similarity_n = vectors @ vectors[chosen].sum(axis=0)
        np.testing.assert_allclose(utilities[step, open_n], -similarity_n[open_n], atol=1e-5)
        chosen.append(pick)


@pytest.mark.parametrize("n_labelled", [0, N_LABELLED])
def test_utilities_of_coverage_are_what_a_greedy_step_adds(Z, n_labelled):
    ours, y = clip_al.UncertaintyCoverageSampling(), labels(n_labelled)
    query = {"X": Z, "y": y, "clf": classifier(), "batch_size": 4}
    picks, utilities = UncertaintyCoverage(ours).query(**query, return_utilities=True)
    pool = Z[n_labelled:]
    weight_n, cover_n = np.ones(len(pool)), np.zeros(len(pool))
    if n_labelled:
        weight_n = coverage_reference.weights(classifier().fit(Z, y).predict_proba(pool))
        cover_n = coverage_reference.kernel(pool, RADIUS, Z[:n_labelled]).max(axis=0)
        cover_n *= labelled_cover(n_labelled, K)
    K_nn = coverage_reference.kernel(pool, RADIUS)
    for step, pick in enumerate(picks):
        expected = coverage_reference.gains(K_nn, weight_n, cover_n)
        left = np.setdiff1d(np.arange(len(pool)), picks[:step] - n_labelled)
        np.testing.assert_allclose(utilities[step, n_labelled + left], expected[left], atol=1e-5)
        assert np.nanargmax(utilities[step]) == pick
        cover_n = np.maximum(cover_n, K_nn[pick - n_labelled])


def test_utilities_of_a_large_pool_are_those_of_the_images_looked_at():
    rng = np.random.default_rng(0)
    Z = random_unit(rng, 10_500, 6)
    ours = clip_al.UncertaintyCoverageSampling(random_state=2)
    query = {"X": Z, "y": np.full(len(Z), MISSING_LABEL), "clf": classifier(), "batch_size": 2}
    picks, utilities = UncertaintyCoverage(ours).query(**query, return_utilities=True)
    np.testing.assert_array_equal(picks, ours.select(Z, 2))
    assert np.isneginf(utilities[0]).sum() == 500
    assert [np.nanargmax(row) for row in utilities] == picks.tolist()


def test_utilities_of_alignment_are_totals_and_a_full_quota_closes_a_class(Z, class_embeddings):
    ours = clip_al.AlignmentDiversitySampling(class_embeddings, scale="none", alpha=0.4)
    clf = classifier().fit(Z, labels())
    picks, utilities = AlignmentDiversity(ours).query(
        Z, labels(), clf, fit_clf=False, batch_size=9, return_utilities=True
    )
    order, total = ours(clf, Z[9:], N - 9)
    total_n = np.full(N, np.nan)
    total_n[9 + order] = total
    closed = np.isneginf(utilities)
    assert closed.any()
    classes = clf.predict(Z)
    for step, row in enumerate(closed):
        full = [c for c in range(K) if not (classes[picks[step:]] == c).any()]
        assert set(classes[row]) <= set(full)
        seen = np.isfinite(utilities[step])
        np.testing.assert_array_equal(utilities[step, seen], total_n[seen])


def test_utilities_are_the_same_however_candidates_are_named(strategy, Z):
    y = labels()
    rows = np.flatnonzero(~is_labeled(y))

    def utilities(candidates):
        query = {"candidates": candidates, "batch_size": 3, "return_utilities": True}
        return wrap(strategy).query(Z, y, classifier(), **query)[1]

    np.testing.assert_array_equal(utilities(None), utilities(rows))
    np.testing.assert_array_equal(utilities(None)[:, rows], utilities(Z[rows]))
    query = {"candidates": rows[:1], "return_utilities": True}
    single = wrap(strategy).query(Z, y, classifier(), **query)[1]
    assert single.shape == (1, N)
    assert np.flatnonzero(~np.isnan(single[0])).tolist() == [rows[0]]


# Manners of the host


def test_it_is_a_strategy_of_the_host(strategy):
    wrapped = wrap(strategy, random_state=3)
    assert isinstance(wrapped, SingleAnnotatorPoolQueryStrategy)
    assert set(wrapped.get_params(deep=False)) == {"strategy", "missing_label", "random_state"}
    assert inspect.signature(type(wrapped).query).parameters["batch_size"].default == 1
    copies = clone(wrapped), pickle.loads(pickle.dumps(wrapped))
    assert [c.random_state for c in copies] == [3, 3]
    nested = [name for name in wrapped.get_params() if name.startswith("strategy__")]
    assert f"strategy__{next(iter(strategy.get_params(deep=False)))}" in nested


def test_a_query_changes_nothing_and_repeats_itself(strategy, Z):
    y, clf = labels(), classifier()
    wrapped = wrap(strategy, random_state=np.random.RandomState(0))
    before, settings = contents(Z, y), dict(vars(strategy))
    query = {"batch_size": 4, "return_utilities": True}
    first, second = (wrapped.query(Z, y, clf, **query) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert contents(Z, y) == before
    assert vars(strategy) == settings
    assert not hasattr(clf, "classes_")
    assert wrapped.strategy is strategy


@pytest.mark.parametrize(
    ("missing", "names", "dtype"),
    [
        (np.nan, [1.0, 2.0], float),
        (-1, [0, 1], int),
        (None, ["ant", "bee"], object),
        ("", ["ant", "bee"], "U3"),
    ],
)
def test_any_missing_label_and_kind_of_class(strategy, Z, missing, names, dtype):
    y = np.full(N, missing, dtype=dtype)
    y[:2] = names
    clf = classifier(classes=names, missing_label=missing)
    queried = wrap(strategy, missing_label=missing).query(Z, y, clf, batch_size=4)
    assert len(set(queried)) == 4
    assert min(queried) >= 2


def test_a_batch_larger_than_the_pool_is_the_pool(strategy, Z):
    with pytest.warns(UserWarning, match="larger than number of candidates"):
        queried = wrap(strategy).query(Z, labels(), classifier(), batch_size=N)
    assert sorted(queried) == list(range(N_LABELLED, N))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"X": "string"}, (ValueError, TypeError)),
        ({"X": np.ones((2 * N, 12))}, ValueError),
        ({"y": np.nan}, TypeError),
        ({"y": np.zeros((2, N))}, ValueError),
        ({"clf": GaussianNB()}, TypeError),
        ({"clf": "state"}, TypeError),
        ({"clf": ParzenWindowClassifier(classes=[0, 1, 2], missing_label=-1)}, ValueError),
        ({"fit_clf": "state"}, TypeError),
        ({"fit_clf": np.nan}, TypeError),
        ({"sample_weight": np.ones(N + 1)}, ValueError),
        ({"candidates": np.nan}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 1.2}, TypeError),
        ({"return_utilities": "string"}, TypeError),
        ({"y": np.zeros(N)}, ValueError),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bad_arguments_of_a_query(strategy, Z, change, error):
    query = {"X": Z, "y": labels(), "clf": classifier(), **change}
    with pytest.raises(error):
        wrap(strategy).query(**query)


def test_embeddings_of_another_width_are_refused(strategy, Z):
    if isinstance(strategy, clip_al.UncertaintyCoverageSampling):
        strategy = clip_al.UncertaintyCoverageSampling(np.eye(K, 12))
        query = {"y": labels(0)}  # texts are read before there is a label
    else:
        query = {"y": labels()}
    with pytest.raises((ModelMismatchError, clip_al.errors.InvalidInputError), match="columns"):
        wrap(strategy).query(Z[:, :8], clf=classifier(), **query)


@pytest.mark.parametrize("settings", [{"missing_label": dict}, {"random_state": "state"}], ids=str)
def test_bad_settings(strategy, Z, settings):
    wrapped = wrap(strategy, **settings)
    with pytest.raises((TypeError, ValueError)):
        wrapped.query(Z, labels(), classifier())


def test_the_strategy_must_be_ours(Z, strategy):
    other = UncertaintyCoverage if type(wrap(strategy)) is CBDMargin else CBDMargin
    for wrong in (strategy, None, "margin"):
        with pytest.raises(TypeError, match="strategy"):
            other(wrong).query(Z, labels(), classifier())


def test_without_the_host_the_extra_is_named(monkeypatch):
    name = "clip_al.integrations.scikit_activeml"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skactiveml", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[activeml\]"'):
        importlib.import_module(name)
