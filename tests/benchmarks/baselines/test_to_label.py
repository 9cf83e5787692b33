"""Tests of `benchmarks.baselines.to_label`: every method picks what its slow loop picks."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from benchmarks.baselines import facility_location, typiclust
from benchmarks.baselines.badge import pick_by_badge
from benchmarks.baselines.facility_location import coverage, pick_facilities
from benchmarks.baselines.k_center import pick_k_centers
from benchmarks.baselines.random_images import pick_at_random
from benchmarks.baselines.tasks import LabellingTask
from benchmarks.baselines.to_label import TO_LABEL
from benchmarks.baselines.typiclust import pick_from_clusters, pick_typical
from benchmarks.baselines.uncertainty import (
    pick_by_entropy,
    pick_by_gini,
    pick_by_least_confidence,
    pick_by_margin,
    pick_by_variance,
)
from clip_al.errors import InvalidInputError
from tests import reference
from tests.reference import contents, random_probabilities, random_unit

NAMES = (
    "random",
    "margin",
    "entropy",
    "least confidence",
    "DeepGini",
    "ensemble variance",
    "k-center",
    "BADGE",
    "TypiClust",
    "greedy GD",
    "facility location",
)
apricot_facilities = pytest.importorskip(
    "apricot.functions.facilityLocation", reason="apricot-select comes with the extra `bench`"
)
COMPILED = {
    name: cache(getattr(apricot_facilities, name))
    for name in ("calculate_gains", "calculate_gains_sparse", "calculate_gains_sieve")
}
DRAWN = {"random", "BADGE"}
"""Methods whose picks depend on the seed wherever something is labelled."""


@pytest.fixture(autouse=True)
def _compile_once(monkeypatch):
    """Apricot compiles the same functions at each fit, for over a second; here only once."""
    for name, function in COMPILED.items():
        monkeypatch.setattr(apricot_facilities, name, function)


def make_task(n=40, n_labelled=7, seed=0, *, twins=0):
    """Make up a pool; `twins` of its images are there twice, in all arrays."""
    rng = np.random.default_rng(seed)
    rows = np.arange(n)
    rows[n - twins :] = np.arange(twins)

    def prob(*shape):
        return np.stack([random_probabilities(rng, n, 4, np.float32) for _ in range(*shape)])[
            :, rows
        ]

    return LabellingTask(
        emb_nd=random_unit(rng, n, 6)[rows],
        labelled_emb_ld=random_unit(rng, n_labelled, 6),
        features_nf=rng.standard_normal((n, 5)).astype(np.float32)[rows],
        labelled_features_lf=rng.standard_normal((n_labelled, 5)).astype(np.float32),
        prob_nk=prob(1)[0],
        member_prob_enk=prob(3),
        seed=seed,
    )


def arrays(task):
    values = [getattr(task, field.name) for field in fields(task)]
    return [value for value in values if isinstance(value, np.ndarray)]


def by_score(scores, n_wanted):
    """Places of the highest scores, ties by lowest place."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n_wanted]


# What all of them must do


def test_the_names_of_the_table():
    assert tuple(TO_LABEL) == NAMES


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")  # twins
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("n", "n_labelled", "twins", "n_wanted"),
    [(40, 7, 0, 1), (40, 7, 0, 12), (40, 0, 0, 12), (40, 7, 20, 40), (40, 0, 0, 40), (1, 0, 0, 1)],
)
def test_exactly_as_many_distinct_places_and_the_inputs_untouched(
    name, n, n_labelled, twins, n_wanted
):
    task = make_task(n, n_labelled, twins=twins)
    before = contents(*arrays(task))
    picks = TO_LABEL[name](task, n_wanted)
    assert picks.dtype == np.int64
    assert picks.shape == (n_wanted,)
    assert len(set(picks.tolist())) == n_wanted
    assert picks.min() >= 0
    assert picks.max() < n
    assert contents(*arrays(task)) == before


