"""Query strategies, and the classifier that starts from class names."""

from __future__ import annotations

import numpy as np
from sklearn.naive_bayes import GaussianNB

import clip_al
from clip_al.label.expected.outlook import ClassOutlook, Promise
from tests.fuzz import calls
from tests.fuzz.calls import Call
from tests.fuzz.register import SMALL, function, method, of, rows, size, some, target
from tests.fuzz.world import NAMES, D, N, V

# Which images to label


def query(w, rng, **optional):
    n = size(rng)
    arguments = {"X": w.Z[:n].copy(), "n_instances": int(rng.integers(1, n + 1))}
    learner = w.learner(n)
    optional = {"embeddings": w.Z[:n].copy(), "profiles": w.profiles.take(np.arange(n)), **optional}
    return n, arguments, learner, optional


def concept_settings(w, rng):
    return {
        "vocabulary": w.vocabulary,
        **some(
            rng,
            m=4,
            weighting="softmax",
            target="pool" if rng.random() < 0.5 else np.full(V, 0.1),
            similarity="cosine",
            device="cpu",
        ),
    }


def labelled_of(w, rng):
    kinds = [w.Z[-4:].copy(), w.profiles.take([37, 38]), None]
    return kinds[rng.integers(3)]


def strategy(name, cls, settings, extra):
    """Register constructor, query and `select` of a strategy."""

    @target(name, 2)
    def _(w, rng):
        return Call(lambda s, a: len(repr(cls(**s))), settings(w, rng))

    @target(f"{name}.__call__", 6)
    def _(w, rng):
        n, arguments, learner, optional = query(w, rng)
        arguments |= {"classifier": learner, **extra(w, rng, n, optional, True)}
        return Call(
            lambda s, a: cls(**s)(**a),
            settings(w, rng),
            arguments,
            calls.picks(n, arguments["n_instances"]),
            SMALL,
        )

    @target(f"{name}.select", 6)
    def _(w, rng):
        n, arguments, _, optional = query(w, rng)
        arguments |= extra(w, rng, n, optional, False)
        return Call(
            lambda s, a: cls(**s).select(**a),
            settings(w, rng),
            arguments,
            calls.picks(n, arguments["n_instances"]),
            SMALL,
        )


def coverage_extra(w, rng, n, optional, is_query):
    return some(
        rng,
        embeddings=optional["embeddings"],
        probabilities=w.P[:n].copy(),
        labelled=w.Z[-4:].copy(),
    )


def margin_extra(w, rng, n, optional, is_query):
    given = some(rng, profiles=optional["profiles"], labelled=labelled_of(w, rng))
    if not is_query:
        return {"probabilities": w.P[:n].copy(), **given}
    return {**given, **some(rng, embeddings=optional["embeddings"], probabilities=w.P[:n].copy())}


def cbd_extra(w, rng, n, optional, is_query):
    given = some(rng, profiles=optional["profiles"], labelled=labelled_of(w, rng))
    return {**given, **(some(rng, embeddings=optional["embeddings"]) if is_query else {})}


def aligned_extra(w, rng, n, optional, is_query):
    return some(rng, embeddings=optional["embeddings"]) if is_query else some(rng, y=w.y[:n].copy())


strategy(
    "UncertaintyCoverageSampling",
    clip_al.UncertaintyCoverageSampling,
    lambda w, rng: some(
        rng,
        class_embeddings=w.T.copy(),
        m=4,
        radius=0.5,
        multi_label=False,
        label_doubt="worst",
        random_state=3,
    ),
    coverage_extra,
)
strategy(
    "CBDMarginSampling",
    clip_al.CBDMarginSampling,
    lambda w, rng: {
        **concept_settings(w, rng),
        **some(
            rng, candidate_factor=3, uncertainty="entropy", multi_label=False, label_doubt="worst"
        ),
    },
    margin_extra,
)
strategy("CBDSampling", clip_al.CBDSampling, concept_settings, cbd_extra)
strategy(
    "AlignmentDiversitySampling",
    clip_al.AlignmentDiversitySampling,
    lambda w, rng: {
        "class_embeddings": w.T.copy(),
        **some(
            rng,
            class_names=list(NAMES),
            alignment="cosine",
            scale="global",
            alpha=0.3,
            n_neighbors=2,
            class_balance="none",
            temperature=0.1,
            device="cpu",
        ),
    },
    aligned_extra,
)
for name in ("CBDMarginSampling", "CBDSampling"):
    method(
        f"{name}.explain",
        getattr(clip_al, name),
        concept_settings,
        lambda w, rng: {
            "indices": rows(rng),
            "X": w.Z.copy(),
            **some(rng, profiles=w.profiles, labelled=labelled_of(w, rng)),
        },
    )
    method(
        f"{name}.profile",
        getattr(clip_al, name),
        concept_settings,
        lambda w, rng: {"X": w.Z.copy()},
        calls.profiles,
    )
