"""Slow loops written straight from the equations, and small inputs to compare them on.

Nothing here calls the code under test, except the constructors of its containers.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary

SMALLEST_STD = 1e-6


# Small inputs


def random_unit(rng, n, d, dtype=np.float32):
    """Unit rows in random directions."""
    rows = rng.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def quarter_unit(rng, n, d):
    """Unit rows with four entries ±0.5: all products are exact multiples of 0.25, most tied."""
    rows = np.zeros((n, d), np.float32)
    for row in rows:
        row[rng.permutation(d)[:4]] = rng.choice([-0.5, 0.5], 4)
    return rows


def make_vocabulary(T, model=None):
    names = [f"concept {j}" for j in range(len(T))]
    return ConceptVocabulary.from_names(names).with_embeddings(T, model)


def random_profiles(rng, n, v, m):
    """Profiles as they come out of `from_embeddings`: distinct ids, falling similarities."""
    ids = np.array([rng.permutation(v)[:m] for _ in range(n)], dtype=np.int32).reshape(n, m)
    similarities = -np.sort(-rng.standard_normal((n, m)), axis=1).astype(np.float32)
    vocabulary = ConceptVocabulary.from_names([f"concept {j}" for j in range(v)])
    return ConceptProfiles(ids, similarities, vocabulary, None)


def random_probabilities(rng, n, k, dtype=np.float64):
    return rng.dirichlet(np.ones(k), n).astype(dtype)


def contents(*arrays):
    """Bytes of arrays, to show that a call left them alone."""
    return [np.asarray(array).tobytes() for array in arrays]


# Concepts


def cosines(Z, T):
    """Cosine of each image and concept, (n, v), in double precision."""
    sim = np.empty((len(Z), len(T)))
    for i, z in enumerate(np.asarray(Z, dtype=np.float64)):
        for j, t in enumerate(np.asarray(T, dtype=np.float64)):
            sim[i, j] = z @ t / math.sqrt((z @ z) * (t @ t))
    return sim


def standardised(sim_nv):
    """Each column minus its mean, over its standard deviation (1 where there is none)."""
    out = np.empty_like(sim_nv)
    for j, column in enumerate(sim_nv.T):
        mean = sum(column) / len(column)
        std = math.sqrt(sum((x - mean) ** 2 for x in column) / len(column))
        out[:, j] = (column - mean) / (std if std >= SMALLEST_STD else 1.0)
    return out


def centred(Z, T):
    """(z − ½ mean image) · (t − mean text) / its length, over the spread of all of them."""
    Z = [np.asarray(z, dtype=np.float64) / math.sqrt(float(np.dot(z, z))) for z in Z]
    T = [np.asarray(t, dtype=np.float64) for t in T]
    mean_image, mean_text = sum(Z) / len(Z), sum(T) / len(T)
    out = np.zeros((len(Z), len(T)))
    for j, t in enumerate(T):
        away = t - mean_text
        length = math.sqrt(float(away @ away))
        for i, z in enumerate(Z):
            out[i, j] = (z - 0.5 * mean_image) @ away / length if length >= SMALLEST_STD else 0.0
    spread = math.sqrt(((out - out.mean()) ** 2).mean())
    return out / (spread if spread >= SMALLEST_STD else 1.0)


def top_m(sim_nv, m):
    """The m largest of each row by a full sort, largest first, ties by lowest index."""
    order = [sorted(range(len(row)), key=lambda j: (-row[j], j))[:m] for row in sim_nv]
    return np.array(order)


def concept_vectors(profiles, weighting):
    """Dense unit concept vectors, (n, v)."""
    n, m = profiles.ids.shape
    vectors = np.zeros((n, profiles.n_concepts))
    for i in range(n):
        for p in range(m):
            x = float(profiles.similarities[i, p] - profiles.similarities[i, 0])
            vectors[i, profiles.ids[i, p]] = 1.0 if weighting == "binary" else math.exp(x)
        vectors[i] /= math.sqrt(sum(x * x for x in vectors[i]))
    return vectors


# Diversity


def pairwise_cbd(vectors):
    """Mean cosine distance over all pairs; 0 for a single vector."""
    distances = [
        1.0 - (a @ b) / math.sqrt((a @ a) * (b @ b)) for a, b in combinations(list(vectors), 2)
    ]
    return sum(distances) / len(distances) if distances else 0.0


def log_det(matrix):
    sign, value = np.linalg.slogdet(matrix)
    return value if sign > 0 else -math.inf


def gd(features, jitter=0.0):
    features = np.asarray(features, dtype=np.float64)
    return log_det(features @ features.T + jitter * np.eye(len(features)))


def spectral(vectors):
    vectors = np.asarray(vectors, dtype=np.float64)
    return log_det(np.eye(vectors.shape[1]) + vectors.T @ vectors)


def concept_entropy(vectors):
    """Shannon entropy of how often each concept is held, in nats."""
    counts = [sum(1 for vector in vectors if vector[j] > 0) for j in range(vectors.shape[1])]
    total = sum(counts)
    return -sum(c / total * math.log(c / total) for c in counts if c)


# Uncertainty


def margin(probabilities):
    return np.array([(lambda s: s[-1] - s[-2])(sorted(map(float, row))) for row in probabilities])


def entropy(probabilities):
    rows = [[float(p) for p in row if p > 0] for row in probabilities]
    return np.array([-sum(p * math.log(p) for p in row) for row in rows])


def least_confidence(probabilities):
    return np.array([1.0 - max(map(float, row)) for row in probabilities])


def ensemble_variance(probabilities):
    models, n, k = np.shape(probabilities)
    out = np.zeros(n)
    for i in range(n):
        for c in range(k):
            values = [float(probabilities[a][i][c]) for a in range(models)]
            mean = sum(values) / models
            out[i] += sum((x - mean) ** 2 for x in values) / models
    return out


# Greedy picking: what a step maximises, for each candidate, given what is chosen


def cbd_scores(vectors, chosen):
    """CBD of the chosen set with each candidate, times the number of pairs."""
    n = len(chosen) + 1
    return [n * (n - 1) / 2 * pairwise_cbd([*chosen, v]) for v in vectors]


def target_scores(vectors, chosen, target):
    """Minus the squared distance of the mean vector to the target, times (n + 1)²."""
    n = len(chosen) + 1
    means = [sum([*chosen, v]) / n for v in vectors]
    return [-(n**2) * sum((x - t) ** 2 for x, t in zip(m, target, strict=True)) for m in means]


def gd_scores(features, chosen, jitter):
    """Log det of the Gram matrix of the chosen set with each candidate."""
    return [gd([*chosen, f], jitter) for f in np.asarray(features, dtype=np.float64)]


def greedy(scores_of, vectors, n_instances, chosen=()):
    """Take the candidate of the highest score at each step, ties by lowest position."""
    picks = []
    for _ in range(n_instances):
        scores = scores_of(vectors, [*chosen, *(vectors[i] for i in picks)])
        picks.append(max(set(range(len(vectors))) - set(picks), key=lambda i: (scores[i], -i)))
    return picks


def shortfall(scores_of, vectors, picks, chosen=()):
    """How far below the best candidate left the worst of the picks was, when it was picked."""
    worst = 0.0
    for step, pick in enumerate(picks):
        scores = scores_of(vectors, [*chosen, *(vectors[i] for i in picks[:step])])
        best = max(scores[i] for i in range(len(vectors)) if i not in picks[:step])
        worst = max(worst, best - scores[pick])
    return worst


def top(scores, k):
    """Positions of the k highest by a full sort, ties by lowest index, ascending."""
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])
