"""Tests of `clip_al.subset.solvers`, mostly through `SelectionOptimizer`."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.optimizer import SelectionOptimizer
from clip_al.subset.solvers import check_graph, descend
from tests.reference import contents, top
from tests.subset.selections import pairs, random_graph, scores

# Reference


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def loss_gradient(d, sas, sds, alpha, beta, ratio):
    """Gradient of Eq. 6, term by term; the indicator's is passed on to the sigmoid (STE)."""
    n = len(d)
    excess = sum(1 for x in d if sigmoid(x) > 0.5) / n - ratio
    gradient = []
    for i, x in enumerate(d):
        slope = sigmoid(x) * (1.0 - sigmoid(x))
        of_sa = -slope * sas[i] / n
        of_sd = -slope * sds[i] / n
        of_s = (1.0 if excess > 0 else -1.0) * slope / n
        gradient.append(of_sa + alpha * of_sd + beta * of_s)
    return gradient


def algorithm_1(sas, sds, ratio, theta, alpha, beta=2.0, max_iter=5000):
    """The paper's loop on N times its loss; None where it does not get there."""
    n = len(sas)
    d, velocity = [1.0] * n, [0.0] * n
    for _ in range(max_iter):
        chosen = [i for i in range(n) if sigmoid(d[i]) > 0.5]
        if abs(len(chosen) / n - ratio) <= theta + 1e-12:
            return chosen
        gradient = loss_gradient(d, sas, sds, alpha, beta, ratio)
        velocity = [0.9 * v + n * g for v, g in zip(velocity, gradient, strict=True)]
        d = [x - 1e-3 * v for x, v in zip(d, velocity, strict=True)]
    return None


def objective(chosen, total, graph, gamma):
    """N times the loss of a choice, less its constant: minus S, plus the price of edges."""
    price = sum(graph[i][j] for i in chosen for j in chosen if i != j)
    return gamma * price - sum(total[i] for i in chosen)


# The descent


def test_the_gradient_and_the_steps_equal_the_loop(rng):
    for kind, ratio in itertools.product(["uniform", "cosine", "negative"], [0.2, 0.5]):
        sas, sds = scores(rng, 40, kind)
        found = SelectionOptimizer(ratio, solver="sgd", theta=0.02).select(sas, sds)
        expected = algorithm_1(sas, sds, ratio, 0.02, ratio)
        assert found.indices.tolist() == expected


def test_sgd_and_exact_return_one_set_on_twenty_scores_and_ratios():
    overlaps = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.choice([500, 2_000, 20_000]))
        ratio = float(rng.uniform(0.1, 0.95))
        kind = ["uniform", "cosine", "negative", "normal"][seed % 4]
        sas, sds = scores(rng, n, kind)
        sgd, exact = (
            SelectionOptimizer(ratio, solver=solver, beta=3.0 if kind == "normal" else 2.0).select(
                sas, sds
            )
            for solver in ("sgd", "exact")
        )
        assert abs(len(exact) - ratio * n) <= 0.5
        assert abs(len(sgd) - ratio * n) <= max(5e-4 * n, 0.5)
        # The two differ in number by up to theta; what is compared is which images.
        assert sgd.indices.tolist() == top(sgd.scores["total"], len(sgd))
        shared = np.count_nonzero(sgd.mask & exact.mask)
        overlaps.append(shared / min(len(sgd), len(exact)))
    assert min(overlaps) >= 0.999


def test_with_the_printed_gradient_nothing_is_ever_deselected():
    n, ratio = 50_000, 0.3
    total = np.random.default_rng(0).random(n)
    given = {"beta": 2.0, "learning_rate": 1e-3, "momentum": 0.9, "max_iter": 5_000}
    printed = descend(total, round(ratio * n), 25.0, gradient_scale=1 / n, **given)
    assert printed.n_iterations == 5_000
    assert not printed.converged
    assert printed.chosen_n.all()
    assert 1e-4 < 1.0 - printed.d_n.min() < 1e-3
    # The same descent of N times the loss gets there.
    times_n = descend(total, round(ratio * n), 25.0, **given)
    assert times_n.converged
    assert times_n.n_iterations < 1_000
    assert abs(np.count_nonzero(times_n.chosen_n) - ratio * n) <= 25


