"""Vocabularies, statistics and profiles."""

from __future__ import annotations

import numpy as np

import clip_al
from tests.fuzz import calls
from tests.fuzz.calls import Call
from tests.fuzz.register import add, function, of, rows, size, some, target
from tests.fuzz.world import N, V

# Concepts


def vocabulary_parts(w, rng):
    return {
        "names": ["dog", "cat", "sky"],
        **some(
            rng,
            synonyms=[["hound"], [], []],
            groups=["a", None, "b"],
            templates=["a {}"],
            embeddings=np.eye(3),
            model="toy",
        ),
    }


function("ConceptVocabulary", lambda **a: repr(clip_al.ConceptVocabulary(**a)), vocabulary_parts)
function(
    "ConceptVocabulary.load",
    clip_al.ConceptVocabulary.load,
    lambda w, rng: {"name": "general", **some(rng, templates=["a {}"])},
    weight=2,
)
function(
    "ConceptVocabulary.from_names",
    clip_al.ConceptVocabulary.from_names,
    lambda w, rng: {"names": ["dog", "cat"], **some(rng, templates=["a {}"])},
)
function(
    "ConceptVocabulary.from_file",
    clip_al.ConceptVocabulary.from_file,
    lambda w, rng: {"path": w.folder / "words.txt", **some(rng, templates=["a {}"])},
)
function(
    "ConceptVocabulary.from_visual_genome",
    clip_al.ConceptVocabulary.from_visual_genome,
    lambda w, rng: {"directory": w.folder, **some(rng, min_count=2, templates=["a {}"])},
)
of(
    "ConceptVocabulary.with_embeddings",
    lambda w: w.plain,
    lambda w, rng: {"T": np.eye(2), **some(rng, model="toy")},
)
of("ConceptVocabulary.encode", lambda w: w.plain, lambda w, rng: {"encoder": w.encoder})
of("ConceptVocabulary.index", lambda w: w.vocabulary, lambda w, rng: {"name": "other 3"})


@target("ConceptVocabulary.include")
def _(w, rng):
    return Call(
        lambda s, a: w.vocabulary.include(a["one"], a["two"]), {}, {"one": "word 1", "two": "b"}
    )


@target("ConceptVocabulary.exclude")
def _(w, rng):
    return Call(
        lambda s, a: w.vocabulary.exclude(a["one"], a["two"]), {}, {"one": "word 1", "two": "b"}
    )


@target("ConceptVocabulary.__add__")
def _(w, rng):
    return Call(lambda s, a: add(w.plain, a["other"]), {}, {"other": w.plain})


function(
    "ConceptStatistics",
    clip_al.ConceptStatistics,
    lambda w, rng: {
        "mean_v": np.full(V, 0.1),
        "std_v": np.full(V, 0.2),
        "n": 5,
        **some(rng, similarity="standardized"),
    },
    lambda statistics: calls.array()(statistics.scale_and_shift()[0]),
)
function(
    "ConceptStatistics.from_embeddings",
    clip_al.ConceptStatistics.from_embeddings,
    lambda w, rng: {
        "Z": w.Z[: size(rng)].copy(),
        "vocabulary": w.vocabulary,
        **some(rng, similarity="standardized", max_images=5),
    },
    lambda statistics: calls.array()(statistics.std_v),
)
of(
    "ConceptStatistics.scale_and_shift",
    lambda w: w.profiles.statistics,
    lambda w, rng: {},
    weight=1,
)
function(
    "ConceptProfiles",
    clip_al.ConceptProfiles,
    lambda w, rng: {
        "ids": w.profiles.ids.copy(),
        "similarities": w.profiles.similarities.copy(),
        "vocabulary": w.vocabulary,
        "statistics": w.profiles.statistics,
    },
    calls.profiles,
)


def profile_arguments(w, rng):
    return {
        "Z": w.Z[: size(rng)].copy(),
        "vocabulary": w.vocabulary,
        "m": int(rng.integers(1, V + 1)),
        **some(rng, similarity="centred", statistics=w.profiles.statistics, device="cpu"),
    }


function(
    "ConceptProfiles.from_embeddings",
    clip_al.ConceptProfiles.from_embeddings,
    profile_arguments,
    calls.profiles,
    weight=8,
)
function(
    "ConceptProfiles.load",
    clip_al.ConceptProfiles.load,
    lambda w, rng: {"path": w.folder / "profiles.npz", "vocabulary": w.vocabulary},
    calls.profiles,
)
of(
    "ConceptProfiles.save",
    lambda w: w.profiles,
    lambda w, rng: {"path": w.path(".npz"), **some(rng, overwrite=True)},
    repeats=False,
)
of("ConceptProfiles.names", lambda w: w.profiles, lambda w, rng: {"index": int(rng.integers(N))})
of("ConceptProfiles.words", lambda w: w.profiles, lambda w, rng: {"index": int(rng.integers(N))})
of(
    "ConceptProfiles.take",
    lambda w: w.profiles,
    lambda w, rng: {"indices": rows(rng)},
    calls.profiles,
)
of(
    "ConceptProfiles.weights",
    lambda w: w.profiles,
    lambda w, rng: some(rng, weighting="softmax"),
    calls.array(low=0, high=1.001),
)
of(
    "ConceptProfiles.profile",
    lambda w: w.profiles,
    lambda w, rng: {"Z": w.Z[:3].copy()},
    calls.profiles,
)