@pytest.mark.parametrize("name", NAMES)
def test_the_same_picks_again_for_the_same_seed(name):
    task = make_task()
    np.testing.assert_array_equal(TO_LABEL[name](task, 12), TO_LABEL[name](task, 12))


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_other_picks_for_another_seed(name):
    task = make_task()
    other = LabellingTask(*[getattr(task, field.name) for field in fields(task)][:-1], seed=1)
    assert TO_LABEL[name](task, 12).tolist() != TO_LABEL[name](other, 12).tolist()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"TypiClust"}))  # clusters change with it
def test_the_picks_of_a_smaller_budget_come_first(name):
    task = make_task()
    np.testing.assert_array_equal(TO_LABEL[name](task, 5), TO_LABEL[name](task, 12)[:5])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_wanted", [0, 41])
def test_a_budget_that_the_pool_cannot_fill_is_refused(name, n_wanted):
    message = f"`n_wanted` must be in [1, 40], the size of the pool; got {n_wanted}."
    with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}"):
        TO_LABEL[name](make_task(), n_wanted)


@pytest.mark.parametrize("name", ["k-center", "facility location"])
def test_what_is_labelled_counts(name):
    """Images near the first picks are labelled: those picks are no longer the first."""
    task = make_task(60, 0)
    first = TO_LABEL[name](task, 3)
    labelled = LabellingTask(
        task.emb_nd,
        np.repeat(task.emb_nd[first], 10, axis=0),
        task.features_nf,
        np.repeat(task.features_nf[first], 10, axis=0),
        task.prob_nk,
        task.member_prob_enk,
        task.seed,
    )
    assert not set(first) & set(TO_LABEL[name](labelled, 3))


# Random


def test_every_image_is_as_likely():
    counts = np.zeros(6)
    for seed in range(600):
        counts[pick_at_random(6, 2, seed)] += 1
    assert counts.sum() == 1200
    assert counts.min() > 150  # 200 expected, standard deviation 12


# By the probabilities


def gini(probabilities):
    return [1.0 - sum(float(p) ** 2 for p in row) for row in probabilities]


@pytest.mark.parametrize(
    ("pick", "score"),
    [
        (pick_by_margin, lambda p: -reference.margin(p)),
        (pick_by_entropy, reference.entropy),
        (pick_by_least_confidence, reference.least_confidence),
        (pick_by_gini, gini),
    ],
)
def test_the_most_uncertain_come_first(pick, score):
    prob_nk = random_probabilities(np.random.default_rng(0), 50, 4)
    assert pick(prob_nk, 20).tolist() == by_score(score(prob_nk), 20)


@pytest.mark.parametrize(
    "pick", [pick_by_margin, pick_by_entropy, pick_by_least_confidence, pick_by_gini]
)
def test_ties_by_lowest_index(pick):
    sure, half, even = [1.0, 0.0], [0.75, 0.25], [0.5, 0.5]
    prob_nk = np.array([sure, even, half, even, sure, half], dtype=np.float32)
    assert pick(prob_nk, 6).tolist() == [1, 3, 2, 5, 0, 4]


def test_the_four_orders_differ():
    prob_nk = random_probabilities(np.random.default_rng(0), 50, 4)
    picks = [pick_by_margin, pick_by_entropy, pick_by_least_confidence, pick_by_gini]
    assert len({tuple(pick(prob_nk, 20)) for pick in picks}) == 4


def test_the_variance_over_members_averaged_over_classes():
    rng = np.random.default_rng(0)
    member_prob_enk = np.stack([random_probabilities(rng, 30, 4) for _ in range(3)])
    scores = reference.ensemble_variance(member_prob_enk) / 4
    assert pick_by_variance(member_prob_enk, 12).tolist() == by_score(scores, 12)


def test_members_that_agree_come_last_by_lowest_index():
    agree, differ = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    member_prob_enk = np.array([agree, differ, agree, differ]).transpose(1, 0, 2)
    assert pick_by_variance(member_prob_enk, 4).tolist() == [1, 3, 0, 2]


# k-center


