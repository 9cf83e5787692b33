"""Images and texts, tables, embeddings on a device."""

from __future__ import annotations

import numpy as np

import clip_al
from tests.fuzz import calls
from tests.fuzz.calls import Call
from tests.fuzz.register import function, of, rows, some, target

# Images and texts

ENCODER = {"model": "mini", "device": "cpu", "progress": False, "n_workers": 0, "batch_size": 8}


def encoder(w, settings):
    """Return an encoder that shares the loaded model where that is the same."""
    if isinstance(settings["n_workers"], int) and 0 < settings["n_workers"] <= 256:
        settings = {**settings, "n_workers": 0}  # right, but each forks this process
    made = clip_al.ClipEncoder(**settings)
    if all(
        repr(settings.get(name)) == repr(ENCODER.get(name))
        for name in ("model", "device", "precision")
    ):
        made._loaded = w.mini._loaded
    return made


@target("ClipEncoder", 2)
def _(w, rng):
    return Call(lambda s, a: repr(clip_al.ClipEncoder(**s)), dict(ENCODER))


@target("ClipEncoder.key", 1)
def _(w, rng):
    return Call(lambda s, a: encoder(w, s).key(), dict(ENCODER))


@target("ClipEncoder.encode_images", 1)
def _(w, rng):
    arguments = {"images": list(w.images), **some(rng, errors="raise")}
    return Call(
        lambda s, a: encoder(w, s).encode_images(**a), dict(ENCODER), arguments, calls.array()
    )


@target("ClipEncoder.iter_embeddings", 1)
def _(w, rng):
    arguments = {"images": np.stack(w.images), **some(rng, start=1, batch_size=2)}
    return Call(
        lambda s, a: [batch.embeddings for batch in encoder(w, s).iter_embeddings(**a)],
        dict(ENCODER),
        arguments,
    )


@target("ClipEncoder.encode_texts", 1)
def _(w, rng):
    arguments = {"texts": ["a dog", "a cat"], **some(rng, templates=["a {}", "the {}"])}
    return Call(
        lambda s, a: encoder(w, s).encode_texts(**a), dict(ENCODER), arguments, calls.array()
    )


def table_arguments(w, rng):
    return {
        "directory": w.path(".table"),
        "images": list(w.images),
        **some(
            rng,
            dtype="float16",
            errors="raise",
            overwrite=False,
            hash_content=True,
            ids=["a", "b", "c"],
        ),
    }


@target("EmbeddingTable.create", 1)
def _(w, rng):
    return Call(
        lambda s, a: clip_al.EmbeddingTable.create(encoder=encoder(w, s), **a)[:],
        dict(ENCODER),
        table_arguments(w, rng),
        repeats=False,
    )


@target("encode_shard", 1)
def _(w, rng):
    arguments = {**table_arguments(w, rng), "rank": 0, "world_size": 1}
    return Call(
        lambda s, a: clip_al.encode_shard(encoder=encoder(w, s), **a),
        dict(ENCODER),
        arguments,
        repeats=False,
    )


function(
    "EmbeddingTable.from_array",
    lambda **a: clip_al.EmbeddingTable.from_array(**a)[:],
    lambda w, rng: {
        "directory": w.path(".table"),
        "Z": w.Z[:3].copy(),
        "model_id": "toy",
        **some(
            rng,
            ids=["a", "b", "c"],
            paths=["x", "y", "z"],
            preprocessing="p",
            dtype="float16",
            overwrite=True,
        ),
    },
    calls.array(),
    repeats=False,
)
function(
    "EmbeddingTable.open",
    lambda **a: clip_al.EmbeddingTable.open(**a)[:],
    lambda w, rng: {"directory": w.folder / "a.table", **some(rng, root=w.folder)},
)
of("EmbeddingTable.index_of", lambda w: w.table, lambda w, rng: {"ids": ["i3", "i0"]})
of(
    "EmbeddingTable.first_rows",
    lambda w: w.table,
    lambda w, rng: {"n": 3},
    lambda part: calls.array()(part[:]),
)
of("EmbeddingTable.check_model", lambda w: w.table, lambda w, rng: {"model": "toy"})

function(
    "DeviceEmbeddings",
    lambda **a: clip_al.DeviceEmbeddings(**a)[:],
    lambda w, rng: {"Z": w.Z.copy(), "device": "cpu", **some(rng, dtype="bfloat16")},
    calls.array(),
)
of("DeviceEmbeddings.check_model", lambda w: w.device, lambda w, rng: {"source": "toy"})
of("DeviceEmbeddings.unit", lambda w: w.device, lambda w, rng: {"rows": rows(rng)})
of("DeviceEmbeddings.subset", lambda w: w.device, lambda w, rng: {"rows": rows(rng)})
