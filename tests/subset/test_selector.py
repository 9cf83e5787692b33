"""Tests of `clip_al.subset.selector`."""

from __future__ import annotations

import json
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import clip_al.subset.selector
from clip_al import ClipSelector, CrossFitAdapter, DatasetAdapter, EmbeddingTable, Selection
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    LabelAgreementWarning,
    ModelMismatchError,
)
from clip_al.score.alignment_diversity import sample_diversity_scores, semantic_alignment_scores
from clip_al.score.label_noise.symmetric import LabelNoise
from clip_al.score.scaling import standardize_scores
from tests.helpers import NAMES, images_near
from tests.reference import contents, random_unit

N, K, D = 240, 4, 16
QUICK = DatasetAdapter(epochs=3, device="cpu")  # never fitted: selectors clone it
FITTED = [
    "selection_",
    "adapter_",
    "class_embeddings_",
    "label_noise_",
    "text_weight_",
    "agreement_",
    "_fitted",
]


@pytest.fixture
def T(rng):
    return random_unit(rng, K, D)


@pytest.fixture
def truth():
    return np.arange(N) % K


@pytest.fixture
def images(rng, T, truth):
    return images_near(T, truth, rng)


@pytest.fixture
def wrong(rng):
    return rng.permutation(N) < 48


@pytest.fixture
def y(rng, truth, wrong):
    return np.where(wrong, (truth + rng.integers(1, K, size=N)) % K, truth)


def make(T, **changes):
    return ClipSelector(**{"class_embeddings": T, "adapter": False, **changes})


ALIGNED = {"alpha": 0.0, "min_label_probability": 0.0}
"""Alignment alone, as by default before decisions/0016."""


class Encoder:
    """A ClipEncoder, as far as a selector looks at it."""

    model_id = "toy@12345678"
    preprocessing = "none"

    def __init__(self, T, weights="w"):
        self.T = T
        self.weights = weights
        self.asked = []

    def key(self):
        return {"weights": self.weights}

    def encode_texts(self, texts, *, templates=None):
        self.asked.append((texts, templates))
        return self.T


def make_table(folder, images, model_id=Encoder.model_id):
    ids = [f"image {i}" for i in range(len(images))]
    return EmbeddingTable.from_array(folder, images, ids, model_id=model_id)


# What is chosen


@pytest.mark.parametrize("adapter", [False, True, "cross-fit"])
@pytest.mark.parametrize("text_weight", [1.0, "auto"])
def test_wrong_labels_are_left_out_and_classes_kept(images, y, T, wrong, adapter, text_weight):
    selector = make(T, adapter=adapter, text_weight=text_weight, ratio=0.5)
    selection = selector.fit_select(images, y)
    assert isinstance(selection, Selection)
    assert len(selection) == N // 2
    assert wrong[selection.indices].mean() < 0.02
    before, after = selection.report().class_balance
    assert after >= before - 0.05
    suspects = [suspect.index for suspect in selection.suspects(int(wrong.sum()))]
    assert wrong[suspects].mean() > 0.9
    assert selector.label_noise_.wrong_fraction == pytest.approx(wrong.mean(), abs=0.05)


def test_alignment_alone_is_standardised(images, y, T):
    selector = make(T, ratio=0.4, **ALIGNED)
    selection = selector.fit_select(images, y)
    scores = selection.scores
    sas = standardize_scores(scores["sas"], y)
    np.testing.assert_allclose(scores["total"], sas, atol=1e-6)
    settings = selection.settings
    share = selector.label_noise_.uniform_share
    alignment = semantic_alignment_scores(
        images, y, T, alignment="contrastive", temperature=settings["temperature"]
    )
    expected = LabelNoise(settings["temperature"], share, K).label_log_likelihood(alignment)
    np.testing.assert_allclose(scores["sas"], expected, atol=1e-4)
    assert "sds" not in scores
    for label in range(K):
        members = np.flatnonzero(y == label)
        quota = int(np.isin(members, selection.indices).sum())
        assert quota == pytest.approx(0.4 * len(members), abs=1)
        best = members[np.argsort(-scores["total"][members], kind="stable")[:quota]]
        assert np.isin(best, selection.indices).all()