def slow_k_center(features, centers, n_wanted):
    picks = []
    for _ in range(n_wanted):
        known = [*centers, *(features[i] for i in picks)]
        nearest = [min(math.dist(row, other) for other in known) for row in features]
        others = [i for i in range(len(features)) if i not in picks]
        picks.append(max(others, key=lambda i: (nearest[i], -i)))
    return picks


@pytest.mark.parametrize("n_labelled", [1, 6])
def test_the_farthest_comes_next(n_labelled):
    task = make_task(40, n_labelled)
    picks = TO_LABEL["k-center"](task, 15)
    assert picks.tolist() == slow_k_center(task.features_nf, task.labelled_features_lf, 15)


def test_the_farthest_of_whole_numbers_ties_by_lowest_index():
    rng = np.random.default_rng(3)
    features = rng.integers(0, 4, (30, 2)).astype(np.float32)
    centers = np.array([[0.0, 0.0]], dtype=np.float32)
    picks = pick_k_centers(features, 30, centers_lf=centers, seed=0)
    assert picks.tolist() == slow_k_center(features, centers, 30)


def test_the_first_center_is_drawn_where_nothing_is_labelled():
    task = make_task(40, 0)
    none = task.labelled_features_lf
    runs = [pick_k_centers(task.features_nf, 10, centers_lf=none, seed=s) for s in range(5)]
    assert len({run[0] for run in runs}) > 1
    for run in runs:
        first = int(run[0])
        slow = slow_k_center(task.features_nf, task.features_nf[[first]], 9)
        assert run[1:].tolist() == slow


def test_distances_in_blocks_are_the_same(monkeypatch):
    task = make_task(40, 6)
    whole = TO_LABEL["k-center"](task, 15)
    monkeypatch.setattr("benchmarks.baselines.k_center.block_rows", lambda columns: 7)
    np.testing.assert_array_equal(TO_LABEL["k-center"](task, 15), whole)


def test_the_centers_of_scikit_activeml():
    """It draws among ties, of which random features have none."""
    core_set = pytest.importorskip(
        "skactiveml.pool._core_set", reason="scikit-activeml comes with the extra `bench`"
    )
    task = make_task(60, 5)
    y = np.concatenate([np.full(60, np.nan), np.zeros(5)])
    X = np.concatenate([task.features_nf, task.labelled_features_lf])
    theirs, _ = core_set.k_greedy_center(X, y, batch_size=20, random_state=0)
    assert TO_LABEL["k-center"](task, 20).tolist() == theirs.tolist()


# BADGE


def slow_badge(prob, features, n_wanted, seed):
    """k-means++ on gradient embeddings that are all written out."""
    rng = np.random.default_rng(seed)
    gradients = []
    for p, h in zip(prob.astype(np.float64), features.astype(np.float64), strict=True):
        error = [p[c] - (c == int(np.argmax(p))) for c in range(len(p))]
        gradients.append([e * x for e in error for x in h])
    lengths = [math.hypot(*g) for g in gradients]
    picks = [lengths.index(max(lengths))]
    while len(picks) < n_wanted:
        weights = np.array([min(math.dist(g, gradients[i]) ** 2 for i in picks) for g in gradients])
        if weights.sum() == 0:
            weights = np.array([float(i not in picks) for i in range(len(gradients))])
        picks.append(int(rng.choice(len(weights), p=weights / weights.sum())))
    return picks


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_plus_plus_on_gradients(seed):
    task = make_task(40, 0, seed)
    picks = pick_by_badge(task.prob_nk, task.features_nf, 15, seed)
    assert picks.tolist() == slow_badge(task.prob_nk, task.features_nf, 15, seed)


def test_gradients_that_are_all_the_same():
    prob_nk = np.tile(np.float32([0.5, 0.25, 0.25]), (6, 1))
    features_nf = np.ones((6, 2), dtype=np.float32)
    picks = pick_by_badge(prob_nk, features_nf, 6, 0)
    assert picks.tolist() == slow_badge(prob_nk, features_nf, 6, 0)
    assert sorted(picks) == list(range(6))


