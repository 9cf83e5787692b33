"""What to train on: the selector and the optimizer; samplers."""

from __future__ import annotations

import numpy as np

import clip_al
from clip_al.samplers.distributed import check_shards
from tests.fuzz import calls
from tests.fuzz.calls import Call
from tests.fuzz.register import SMALL, function, method, of, rows, some, target
from tests.fuzz.world import NAMES, K, N

# What to train on


def selector_settings(w, rng):
    return {
        "ratio": 0.5,
        "class_embeddings": w.T.copy(),
        "adapter": False,
        **some(
            rng,
            class_names=list(NAMES),
            alignment="cosine",
            scale="global",
            noise_aware=False,
            alpha=0.3,
            text_weight=0.5,
            n_neighbors=2,
            exact_up_to=100,
            class_balance="equal",
            group_balance="none",
            redundancy=0.1,
            random_state=3,
            progress=False,
        ),
    }


def selector_arguments(w, rng):
    return {
        "Z": w.Z.copy(),
        "y": w.y.copy(),
        **some(rng, groups=np.arange(N) % 3, ids=[f"i{i}" for i in range(N)]),
    }


function(
    "ClipSelector", lambda **s: len(repr(clip_al.ClipSelector(**s))), selector_settings, weight=1
)


@target("ClipSelector.fit", 2)
def _(w, rng):
    return Call(
        lambda s, a: clip_al.ClipSelector(**s).fit(**a).selection_,
        selector_settings(w, rng),
        selector_arguments(w, rng),
        calls.selection,
        SMALL,
    )


method(
    "ClipSelector.fit_select",
    clip_al.ClipSelector,
    selector_settings,
    selector_arguments,
    calls.selection,
    weight=2,
)
of("ClipSelector.select", lambda w: w.selector, lambda w, rng: {"ratio": 0.3}, calls.selection)
of(
    "ClipSelector.select_nested",
    lambda w: w.selector,
    lambda w, rng: {"ratios": [0.3, 0.1]},
    calls.selection,
)


def optimizer_settings(w, rng):
    return {
        "ratio": 0.5,
        **some(
            rng,
            solver="sgd",
            alpha=0.3,
            beta=3.0,
            theta=0.1,
            learning_rate=0.01,
            momentum=0.5,
            max_iter=20_000,
            redundancy=0.1,
            group_balance="equal",
            class_balance=["equal", [0.25] * 4, {"ant": 0.5, "bee": 0.5}][rng.integers(3)],
        ),
    }


def optimizer_arguments(w, rng):
    return {
        "sas": rng.random(N),
        "sds": rng.random(N),
        "y": w.y.copy(),
        "class_names": list(NAMES),
        "graph": w.graph,
        **some(
            rng,
            n_classes=K,
            groups=np.arange(N) // 2 % 3,
            ids=[f"i{i}" for i in range(N)],
            label_score=-rng.random(N),
            likeliest=w.y.copy(),
            settings={"a": {"b": [1, 2.5]}},
        ),
    }


function(
    "SelectionOptimizer",
    lambda **s: len(repr(clip_al.SelectionOptimizer(**s))),
    optimizer_settings,
    weight=1,
)
method(
    "SelectionOptimizer.select",
    clip_al.SelectionOptimizer,
    optimizer_settings,
    optimizer_arguments,
    calls.selection,
    weight=4,
    may_refuse=True,
)


@target("SelectionOptimizer.select_nested")
def _(w, rng):
    arguments = {**optimizer_arguments(w, rng), "ratios": [0.5, 0.25]}
    return Call(
        lambda s, a: clip_al.SelectionOptimizer(**s).select_nested(**a),
        optimizer_settings(w, rng),
        arguments,
        calls.selection,
        SMALL,
        may_refuse=True,
    )


# Samplers


def sampler_arguments(w, rng):
    indices = [rows(rng), w.selection, rng.random(N) < 0.9][rng.integers(3)]
    given = {"indices": indices, "random_state": 3}
    if rng.random() < 0.3:
        given |= {"replay": np.arange(N, 2 * N), "replay_fraction": 0.3}
    if rng.random() < 0.3:
        size = len(indices) if isinstance(indices, np.ndarray) else N
        given["weights"] = rng.random(size) + 0.01
    return {**given, **some(rng, shuffle=False, n_samples=1, replacement=True)}


def epoch(sampler):
    items = list(sampler)
    assert len(items) == len(sampler)
    assert all(isinstance(item, int) and item >= 0 for item in items)
    return items


PLACE = {"num_replicas": 2, "rank": 1}
for name, place in (("SelectedSubsetSampler", {}), ("DistributedSelectedSubsetSampler", PLACE)):
    cls = getattr(clip_al, name)
    function(
        name,
        lambda cls=cls, **a: epoch(cls(**a)),
        lambda w, rng, place=place: (
            {**sampler_arguments(w, rng), **place, **some(rng, drop_last=False)}
            if place
            else sampler_arguments(w, rng)
        ),
    )

    @target(f"{name}.update")
    def _(w, rng, cls=cls, place=place):
        def run(s, a):
            sampler = cls(np.arange(5), random_state=3, **place)
            sampler.update(**a)
            return epoch(sampler)

        arguments = sampler_arguments(w, rng)
        for unknown in ("random_state", "shuffle", "replacement"):
            arguments.pop(unknown, None)
        return Call(run, {}, arguments, may_refuse=True)

    @target(f"{name}.set_epoch", 2)
    def _(w, rng, cls=cls, place=place):
        def run(s, a):
            sampler = cls(np.arange(5), random_state=3, **place)
            sampler.set_epoch(**a)
            return epoch(sampler)

        return Call(run, {}, {"epoch": 3})

    @target(f"{name}.load_state_dict", 6)
    def _(w, rng, cls=cls, place=place):
        before = iter(cls(np.arange(9), random_state=3, **place))
        next(before)
        state = before.state_dict()

        def run(s, a):
            iterator = iter(cls(np.arange(9), random_state=3, **place))
            iterator.load_state_dict(a["state_dict"])
            items = list(iterator)
            assert set(items) <= set(range(9))
            return items

        return Call(run, {}, {"state_dict": state})


@target("check_shards", 2)
def _(w, rng):
    states = [
        iter(
            clip_al.DistributedSelectedSubsetSampler([3, 4, 5], num_replicas=2, rank=i)
        ).state_dict()
        for i in (0, 1)
    ]
    return Call(lambda s, a: check_shards(**a), {}, {"states": states})