def test_confused_classes_are_named(images, T):
    truth = np.arange(N) % K
    y = np.where(np.arange(N) % 20 == 1, 2, truth)  # a fifth of class 1 is labelled 2
    selector = make(T, ratio=0.5, class_names=["ant", "bee", "wasp", "fly"])
    settings = selector.fit_select(images, y).settings
    low, high = settings["wrong_interval"]
    assert low < 0.05 < high
    assert selector.label_noise_.interval == (low, high)
    first = settings["confused_pairs"][0]
    assert (first["true"], first["given"]) == ("bee", "wasp")
    assert first["low"] < 0.2 < first["high"]
    assert json.loads(json.dumps(settings["confused_pairs"])) == list(settings["confused_pairs"])
    plain = make(T, ratio=0.5, noise_model="symmetric").fit_select(images, y).settings
    assert not {"wrong_interval", "confused_pairs"} & set(plain)
    assert plain["noise_model"] == "symmetric"


@pytest.mark.parametrize("ratio", [1 / N, 0.25, 0.9, 1.0, 1])
def test_every_ratio_is_met_to_the_image(images, y, T, ratio):
    assert len(make(T, ratio=ratio).fit_select(images, y)) == round(ratio * N)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alpha": 0}, lambda sas, sds, p: sas),
        ({}, lambda sas, sds, p: sas + 0.3 * sds * p),
        ({"alpha": "ratio"}, lambda sas, sds, p: sas + 0.3 * sds * p),
        ({"alpha": "ratio", "noise_aware": False}, lambda sas, sds, p: sas + 0.3 * sds),
        ({"alpha": 2.0}, lambda sas, sds, p: sas + 2 * sds * p),
    ],
)
def test_weights_of_diversity(images, y, T, changes, expected):
    changes = {"min_label_probability": 0.0, **changes}
    scores = make(T, n_neighbors=0.1, **changes).fit_select(images, y).scores
    np.testing.assert_array_equal(scores["sds"], sample_diversity_scores(images, y, 0.1))
    sas, sds = (standardize_scores(scores[name], y).astype(float) for name in ("sas", "sds"))
    total = expected(sas, sds, scores["label_probability"])
    np.testing.assert_allclose(scores["total"], total, atol=1e-5)


def test_labels_that_look_wrong_come_last(images, y, T, wrong):
    selector = make(T, ratio=0.6).fit(images, y)
    scores, settings = selector.selection_.scores, selector.selection_.settings
    credible = scores["label_probability"] >= 0.5
    assert 0.6 * N < credible.sum() < N
    assert credible[selector.selection_.indices].all()
    kept = np.flatnonzero(credible)
    sas, sds = (standardize_scores(scores[name][kept], y[kept]) for name in ("sas", "sds"))
    total = sas + 0.6 * (sds * scores["label_probability"][kept]).astype(float)
    np.testing.assert_allclose(scores["total"][kept], total, atol=1e-5)
    assert settings["min_label_probability"] == 0.5
    # All credible images are chosen before any other; of these the likeliest come first.
    whole = make(T, ratio=0.95, class_balance="none").fit_select(images, y)
    assert whole.mask[credible].all()
    others = np.flatnonzero(~credible & (scores["label_probability"] > 1e-37))  # no denormals
    order = others[np.argsort(-scores["label_probability"][others], kind="stable")]
    assert whole.mask[order].tolist() == sorted(whole.mask[order], reverse=True)
    assert wrong[order].mean() > 0.8


def test_classes_beyond_two_thousand_images_are_compared_in_part(rng, T):
    truth = np.arange(5000) % 2
    Z = images_near(T, truth, rng)
    fitted = make(T[:2]).fit(Z, truth).selection_
    assert fitted.settings["exact_up_to"] == 2000
    np.testing.assert_array_equal(
        fitted.scores["sds"], sample_diversity_scores(Z, truth, 0.1, exact_up_to=2000)
    )
    exact = sample_diversity_scores(Z, truth, 0.1)
    for changes in ({"exact_up_to": None}, {"preset": "paper", "adapter": False}):
        whole = make(T[:2], **changes).fit(Z, truth).selection_
        assert whole.settings["exact_up_to"] is None
        np.testing.assert_array_equal(whole.scores["sds"], exact)
    assert np.corrcoef(exact, fitted.scores["sds"])[0, 1] > 0.99
    assert make(T[:2], n_neighbors=5).fit_select(Z, truth).settings["exact_up_to"] is None