@given(seed=st.integers(0, 2**16), n=st.integers(1, 40), ratio=st.floats(0.02, 1))
def test_sgd_of_few_images_hits_the_number(seed, n, ratio):
    rng = np.random.default_rng(seed)
    if math.floor(ratio * n + 0.5) == 0:
        ratio = 1.0
    sas, sds = rng.integers(0, 5, n) / 10, np.zeros(n)  # many ties
    sgd, exact = (
        SelectionOptimizer(ratio, solver=solver).select(sas, sds) for solver in ("sgd", "exact")
    )
    assert sgd.indices.tolist() == exact.indices.tolist()


@pytest.mark.parametrize("class_balance", ["proportional", "equal"])
def test_sgd_with_quotas_descends_in_each_class(rng, class_balance):
    sas, sds = scores(rng, 300)
    y = rng.choice(3, 300, p=[0.6, 0.3, 0.1])
    sgd, exact = (
        SelectionOptimizer(0.4, solver=solver, class_balance=class_balance).select(sas, sds, y)
        for solver in ("sgd", "exact")
    )
    assert sgd.indices.tolist() == exact.indices.tolist()


@pytest.mark.parametrize("low", [2.5, -50.0])
def test_scores_beyond_beta_are_refused_at_once(rng, low):
    optimizer = SelectionOptimizer(0.3, solver="sgd")
    largest = np.abs(low + (s := rng.random(101))).max()
    with pytest.raises(
        InvalidInputError,
        match=r"The descent must come within 0 images of 30 of 101 \(ratio 0.297\); after "
        rf"\d{{1,4}} iterations it is at \d+ \(ratio [\d.]+\). Use solver='exact', or raise "
        rf"`beta` above the largest \|SAS \+ alpha SDS\|, {largest:.3g}, or raise `max_iter`.",
    ):
        optimizer.select(low + s, np.zeros(101))
    cured = SelectionOptimizer(0.3, solver="sgd", beta=1.5 * largest).select(low + s, np.zeros(101))
    assert cured.indices.tolist() == top(low + s, 30)


def test_too_few_iterations_are_told(rng):
    sas, sds = scores(rng, 100)
    optimizer = SelectionOptimizer(0.3, solver="sgd", max_iter=10)
    with pytest.raises(InvalidInputError, match=r"after 10 iterations it is at 100 \(ratio 1\)"):
        optimizer.select(sas, sds)


