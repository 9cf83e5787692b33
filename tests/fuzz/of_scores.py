"""Scores, neighbours, uncertainty and label noise; adapters."""

from __future__ import annotations

import functools

import numpy as np
import torch

import clip_al
from clip_al import neighbors, scores, uncertainty
from clip_al.score.agreement_evidence import Hits
from tests.fuzz import calls
from tests.fuzz.calls import Call
from tests.fuzz.register import SMALL, function, method, of, size, some, target
from tests.fuzz.world import NAMES, D, K, N

# Scores

LABELLED = {
    "Z": lambda w, rng, n: w.Z[:n].copy(),
    "y": lambda w, rng, n: w.y[:n].copy(),
    "T": lambda w, rng, n: w.T.copy(),
}


def labelled(w, rng, *names, **optional):
    n = size(rng)
    return {**{name: LABELLED[name](w, rng, n) for name in names}, **some(rng, **optional)}


function(
    "scores.semantic_alignment_scores",
    scores.semantic_alignment_scores,
    lambda w, rng: labelled(
        w, rng, *"ZyT", alignment="contrastive", temperature=0.1, adapter=w.adapter, device="cpu"
    ),
    calls.array(high=1.0),
)
function(
    "scores.label_log_probabilities",
    scores.label_log_probabilities,
    lambda w, rng: labelled(w, rng, *"ZyT", temperature=0.1, adapter=w.adapter, device="cpu"),
    lambda result: calls.array(high=1e-3)(result[0]),
)
function(
    "scores.sample_diversity_scores",
    scores.sample_diversity_scores,
    lambda w, rng: labelled(
        w,
        rng,
        *"Zy",
        n_neighbors=0.3,
        adapter=w.adapter,
        backend="numpy",
        device="cpu",
        exact_up_to=4,
        random_state=3,
    ),
    calls.array(low=0.0, high=2.001),
)
function(
    "scores.class_prototypes",
    scores.class_prototypes,
    lambda w, rng: {**labelled(w, rng, *"Zy", adapter=w.adapter), "n_classes": K},
    calls.array(),
)
function(
    "scores.standardize_scores",
    scores.standardize_scores,
    lambda w, rng: {"score_n": rng.random(N), "y": w.y.copy(), **some(rng, scale="global")},
    calls.array(),
)
function(
    "scores.neighbors_for_sds",
    scores.neighbors_for_sds,
    lambda w, rng: {"n_neighbors": 0.3, "alpha": 0.5},
)
function(
    "scores.check_exact_up_to",
    scores.check_exact_up_to,
    lambda w, rng: {"exact_up_to": 4, "n_neighbors": 0.3, **some(rng, compared=9)},
)
function(
    "neighbors.neighbour_count",
    neighbors.neighbour_count,
    lambda w, rng: {"n_neighbors": 3, "n_members": 9, **some(rng, group="class a")},
    calls.number(0),
)
function(
    "neighbors.mean_neighbour_distances",
    neighbors.mean_neighbour_distances,
    lambda w, rng: {"Z": w.Z.copy(), **some(rng, n_neighbors=3, backend="torch", device="cpu")},
    calls.array(low=0.0, high=2.001),
)
function(
    "neighbors.neighbour_graph",
    lambda **a: neighbors.neighbour_graph(**a).toarray(),
    lambda w, rng: {
        **labelled(w, rng, *"Zy", n_neighbors=3, adapter=w.adapter, backend="torch"),
        "n_classes": K,
    },
    calls.array(low=-1.001, high=1.001),
)
function(
    "estimate_label_noise",
    clip_al.estimate_label_noise,
    lambda w, rng: labelled(w, rng, *"ZyT", adapter=w.adapter, random_state=3),
    lambda noise: calls.number(0, 1)(noise.wrong_fraction),
)
NOISE = {"temperature": 0.1, "uniform_share": 0.2, "n_classes": K}
function(
    "LabelNoise",
    clip_al.LabelNoise,
    lambda w, rng: dict(NOISE),
    lambda noise: calls.number(0, 1)(noise.wrong_fraction),
)
for called in ("label_probability", "label_log_likelihood"):
    method(
        f"LabelNoise.{called}",
        clip_al.LabelNoise,
        lambda w, rng: dict(NOISE),
        lambda w, rng: {"log_prob_n": -rng.random(5)},
        calls.array(finite=False),
    )
CONFUSION = {**NOISE, "share": 0.1, "interval": (0.05, 0.2), "looks": 0.5}
function(
    "LabelConfusion",
    clip_al.LabelConfusion,
    lambda w, rng: dict(CONFUSION),
    lambda noise: calls.number(0, 1)(noise.wrong_fraction),
)


@functools.cache
def confusion(w):
    return clip_al.estimate_label_noise(w.Z, w.y, w.T)


of(
    "LabelConfusion.confused_pairs",
    confusion,
    lambda w, rng: some(rng, n=3, class_names=list(NAMES)[:K]),
)
of(
    "LabelConfusion.score",
    confusion,
    lambda w, rng: {
        "Z": w.Z.copy(), "y": w.y.copy(), **some(rng, seen=np.ones(len(w.Z), dtype=bool)),
    },
    lambda found: calls.array(low=0.0, high=1.0)(found[0]),
)  # fmt: skip
for called in ("label_probability", "label_log_likelihood"):
    of(
        f"LabelConfusion.{called}",
        confusion,
        lambda w, rng: {"log_prob_n": -rng.random(5)},
        calls.array(finite=False),
    )
