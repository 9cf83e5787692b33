"""Datalab gets what a selector knows, and a selection gets what Datalab finds."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from clip_al import ClipSelector, EmbeddingTable, Selection, SelectionOptimizer
from clip_al.errors import InvalidInputError, MissingDependencyError
from clip_al.integrations import datalab
from tests.helpers import images_near
from tests.reference import random_unit

pytest.importorskip("cleanlab", reason="needs clip_al[cleanlab]")
pytest.importorskip("datasets", reason="needs clip_al[cleanlab]")

# Not in the order of the alphabet, by which Datalab would sort them; the last has no image.
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "none"]
WRONG, TWINS = np.arange(40), np.array([[50, 398], [51, 399]])


@pytest.fixture(scope="module")
def digits(mini):
    """Embeddings of 400 digits, two of them there twice, and labels, the first forty wrong."""
    data = load_digits()
    images = (data.images[:400] * 15.9).astype(np.uint8)
    Z = mini.encode_images(list(images))
    y = data.target[:400].copy()
    Z[TWINS[:, 1]], y[TWINS[:, 1]] = Z[TWINS[:, 0]], y[TWINS[:, 0]]
    y[WRONG] = (y[WRONG] + 1) % 10
    return Z, y


@pytest.fixture(scope="module")
def selector(mini, digits):
    texts = mini.encode_texts([f"the digit {name}" for name in NAMES])
    names = [f"{i:03}.png" for i in range(400)]
    # The probabilities are those of the model that knows chance alone.
    chosen = ClipSelector(0.3, class_embeddings=texts, class_names=NAMES, noise_model="symmetric")
    return chosen.fit(*digits, ids=names)


@pytest.fixture(scope="module")
def lab(selector, digits):
    return datalab.audit(selector, digits[0])


def toy(adapter=False, n=120, **settings):
    rng = np.random.default_rng(0)
    T = random_unit(rng, 3, 8)
    y = np.arange(n) % 3
    Z = images_near(T, y, rng)
    selector = ClipSelector(
        0.5, class_embeddings=T, adapter=adapter, noise_model="symmetric", **settings
    )
    return Z, y, selector.fit(Z, y)


# Probabilities


def test_probabilities_are_those_that_the_selector_scores_by(selector, digits):
    Z, y = digits
    probability_nk = datalab.class_probabilities(selector, Z)
    assert probability_nk.shape == (400, 11)
    assert probability_nk.dtype == np.float32
    np.testing.assert_allclose(probability_nk.sum(axis=1), 1, atol=1e-5)
    scores = selector.selection_.scores
    at_label = probability_nk[np.arange(400), y]
    np.testing.assert_allclose(np.log(at_label), scores["label_score"], atol=1e-4)
    np.testing.assert_array_equal(probability_nk.argmax(axis=1), scores["likeliest"])


@pytest.mark.parametrize(
    ("settings", "atol"),
    [
        ({"text_weight": 1.0}, 1e-4),
        ({"text_weight": 0.5}, 1e-4),
        ({"adapter": True}, 1e-3),
        ({"adapter": "cross-fit"}, 0.5),  # one mean temperature for both halves
    ],
)
def test_so_they_are_with_text_and_adapters(settings, atol):
    Z, y, selector = toy(**settings)
    before = Z.copy()
    probability_nk = datalab.class_probabilities(selector, Z)
    np.testing.assert_array_equal(Z, before)
    scores = selector.selection_.scores
    at_label = np.log(probability_nk[np.arange(len(y)), y])
    np.testing.assert_allclose(at_label, scores["label_score"], atol=atol)
    np.testing.assert_array_equal(probability_nk.argmax(axis=1), scores["likeliest"])


def test_a_table_will_do(tmp_path):
    Z, _, selector = toy()
    table = EmbeddingTable.from_array(tmp_path / "t", Z, model_id="toy", dtype="float16")
    probability_nk = datalab.class_probabilities(selector, table)
    np.testing.assert_allclose(probability_nk, datalab.class_probabilities(selector, Z), atol=0.02)
    assert datalab.unflagged(datalab.audit(selector, table)).shape == (120,)


def test_other_images_than_the_fitted_ones_are_refused():
    Z, _, selector = toy()
    with pytest.raises(NotFittedError):
        datalab.class_probabilities(ClipSelector(), Z)
    with pytest.raises(InvalidInputError, match=r"must be the 120 images .*; got 60\. Pass the"):
        datalab.class_probabilities(selector, Z[:60])
    with pytest.raises(InvalidInputError, match="must have 8 columns; got 7"):
        datalab.class_probabilities(selector, Z[:, :7])


# Audit


def test_label_issues_are_those_of_the_array_call(selector, digits, lab):
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    Z, y = digits
    probability_nk = datalab.class_probabilities(selector, Z)
    np.testing.assert_array_equal(
        np.flatnonzero(lab.issues["is_label_issue"]),
        np.flatnonzero(find_label_issues(y, probability_nk)),
    )
    np.testing.assert_allclose(
        datalab.issue_scores(lab)["cleanlab_label"], get_label_quality_scores(y, probability_nk)
    )
    assert lab.issues["is_label_issue"][WRONG].mean() > 0.8
    assert lab.issues["is_label_issue"].mean() < 0.2


def test_classes_and_images_keep_their_names(digits, lab):
    given = lab.get_issues("label")["given_label"]
    assert given.tolist() == [NAMES[label] for label in digits[1]]
    assert lab.data["id"][7] == "007.png"


def test_duplicates_are_found_by_the_embeddings(lab):
    assert set(TWINS.ravel()) <= set(np.flatnonzero(lab.issues["is_near_duplicate_issue"]))


def test_an_audit_is_silent_and_repeatable(selector, digits, lab, capsys):
    before = [part.copy() for part in digits]
    again = datalab.audit(selector, digits[0])
    assert capsys.readouterr().out == ""
    assert again.issues.equals(lab.issues)
    for part, kept in zip(digits, before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_only_what_is_asked_for_is_looked_for(selector, digits):
    lab = datalab.audit(selector, digits[0], issue_types={"label": {}})
    assert list(datalab.issue_scores(lab)) == ["cleanlab_label"]
    with pytest.raises(InvalidInputError, match="it has no result for 'outlier'"):
        datalab.unflagged(lab, ["label", "outlier"])


def test_a_check_that_datalab_gave_up_is_an_error():
    Z, _, selector = toy(n=9)
    with pytest.raises(InvalidInputError, match="need more images than neighbours"):
        datalab.audit(selector, Z)
    few = {"near_duplicate": {"k": 3}, "outlier": {"k": 3}}
    assert datalab.unflagged(datalab.audit(selector, Z, issue_types=few), few).shape == (9,)


# Back


def test_of_duplicates_one_is_kept(lab):
    kept = datalab.unflagged(lab, ["near_duplicate"])
    assert kept[TWINS].sum(axis=1).tolist() == [1, 1]
    # Alike in label and embedding, so the lower index stays.
    assert kept[TWINS[:, 0]].all()
    assert kept[~lab.issues["is_near_duplicate_issue"].to_numpy()].all()


def test_the_duplicate_that_is_kept_is_the_one_with_the_better_label(mini, digits):
    Z, y = (part.copy() for part in digits)
    y[50] = (y[50] + 1) % 10  # now the lower index is the wrong one
    texts = mini.encode_texts(NAMES[:10])
    selector = ClipSelector(0.3, class_embeddings=texts).fit(Z, y)
    lab = datalab.audit(selector, Z)
    assert datalab.unflagged(lab, ["near_duplicate"])[[50, 398]].tolist() == [False, True]
    everything = datalab.unflagged(lab)
    assert not everything[lab.issues["is_label_issue"].to_numpy()].any()
    assert everything[398] == (
        not lab.issues[["is_label_issue", "is_outlier_issue"]].loc[398].any()
    )


def test_chains_of_duplicates_are_one_group():
    Z, _, selector = toy()
    Z = Z.copy()
    Z[3], Z[6] = Z[0], Z[0]  # of one class
    lab = datalab.audit(selector.fit(Z, np.arange(120) % 3), Z)
    assert datalab.unflagged(lab, ["near_duplicate"])[[0, 3, 6]].tolist() == [True, False, False]


def test_a_selection_of_what_is_left_is_that_of_the_array_call(mini, digits, lab):
    Z, y = digits
    rows = np.flatnonzero(datalab.unflagged(lab))
    texts = mini.encode_texts(NAMES[:10])
    part = ClipSelector(0.5, class_embeddings=texts).fit_select(Z[rows], y[rows])
    selection = Selection.from_indices(rows[part.indices], len(Z), scores=datalab.issue_scores(lab))
    assert not set(selection.indices) & set(np.flatnonzero(lab.issues["is_label_issue"]))
    assert {"cleanlab_label", "cleanlab_outlier"} <= set(selection.to_frame().columns)


def test_the_scores_go_into_an_optimizer(digits, lab):
    scores = datalab.issue_scores(lab)
    label, far = scores["cleanlab_label"], scores["cleanlab_near_duplicate"]
    chosen = SelectionOptimizer(0.5, alpha=0.5).select(
        label, far, digits[1], label_score=np.log(label)
    )
    best = np.argsort(-(label + 0.5 * far), kind="stable")[:200]
    np.testing.assert_array_equal(chosen.indices, np.sort(best))
    worst = [suspect.index for suspect in chosen.suspects(20)]
    assert worst == np.argsort(label, kind="stable")[:20].tolist()


def test_without_cleanlab_the_extra_is_named(monkeypatch):
    Z, _, selector = toy()
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "cleanlab":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[cleanlab\]"'):
        datalab.audit(selector, Z)