def test_a_sure_image_is_not_drawn_beside_an_unsure_one():
    """The gradient of a sure image is 0, and so is the chance beside another sure one."""
    prob_nk = np.float32([[1, 0], [0.5, 0.5], [1, 0], [1, 0], [0.75, 0.25]])
    features_nf = np.ones((5, 2), dtype=np.float32)
    for seed in range(20):
        picks = pick_by_badge(prob_nk, features_nf, 3, seed).tolist()
        assert picks[0] == 1
        assert 4 in picks


# TypiClust


def slow_typiclust(emb, clusters, labelled_counts, n_wanted):
    left = {
        c: [i for i in range(len(emb)) if clusters[i] == c] for c in range(len(labelled_counts))
    }
    size = {c: len(left[c]) + labelled_counts[c] for c in left}
    large = sorted(
        (c for c in left if size[c] > 5), key=lambda c: (labelled_counts[c], -size[c], c)
    )
    small = sorted(
        (c for c in left if size[c] <= 5), key=lambda c: (labelled_counts[c], -size[c], c)
    )
    picks = []
    for turn in (large, small):
        for _ in range(n_wanted):
            for c in turn:
                if left[c] and len(picks) < n_wanted:
                    picks.append(min(left[c], key=lambda i: (unlike(emb, i, left[c]), i)))
                    left[c].remove(picks[-1])
    return picks