method(
    "UncertaintyCoverageSampling.explain",
    clip_al.UncertaintyCoverageSampling,
    lambda w, rng: {"vocabulary": w.vocabulary, **some(rng, m=4)},
    lambda w, rng: {
        "indices": rows(rng),
        "X": w.Z.copy(),
        **some(rng, embeddings=w.Z.copy(), profiles=w.profiles, labelled=w.Z[-4:]),
    },
)
function(
    "pick_by_geometric_diversity",
    clip_al.pick_by_geometric_diversity,
    lambda w, rng: {"features": w.Z.copy(), "n_instances": 5, **some(rng, jitter=0.1)},
    calls.picks(N, 5),
)
function(
    "PickExplanation",
    clip_al.PickExplanation,
    lambda w, rng: {"index": 3, "concepts": ("a",), "added": ()},
    weight=1,
)

# Classifier


def classifier_settings(w, rng):
    return {
        "class_names": list(NAMES),
        "class_embeddings": w.T.copy(),
        **some(
            rng,
            text_prior="always",
            center=np.zeros(D),
            logit_scale=50.0,
            logit_bias=-3.0,
            random_state=3,
            multi_label=False,
            templates=["a {}"],
            classes=[3, 2, 1, 0],
        ),
    }


function(
    "ClipClassifier",
    lambda **s: len(repr(clip_al.ClipClassifier(**s))),
    classifier_settings,
    weight=2,
)


@target("ClipClassifier.fit", 1)
def _(w, rng):
    settings = classifier_settings(w, rng)
    n = 12
    arguments = {"Z": w.Z[:n].copy(), "y": w.y[:n].copy(), **some(rng, sample_weight=np.ones(n))}
    return Call(
        lambda s, a: clip_al.ClipClassifier(**s).fit(**a).predict_proba(w.Z),
        settings,
        arguments,
        calls.array(low=0, high=1.0001),
    )


for called in ("decision_function", "predict_proba", "predict"):
    method(
        f"ClipClassifier.{called}",
        clip_al.ClipClassifier,
        classifier_settings,
        lambda w, rng: {"Z": w.Z[: size(rng)].copy()},
        calls.array(),
    )


# The accuracy to expect


def expected(w, rng):
    return {
        "head": GaussianNB().fit(w.Z[:24], w.y[:24]),
        "Z": w.Z.copy(),
        "labelled": np.arange(24),
        "y": w.y[:24].copy(),
        **some(
            rng,
            n_more=5,
            picks=np.arange(24, 30),
            unlabelled=np.arange(24, N),
            worth=0.02,
            target_accuracy=0.9,
            class_names=list(NAMES),
            random_state=3,
        ),
    }


def shares(found):
    """Check that all shares are in [0, 1], and their intervals hold them."""
    for share, (low, high) in (
        (found.accuracy, found.interval),
        (found.unlabelled_accuracy, found.unlabelled_interval),
        (found.promise.gain, found.promise.interval),
    ):
        assert 0 <= low <= share <= high <= 1
    assert len(str(found)) > 100


function("expected_accuracy", clip_al.expected_accuracy, expected, shares)
EXPECTED = {
    "n_labelled": 24,
    "n_unlabelled": 16,
    "accuracy": 0.9,
    "interval": (0.8, 0.95),
    "unlabelled_accuracy": 0.85,
    "unlabelled_interval": (0.7, 0.93),
    "held_out": 0.6,
    "classes": (ClassOutlook("ant", 3, 5.0, 0.9),),
    "promise": Promise(5, 0.02, (0.01, 0.03), 0.01),
    "stop": False,
    "reason": "5 more labels promise 2.0 points.",
}
function("ExpectedAccuracy", clip_al.ExpectedAccuracy, lambda w, rng: dict(EXPECTED), weight=1)
of(
    "ExpectedAccuracy.lines",
    lambda w: clip_al.ExpectedAccuracy(**EXPECTED),
    lambda w, rng: {},
    weight=1,
)