# Redundancy


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_a_price_keeps_one_of_each_pair(rng, solver):
    total, graph = pairs(rng, 40)
    chosen = {
        gamma: SelectionOptimizer(0.5, solver=solver, redundancy=gamma, theta=0.0).select(
            total, np.zeros(80), graph=graph
        )
        for gamma in (0.0, 5.0)
    }
    per_pair = {gamma: np.bincount(s.indices // 2, minlength=40) for gamma, s in chosen.items()}
    assert np.bincount(per_pair[0.0]).tolist() == [20, 0, 20]
    assert (per_pair[5.0] == 1).all()
    dense = graph.toarray()
    values = {gamma: objective(s.indices, total, dense, 5.0) for gamma, s in chosen.items()}
    assert values[5.0] < values[0.0]


@pytest.mark.parametrize("solver", ["exact", "sgd"])
@given(seed=st.integers(0, 2**16), gamma=st.sampled_from([0.05, 0.3, 2.0]))
def test_no_exchange_of_the_worst_for_the_best_helps(solver, seed, gamma):
    rng = np.random.default_rng(seed)
    total, graph = rng.random(20), random_graph(rng, 20, 60)
    before = contents(graph.data, graph.indices, graph.indptr, total)
    selection = SelectionOptimizer(0.4, solver=solver, redundancy=gamma, beta=100.0).select(
        total, np.zeros(20), graph=graph
    )
    assert contents(graph.data, graph.indices, graph.indptr, total) == before
    assert len(selection) == 8
    dense, chosen = graph.toarray(), selection.indices.tolist()
    left = sorted(set(range(20)) - set(chosen))
    value = objective(chosen, total, dense, gamma)
    np.fill_diagonal(dense, 0.0)
    worth = total - gamma * (dense + dense.T)[:, chosen].sum(axis=1)
    worst, best = min(chosen, key=lambda i: worth[i]), max(left, key=lambda i: worth[i])
    exchanged = [best if i == worst else i for i in chosen]
    assert objective(exchanged, total, dense, gamma) >= value - 1e-8
    if solver == "exact":
        assert value <= objective(top(total, 8), total, dense, gamma) + 1e-12


def test_the_local_optimum_is_near_the_global_one(rng):
    worse = []
    for _ in range(10):
        total, graph = rng.random(12), random_graph(rng, 12, 40)
        dense = graph.toarray()
        found = SelectionOptimizer(0.5, redundancy=0.3).select(total, np.zeros(12), graph=graph)
        every = [objective(c, total, dense, 0.3) for c in itertools.combinations(range(12), 6)]
        value = objective(found.indices, total, dense, 0.3)
        gained, possible = max(every) - value, max(every) - min(every)
        worse.append(1.0 - gained / possible)
    assert max(worse) < 0.15
    assert np.mean(worse) < 0.03


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_a_price_keeps_the_quotas(rng, solver):
    total, graph = pairs(rng, 30)
    y = np.repeat([0, 1], [20, 40])
    optimizer = SelectionOptimizer(
        0.5, solver=solver, redundancy=5.0, class_balance="equal", beta=20.0
    )
    selection = optimizer.select(total, np.zeros(60), y, graph=graph)
    assert np.bincount(y[selection.indices]).tolist() == [15, 15]
    # Ten pairs must give fifteen images; of the other class no pair gives two.
    assert np.bincount(selection.indices // 2, minlength=30)[10:].max() == 1


def test_an_edge_of_an_image_to_itself_costs_nothing(rng):
    total = rng.random(20)
    graph = sparse.eye_array(20, format="csr") * 10.0
    found = SelectionOptimizer(0.5, redundancy=1.0).select(total, np.zeros(20), graph=graph)
    assert found.indices.tolist() == top(total, 10)


def test_a_price_beyond_beta_is_told(rng):
    total, graph = pairs(rng, 10)
    optimizer = SelectionOptimizer(0.75, solver="sgd", redundancy=5.0, max_iter=2_000)
    largest = np.abs(total).max() + 2 * 5.0 * 0.99
    with pytest.raises(
        InvalidInputError, match=rf"\|SAS \+ alpha SDS\| \+ the price of its edges, {largest:.3g}"
    ):
        optimizer.select(total, np.zeros(20), graph=graph)


def damaged_graph(kind):
    """A sparse array whose indices leave it, as `object.__setattr__` or a file can make it."""
    graph = sparse.csr_array(np.eye(6, k=1))
    if kind == "column":
        graph.indices[2] = 10**6
    elif kind == "negative":
        graph.indices[2] = -1
    elif kind == "indptr":
        graph.indptr[3] = 10**6
    else:
        graph = sparse.coo_array(np.eye(6, k=1))
        (graph.row if kind == "coo row" else graph.col)[2] = 10**6
    return graph


@pytest.mark.parametrize("kind", ["column", "negative", "indptr", "coo row", "coo column"])
def test_an_index_that_leaves_the_graph_does_not_reach_the_loop(kind):
    with pytest.raises(InvalidInputError, match="`graph` must be a well-formed sparse array"):
        check_graph(damaged_graph(kind), 6)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
def test_every_form_of_a_sparse_array_is_taken(form):
    graph = sparse.coo_array(np.eye(6, k=1)).asformat(form)
    assert (check_graph(graph, 6).toarray() == np.eye(6, k=1)).all()
    with pytest.raises(InvalidTypeError, match="must hold numbers; got dtype complex128"):
        check_graph(sparse.csr_array(np.eye(6) * 1j), 6)
