"""`expected_accuracy`: the calibration, the promise, when to stop, and what is refused."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import clip_al
from clip_al import ClipClassifier, ExpectedAccuracy, expected_accuracy
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.label.expected import estimate, evidence
from clip_al.label.expected.calibration import (
    EXTRA_LABELS,
    PRIOR,
    Calibration,
    beta_interval,
    calibrate,
    log_odds,
)
from clip_al.label.expected.evidence import deal
from clip_al.label.expected.outlook import ClassOutlook, percent
from clip_al.label.expected.promise import Counts, calibrated_pool, fall_with_labels, promise

SURE = Calibration(PRIOR, np.zeros((2, 2)))
"""A head whose confidence is right as it is, beyond doubt."""


@pytest.fixture(scope="module")
def pool():
    """Make two classes that overlap, of which the images at the border were labelled."""
    rng = np.random.default_rng(0)
    y = (rng.random(1500) < 0.3).astype(int)
    Z = np.c_[1.2 * (2 * y - 1), np.ones(1500)] + rng.standard_normal((1500, 2))
    first = np.arange(30)
    doubt = -np.abs(LogisticRegression().fit(Z[first], y[first]).decision_function(Z))
    doubt[first] = -np.inf
    labelled = np.r_[first, np.argsort(-doubt)[:120]]
    head = LogisticRegression().fit(Z[labelled], y[labelled])
    return Z, y, labelled, head


def test_the_truth_is_expected_where_cross_validation_is_far_off(pool):
    Z, y, labelled, head = pool
    rest = np.setdiff1d(np.arange(len(Z)), labelled)
    truth = (head.predict(Z[rest]) == y[rest]).mean()
    found = expected_accuracy(head, Z, labelled, y[labelled])
    assert abs(found.unlabelled_accuracy - truth) < 0.03
    assert found.unlabelled_interval[0] < truth < found.unlabelled_interval[1]
    assert truth - found.held_out > 0.1
    of_all = (len(labelled) + len(rest) * found.unlabelled_accuracy) / len(Z)
    assert found.accuracy == pytest.approx(of_all)
    assert found.interval[0] < found.accuracy < found.interval[1]
    assert (found.n_labelled, found.n_unlabelled) == (150, 1350)


def test_the_same_again_and_nothing_is_changed(pool):
    Z, y, labelled, head = pool
    before = Z.copy(), labelled.copy(), head.coef_.copy()
    found = expected_accuracy(head, Z, labelled, y[labelled], random_state=3)
    assert expected_accuracy(head, Z, labelled, y[labelled], random_state=3) == found
    for old, new in zip(before, (Z, labelled, head.coef_), strict=True):
        np.testing.assert_array_equal(old, new)


def test_of_a_large_pool_some_images_are_drawn(pool, monkeypatch):
    Z, y, labelled, head = pool
    whole = expected_accuracy(head, Z, labelled, y[labelled])
    monkeypatch.setattr(estimate, "MAX_ROWS", 400)
    found = expected_accuracy(head, Z, labelled, y[labelled])
    assert found.n_unlabelled == whole.n_unlabelled
    assert found.unlabelled_accuracy != whole.unlabelled_accuracy
    assert found.unlabelled_accuracy == pytest.approx(whole.unlabelled_accuracy, abs=0.02)
    expected = [[c.n_expected for c in one.classes] for one in (found, whole)]
    assert sum(expected[0]) == pytest.approx(1350)
    np.testing.assert_allclose(*expected, rtol=0.15)


def test_of_many_labels_one_part_is_held_out(pool, monkeypatch):
    Z, y, labelled, _head = pool
    fits = []

    class Counted(LogisticRegression):
        def fit(self, X, y):
            fits.append(len(X))
            return super().fit(X, y)

    counted = Counted().fit(Z[labelled], y[labelled])
    whole = expected_accuracy(counted, Z, labelled, y[labelled])
    assert sorted(fits) == [75] * 4 + [120] * 5 + [150]
    fits.clear()
    monkeypatch.setattr(evidence, "CV_ROWS", 149)
    found = expected_accuracy(counted, Z, labelled, y[labelled])
    assert sorted(fits) == [75, 75, 120]
    assert found.unlabelled_accuracy == pytest.approx(whole.unlabelled_accuracy, abs=0.05)


def test_classes_that_some_parts_never_saw():
    rng = np.random.default_rng(1)
    y = np.r_[np.arange(3).repeat(100), [3]]
    Z = np.eye(4)[y] + 0.3 * rng.standard_normal((301, 4))
    labelled = np.r_[np.arange(0, 300, 10), 300]
    head = LogisticRegression(C=10).fit(Z[labelled], y[labelled])
    found = expected_accuracy(head, Z, labelled, y[labelled], class_names=["a", "b", "c", "d"])
    assert [outlook.n_labels for outlook in found.classes] == [10, 10, 10, 1]
    assert found.lacking[0].label == "d"
    assert "Lacking labels: d: 1 label, " in str(found)
    rest = np.setdiff1d(np.arange(301), labelled)
    truth = (head.predict(Z[rest]) == y[rest]).mean()
    assert found.unlabelled_interval[0] < truth < found.unlabelled_interval[1]


def test_names_or_numbers_of_classes_and_the_texts_of_a_clip_classifier():
    rng = np.random.default_rng(2)
    y, T = rng.integers(3, size=120), np.eye(3)
    Z = T[y] + 0.3 * rng.standard_normal((120, 3))
    names = np.array(["ant", "bee", "cow"])
    rows = np.arange(40)
    by_number = ClipClassifier(class_embeddings=T).fit(Z[rows], y[rows])
    by_name = ClipClassifier(names.tolist(), class_embeddings=T).fit(Z[rows], names[y[rows]])
    one = expected_accuracy(by_number, Z, rows, y[rows], class_names=names.tolist())
    two = expected_accuracy(by_name, Z, rows, names[y[rows]])
    assert one == two
    assert [outlook.label for outlook in two.classes] == names.tolist()


def test_only_the_images_that_were_named_are_looked_at(pool):
    Z, y, labelled, head = pool
    rest = np.setdiff1d(np.arange(len(Z)), labelled)
    right = rest[head.predict_proba(Z[rest]).max(axis=1) > 0.95]
    found = expected_accuracy(head, Z, labelled, y[labelled], unlabelled=right)
    assert found.n_unlabelled == len(right)
    assert found.unlabelled_accuracy > 0.95
    assert found.promise.n_more == 50
    few = expected_accuracy(head, Z, labelled, y[labelled], unlabelled=right[:7])
    assert few.promise.n_more == 7


def test_picks_of_doubt_promise_more_than_picks_that_are_sure(pool):
    Z, y, labelled, head = pool
    rest = np.setdiff1d(np.arange(len(Z)), labelled)
    order = rest[np.argsort(head.predict_proba(Z[rest]).max(axis=1))]
    gains = [
        expected_accuracy(head, Z, labelled, y[labelled], picks=picks).promise
        for picks in (order[:50], order[-50:])
    ]
    assert gains[0].by_hand > 5 * gains[1].by_hand
    assert gains[0].gain > gains[1].gain
    for gain in gains:
        assert 0 <= gain.interval[0] <= gain.gain <= gain.interval[1] <= 1


def test_the_rule_says_when_to_stop_and_why(pool):
    Z, y, labelled, head = pool

    def decide(**options):
        return expected_accuracy(head, Z, labelled, y[labelled], **options)

    plain = decide()
    gain = plain.promise.gain
    assert plain.stop == (gain < 0.01)
    assert not decide(worth=gain * 0.9).stop
    stopped = decide(worth=min(gain * 1.1, 0.99))
    assert stopped.stop
    assert "less than" in stopped.reason
    assert str(stopped).splitlines()[-1] == f"Stop: {stopped.reason}"
    low = plain.interval[0]
    assert decide(worth=0.0, target_accuracy=low - 0.001).stop
    beyond = decide(worth=0.0, target_accuracy=low + 0.001)
    assert not beyond.stop
    assert "is not sure yet" in beyond.reason


BAD = {
    "few": ({"labelled": np.arange(10), "y": [0, 1] * 5}, "at least 20 images"),
    "one class": ({"labelled": np.arange(20), "y": [0] * 20}, "and two of 1"),
    "length": ({"y": [0, 1]}, "one label for each of the 150"),
    "label": ({"y": [0, 7] * 75}, "got 7"),
    "worth": ({"worth": 1.0}, "`worth` must be finite, at least 0, below 1"),
    "target": ({"target_accuracy": 95}, "`target_accuracy` must be"),
    "more": ({"n_more": 0}, "`n_more` must be at least 1"),
    "picks": ({"picks": np.arange(5)}, "images without a label only; got 5, of which 5 are not"),
    "no picks": ({"picks": []}, "at least one image"),
    "both": ({"unlabelled": np.arange(40)}, "no labelled image; got 0 in both"),
    "none left": ({"unlabelled": []}, "must leave images to label"),
    "names": ({"class_names": ["a"]}, "must name the 2 classes of the head; got 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(pool, case):
    Z, y, labelled, head = pool
    wrong, message = BAD[case]
    arguments = {"labelled": labelled, "y": y[labelled], **wrong}
    with pytest.raises(InvalidInputError, match=message):
        expected_accuracy(head, Z, **arguments)


def test_embeddings_that_are_refused(pool):
    Z, y, labelled, head = pool
    for row in (labelled[3], np.setdiff1d(np.arange(len(Z)), labelled)[-1]):
        broken = Z.copy()
        broken[row, 1] = np.nan
        with pytest.raises(InvalidInputError, match=f"`Z` must be finite; row {row} holds"):
            expected_accuracy(head, broken, labelled, y[labelled])
    with pytest.raises(InvalidInputError, match="`Z` must have 2 columns; got 3"):
        expected_accuracy(head, np.c_[Z, Z[:, 0]], labelled, y[labelled])


def test_heads_that_are_refused(pool):
    Z, y, labelled, _ = pool
    with pytest.raises(InvalidInputError, match="must be fitted"):
        expected_accuracy(LogisticRegression(), Z, labelled, y[labelled])
    with pytest.raises(InvalidTypeError, match="predict_proba"):
        expected_accuracy(object(), Z, labelled, y[labelled])
    frozen = SimpleNamespace(predict_proba=lambda Z: Z, classes_=[0, 1])
    with pytest.raises(InvalidTypeError, match="get_params"):
        expected_accuracy(frozen, Z, labelled, y[labelled])
    with pytest.raises(InvalidInputError, match="multi_label=True"):
        expected_accuracy(ClipClassifier(multi_label=True), Z, labelled, y[labelled])


# The calibration


def test_a_calibration_is_found_again():
    rng = np.random.default_rng(0)
    odds = 3 * rng.standard_normal(40_000)
    theta = np.array([-0.8, 0.6])
    right = rng.random(40_000) < 1 / (1 + np.exp(-theta[0] - theta[1] * odds))
    fit = calibrate(odds, right)
    np.testing.assert_allclose(fit.theta, theta, atol=0.04)
    assert np.sqrt(np.diag(fit.covariance)).max() < 0.02


def test_few_labels_stay_near_as_sure_as_right_and_say_less():
    fit = calibrate(np.zeros(2), np.array([True, False]))
    np.testing.assert_allclose(fit.theta, PRIOR, atol=1e-8)
    # Information of two coin tosses, and the prior's, by hand.
    variance = 1 / (2 * 0.25 + 1 / 0.25) * (1 + EXTRA_LABELS / 2)
    assert fit.covariance[0, 0] == pytest.approx(variance)


@given(st.lists(st.tuples(st.floats(-9.2, 9.2), st.booleans()), min_size=1, max_size=50))
def test_any_held_out_labels_give_a_calibration(rows):
    odds, right = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    fit = calibrate(odds, right)
    assert np.isfinite(fit.theta).all()
    assert (np.linalg.eigvalsh(fit.covariance) > 0).all()


def test_the_slope_is_the_derivative():
    fit = Calibration(np.array([0.3, 0.8]), np.eye(2))
    odds, weight = np.array([-1.0, 0.5, 2.0]), np.array([1.0, 2.0, 0.5])
    for axis in (0, 1):
        step = 1e-6 * np.eye(2)[axis]
        ends = [weight @ Calibration(fit.theta + s * step, np.eye(2)).chance(odds) for s in (-1, 1)]
        assert fit.slope(weight, odds)[axis] == pytest.approx((ends[1] - ends[0]) / 2e-6, rel=1e-5)


@given(st.floats(0, 1), st.floats(0, 1))
def test_an_interval_of_a_share_is_within_0_and_1(mean, variance):
    low, high = beta_interval(mean, variance)
    assert 0 <= low <= mean <= high <= 1


def test_a_wide_interval_by_the_beta_distribution():
    # Beta(1, 1) is uniform: mean 1/2, variance 1/12.
    assert beta_interval(0.5, 1 / 12) == pytest.approx((0.025, 0.975))


def test_certain_confidences_have_finite_odds():
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


# The promise


def test_a_calibrated_pool_keeps_classes_and_shares_the_doubt():
    prob = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    fit = Calibration(np.array([-1.0, 1.0]), np.eye(2))
    found = calibrated_pool(prob, log_odds(prob.max(axis=1)), fit)
    chance = fit.chance(log_odds(np.array([0.7])))[0]
    assert found.prob_nk[0].tolist() == pytest.approx(
        [chance, (1 - chance) * 2 / 3, (1 - chance) / 3]
    )
    assert found.code_n.tolist() == [0, 0]
    assert prob[0, 0] == 0.7


def test_the_error_falls_as_halves_of_the_labels_show():
    prob = np.array([[0.9, 0.1], [0.9, 0.1]])
    pool = calibrated_pool(prob, log_odds(prob.max(axis=1)), SURE)
    # A head of half of the labels is wrong about one of two: 0.5 (0.1 + 0.9) = 0.5 vs. 0.1.
    worse, same = np.array([0, 1]), np.array([0, 0])
    assert fall_with_labels(pool, [worse], Counts(100, 2, 50)) == pytest.approx(1 / 3)
    assert fall_with_labels(pool, [same], Counts(100, 2, 50)) == 0.0
    # Errors 0.1 and (0.1 + 0.1 + 0.1 + 0.9) / 4 = 0.3 would fall faster than 1 / n does, too.
    mild = np.array([[0.6, 0.4], [0.9, 0.1]])
    pool = calibrated_pool(mild, log_odds(mild.max(axis=1)), SURE)
    power = np.log2(0.35 / 0.25)
    found = fall_with_labels(pool, [np.array([1, 0])], Counts(100, 2, 50))
    assert found == pytest.approx(1 - 1.5**-power)


def test_a_promise_by_hand():
    prob = np.array([[0.9, 0.1], [0.5, 0.5], [1 - 1e-4, 1e-4]])
    pool = calibrated_pool(prob, log_odds(prob.max(axis=1)), SURE)
    counts, same = Counts(7, 3, 1), [pool.code_n]
    told = promise(pool, SURE, counts, same, log_odds(np.array([0.5])))
    assert told.gain == told.by_hand == pytest.approx(0.05)
    by_doubt = promise(pool, SURE, counts, same, None)
    doubt = np.array([0.1, 0.5, 1e-4])
    assert by_doubt.gain == pytest.approx((doubt**2).sum() / doubt.sum() / 10)


# What is said


def test_classes_that_lack_labels_in_words():
    few = ClassOutlook("bee", 1, 12.4, 0.8)
    assert few.lacks_labels
    assert str(few) == "bee: 1 label, about 12 more among the images without a label"
    missed = ClassOutlook("cow", 9, 30.0, 0.25)
    assert missed.lacks_labels
    assert str(missed).endswith("about 30 more among the images without a label, of which 25% are "
                                "found")  # fmt: skip
    gone = ClassOutlook("emu", 0, 0.01, 0.2)
    assert str(gone) == "emu: 0 labels, no more seen in the pool"
    assert not ClassOutlook("dog", 9, 30.0, 0.9).lacks_labels
    assert not ClassOutlook("ant", 9, 0.0, float("nan")).lacks_labels


def test_many_lacking_classes_are_counted(pool):
    Z, y, labelled, head = pool
    found = expected_accuracy(head, Z, labelled, y[labelled])
    many = tuple(ClassOutlook(f"c{i}", i % 5, 3.0, 0.9) for i in (4, 1, 3, 2, 0, 5, 6, 7))
    lines = dataclasses.replace(found, classes=many).lines()
    assert lines[1].startswith("Lacking labels: c0: 0 labels, ")
    assert lines[1].endswith("; and 3 more classes.")
    assert len(lines) == 4
    assert isinstance(found, ExpectedAccuracy)
    assert percent(found.accuracy, found.interval) in str(found)


def test_every_row_is_dealt_to_a_fold_and_classes_are_spread():
    code = np.array([0] * 10 + [1] * 5)
    fold = deal(code, 5, np.random.default_rng(0))
    for k, n in ((0, 2), (1, 1)):
        assert np.bincount(fold[code == k], minlength=5).tolist() == [n] * 5


def test_it_is_public():
    assert clip_al.expected_accuracy is expected_accuracy
