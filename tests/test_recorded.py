"""Picks, selections and files of release 0.1.0: what came out then comes out now.

The values in ``recorded/`` were written by version 0.1.0, before its modules moved into
packages, on pixels of scikit-learn's digits: no model takes part, so they hold on every
machine. Every option whose default may change is given. To record anew, on purpose:
``python -m tests.test_recorded``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import clip_al

RECORDED = Path(__file__).parent / "recorded"
VALUES = RECORDED / "values.json"
N_IMAGES, N_CLASSES, N_CONCEPTS = 400, 10, 90


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def digits():
    """Unit embeddings, labels of which 15 % are wrong, class embeddings, probabilities."""
    data = load_digits()
    Z, truth = unit(data.data[:N_IMAGES] - 4.0), data.target[:N_IMAGES]
    T = unit(np.stack([Z[truth == k].mean(0) for k in range(N_CLASSES)]))
    given = truth.copy()
    given[::7] = (given[::7] + 3) % N_CLASSES
    logits = 8 * Z.astype(np.float64) @ T.T
    P = np.exp(logits - logits.max(1, keepdims=True))
    return Z, given, T, P / P.sum(1, keepdims=True)


def concept_vocabulary():
    directions = unit(np.random.default_rng(5).standard_normal((N_CONCEPTS, 64)))
    names = [f"word {i}" for i in range(N_CONCEPTS)]
    return clip_al.ConceptVocabulary.from_names(names).with_embeddings(directions)


def picks():
    """Name of a query -> positions picked."""
    Z, _, T, P = digits()
    vocabulary = concept_vocabulary()
    pool, seen = Z[40:], Z[:40]
    profiles = clip_al.ConceptProfiles.from_embeddings(Z, vocabulary, 10, similarity="standardized")
    found = {"profiles, first rows": profiles.ids[:8].ravel()}
    for weighting in ("binary", "softmax"):
        counts = clip_al.ConceptCounts.from_profiles(
            profiles.take(np.arange(40)), weighting=weighting
        )
        for target in ("uniform", "pool", "uncertain"):
            strategy = clip_al.CBDMarginSampling(
                vocabulary,
                m=10,
                candidate_factor=4,
                weighting=weighting,
                target=target,
                similarity="standardized",
            )
            found[f"hybrid, {weighting}, {target}"] = strategy.select(
                pool, 30, probabilities=P[40:], labelled=seen
            )
            found[f"hybrid, {weighting}, {target}, of profiles"] = strategy.select(
                None,
                30,
                probabilities=P[40:],
                profiles=profiles.take(np.arange(40, N_IMAGES)),
                labelled=counts,
            )
            if target != "uncertain":
                first = clip_al.CBDSampling(
                    vocabulary, m=10, weighting=weighting, target=target, similarity="standardized"
                )
                found[f"concepts, {weighting}, {target}"] = first.select(Z, 30)
    for uncertainty in ("entropy", "least_confidence"):
        strategy = clip_al.CBDMarginSampling(
            vocabulary,
            candidate_factor=3,
            weighting="binary",
            uncertainty=uncertainty,
            similarity="standardized",
        )
        found[f"hybrid, {uncertainty}"] = strategy.select(pool, 12, probabilities=P[40:])
    for balance in ("equal", "proportional"):
        strategy = clip_al.AlignmentDiversitySampling(T, alpha=0.3, class_balance=balance)
        found[f"alignment, {balance}"] = strategy.select(Z, 30)
    found["greedy GD"] = clip_al.pick_by_geometric_diversity(Z, 20)
    return found


def selections():
    """Name of a selector -> selection."""
    Z, y, T, _ = digits()
    names = [f"digit {i}" for i in range(N_CLASSES)]
    options = {
        "alpha 0": {"alpha": 0.0},
        "alpha is the ratio": {"alpha": 0.3},
        "the paper's without adapter": {"preset": "paper", "adapter": None},
        "proportional": {"alpha": 0.2, "class_balance": "proportional"},
        "redundancy": {"alpha": 0.0, "redundancy": 0.1},
        "cosine": {"alpha": 0.0, "alignment": "cosine"},
        "texts alone": {"alpha": 0.0, "text_weight": 1.0},
    }
    return {
        name: clip_al.ClipSelector(
            ratio=0.3,
            class_names=names,
            class_embeddings=T,
            noise_model="symmetric",
            min_label_probability=0.0,  # the release put no image last
            random_state=0,
            **settings,
        ).fit_select(Z, y)
        for name, settings in options.items()
    }


def sampled():
    """Name of a sampler -> positions of its third epoch."""
    weighted = {"weights": np.arange(1, 31), "random_state": 3}
    samplers = {
        "shuffled": clip_al.SelectedSubsetSampler(np.arange(5, 35), random_state=3),
        "weighted": clip_al.SelectedSubsetSampler(np.arange(5, 35), **weighted),
        "replayed": clip_al.SelectedSubsetSampler(
            np.arange(5, 35), replay=np.arange(40, 60), replay_fraction=0.25, random_state=3
        ),
    }
    for sampler in samplers.values():
        sampler.set_epoch(2)
    return {name: list(sampler) for name, sampler in samplers.items()}


def now():
    """Everything recorded, as JSON holds it."""
    chosen = selections()
    return {
        "picks": {name: np.asarray(rows).tolist() for name, rows in picks().items()},
        "selections": {name: selection.indices.tolist() for name, selection in chosen.items()},
        "suspects": {
            name: [suspect.index for suspect in selection.suspects(15)]
            for name, selection in chosen.items()
        },
        "samplers": {name: [int(i) for i in rows] for name, rows in sampled().items()},
    }


@pytest.fixture(scope="module")
def current():
    return now()


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, group in json.loads(VALUES.read_text()).items() for name in group],
)
def test_what_was_recorded_comes_out(current, kind, name):
    assert current[kind][name] == json.loads(VALUES.read_text())[kind][name]


def test_nothing_was_left_out_of_the_record(current):
    recorded = json.loads(VALUES.read_text())
    assert {kind: sorted(group) for kind, group in current.items()} == {
        kind: sorted(group) for kind, group in recorded.items()
    }


# Files


def test_profiles_saved_by_the_release_are_read():
    vocabulary = concept_vocabulary()
    profiles = clip_al.ConceptProfiles.load(RECORDED / "profiles.npz", vocabulary)
    again = clip_al.ConceptProfiles.from_embeddings(
        digits()[0], vocabulary, 10, similarity="standardized"
    )
    assert np.array_equal(profiles.ids, again.ids)
    np.testing.assert_allclose(profiles.similarities, again.similarities, atol=1e-5)


def test_a_selection_saved_by_the_release_is_read():
    selection = clip_al.Selection.load(RECORDED / "subset.json")
    assert selection.indices.tolist() == selections()["alpha is the ratio"].indices.tolist()
    head = json.loads((RECORDED / "subset.json").read_text())
    assert selection.fingerprint == head["fingerprint"]


def test_an_adapter_saved_by_the_release_is_read():
    adapter = clip_al.DatasetAdapter.load(RECORDED / "adapter.safetensors")
    adapted = adapter.transform_images(digits()[0][:5])
    np.testing.assert_allclose(adapted, np.load(RECORDED / "adapted.npy"), atol=1e-5)


def test_a_table_saved_by_the_release_is_read():
    table = clip_al.EmbeddingTable.open(RECORDED / "digits.table")
    assert list(table.ids) == [f"{i}.png" for i in range(20)]
    assert np.array_equal(table[np.arange(20)], digits()[0][:20])


def record():
    """Write the values and the files anew."""
    Z, y, T, _ = digits()
    VALUES.write_text(json.dumps(now(), separators=(",", ":")) + "\n")
    vocabulary = concept_vocabulary()
    clip_al.ConceptProfiles.from_embeddings(Z, vocabulary, 10, similarity="standardized").save(
        RECORDED / "profiles.npz"
    )
    selections()["alpha is the ratio"].save(RECORDED / "subset.json", overwrite=True)
    adapter = clip_al.DatasetAdapter(epochs=2, device="cpu", random_state=0).fit(Z, y, T)
    adapter.save(RECORDED / "adapter.safetensors")
    np.save(RECORDED / "adapted.npy", adapter.transform_images(Z[:5]))
    clip_al.EmbeddingTable.from_array(
        RECORDED / "digits.table", Z[:20], [f"{i}.png" for i in range(20)], model_id="pixels"
    )


if __name__ == "__main__":
    record()
