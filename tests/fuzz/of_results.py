"""What was chosen: selections, reports, plots; and errors."""

from __future__ import annotations

import contextlib

import numpy as np

import clip_al
from clip_al import errors, plots
from tests.fuzz import calls
from tests.fuzz.register import function, of, rows, some
from tests.fuzz.world import NAMES, N

# What was chosen


def selection_parts(w, rng):
    return {
        "indices": np.sort(rows(rng)),
        "n_images": N,
        **some(
            rng,
            scores={"sas": rng.random(N), "likeliest": w.y.copy()},
            settings={"a": 1},
            class_names=list(NAMES),
            groups=["a", "b"] * (N // 2),
            ids=[f"i{i}" for i in range(N)],
        ),
    }


def shown(selection):
    """Check a selection in every form that it is shown in."""
    calls.selection(selection)
    str(selection.report())
    selection._repr_html_()
    assert len(selection.to_frame()) == selection.n_images
    return selection


function(
    "Selection",
    lambda **a: shown(clip_al.Selection(**a)),
    lambda w, rng: {**selection_parts(w, rng), "labels": w.y.copy()},
)
function(
    "Selection.from_indices",
    lambda **a: shown(clip_al.Selection.from_indices(**a)),
    lambda w, rng: {**selection_parts(w, rng), "y": w.y.copy()},
    weight=6,
)
function(
    "Selection.load",
    clip_al.Selection.load,
    lambda w, rng: {"path": w.folder / "subset.json"},
    calls.selection,
)
of("Selection.suspects", lambda w: w.selection, lambda w, rng: {"n": 3})
of("Selection.report", lambda w: w.selection, lambda w, rng: {}, weight=1)
of("Selection.to_frame", lambda w: w.selection, lambda w, rng: {}, weight=1)
of(
    "Selection.compare",
    lambda w: w.selection,
    lambda w, rng: {"other": clip_al.Selection.from_indices(rows(rng), N)},
    lambda comparison: calls.number(0, 1)(comparison.jaccard),
)
for called in ("to_csv", "to_parquet", "save"):
    of(
        f"Selection.{called}",
        lambda w: w.selection,
        lambda w, rng: {"path": w.path(".json")},
        repeats=False,
    )


def report_arguments(w, rng):
    return {
        "path": w.path(".html"),
        **some(
            rng,
            images=np.stack([w.images[i % 3] for i in range(N)]),
            embeddings=w.Z.copy(),
            profiles=w.profiles,
            labelled=rows(rng),
            picks=w.picks,
            against=w.selection,
            rounds={"CBD": ([20, 40], [0.6, 0.7])},
            suspects=3,
            map_method="pca",
            stack_copies=0.9,
            max_images=5,
            title="a <b>",
            errors="skip",
            overwrite=True,
            random_state=3,
        ),
    }


def marking_arguments(w, rng):
    """Return what a page is labelled on: without a choice, or of picks."""
    labelled = rows(rng)
    return {
        "selection": clip_al.Selection.from_indices(rows(rng), N),
        "path": w.path(".html"),
        "class_names": list(NAMES),
        **some(rng, is_sample=True, embeddings=w.Z.copy(), profiles=w.profiles),
        "labelled": labelled,
        "labelled_names": [NAMES[i % 3] for i in labelled],
    }


of("Selection.report_html", lambda w: w.selection, report_arguments, weight=1, repeats=False)
function(
    "write_report",
    clip_al.write_report,
    lambda w, rng: (
        marking_arguments(w, rng)
        if rng.random() < 0.3
        else {"selection": w.selection, **report_arguments(w, rng)}
    ),
    weight=2,
    repeats=False,
)
RECORDS = {
    "Suspect": {"index": 1, "id": "a", "given": "b", "likeliest": 3, "score": 0.5},
    "SelectionReport": {"n_images": 3, "n_selected": 1, "classes": None, "groups": None},
    "Comparison": {
        "n_overlap": 1,
        "jaccard": 0.5,
        "added": np.arange(2),
        "removed": np.arange(1),
        "moved": None,
    },
}
for name, parts in RECORDS.items():
    function(name, getattr(clip_al, name), lambda w, rng, parts=parts: dict(parts), weight=1)

# Plots


def drawn(called):
    def draw(**a):
        from matplotlib.figure import Figure

        with contextlib.suppress(AttributeError):
            a.setdefault("ax", Figure(figsize=(2, 2)).subplots())
        called(**a)

    return draw


function(
    "plots.concept_coverage",
    drawn(plots.concept_coverage),
    lambda w, rng: {
        "profiles": w.profiles,
        **some(rng, sets={"chosen": rows(rng)}, n_concepts=3, order="frequent"),
    },
    weight=1,
)
function(
    "plots.learning_curves",
    drawn(plots.learning_curves),
    lambda w, rng: {
        "rounds": {"CBD": ([20, 40], [0.6, 0.7])}
        if rng.random() < 0.5
        else [{"labels": 3, "accuracy": 0.5}]
    },
    weight=1,
)
function(
    "plots.score_scatter",
    drawn(plots.score_scatter),
    lambda w, rng: {
        "selection": w.selection,
        **some(rng, x="sas", y="total", n_suspects=3, max_points=5),
    },
    weight=1,
)
function(
    "plots.image_grid",
    drawn(plots.image_grid),
    lambda w, rng: {
        "images": list(w.images),
        **some(rng, indices=[2, 0], titles=["a", "b"], labels=["x", "y", "z"], n_columns=2, size=8),
    },
    weight=1,
    may_refuse=True,
)

# Errors

function(
    "errors.describe_failures",
    errors.describe_failures,
    lambda w, rng: {"failures": [("a.jpg", "truncated")], **some(rng, limit=3)},
    weight=2,
)
function(
    "errors.missing_extra",
    errors.missing_extra,
    lambda w, rng: {"need": "A needs b", "extra": "c", **some(rng, instead=", or d")},
    weight=1,
)
function(
    "errors.not_finite", errors.not_finite, lambda w, rng: {"name": "Z", "rows": [1, 2]}, weight=2
)
function(
    "errors.UnreadableImageError",
    errors.UnreadableImageError,
    lambda w, rng: {"failures": [("a.jpg", "truncated")], "remedy": "Repair it."},
    weight=2,
)
PLAIN = ("ClipAlError", "InvalidInputError", "InvalidTypeError", "ModelMismatchError")
for name in (
    *PLAIN,
    "MissingDependencyError",
    "SimilarNamesWarning",
    "SeveralLabelsWarning",
    "TextPriorWarning",
    "SkippedImagesWarning",
    "CutTextsWarning",
    "KeptTextsWarning",
    "LabelAgreementWarning",
    "LeftOutWarning",
):
    function(
        f"errors.{name}",
        lambda message, name=name: getattr(errors, name)(message),
        lambda w, rng: {"message": "text"},
        weight=1,
    )
function(
    "ClipAlError",
    lambda message: clip_al.ClipAlError(message),
    lambda w, rng: {"message": "text"},
    weight=1,
)