def test_diversity_is_measured_only_where_it_counts_or_is_asked_for(images, y, T, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("measured")

    asked = make(T, n_neighbors=5, **ALIGNED).fit_select(images, y)
    assert asked.settings["n_neighbors"] == 5
    np.testing.assert_array_equal(asked.scores["sds"], sample_diversity_scores(images, y, 5))
    monkeypatch.setattr("clip_al.score.labelled_images.sample_diversity_scores", refuse)
    selector = make(T, **ALIGNED).fit(images, y)
    assert selector.selection_.settings["n_neighbors"] is None
    assert selector.selection_.indices.tolist() == asked.indices.tolist()
    assert [len(s) for s in selector.select_nested([0.2, 0.5])] == [round(0.2 * N), round(0.5 * N)]
    assert make(T, redundancy=0.1, alpha=0).fit_select(images, y).scores.keys() == {
        "sas", "total", "label_score", "label_probability", "likeliest",
    }  # fmt: skip
    for changes in ({}, {"alpha": "ratio"}, {"alpha": 0.1}, {"preset": "paper", "adapter": False}):
        with pytest.raises(AssertionError, match="measured"):
            make(T, **changes).fit(images, y)


@pytest.mark.parametrize("scale", ["class", "global", "none"])
def test_scales(images, y, T, scale):
    changes = {"scale": scale, "noise_aware": False, "min_label_probability": 0.0}
    scores = make(T, **changes).fit_select(images, y).scores
    sas, sds = (standardize_scores(scores[name], y, scale) for name in ("sas", "sds"))
    np.testing.assert_allclose(scores["total"], sas + 0.3 * sds.astype(float), atol=1e-5)


# Text weight


def test_without_text_the_mean_images_decide(images, y, T, wrong):
    texts = np.roll(T, 1, axis=0)
    by_text = make(texts, ratio=0.5, text_weight=1, **ALIGNED).fit_select(images, y)
    for weight in (0, None):  # by default held-out labels decide
        by_mean = make(texts, ratio=0.5, text_weight=weight).fit_select(images, y)
        assert wrong[by_mean.indices].mean() < 0.02
    assert wrong[by_text.indices].mean() > 0.15
    selector = make(texts, ratio=0.5, text_weight="auto")
    assert wrong[selector.fit_select(images, y).indices].mean() < 0.02
    assert selector.text_weight_ < 0.5
    assert make(T, text_weight="auto").fit(images, y).text_weight_ == 1.0


def test_a_text_weight_between(images, y, T):
    selection = make(T, text_weight=0.5, alignment="cosine").fit_select(images, y)
    means = np.stack([images[y == label].mean(axis=0) for label in range(K)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = semantic_alignment_scores(images, y, T + means)
    np.testing.assert_allclose(selection.scores["sas"], expected, atol=1e-5)


# The paper


def test_the_papers_preset_is_the_printed_method(images, y, T):
    selector = make(T, preset="paper", adapter=None, ratio=0.3).fit(images, y)
    adapter = selector.adapter_
    assert (adapter.loss, adapter.learning_rate, adapter.batch_size) == ("diagonal", 1e-4, 256)
    assert (adapter.epochs, adapter.n_epochs_) == (30, 30)
    assert {record["learning_rate"] for record in adapter.history_} == {1e-4}
    settings, scores = selector.selection_.settings, selector.selection_.scores
    assert (settings["beta"], settings["theta"], settings["solver"]) == (2.0, 5e-4, "sgd")
    assert (settings["alpha"], settings["effective_alpha"]) == ("ratio", 0.3)
    assert settings["n_neighbors"] == 0.1
    assert (settings["momentum"], settings["learning_rate"]) == (0.9, 1e-3)
    assert settings["max_iter"] == 100_000
    assert settings["class_balance"] == "none"
    sas = semantic_alignment_scores(images, y, T, adapter=adapter)
    sds = sample_diversity_scores(images, y, 0.1, adapter=adapter)
    np.testing.assert_allclose(scores["sas"], sas, atol=1e-6)
    np.testing.assert_allclose(scores["sds"], sds, atol=1e-6)
    total = sas.astype(float) + 0.3 * sds.astype(float)
    np.testing.assert_allclose(scores["total"], total, atol=1e-6)
    best = np.sort(np.argsort(-total, kind="stable")[: len(selector.selection_)])
    assert len(selector.selection_) == round(0.3 * N)
    assert np.isin(selector.selection_.indices, best).mean() > 0.98


def test_what_is_set_goes_over_the_preset(images, y, T):
    changes = {"alignment": "contrastive", "scale": "global", "solver": "exact"}
    selector = make(T, preset="paper", class_balance="equal", **changes).fit(images, y)
    settings = selector.selection_.settings
    assert {name: settings[name] for name in changes} == changes
    assert settings["class_balance"] == "equal"
    assert settings["adapter"] is False
    assert settings["noise_aware"] is False
    plain = make(T, class_balance="none").fit_select(images, y)
    assert plain.settings["class_balance"] == "none"


@pytest.mark.parametrize(
    ("preset", "template"), [("default", "a photo of a {}"), ("paper", "A photo of {}")]
)
def test_the_encoder_is_asked_with_the_presets_prompt(images, y, T, preset, template):
    encoder = Encoder(T)
    selector = make(None, encoder=encoder, class_names=tuple(NAMES), preset=preset)
    selection = selector.fit_select(images, y)
    assert encoder.asked == [(NAMES, [template])]
    assert selection.settings["model"] == Encoder.model_id
    np.testing.assert_allclose(selector.class_embeddings_, T, atol=1e-6)


# Adapters


@pytest.mark.parametrize("kind", [DatasetAdapter, CrossFitAdapter])
def test_an_adapter_is_cloned_or_used(images, y, T, kind):
    given = CrossFitAdapter(QUICK) if kind is CrossFitAdapter else clone(QUICK)
    selector = make(T, adapter=given).fit(images, y)
    assert type(selector.adapter_) is kind
    assert selector.adapter_ is not given
    assert not hasattr(given, "temperature_")
    given.fit(images, y, T)
    again = make(T, adapter=given).fit(images, y)
    assert again.adapter_ is given
    assert again.selection_.indices.tolist() == selector.selection_.indices.tolist()
    assert again.selection_.settings["adapter"]["kind"] == kind.__name__


def test_a_fitted_adapter_scores_other_images(rng, images, y, T):
    adapter = DatasetAdapter(epochs=2, device="cpu").fit(images, y, T)
    selection = make(T, adapter=adapter, ratio=0.5).fit_select(images[:60], y[:60])
    assert len(selection) == 30


def test_cross_fit_is_fitted_once_on_halves(monkeypatch, images, y, T):
    selector = make(T, adapter="cross-fit", random_state=3)
    seen = []
    fit = clip_al.adapt.cross_fit.CrossFitAdapter.fit

    def spy(self, Z, y, T, **kwargs):
        result = fit(self, Z, y, T, **kwargs)
        seen.append(result)
        return result

    monkeypatch.setattr(clip_al.adapt.cross_fit.CrossFitAdapter, "fit", spy)
    selector.fit(images, y)
    assert seen == [selector.adapter_]
    folds = selector.adapter_
    assert sorted(np.bincount(folds.fold_)) == [N // 2, N // 2]
    assert {adapter.random_state for adapter in folds.adapters_} == {3}


def test_turning_labels_of_one_fold_changes_how_the_others_are_scored(images, y, T):
    folds = CrossFitAdapter(DatasetAdapter(epochs=2, learning_rate=1e-2, device="cpu"))
    fold = np.arange(N) // 4 % 2
    turned = np.where(fold == 0, (y + 1) % K, y)
    plain, other = (
        make(
            T,
            adapter=clone(folds).fit(images, labels, T, fold=fold),
            alignment="cosine",
            noise_model="symmetric",
        )
        .fit_select(images, labels)
        .scores
        for labels in (y, turned)
    )
    assert (plain["likeliest"][fold == 0] == other["likeliest"][fold == 0]).all()
    assert (plain["sas"][fold == 1] != other["sas"][fold == 1]).all()


# Labels and names


@pytest.mark.parametrize(
    "wrap",
    [list, np.array, pd.Series, pd.Categorical, lambda x: np.array(x, dtype=object)],
    ids=["list", "array", "Series", "Categorical", "objects"],
)
def test_labels_as_names(images, y, T, wrap):
    expected = make(T).fit_select(images, y)
    named = make(T, class_names=NAMES).fit_select(images, wrap([NAMES[label] for label in y]))
    assert named.indices.tolist() == expected.indices.tolist()
    assert named.class_names == tuple(NAMES)
    assert named.suspects(1)[0].given in NAMES


def test_a_mapping_of_names_goes_by_the_numbers(images, y, T):
    """As `ImageFolder(...).class_to_idx` is, whatever its order."""
    class_to_idx = {name: NAMES.index(name) for name in reversed(NAMES)}
    encoder = Encoder(T)
    selector = make(None, class_names=class_to_idx, encoder=encoder)
    chosen, expected = (s.fit_select(images, y) for s in (selector, make(T)))
    assert chosen.indices.tolist() == expected.indices.tolist()
    assert chosen.class_names == tuple(NAMES)
    assert encoder.asked[0][0] == NAMES
    named = [NAMES[label] for label in y]
    chosen = make(T, class_names=class_to_idx).fit_select(images, named)
    assert chosen.labels.tolist() == y.tolist()


def test_a_name_may_stand_twice_where_labels_are_numbers(tmp_path, images, y, T):
    """As in open_clip's IMAGENET_CLASSNAMES."""
    names = [*NAMES[:3], NAMES[0]]
    chosen = make(T, class_names=names, class_balance="equal").fit_select(images, y)
    assert (
        chosen.indices.tolist()
        == make(T, class_balance="equal").fit_select(images, y).indices.tolist()
    )
    chosen.save(tmp_path / "s.json")
    assert Selection.load(tmp_path / "s.json").class_names == tuple(names)
    assert chosen.report().classes["name"].tolist() == names
    everything = Selection.from_indices(np.arange(N), N, y=y, class_names=names)
    moved = chosen.compare(everything).moved
    assert moved[NAMES[0]][0] == np.isin(np.delete(y, chosen.indices), [0, 3]).sum()
    with pytest.raises(InvalidInputError, match=f"where labels are names; got {names[0]!r} more"):
        make(T, class_names=names).fit(images, [names[label] for label in y])


def test_quotas_by_name(images, y, T):
    selector = make(T, class_names=NAMES, ratio=0.2, class_balance={"bee": 0.75, "dog": 0.25})
    counts = np.bincount(y[selector.fit_select(images, y).indices], minlength=K)
    assert counts.tolist() == [0, 36, 0, 12]


def test_classes_without_images_and_a_class_of_one(images, y, T):
    y = np.where(y == 3, 2, y)
    y[0] = 1
    y[y == 1] = 0
    y[7] = 1
    selection = make(T, ratio=0.5, text_weight=0.5, n_neighbors=0.1).fit_select(images, y)
    assert np.isfinite(selection.scores["total"]).all()
    assert selection.scores["sds"][7] == 0
    assert len(selection) == N // 2


def test_one_class_in_use(images, T):
    for adapter in (False, QUICK, CrossFitAdapter(QUICK)):
        selection = make(T, adapter=adapter, ratio=0.25).fit_select(images, np.ones(N, int))
        assert len(selection) == N // 4


# Groups, ids, models


def test_groups_have_quotas_within_classes(rng, images, y, T):
    groups = np.where(rng.random(N) < 0.25, "night", "day")
    selection = make(T, ratio=0.5).fit_select(images, y, groups=groups)
    for label in range(K):
        part = y == label
        share = (groups[part] == "night").mean()
        chosen = selection.mask & part
        assert (groups[chosen] == "night").mean() == pytest.approx(share, abs=0.06)
    assert selection.groups.names == ("day", "night")
    equal = make(T, ratio=0.2, group_balance="equal", class_balance="none")
    counts = np.unique(groups[equal.fit_select(images, y, groups=groups).indices], return_counts=1)
    assert counts[1].tolist() == [24, 24]


def test_ids_are_those_given_or_of_the_table(tmp_path, images, y, T):
    table = make_table(tmp_path / "table", images)
    selection = make(T).fit_select(table, y)
    assert selection.ids.tolist() == table.ids.tolist()
    assert selection.settings["model"] == Encoder.model_id
    given = [str(i) for i in range(N)]
    assert make(T).fit_select(table, y, ids=given).ids.tolist() == given
    assert make(T).fit_select(images, y, ids=given).ids.tolist() == given
    assert make(T).fit_select(images, y).ids is None
    assert make(T).fit_select(images, y).settings["model"] == ""


def test_a_table_selects_as_its_array(tmp_path, images, y, T):
    table = make_table(tmp_path / "table", images)
    expected = make(T, adapter=True).fit_select(table.embeddings, y)
    assert make(T, adapter=True).fit_select(table, y).indices.tolist() == expected.indices.tolist()


def test_a_table_of_another_model_than_the_encoders(tmp_path, images, y, T):
    selector = make(None, encoder=Encoder(T), class_names=NAMES)
    good = make_table(tmp_path / "good", images)
    assert selector.fit_select(good, y).settings["model"] == Encoder.model_id
    bad = make_table(tmp_path / "bad", images, "other@87654321")
    with pytest.raises(ModelMismatchError, match="was made by other@87654321, got toy@12345678"):
        selector.fit(bad, y)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_a_memmap_of_another_float_type(tmp_path, images, y, T, dtype):
    np.save(tmp_path / "z.npy", images.astype(dtype))
    mapped = np.load(tmp_path / "z.npy", mmap_mode="r")
    for adapter in (False, QUICK, CrossFitAdapter(QUICK)):
        expected = make(T, adapter=adapter).fit_select(images, y)
        selection = make(T, adapter=adapter).fit_select(mapped, y)
        assert np.isin(selection.indices, expected.indices).mean() > 0.95


# Choosing again


def test_another_ratio_without_another_fit(images, y, T):
    selector = make(T, ratio=0.3).fit(images, y)
    assert selector.select() == selector.selection_
    assert selector.select(0.5) == make(T, ratio=0.5).fit_select(images, y)
    nested = selector.select_nested([0.2, 0.6, 0.4])
    assert [len(selection) for selection in nested] == [48, 144, 96]
    assert set(nested[0].indices) < set(nested[2].indices) < set(nested[1].indices)
    assert nested[1].settings["wrong_fraction"] == selector.label_noise_.wrong_fraction
    assert (nested[0].scores["sas"] == selector.selection_.scores["sas"]).all()


def test_what_is_set_later_waits_for_the_next_fit(images, y, T):
    selector = make(T).fit(images, y)
    first = selector.selection_
    selector.set_params(ratio=0.7, alignment="cosine", alpha=9.0, redundancy=1.0, preset="paper")
    assert selector.select() == first
    assert selector.fit(images, y).selection_ != first


def test_later_changes_to_inputs_do_not_show(images, y, T):
    groups = np.array(["a", "b"])[np.arange(N) % 2]
    selector = make(T).fit(images, y, groups=groups)
    expected = selector.select(0.5)
    y[:], T[:], images[:], groups[:] = 0, 0, 0, "c"
    assert selector.select(0.5) == expected


def test_the_graph_is_built_once_and_only_where_it_is_needed(monkeypatch, images, y, T):
    calls = []
    neighbour_graph = clip_al.subset.selector.neighbour_graph

    def spy(*args, **kwargs):
        calls.append(kwargs)
        return neighbour_graph(*args, **kwargs)

    monkeypatch.setattr(clip_al.subset.selector, "neighbour_graph", spy)
    plain = make(T).fit_select(images, y)
    assert calls == []
    selector = make(T, redundancy=0.5).fit(images, y)
    selector.select(0.5)
    selector.select_nested([0.2, 0.4])
    assert len(calls) == 1
    assert selector.selection_.indices.tolist() != plain.indices.tolist()


def test_redundancy_parts_duplicates(images, y, T):
    images[1::2], y[1::2] = images[::2], y[::2]
    plain = make(T, **ALIGNED).fit_select(images, y)
    parted = make(T, redundancy=5.0, **ALIGNED).fit_select(images, y)

    def pairs(selection):
        return int((selection.mask[::2] & selection.mask[1::2]).sum())

    assert pairs(parted) < pairs(plain) / 2


# Labels, names and images that do not belong together


def test_right_labels_are_not_warned_of(images, y, T):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LabelAgreementWarning)
        selector = make(T).fit(images, y)
    assert selector.agreement_.findings == ()
    assert "disagreement" not in selector.selection_.settings


def test_shuffled_labels_are_warned_of_and_have_no_share(images, y, T, rng):
    with pytest.warns(LabelAgreementWarning, match="the rows seem shuffled"):
        selector = make(T).fit(images, rng.permutation(y))
    settings = selector.select(0.1).settings
    assert settings["wrong_fraction"] is None
    assert settings["disagreement"]["kinds"] == ["shuffled"]
    html = selector._repr_html_() + selector.selection_._repr_html_()
    assert html.count("the rows seem shuffled") >= 2
    assert "cannot be told" in html


def test_swapped_names_are_warned_of_by_their_names(images, y, T):
    with pytest.warns(LabelAgreementWarning, match=r"classes 1 \('bee'\) and 2 \('cat'\) change"):
        selector = make(T[[0, 2, 1, 3]], class_names=NAMES).fit(images, y)
    assert selector.selection_.settings["wrong_fraction"] is not None


def test_ids_are_tried_as_an_order_of_the_labels(images, truth, T):
    ids = [f"{i}.jpg" for i in range(N)]
    table = sorted(range(N), key=ids.__getitem__)
    y = np.random.default_rng(3).permutation(truth)
    by_class = np.argsort(truth, kind="stable")[np.argsort(np.argsort(y, kind="stable"))]
    with pytest.warns(LabelAgreementWarning, match="order of the ids by number"):
        make(T).fit(images[by_class][table], y, ids=[ids[i] for i in table])


# As scikit-learn's estimators


def test_parameters_are_kept_as_they_were_given(T):
    given = {
        "ratio": "?", "class_names": NAMES, "class_embeddings": T, "encoder": object(),
        "preset": "?", "adapter": "?", "alignment": "?", "scale": "?", "noise_aware": "?",
        "noise_model": "?", "min_label_probability": "?", "alpha": "?",
        "text_weight": "?", "n_neighbors": "?", "exact_up_to": "?",
        "class_balance": {"a": 1}, "group_balance": "?", "solver": "?", "redundancy": "?",
        "device": "?", "random_state": "?", "progress": "?",
    }  # fmt: skip
    params = ClipSelector(**given).get_params()
    assert params.keys() == given.keys()
    assert all(params[name] is value for name, value in given.items())


@pytest.mark.parametrize("adapter", [False, QUICK, CrossFitAdapter(QUICK)])
def test_a_second_fit_a_clone_and_a_pickle_choose_the_same(images, y, T, adapter):
    selector = make(T, adapter=adapter, text_weight="auto")
    before = contents(images, y, T)
    copies = [clone(selector), pickle.loads(pickle.dumps(selector))]
    first = selector.fit_select(images, y)
    assert selector.fit_select(images, y) == first
    assert [copy.fit_select(images, y) for copy in copies] == [first, first]
    assert contents(images, y, T) == before
    fitted = pickle.loads(pickle.dumps(selector))
    assert fitted.selection_ == first
    assert fitted.select(0.5) == selector.select(0.5)
    assert not hasattr(clone(selector), "selection_")


def test_another_seed_trains_another_adapter(images, y, T):
    one, other = (make(T, adapter=True, random_state=seed).fit(images, y) for seed in (0, 1))
    assert (one.selection_.scores["sas"] != other.selection_.scores["sas"]).any()
    drawn = make(T, adapter=True, random_state=None).fit(images, y)
    assert drawn.selection_.settings["random_state"] is None


def test_global_random_state_is_left_alone(images, y, T):
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    make(T, adapter="cross-fit", text_weight="auto").fit(images, y)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


def test_permuted_images_have_permuted_selections(rng, images, y, T):
    # With SDS, as here many alignments are equal, and ties go by place.
    order = rng.permutation(N)
    expected = make(T, alpha="ratio").fit_select(images, y).indices
    permuted = make(T, alpha="ratio").fit_select(images[order], y[order]).indices
    assert sorted(order[permuted]) == expected.tolist()


def test_a_selection_survives_a_save(tmp_path, images, y, T):
    adapter = DatasetAdapter(epochs=1, hidden=8)
    selection = make(T, adapter=adapter, class_names=NAMES).fit_select(images, y)
    selection.save(tmp_path / "subset.json")
    assert Selection.load(tmp_path / "subset.json") == selection
    assert selection.settings["adapter"]["hidden"] == 8


@pytest.mark.parametrize("method", ["select", "select_nested"])
def test_choosing_before_a_fit(T, method):
    with pytest.raises(NotFittedError, match="not fitted"):
        getattr(make(T), method)([0.3])


# Errors


@pytest.mark.parametrize(
    ("changes", "fit", "error", "message"),
    [
        ({"ratio": 0.001}, {}, InvalidInputError, "`ratio` must select at least one of the 240"),
        ({"ratio": 0}, {}, InvalidInputError, "`ratio` must be in (0, 1]"),
        ({"ratio": np.nan}, {}, InvalidInputError, "`ratio` must be finite"),
        ({"ratio": "x"}, {}, InvalidTypeError, "`ratio` must be a number"),
        (
            {"preset": "papre"},
            {},
            InvalidInputError,
            "`preset` must be one of 'default', 'short', 'paper'",
        ),
        ({"alignment": "dot"}, {}, InvalidInputError, "`alignment` must be one of"),
        ({"scale": "log"}, {}, InvalidInputError, "`scale` must be one of"),
        ({"solver": "adam"}, {}, InvalidInputError, "`solver` must be one of"),
        ({"noise_aware": "no"}, {}, InvalidTypeError, "`noise_aware` must be True or False"),
        ({"text_weight": 2}, {}, InvalidInputError, "`text_weight` must be in [0, 1] or 'auto'"),
        ({"alpha": "x"}, {}, InvalidInputError, "`alpha` must be a number or 'ratio'"),
        ({"alpha": [1]}, {}, InvalidTypeError, "`alpha` must be a number"),
        ({"n_neighbors": 70}, {}, InvalidInputError, "`n_neighbors` must be below the number"),
        ({"n_neighbors": 1.5}, {}, InvalidInputError, "`n_neighbors`, as a fraction of the class"),
        ({"group_balance": None}, {}, InvalidTypeError, "`group_balance` must be 'none', 'prop"),
        ({"redundancy": -1.0}, {}, InvalidInputError, "`redundancy` must be finite, at least 0"),
        ({"redundancy": "x"}, {}, InvalidTypeError, "`redundancy` must be a number"),
        ({"random_state": -1}, {}, InvalidInputError, "`random_state` must be at least 0"),
        ({"random_state": "x"}, {}, InvalidTypeError, "`random_state` must be a whole number"),
        ({"adapter": "folds"}, {}, InvalidTypeError, "`adapter` must be True, False"),
        ({"class_balance": "fair"}, {}, InvalidInputError, "`class_balance` must be one of"),
        ({"class_balance": [1, 2]}, {}, InvalidInputError, "`class_balance` must hold one number"),
        ({"class_names": NAMES[:3]}, {}, InvalidInputError, "each of the 4 classes; got 3 names"),
        ({"class_names": "abcd"}, {}, InvalidTypeError, "must be a sequence of strings"),
        (
            {"class_embeddings": None},
            {},
            InvalidTypeError,
            "or `encoder` and `class_names`; got no",
        ),
        ({"class_embeddings": np.eye(4)}, {}, ModelMismatchError, "must have 16 columns, as `Z`"),
        ({"class_embeddings": np.eye(16)[:1]}, {}, InvalidInputError, "there is one alone"),
        ({}, {"y": [0, 1]}, InvalidInputError, "one label for each of the 240 images; got"),
        ({}, {"y": np.full(N, 4)}, InvalidInputError, "`y` must be in [0, 3]"),
        ({}, {"y": np.full(N, np.nan)}, InvalidTypeError, "got dtype float64"),
        ({}, {"y": ["ant"] * N}, InvalidTypeError, "as no class names were given"),
        ({"class_names": NAMES}, {"y": ["cow"] * N}, InvalidInputError, "got 'cow' at position 0"),
        ({}, {"groups": ["a"]}, InvalidInputError, "`groups` must have one entry for each of the"),
        ({}, {"ids": ["a"]}, InvalidInputError, "`ids` must name each of the 240 images; got 1"),
        ({}, {"Z": np.full((N, D), np.nan)}, InvalidInputError, "`Z` must be finite; row 0, 1"),
        ({}, {"Z": np.zeros((N, D))}, InvalidInputError, "row 0 is all zeros"),
        ({}, {"Z": np.ones(D)}, InvalidInputError, "`Z` must be 2-D"),
    ],
)
def test_what_is_refused_before_any_training(
    monkeypatch, images, y, T, changes, fit, error, message
):
    def never(*args, **kwargs):
        raise AssertionError("trained before the checks")

    selector = make(T).fit(images, y)
    if "Z" not in fit or not (fit["Z"] == 0).all():
        monkeypatch.setattr(DatasetAdapter, "fit", never)
    selector.set_params(adapter=True).set_params(**changes)
    arguments = {"Z": images, "y": y, **fit}
    with pytest.raises(error, match=re.escape(message)):
        selector.fit(**arguments)
    # Nothing is left, not even of the fit before.
    assert [name for name in FITTED if hasattr(selector, name)] == []


def test_a_fit_that_fails_late_leaves_nothing(monkeypatch, images, y, T):
    selector = make(T).fit(images, y)
    assert [name for name in FITTED if hasattr(selector, name)] == FITTED

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_al.subset.selector, "_choose", fail)
    with pytest.raises(KeyboardInterrupt):
        selector.fit(images, y)
    assert [name for name in FITTED if hasattr(selector, name)] == []


def test_an_encoder_without_names(T):
    with pytest.raises(InvalidTypeError, match="got no names"):
        make(None, encoder=Encoder(T)).fit(np.eye(16), np.zeros(16, int))


def test_a_class_name_without_an_embedding(images, y, T):
    with pytest.raises(InvalidInputError, match=r"each of the 4 classes; got 5 names"):
        make(T, class_names=[*NAMES, "eel"]).fit(images, y)


def test_an_adapter_for_other_embeddings(images, y, T):
    adapter = DatasetAdapter(epochs=0).fit(np.eye(3), [0, 1, 2], np.eye(3))
    with pytest.raises(InvalidInputError, match="must have 3 columns; got 16"):
        make(T, adapter=adapter).fit(images, y)


def test_a_masked_array_without_masked_entries_is_an_array():
    rng = np.random.default_rng(0)
    T, y = np.eye(4)[:2], np.arange(40) % 2
    Z = T[y] + 0.1 * rng.standard_normal((40, 4))
    plain = ClipSelector(0.5, class_embeddings=T).fit_select(Z, y)
    masked = ClipSelector(0.5, class_embeddings=T).fit_select(np.ma.masked_array(Z), y)
    assert masked.indices.tolist() == plain.indices.tolist()
    assert masked.ids is None
