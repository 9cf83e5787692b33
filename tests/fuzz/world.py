"""What the fuzzed calls are made with: one of each object, small."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scipy import sparse

import clip_al
from clip_al.score.neighbors import neighbour_graph
from tests.reference import random_probabilities, random_unit

N, D, K, V = 40, 8, 4, 12
NAMES = ["ant", "bee", "cat", "dog"]


class ToyEncoder:
    """Encodes texts by their letters, at once."""

    model_id = "toy"

    def encode_texts(self, texts, *, templates=None):
        rows = [np.bincount([ord(c) % D for c in text or "?"], minlength=D) for text in texts]
        return np.array(rows, dtype=np.float32) + 0.1


class World:
    """Objects of every kind, made once; calls get copies of what they may change."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz"))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        self.n_files = 0
        self.T = random_unit(rng, K, D).astype(np.float32)
        self.y = np.arange(N) % K
        Z = self.T[self.y] + 0.4 * random_unit(rng, N, D)
        self.Z = (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)
        self.P = random_probabilities(rng, N, K)
        self.encoder = ToyEncoder()
        words = [f"word {i}" for i in range(V)]
        self.vocabulary = clip_al.ConceptVocabulary(
            words,
            synonyms=[(f"other {i}",) for i in range(V)],
            groups=["a", "b", None] * 4,
            embeddings=random_unit(rng, V, D),
            model="toy",
        )
        self.plain = clip_al.ConceptVocabulary.from_names(["one", "two"])
        self.profiles = clip_al.ConceptProfiles.from_embeddings(self.Z, self.vocabulary, 3)
        self.selection = self.select()
        self.graph = sparse.csr_array(neighbour_graph(self.Z, self.y, K, 3))
        self.adapter = clip_al.DatasetAdapter(epochs=1, device="cpu").fit(self.Z, self.y, self.T)
        self.table = clip_al.EmbeddingTable.from_array(
            self.folder / "a.table", self.Z, [f"i{i}" for i in range(N)], model_id="toy"
        )
        self.device = clip_al.DeviceEmbeddings(self.Z, "cpu")
        self.classifier = clip_al.ClipClassifier(NAMES, class_embeddings=self.T).fit(self.Z, self.y)
        self.selector = clip_al.ClipSelector(0.5, class_embeddings=self.T).fit(self.Z, self.y)
        self.mini = clip_al.ClipEncoder("mini", device="cpu", progress=False, n_workers=0)
        self.mini.encode_texts(["warm"])
        self.images = [rng.integers(0, 255, (9, 7, 3), dtype=np.uint8) for _ in range(3)]
        self.picks = clip_al.CBDSampling().explain(self.selection.indices, profiles=self.profiles)
        self.others = [
            self.profiles.take([0, 1]),
            self.vocabulary,
            self.plain,
            self.selection,
            self.T,
            clip_al.ConceptCounts.empty(3),
            clip_al.ConceptCounts.empty(V, "softmax"),
            self.table,
            self.device,
            self.adapter,
            clip_al.DatasetAdapter(),
            self.classifier,
            self.mini,
            self.graph.tocoo(),
            sparse.eye_array(3, format="csr"),
            self.selector,
            self.Z,
            clip_al.Selection.from_indices([0], 3),
            self.picks,
            self.folder,
        ]
        self.save()

    def select(self):
        """Return a selection that knows everything."""
        rng = np.random.default_rng(2)
        return clip_al.Selection.from_indices(
            np.arange(0, N, 2),
            N,
            y=self.y,
            class_names=NAMES,
            groups=np.arange(N) % 3,
            ids=[f"i{i}" for i in range(N)],
            settings={"model": "toy"},
            scores={
                "sas": rng.random(N),
                "sds": rng.random(N),
                "total": rng.random(N),
                "label_score": -rng.random(N),
                "likeliest": np.arange(N) % K,
            },
        )

    def save(self):
        """Write one file of each kind."""
        self.profiles.save(self.folder / "profiles.npz")
        self.selection.save(self.folder / "subset.json")
        self.adapter.save(self.folder / "adapter.safetensors")
        (self.folder / "words.txt").write_text("[animals]\ndog, hound\ncat\n# c\nsky\n")
        (self.folder / "objects_vocab.txt").write_text("tree\nman, person\n")
        (self.folder / "empty.bin").write_bytes(b"")
        (self.folder / "none.json").write_text('{"format": 3}')

    def path(self, suffix):
        """Return the path of a file that is not there."""
        self.n_files += 1
        return self.folder / f"{self.n_files}{suffix}"

    def learner(self, n):
        """Return what modAL hands to a strategy: it knows probabilities and a training set."""
        return SimpleNamespace(
            predict_proba=lambda X: self.P[:n],
            predict=lambda X: self.y[:n],
            X_training=self.Z[-3:],
        )