def unlike(emb, i, members):
    """Mean distance to the nearest: 20, or half of the members where that is less."""
    k = min(20, max(1, len(members) // 2))
    distances = sorted(math.dist(emb[i], emb[j]) for j in members if j != i)[:k]
    return round(sum(distances) / k, 5) if distances else 0.0


@pytest.mark.parametrize("n_wanted", [1, 4, 30, 150])
def test_the_most_typical_of_the_largest_uncovered_cluster(n_wanted):
    rng = np.random.default_rng(0)
    emb_nd = random_unit(rng, 150, 5)
    # With what is labelled, the first cluster has 5 images, which is small, the second 6.
    cluster_n = rng.permutation(np.repeat(np.arange(7), [5, 5, 15, 15, 20, 50, 40]))
    labelled_c = np.array([0, 1, 3, 0, 0, 1, 0])
    picks = pick_from_clusters(emb_nd, n_wanted, cluster_n=cluster_n, labelled_c=labelled_c)
    assert picks.tolist() == slow_typiclust(emb_nd, cluster_n, labelled_c, n_wanted)
    assert len(set(picks)) == n_wanted


def test_twins_in_a_cluster_by_lowest_index():
    emb_nd = np.float32([[0, 1], [1, 0], [0.6, 0.8], [1, 0], [0.8, 0.6], [1, 0]])
    picks = pick_from_clusters(
        emb_nd, 1, cluster_n=np.zeros(6, dtype=np.int64), labelled_c=np.array([0])
    )
    assert picks.tolist() == slow_typiclust(emb_nd, [0] * 6, [0], 1) == [1]


@pytest.mark.parametrize("most_in_memory", [0, 50])
def test_one_image_of_each_of_the_well_separated_clusters(monkeypatch, most_in_memory):
    """With both k-means; two of the five clusters hold a labelled image."""
    monkeypatch.setattr(typiclust, "MOST_IN_MEMORY", most_in_memory)
    cluster_n = np.repeat(np.arange(5), [10, 30, 20, 12, 40])
    emb_nd = np.eye(5)[cluster_n] + 0.01 * np.random.default_rng(0).standard_normal((112, 5))
    emb_nd = (emb_nd / np.linalg.norm(emb_nd, axis=1, keepdims=True)).astype(np.float32)
    labelled_emb_ld = np.eye(5, dtype=np.float32)[[1, 4]]
    picks = pick_typical(emb_nd, 3, labelled_emb_ld=labelled_emb_ld, seed=0)
    assert cluster_n[picks].tolist() == [2, 3, 0]


def test_no_more_clusters_than_the_most(monkeypatch):
    monkeypatch.setattr(typiclust, "MOST_CLUSTERS", 2)
    seen = []
    kept = typiclust.pick_from_clusters
    monkeypatch.setattr(
        typiclust,
        "pick_from_clusters",
        lambda *args, **kwargs: seen.append(len(kwargs["labelled_c"])) or kept(*args, **kwargs),
    )
    assert len(set(TO_LABEL["TypiClust"](make_task(), 12))) == 12
    assert seen == [2]


# Greedy GD


def test_each_pick_adds_the_largest_volume():
    emb_nd = random_unit(np.random.default_rng(0), 30, 8)
    task = replace(make_task(), emb_nd=emb_nd)
    slow = reference.greedy(lambda v, c: reference.gd_scores(v, c, 1e-3), emb_nd, 12)
    assert TO_LABEL["greedy GD"](task, 12).tolist() == slow


# Facility location


def slow_coverage(emb, k):
    """Image i stands for j where it is j, or among the k nearest of j."""
    n = len(emb)
    served = [[float(i == j) for j in range(n)] for i in range(n)]
    for j in range(n):
        cosine = [sum(float(a) * float(b) for a, b in zip(row, emb[j], strict=True)) for row in emb]
        for i in sorted((i for i in range(n) if i != j), key=lambda i: (-cosine[i], i))[:k]:
            served[i][j] = min(max(cosine[i], 0.0), 1 - 1e-6)
    return served


def gain_lost(served, n, picks):
    """How much more the best image left would have raised the sum, at the worst pick.

    Two images that stand for each other and no one else tie, and apricot takes either.
    """
    covered = [max((row[j] for row in served[n:]), default=0.0) for j in range(len(served))]
    lost = 0.0
    for step, pick in enumerate(picks):
        gains = [sum(max(s - c, 0.0) for s, c in zip(row, covered, strict=True)) for row in served]
        best = max(gains[i] for i in range(n) if i not in picks[:step])
        lost = max(lost, best - gains[pick])
        covered = [max(s, c) for s, c in zip(served[pick], covered, strict=True)]
    return lost


@pytest.mark.parametrize("k", [3, 10, 100])
def test_the_neighbour_graph_seen_from_those_who_serve(monkeypatch, k):
    monkeypatch.setattr(facility_location, "N_NEIGHBOURS", k)
    emb_nd = random_unit(np.random.default_rng(0), 30, 4)
    np.testing.assert_allclose(coverage(emb_nd).toarray(), slow_coverage(emb_nd, k), atol=1e-6)


@pytest.mark.parametrize("k", [3, 10, 100])
@pytest.mark.parametrize("n_labelled", [0, 5])
def test_each_pick_raises_the_sum_most(monkeypatch, k, n_labelled):
    monkeypatch.setattr(facility_location, "N_NEIGHBOURS", k)
    rng = np.random.default_rng(1)
    emb_nd, labelled_emb_ld = random_unit(rng, 40, 4), random_unit(rng, n_labelled, 4)
    picks = pick_facilities(emb_nd, 15, labelled_emb_ld=labelled_emb_ld).tolist()
    served = slow_coverage(np.concatenate([emb_nd, labelled_emb_ld]), k)
    assert gain_lost(served, 40, picks) < 1e-5
    assert gain_lost(served, 40, picks[::-1]) > 0.1


def test_the_facilities_of_the_dense_form():
    """With as many neighbours as there are images, the graph is apricot's dense matrix."""
    from apricot import FacilityLocationSelection

    emb_nd = random_unit(np.random.default_rng(2), 60, 4)
    dense = np.clip(emb_nd @ emb_nd.T, 0, 1).astype(np.float64)
    selection = FacilityLocationSelection(20, metric="precomputed", optimizer="naive").fit(dense)
    picks = pick_facilities(emb_nd, 20, labelled_emb_ld=np.empty((0, 4), dtype=np.float32))
    assert picks.tolist() == selection.ranking.tolist()


def test_identical_images_are_each_picked_once():
    emb_nd = np.tile(np.float32([1, 0]), (8, 1))
    picks = pick_facilities(emb_nd, 8, labelled_emb_ld=emb_nd[:2])
    assert sorted(picks) == list(range(8))