function(
    "check_agreement",
    clip_al.check_agreement,
    lambda w, rng: labelled(w, rng, *"ZyT", random_state=3),
    lambda found: found.message + "text",
)
HITS = Hits(0.9, 0.1, 0.8, 0.1)
function(
    "Agreement",
    clip_al.Agreement,
    lambda w, rng: {"by_text": HITS, "by_means": HITS, "findings": ()},
    lambda found: found.message + "text",
)
for called in ("margin", "entropy", "least_confidence"):
    function(
        f"uncertainty.{called}",
        getattr(uncertainty, called),
        lambda w, rng: {"probabilities": w.P.copy()},
        calls.array(low=-1e-6, high=1.4),
    )
function(
    "uncertainty.ensemble_variance",
    uncertainty.ensemble_variance,
    lambda w, rng: {"probabilities": np.stack([w.P, w.P[::-1]])},
    calls.array(low=0.0, high=1.0),
)

# Several labels an image


def indicator(w, n=N):
    return (np.arange(n)[:, None] % (np.arange(K) + 2) == 0).astype(int)


function(
    "uncertainty.label_uncertainty",
    uncertainty.label_uncertainty,
    lambda w, rng: {
        "probabilities": w.P.copy(),
        **some(rng, measure="entropy", label_doubt="worst"),
    },
    calls.array(low=-1e-6, high=1.0),
)
function(
    "multi_label_suspects",
    clip_al.multi_label_suspects,
    lambda w, rng: {
        "Z": w.Z.copy(),
        "Y": indicator(w),
        **some(
            rng,
            class_names=list(NAMES),
            class_embeddings=w.T.copy(),
            probabilities=w.P.copy(),
            ids=[f"i{i}" for i in range(N)],
        ),
    },
    lambda found: calls.array((N, K), 0, 1)(found.probabilities),
    weight=2,
)


def found_suspects(w):
    return clip_al.multi_label_suspects(w.Z, indicator(w), class_names=NAMES)


function(
    "MultiLabelSuspects",
    clip_al.MultiLabelSuspects,
    lambda w, rng: {"probabilities": w.P.copy(), "given": w.P > 0.5},
    weight=1,
)
of("MultiLabelSuspects.top", found_suspects, lambda w, rng: some(rng, n=5), weight=1)
of("MultiLabelSuspects.to_frame", found_suspects, lambda w, rng: some(rng, n=5), weight=1)
function(
    "LabelSuspect",
    clip_al.LabelSuspect,
    lambda w, rng: {"index": 0, "id": "a", "label": "b", "is_given": True, "probability": 0.5},
    weight=1,
)

# Adapters


def adapter_settings(w, rng):
    return {
        "epochs": 1,
        "device": "cpu",
        **some(
            rng,
            loss="gce",
            hidden=3,
            residual=False,
            learning_rate=0.1,
            step_size=2,
            gamma=0.5,
            batch_size=16,
            temperature=0.1,
            gce_q=0.5,
            validation_fraction=0.2,
            weight_decay=0.1,
            random_state=3,
            progress=False,
        ),
    }


def fit_arguments(w, rng):
    names = list(NAMES) if rng.random() < 0.3 else None
    return {"Z": w.Z.copy(), "y": w.y.copy(), "T": w.T.copy(), "class_names": names}


function(
    "DatasetAdapter", lambda **s: len(repr(clip_al.DatasetAdapter(**s))), adapter_settings, weight=1
)


@target("DatasetAdapter.fit", 2)
def _(w, rng):
    return Call(
        lambda s, a: clip_al.DatasetAdapter(**s).fit(**a).transform_images(w.Z),
        adapter_settings(w, rng),
        fit_arguments(w, rng),
        calls.array(),
        SMALL,
    )


for called, argument in (("transform_images", "Z"), ("transform_texts", "T")):
    of(
        f"DatasetAdapter.{called}",
        lambda w: w.adapter,
        lambda w, rng, argument=argument: {argument: w.Z[: size(rng)].copy()},
        calls.array(),
    )


@target("DatasetAdapter.adapt", 2)
def _(w, rng):
    return Call(
        lambda s, a: w.adapter.adapt(a["unit_bd"]), {}, {"unit_bd": torch.from_numpy(w.Z.copy())}
    )


function(
    "DatasetAdapter.load",
    lambda **a: clip_al.DatasetAdapter.load(**a).temperature_,
    lambda w, rng: {"path": w.folder / "adapter.safetensors", **some(rng, width=D)},
)
of(
    "DatasetAdapter.save",
    lambda w: w.adapter,
    lambda w, rng: {"path": w.path(".safetensors"), **some(rng, overwrite=True)},
    repeats=False,
)
function(
    "CrossFitAdapter",
    lambda **s: len(repr(clip_al.CrossFitAdapter(**s))),
    lambda w, rng: some(rng, adapter=clip_al.DatasetAdapter(), n_splits=2, random_state=3),
    weight=1,
)


@target("CrossFitAdapter.fit", 1)
def _(w, rng):
    settings = {
        "adapter": clip_al.DatasetAdapter(epochs=1, device="cpu"),
        **some(rng, n_splits=2, random_state=3),
    }
    arguments = {**fit_arguments(w, rng), **some(rng, fold=np.arange(N) // 2 % 2)}
    return Call(
        lambda s, a: clip_al.CrossFitAdapter(**s).fit(**a).fold_,
        settings,
        arguments,
        calls.array(low=0),
        SMALL,
    )
