"""Counts of concepts and measures of diversity."""

from __future__ import annotations

import numpy as np

import clip_al
from clip_al import diversity
from tests.fuzz import calls
from tests.fuzz.calls import Call, Target
from tests.fuzz.register import TARGETS, add, function, of, rows, size, some, target
from tests.fuzz.world import V

# Diversity


def counts_of(w):
    return clip_al.ConceptCounts.from_profiles(w.profiles, [0, 1, 2])


function(
    "ConceptCounts",
    clip_al.ConceptCounts,
    lambda w, rng: {
        "sum_v": counts_of(w).sum_v,
        "count_v": counts_of(w).count_v,
        "n": 3,
        **some(rng, weighting="softmax"),
    },
    calls.counts,
)
function(
    "ConceptCounts.empty",
    clip_al.ConceptCounts.empty,
    lambda w, rng: {"n_concepts": 5, **some(rng, weighting="softmax")},
    calls.counts,
)
function(
    "ConceptCounts.from_profiles",
    clip_al.ConceptCounts.from_profiles,
    lambda w, rng: {"profiles": w.profiles, **some(rng, indices=rows(rng), weighting="softmax")},
    calls.counts,
)


@target("ConceptCounts.add")
def _(w, rng):
    some_rows = rows(rng)
    weights = w.profiles.weights("softmax")[some_rows]
    arguments = {"ids_nm": w.profiles.ids[some_rows], "weights_nm": weights}

    def run(s, a):
        counts = clip_al.ConceptCounts.empty(V, "softmax")
        counts.add(**a)
        calls.counts(counts)

    return Call(run, {}, arguments)


@target("ConceptCounts.remove")
def _(w, rng):
    def run(s, a):
        counts = counts_of(w)
        counts.remove(**a)
        calls.counts(counts)

    return Call(
        run, {}, {"ids_nm": w.profiles.ids[:2], **some(rng, weights_nm=w.profiles.weights()[:2])}
    )


@target("ConceptCounts.__add__")
def _(w, rng):
    return Call(
        lambda s, a: add(counts_of(w), a["other"]), {}, {"other": counts_of(w)}, calls.counts
    )


for called in ("diversity", "entropy", "richness", "coverage"):
    of(f"ConceptCounts.{called}", counts_of, lambda w, rng: {}, calls.number(0, V), weight=1)
function(
    "concept_diversity",
    clip_al.concept_diversity,
    lambda w, rng: {"profiles": w.profiles, **some(rng, indices=rows(rng), weighting="softmax")},
    calls.number(0, 1),
)
TARGETS["diversity.concept_diversity"] = TARGETS["concept_diversity"]
for called in [name for name in TARGETS if name.startswith("ConceptCounts")]:
    TARGETS[f"diversity.{called}"] = Target(TARGETS[called].make, 1)
function(
    "geometric_diversity",
    clip_al.geometric_diversity,
    lambda w, rng: {"features": w.Z[: size(rng)].copy(), "jitter": 0.1},
    calls.number(),
)
TARGETS["diversity.geometric_diversity"] = TARGETS["geometric_diversity"]
function(
    "diversity.spectral_diversity",
    diversity.spectral_diversity,
    lambda w, rng: {
        "vectors": w.profiles if rng.random() < 0.5 else w.Z.copy(),
        **some(rng, indices=rows(rng), weighting="softmax"),
    },
    calls.number(0),
)


def gram(vectors):
    made = diversity.ConceptGram(np.zeros((V, V)))
    made.add(vectors)
    return made


function(
    "diversity.ConceptGram",
    lambda **a: diversity.ConceptGram(**a).log_det(),
    lambda w, rng: {"gram_vv": np.eye(4), **some(rng, weighting="softmax")},
    calls.number(),
)
function(
    "diversity.ConceptGram.from_profiles",
    diversity.ConceptGram.from_profiles,
    lambda w, rng: {"profiles": w.profiles, **some(rng, indices=rows(rng), weighting="softmax")},
    lambda gram: calls.number(0)(gram.log_det()),
)
function(
    "diversity.ConceptGram.add",
    lambda vectors_nv: gram(vectors_nv).log_det(),
    lambda w, rng: {"vectors_nv": rng.random((3, V))},
    calls.number(0),
)


@target("diversity.ConceptGram.__add__")
def _(w, rng):
    return Call(lambda s, a: add(gram(np.eye(V)), a["other"]), {}, {"other": gram(np.eye(V))})


@target("diversity.ConceptGram.log_det", 1)
def _(w, rng):
    return Call(lambda s, a: gram(np.eye(V)).log_det(), {}, {}, calls.number(0))
