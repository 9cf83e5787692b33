"""Methods that choose what to train on: equal to slow loops, and in the right direction."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.baselines.ccs import area_under_margin, ccs_indices, hard_share
from benchmarks.baselines.cg_score import JITTER, LARGEST_HALF, cg_scores, complexity_gaps
from benchmarks.baselines.cleanlab_pruning import label_quality
from benchmarks.baselines.d2 import N_NEIGHBOURS, d2_indices
from benchmarks.baselines.herding import herding_indices
from benchmarks.baselines.moderate import moderate_indices
from benchmarks.baselines.prototypes import prototype_distances
from benchmarks.baselines.tasks import TrainingTask, highest
from benchmarks.baselines.to_train import TO_TRAIN
from benchmarks.training.training_record import TrainingRecord


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def quotas(given_n, n_wanted):
    """Largest remainder, ties to the lowest class."""
    sizes = np.bincount(given_n)
    exact = [int(size) * n_wanted / len(given_n) for size in sizes]
    quota = [int(share + 1e-9) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda k: (-round(exact[k] - quota[k], 9), k))
    for k in by_remainder[: n_wanted - sum(quota)]:
        quota[k] += 1
    return quota


# Herding


def slow_herding(features_nf, given_n, n_wanted):
    picks = []
    for k, quota in enumerate(quotas(given_n, n_wanted)):
        members = [i for i in range(len(given_n)) if given_n[i] == k]
        chosen = []
        for _ in range(quota):
            mean_f = features_nf[members].mean(axis=0)
            left = [i for i in members if i not in chosen]
            gaps = [np.linalg.norm(mean_f - features_nf[[*chosen, i]].mean(axis=0)) for i in left]
            chosen.append(left[int(np.argmin(np.round(gaps, 9)))])
        picks += chosen
    return picks


@pytest.mark.parametrize("n_wanted", [1, 17, 40])
def test_herding_matches_the_mean_of_each_class(n_wanted):
    rng = np.random.default_rng(0)
    features_nf = rng.standard_normal((40, 5))
    given_n = rng.choice(3, 40, p=[0.6, 0.3, 0.1])
    picks = herding_indices(features_nf, given_n, n_wanted)
    assert picks.tolist() == slow_herding(features_nf, given_n, n_wanted)


def test_herding_takes_the_middle_first_and_then_both_sides():
    features_nf = np.array([[-3.0], [3.0], [0.5], [-0.5], [0.0], [9.0], [-9.0]])
    picks = herding_indices(features_nf, np.zeros(7, dtype=np.int64), 3)
    assert picks.tolist() == [4, 2, 3]  # 0.5 and -0.5 tie: the lower index first


# Moderate-DS


def slow_moderate(features_nf, given_n, n_wanted):
    picks = []
    for k, quota in enumerate(quotas(given_n, n_wanted)):
        members = [i for i in range(len(given_n)) if given_n[i] == k]
        centre_f = features_nf[members].mean(axis=0)
        dist = {i: np.linalg.norm(features_nf[i] - centre_f) for i in members}
        median = np.median(list(dist.values()))
        picks += sorted(members, key=lambda i: (round(abs(dist[i] - median), 9), i))[:quota]
    return picks


@pytest.mark.parametrize("n_wanted", [2, 19, 40])
def test_moderate_keeps_what_is_closest_to_the_median(n_wanted):
    rng = np.random.default_rng(1)
    features_nf = rng.standard_normal((40, 5))
    given_n = rng.choice(3, 40, p=[0.6, 0.3, 0.1])
    picks = moderate_indices(features_nf, given_n, n_wanted)
    assert picks.tolist() == slow_moderate(features_nf, given_n, n_wanted)


def test_moderate_leaves_out_the_centre_and_the_rim():
    # Pairs on either side of 0, at distances 0.1, 1, 2, 3 and 50.
    features_nf = np.array([[s * d] for d in (0.1, 1.0, 2.0, 3.0, 50.0) for s in (-1, 1)])
    picks = moderate_indices(features_nf, np.zeros(10, dtype=np.int64), 6)
    assert sorted(picks) == [2, 3, 4, 5, 6, 7]
    assert set(picks[:2]) == {4, 5}


# Prototypes


def test_prototypes_measure_the_cosine_distance_to_the_nearest_centre():
    rng = np.random.default_rng(2)
    centres = np.eye(3, 8)
    emb_nd = unit(np.repeat(centres, 20, axis=0) + 0.05 * rng.standard_normal((60, 8)))
    means = unit(np.stack([emb_nd[20 * k : 20 * k + 20].mean(axis=0) for k in range(3)]))
    expected = [min(1.0 - float(z @ m) for m in means) for z in emb_nd]
    np.testing.assert_allclose(prototype_distances(emb_nd, 3, 0), expected, atol=1e-5)


# D2


def slow_d2(emb_nd, difficulty_n, n_wanted):
    n = len(emb_nd)
    square = ((emb_nd[:, None].astype(np.float64) - emb_nd[None]) ** 2).sum(axis=2)
    near = np.zeros((n, n), dtype=bool)
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: square[i, j])
        near[i, others[: min(N_NEIGHBOURS, n - 1)]] = True
    square /= square[near].mean()
    near |= near.T
    weight = np.exp(-square) * near
    score = [difficulty_n[i] + sum(weight[i] * difficulty_n) for i in range(n)]
    picks = []
    for _ in range(n_wanted):
        pick = max((i for i in range(n) if i not in picks), key=lambda i: (score[i], -i))
        picks.append(pick)
        for j in range(n):
            if j not in picks:
                score[j] -= weight[pick, j] * score[pick]
    return picks


@pytest.mark.parametrize("n", [5, 60])
def test_d2_equals_message_passing_by_the_letter(n):
    rng = np.random.default_rng(3)
    emb_nd, difficulty_n = unit(rng.standard_normal((n, 6))), rng.random(n)
    # Scores below 0 raise their neighbours again: the last picks go through that, too.
    for n_wanted in (1, n // 2, n):
        picks = d2_indices(emb_nd, difficulty_n, n_wanted)
        assert picks.tolist() == slow_d2(emb_nd, difficulty_n, n_wanted)


def crowd_and_crowd(n_each=20):
    """Two crowds far apart; the second is easier, though not easy."""
    rng = np.random.default_rng(4)
    centres = np.repeat(np.eye(2, 8), n_each, axis=0)
    emb_nd = unit(centres + 0.01 * rng.standard_normal((2 * n_each, 8)))
    return emb_nd, np.repeat([2.0, 1.5], n_each) + 0.01 * rng.random(2 * n_each)


def test_d2_picks_the_hard_first_but_not_all_from_one_place():
    emb_nd, difficulty_n = crowd_and_crowd()
    picks = d2_indices(emb_nd, difficulty_n, 10)
    assert picks[0] < 20  # of the harder crowd
    assert picks[1] >= 20  # the rest of that crowd is well represented by the first
    assert np.all(highest(difficulty_n, 10) < 20)  # difficulty alone stays in one place


def test_d2_gives_the_same_in_any_unit_of_difficulty():
    rng = np.random.default_rng(11)
    emb_nd, difficulty_n = unit(rng.standard_normal((80, 6))), rng.random(80)
    picks = d2_indices(emb_nd, difficulty_n, 40)
    np.testing.assert_array_equal(d2_indices(emb_nd, 4.0 * difficulty_n, 40), picks)


def test_d2_gives_ties_to_the_lowest_index():
    same = np.tile(unit(np.ones((1, 4))), (6, 1))
    assert d2_indices(same, np.ones(6), 1).tolist() == [0]


# CCS


def test_area_under_margin_is_the_mean_lead_of_the_given_label():
    rng = np.random.default_rng(5)
    prob_enk = rng.dirichlet(np.ones(4), (3, 10)).astype(np.float32)
    given_n = rng.integers(0, 4, 10)
    expected = [
        np.mean([p[i, given_n[i]] - max(np.delete(p[i], given_n[i])) for p in prob_enk])
        for i in range(10)
    ]
    np.testing.assert_allclose(area_under_margin(prob_enk, given_n), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("rate", "share"),
    [
        (0.0, 0.0), (0.3, 0.0), (0.4, 0.0), (1 - 0.4, 0.0), (0.61, 0.1),
        (0.7, 0.1), (0.8, 0.1), (0.85, 0.1), (0.86, 0.3), (0.9, 0.3), (0.99, 0.3),
    ],
)  # fmt: skip
def test_the_share_to_drop_is_that_of_the_nearest_rate(rate, share):
    assert hard_share(rate) == share


def slow_budgets(aum, n_wanted):
    """Algorithm 1: ranges, and what each gives, the emptiest first."""
    n_dropped = int(len(aum) * hard_share(1 - n_wanted / len(aum)))
    kept = sorted(range(len(aum)), key=lambda i: aum[i])[n_dropped:]
    low, high = min(aum[kept]), max(aum[kept])
    ranges = [[] for _ in range(50)]
    for i in kept:
        ranges[min(int((aum[i] - low) / ((high - low) / 50)), 49)].append(i)
    budgets, left, todo = {}, n_wanted, set(range(50))
    while todo:
        r = min(todo, key=lambda r: (len(ranges[r]), -r))
        budgets[r] = min(len(ranges[r]), left // len(todo))
        left -= budgets[r]
        todo.remove(r)
    return ranges, budgets


@pytest.mark.parametrize("n_wanted", [20, 75, 120, 200])
def test_ccs_takes_from_each_range_what_the_algorithm_gives_it(n_wanted):
    aum_n = np.random.default_rng(6).normal(0.5, 0.3, 200)
    picks = ccs_indices(aum_n, n_wanted, 0)
    assert len(set(picks.tolist())) == n_wanted
    ranges, budgets = slow_budgets(aum_n, n_wanted)
    for r in range(50):
        assert len(set(ranges[r]) & set(picks.tolist())) == budgets[r]


def test_ccs_never_takes_the_hardest_and_reaches_the_easiest():
    aum_n = np.linspace(-1.0, 1.0, 1000)
    picks = ccs_indices(aum_n, 100, 0)  # nine in ten are pruned: 300 are dropped
    assert aum_n[picks].min() >= aum_n[300]
    assert aum_n[picks].max() > 0.9
    assert np.all(np.histogram(picks, bins=50, range=(300, 1000))[0] > 0)


def test_ccs_draws_by_its_seed():
    aum_n = np.random.default_rng(7).random(500)
    draws = [ccs_indices(aum_n, 100, seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_ccs_copes_with_one_score_for_all():
    picks = ccs_indices(np.full(20, 0.5), 10, 0)
    assert len(set(picks.tolist())) == 10


# CG-Score


def slow_gaps(emb_md, label_m):
    def energy(places):
        x, y = emb_md[places].astype(np.float64), label_m[places]
        h = np.empty((len(places), len(places)))
        for a in range(len(places)):
            for b in range(len(places)):
                cosine = 1.0 if a == b else float(np.clip(x[a] @ x[b], -1, 1))
                h[a, b] = cosine * (np.pi - np.arccos(cosine)) / (2 * np.pi) + JITTER * (a == b)
        return y @ np.linalg.solve(h, y)

    everything = np.arange(len(emb_md))
    return [energy(everything) - energy(np.delete(everything, i)) for i in everything]


def test_complexity_gaps_equal_leaving_each_image_out():
    rng = np.random.default_rng(8)
    emb_md, label_m = unit(rng.standard_normal((25, 6))), rng.choice([1.0, -1.0], 25)
    np.testing.assert_allclose(
        complexity_gaps(emb_md, label_m), slow_gaps(emb_md, label_m), rtol=1e-6
    )


def test_cg_scores_set_a_class_against_others():
    # Of two classes of one size each is set against all of the other: nothing is drawn.
    rng = np.random.default_rng(9)
    emb_nd, given_n = unit(rng.standard_normal((30, 6))), np.arange(30) % 2
    expected = complexity_gaps(emb_nd, np.where(given_n == 0, 1.0, -1.0))
    np.testing.assert_allclose(cg_scores(emb_nd, given_n, 0), expected, rtol=1e-6)


def test_cg_scores_keep_every_gram_matrix_small(monkeypatch):
    sizes = []

    def watched(emb_md, label_m):
        sizes.append((len(emb_md), int(label_m.sum())))
        return np.ones(len(emb_md))

    monkeypatch.setattr("benchmarks.baselines.cg_score.complexity_gaps", watched)
    given_n = np.repeat([0, 2], [2 * LARGEST_HALF + 1, 500])
    score_n = cg_scores(np.ones((len(given_n), 2), dtype=np.float32), given_n, 0)
    np.testing.assert_allclose(score_n, 1.0)  # each image once in each draw
    assert len(sizes) == 3 * (3 + 1)
    assert max(size for size, _ in sizes) <= 2 * LARGEST_HALF
    assert sizes[3] == (1000, 0)  # as many of the others as of the class


# All of them, on a case where the answer is plain


N_CLASSES, N_EACH = 3, 20
N = N_CLASSES * N_EACH
WRONG = np.array([3, 25, 44])
"""Images in the middle of one class, with the label of another."""
ODD = np.array([7, 31, 52])
"""Images far from those of their class, rightly labelled."""


class Linear(nn.Module):
    """Pixels, a colour at a time, to logits, by weights that are given."""

    def __init__(self, weight_kf):
        super().__init__()
        self.head = nn.Linear(weight_kf.shape[1], len(weight_kf))
        self.head.weight = nn.Parameter(torch.tensor(weight_kf, dtype=torch.float32))
        nn.init.zeros_(self.head.bias)

    def forward(self, images):
        return self.head(images.flatten(1))


@cache
def made_up():
    """Three crowds, three odd images and three wrong labels, and a proxy that saw through it."""
    rng = np.random.default_rng(10)
    true_n = np.repeat(np.arange(N_CLASSES), N_EACH)
    given_n = true_n.copy()
    given_n[WRONG] = (true_n[WRONG] + 1) % N_CLASSES
    centres = np.eye(N_CLASSES, 8)[true_n]
    rows = centres + 0.05 * rng.standard_normal((N, 8))
    rows[ODD, 3 + np.arange(3)] += 1.0
    emb_nd = unit(rows)
    images = rng.integers(0, 60, (N, 8, 8, 3))
    images[np.arange(N), :, :, true_n] += 150
    # The proxy learns all but the wrong labels, the odd ones only every second epoch.
    right = np.eye(N_CLASSES)[true_n] * 0.7 + 0.1
    astray = np.eye(N_CLASSES)[(true_n + 2) % N_CLASSES] * 0.7 + 0.1
    prob_enk = np.stack([right] * 8).astype(np.float32)
    prob_enk[1::2, ODD] = astray[ODD]
    weight_kf = np.repeat(np.eye(3) - 0.5, 64, axis=1) * 0.05
    models = [Linear(weight_kf).eval(), Linear(0.5 * weight_kf).eval()]
    record = TrainingRecord(
        images=images.astype(np.uint8),
        given_n=given_n,
        prob_enk=prob_enk,
        features_nf=(3.0 * emb_nd).astype(np.float32),
        early_models=models,
        early_prob_rnk=prob_enk[:2],
        checkpoints=[(0.1, models[1]), (0.1, models[0])],
    )
    class_emb_kd = np.eye(N_CLASSES, 8).astype(np.float32)
    return TrainingTask(emb_nd, class_emb_kd, given_n, 0, lambda: record)


@pytest.mark.parametrize("name", TO_TRAIN)
@pytest.mark.parametrize("n_wanted", [1, 30, N])
def test_each_method_returns_what_was_asked_and_the_same_again(name, n_wanted):
    task = made_up()
    record = task.record
    arrays = [task.emb_nd, task.given_n, record.prob_enk, record.features_nf, record.images]
    before = [array.copy() for array in arrays]
    picks = TO_TRAIN[name](task, n_wanted)
    assert picks.dtype == np.int64
    assert picks.shape == (n_wanted,)
    assert len(set(picks.tolist())) == n_wanted
    assert picks.min() >= 0
    assert picks.max() < N
    np.testing.assert_array_equal(TO_TRAIN[name](task, n_wanted), picks)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("name", ["Forgetting", "EL2N", "GraNd", "CG-Score"])
def test_methods_that_rank_by_difficulty_keep_the_wrong_labels(name):
    assert set(WRONG) <= set(TO_TRAIN[name](made_up(), 10).tolist())


@pytest.mark.parametrize("name", ["cleanlab pruning", "CCS", "Moderate-DS", "MoSo", "Glister"])
def test_the_other_methods_drop_the_wrong_labels(name):
    n_wanted = 6 if name == "CCS" else 30
    assert not set(WRONG) & set(TO_TRAIN[name](made_up(), n_wanted).tolist())


def test_forgetting_puts_the_forgotten_after_the_never_learned():
    assert set(TO_TRAIN["Forgetting"](made_up(), 6).tolist()) == {*WRONG, *ODD}


def test_hard_prototypes_are_the_odd_images_and_easy_ones_are_not():
    hard = TO_TRAIN["prototypes, hardest"](made_up(), 3)
    easy = TO_TRAIN["prototypes, easiest"](made_up(), N - 3)
    assert set(hard.tolist()) == set(ODD)
    assert set(easy.tolist()) == set(range(N)) - set(ODD)


def test_d2_starts_from_what_was_never_learned():
    assert TO_TRAIN["D2"](made_up(), 1)[0] in WRONG


def test_herding_leaves_wrong_labels_for_later():
    assert not set(WRONG) & set(TO_TRAIN["Herding"](made_up(), 6).tolist())


def test_random_draws_by_its_seed():
    task = made_up()
    other = TrainingTask(task.emb_nd, task.class_emb_kd, task.given_n, 1, task.train_proxy)
    assert set(TO_TRAIN["random"](task, 20)) != set(TO_TRAIN["random"](other, 20))


def test_only_methods_that_need_a_network_train_one():
    def refuse():
        raise AssertionError("trained a network")

    task = made_up()
    blind = TrainingTask(task.emb_nd, task.class_emb_kd, task.given_n, 0, refuse)
    without = ["random", "prototypes, hardest", "prototypes, easiest", "CG-Score"]
    for name in [*without, "cleanlab pruning"]:
        assert len(TO_TRAIN[name](blind, 5)) == 5
    for name in set(TO_TRAIN) - {*without, "cleanlab pruning"}:
        with pytest.raises(AssertionError, match="trained a network"):
            TO_TRAIN[name](blind, 5)


def test_label_quality_is_low_for_wrong_labels_and_takes_gaps_in_the_classes():
    task = made_up()
    quality_n = label_quality(task.emb_nd, task.given_n * 2, 0)
    assert set(highest(-quality_n, 3).tolist()) == set(WRONG)
    np.testing.assert_array_equal(quality_n, label_quality(task.emb_nd, task.given_n, 0))
