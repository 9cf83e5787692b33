"""Tests of `clip_al.subset.optimizer`; how it searches is tested in `test_descent`."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.optimizer import SelectionOptimizer
from tests.helpers import exactly
from tests.reference import contents, top
from tests.subset.selections import pairs, scores

S = np.linspace(0, 1, 10)


# Exact


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.5, 0.99, 1.0, 1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_exact_is_the_top_of_the_total(rng, ratio, dtype):
    sas, sds = ((10 * s).astype(dtype) for s in scores(rng, 60))
    before = contents(sas, sds)
    selection = SelectionOptimizer(ratio).select(sas, sds)
    total = sas.astype(float) + ratio * sds.astype(float)
    assert selection.indices.tolist() == top(total, max(1, math.floor(60 * ratio + 0.5)))
    np.testing.assert_allclose(selection.scores["total"], total, rtol=1e-12)
    assert contents(sas, sds) == before


@pytest.mark.parametrize(("n", "ratio", "k"), [(5, 0.5, 3), (5, 0.3, 2), (10, 0.05, 1), (7, 1, 7)])
def test_the_number_is_rounded_to_the_nearest_halves_up(n, ratio, k):
    assert len(SelectionOptimizer(ratio).select(np.arange(n), np.zeros(n))) == k


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_of_equal_scores_the_lowest_index_is_taken(solver):
    selection = SelectionOptimizer(0.5, solver=solver).select([0.5] * 8, [0.1] * 8)
    assert selection.indices.tolist() == [0, 1, 2, 3]
    sas = [0.1, 0.5, 0.5, 0.9, 0.5, 0.5]
    selection = SelectionOptimizer(0.5, solver=solver).select(sas, np.zeros(6))
    assert selection.indices.tolist() == [1, 2, 3]


def test_alpha_is_the_ratio_unless_it_is_given():
    sas, sds = [1.0, 0.0, 0.6, 0.0], [0.0, 1.0, 0.0, 0.5]
    selection = SelectionOptimizer(0.5).select(sas, sds)
    assert selection.indices.tolist() == [0, 2]
    assert selection.settings["effective_alpha"] == 0.5
    assert selection.settings["alpha"] == "ratio"
    selection = SelectionOptimizer(0.5, alpha=2.0).select(sas, sds)
    assert selection.indices.tolist() == [0, 1]
    assert selection.scores["total"].tolist() == [1.0, 2.0, 0.6, 1.0]


def test_diversity_of_no_weight_may_be_left_out():
    sas, sds = [0.25, 0.9, 0.1, 0.5], [0.3, 0.1, 0.9, 0.2]
    bare = SelectionOptimizer(0.5, alpha=0).select(sas)
    full = SelectionOptimizer(0.5, alpha=0).select(sas, sds)
    assert bare.indices.tolist() == full.indices.tolist() == [1, 3]
    assert bare.scores["total"].tolist() == full.scores["total"].tolist() == sas
    assert "sds" in full.scores
    assert "sds" not in bare.scores


@pytest.mark.parametrize("alpha", ["ratio", 0.1, -1])
def test_diversity_that_counts_must_be_given(alpha):
    message = (
        f"With alpha={alpha!r}, `sds` must be given; got none. Pass what "
        "`sample_diversity_scores` returns, or set alpha=0."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        SelectionOptimizer(0.5, alpha=alpha).select([0.1, 0.2])


@pytest.mark.parametrize("parameter", ["class_balance", "group_balance"])
def test_no_quotas_are_asked_for_by_a_word(parameter):
    message = (
        f"`{parameter}` must be 'none', 'proportional', 'equal', numbers or a mapping; got None. "
        "Pass 'none' for no quotas."
    )
    sas, y = [0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        SelectionOptimizer(0.5, alpha=0, **{parameter: None}).select(sas, y=y, groups=y)
    with pytest.raises(InvalidInputError, match="must be one of 'none', 'proportional', 'equal'"):
        SelectionOptimizer(0.5, alpha=0, **{parameter: "fair"}).select(sas, y=y, groups=y)
    words = {"class_balance": "none", "group_balance": "none"}
    chosen = SelectionOptimizer(0.5, alpha=0, **words).select(sas, y=y, groups=y)
    assert chosen.indices.tolist() == [2, 3]
    words[parameter] = "proportional"
    chosen = SelectionOptimizer(0.5, alpha=0, **words).select(sas, y=y, groups=y)
    assert chosen.indices.tolist() == [1, 3]


@settings(max_examples=10)
@pytest.mark.parametrize("solver", ["exact", "sgd"])
@pytest.mark.parametrize("class_balance", ["none", "proportional", "equal"])
@given(seed=st.integers(0, 2**16), n=st.integers(2, 40), ratio=st.floats(0.05, 1))
def test_a_selection_follows_a_permutation_of_the_images(solver, class_balance, seed, n, ratio):
    rng = np.random.default_rng(seed)
    sas, sds, rows = rng.permutation(n) / n, np.zeros(n), rng.permutation(n)
    y = rng.integers(0, 3, n)
    if math.floor(ratio * n + 0.5) == 0:
        ratio = 0.5
    optimizer = SelectionOptimizer(ratio, solver=solver, class_balance=class_balance)
    mask = optimizer.select(sas, sds, y, n_classes=3).mask
    permuted = optimizer.select(sas[rows], sds[rows], y[rows], n_classes=3).mask
    assert permuted.tolist() == mask[rows].tolist()


def test_the_same_call_gives_the_same_selection(rng):
    sas, sds = scores(rng, 80)
    for solver in ("exact", "sgd"):
        optimizer = SelectionOptimizer(0.3, solver=solver)
        assert optimizer.select(sas, sds) == clone(optimizer).select(sas, sds)


def test_all_settings_are_recorded_as_they_were_asked(rng):
    sas, sds = scores(rng, 20)
    optimizer = SelectionOptimizer(
        np.float64(0.4), solver="sgd", beta=3.0, class_balance={0: 0.5, 1: np.float32(0.5)}
    )
    recorded = optimizer.select(sas, sds, [0, 1] * 10, settings={"model": "toy"}).settings
    assert recorded["model"] == "toy"
    assert recorded["class_balance"] == {"0": 0.5, "1": 0.5}
    for name, value in optimizer.get_params().items():
        if name != "class_balance":
            assert recorded[name] == value
    assert recorded["n_iterations"] > 0


def test_a_selection_knows_labels_names_groups_ids_and_scores(rng):
    sas, sds = scores(rng, 4)
    selection = SelectionOptimizer(0.5).select(
        sas, sds, ["b", "a", "b", "a"], groups=[1, 2, 1, 2], ids=list("wxyz"),
        label_score=[-1.0, -2.0, -3.0, -4.0], likeliest=[0, 1, 0, 1],
    )  # fmt: skip
    assert selection.labels.tolist() == [1, 0, 1, 0]
    assert selection.class_names == ("a", "b")
    assert selection.groups.names == ("1", "2")
    assert selection.ids.tolist() == list("wxyz")
    assert [suspect.id for suspect in selection.suspects(2)] == ["z", "y"]


# Quotas


@pytest.mark.parametrize("solver", ["exact", "sgd"])
def test_each_class_gives_its_best(rng, solver):
    sas, sds = scores(rng, 100)
    y = np.repeat([0, 1, 2], [60, 35, 5])
    selection = SelectionOptimizer(0.3, solver=solver, class_balance="equal").select(sas, sds, y)
    total = sas + 0.3 * sds
    chosen = [selection.indices[y[selection.indices] == k] for k in range(3)]
    assert [len(part) for part in chosen] == [13, 12, 5]
    for k, part in enumerate(chosen):
        members = np.flatnonzero(y == k)
        assert part.tolist() == members[top(total[members], len(part))].tolist()


def test_groups_have_proportional_quotas_unless_told(rng):
    sas, sds = scores(rng, 100)
    groups = np.repeat(["night", "day"], [30, 70])
    sas[groups == "night"] -= 5.0
    counts = {
        rule: np.bincount(
            SelectionOptimizer(0.2, group_balance=rule).select(sas, sds, groups=groups).indices
            // 30
            > 0,
            minlength=2,
        ).tolist()
        for rule in ("equal", "none")
    }
    assert counts == {"equal": [10, 10], "none": [0, 20]}
    default = SelectionOptimizer(0.2).select(sas, sds, groups=groups)
    assert np.count_nonzero(default.indices < 30) == 6


def test_groups_share_the_quota_of_their_class(rng):
    sas, sds = scores(rng, 120)
    y, groups = np.repeat([0, 1], [80, 40]), np.tile([7, 7, 9, 9], 30)
    selection = SelectionOptimizer(0.4, class_balance="equal", group_balance="equal").select(
        sas, sds, y, groups=groups
    )
    counts = np.zeros((2, 10), int)
    np.add.at(counts, (y[selection.indices], groups[selection.indices]), 1)
    assert counts[:, [7, 9]].tolist() == [[12, 12], [12, 12]]


# Nested


@settings(max_examples=8)
@pytest.mark.parametrize("solver", ["exact", "sgd"])
@pytest.mark.parametrize("class_balance", ["none", "proportional", "equal", [0.5, 0.3, 0.2]])
@given(
    seed=st.integers(0, 2**16),
    ratios=st.lists(st.sampled_from([0.1, 0.12, 0.25, 0.5, 0.55]), min_size=1, max_size=4),
)
def test_smaller_selections_lie_within_larger_ones(solver, class_balance, seed, ratios):
    rng = np.random.default_rng(seed)
    sas, sds = scores(rng, 60)
    y = np.repeat([0, 1, 2], [33, 17, 10])
    optimizer = SelectionOptimizer(solver=solver, class_balance=class_balance)
    selections = optimizer.select_nested(sas, sds, ratios, y)
    assert [s.settings["ratio"] for s in selections] == ratios
    assert [len(s) for s in selections] == [math.floor(60 * r + 0.5) for r in ratios]
    assert [s.settings["effective_alpha"] for s in selections] == ratios
    for small, large in itertools.pairwise(sorted(selections, key=len)):
        assert set(small.indices) <= set(large.indices)
    alone = clone(optimizer).set_params(ratio=max(ratios)).select(sas, sds, y)
    assert alone == selections[ratios.index(max(ratios))]


def test_nested_selections_say_what_they_lie_within(rng):
    sas, sds = scores(rng, 50)
    small, large = SelectionOptimizer().select_nested(sas, sds, [0.2, 0.6])
    assert small.settings["within"] == 0.6
    assert "within" not in large.settings
    total = sas + 0.2 * sds
    assert small.indices.tolist() == large.indices[top(total[large.indices], 10)].tolist()


def test_nested_selections_with_a_price(rng):
    total, graph = pairs(rng, 40)
    small, large = SelectionOptimizer(redundancy=5.0).select_nested(
        total, np.zeros(80), [0.25, 0.75], graph=graph
    )
    assert set(small.indices) <= set(large.indices)
    assert np.bincount(small.indices // 2).max() == 1


def test_nested_sgd_within_a_larger_one_that_stopped_short(rng):
    sas, sds = scores(rng, 4000)
    ratios = [0.3, 0.2999, 0.2998, 0.1]
    selections = SelectionOptimizer(solver="sgd").select_nested(sas, sds, ratios)
    for ratio, selection in zip(ratios, selections, strict=True):
        assert abs(selection.ratio - ratio) <= 5e-4 + 1e-12


def test_no_ratio_is_refused(rng):
    optimizer = SelectionOptimizer()
    with pytest.raises(InvalidInputError, match="`ratios` must hold at least one ratio; got none"):
        optimizer.select_nested([1.0], [1.0], [])


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"ratio": 0.0},
            "`ratio` must be in (0, 1], a share of the images; got 0.0. Pass 0.3 for 30 %.",
        ),
        (
            {"ratio": 30},
            "`ratio` must be in (0, 1], a share of the images; got 30. Pass 0.3 for 30 %.",
        ),
        (
            {"ratio": 0.04},
            "`ratio` must select at least one of the 10 images; 0.04 selects none. Raise it to "
            "0.1 or more.",
        ),
        ({"solver": "adam"}, "`solver` must be one of 'exact', 'sgd'; got 'adam'. Choose one."),
        ({"beta": 0}, "`beta` must be finite, above 0; got 0. Change it."),
        ({"momentum": 1.0}, "`momentum` must be finite, at least 0, below 1; got 1.0. Change it."),
        ({"theta": -1.0}, "`theta` must be finite, at least 0, below 1; got -1.0. Change it."),
        ({"alpha": np.nan}, "`alpha` must be finite; got nan. Change it."),
        ({"learning_rate": 0.0}, "`learning_rate` must be finite, above 0; got 0.0. Change it."),
        ({"max_iter": 0}, "`max_iter` must be at least 1; got 0. Change it."),
        ({"redundancy": -0.1}, "`redundancy` must be finite, at least 0; got -0.1. Change it."),
        (
            {"redundancy": 0.1},
            "With `redundancy` above 0, `graph` must be given; got none. Pass what "
            "`neighbour_graph` returns, or set redundancy=0.",
        ),
        (
            {"class_balance": "equal"},
            "With `class_balance`, `y` must be given; got none. Pass the labels, or set "
            "class_balance='none'.",
        ),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    optimizer = SelectionOptimizer(**parameters)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        optimizer.select(S, S)


@pytest.mark.parametrize("value", ["0.3", "none", True, None])
def test_alpha_is_a_number_or_the_ratio(value):
    message = (
        f"`alpha` must be a number or 'ratio', the share that is chosen; got {value!r}. Pass 0 to "
        "leave SDS out."
    )
    error = InvalidInputError if isinstance(value, str) else InvalidTypeError
    with pytest.raises(error, match=exactly(message)):
        SelectionOptimizer(alpha=value).select(S, S)


@pytest.mark.parametrize("name", ["ratio", "beta", "redundancy"])
@pytest.mark.parametrize("value", ["0.3", True])
def test_parameters_of_another_type_are_refused(name, value):
    optimizer = SelectionOptimizer(**{name: value})
    with pytest.raises(InvalidTypeError, match=f"`{name}` must be a number; got {value!r}"):
        optimizer.select(S, S)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((S, S[:9]), "`sds` must have one score for each of the 10 images of `sas`; got 9. "),
        (([0.1, np.nan], [0.1, 0.2]), "`sas` must be finite; row 1 holds NaN or infinity. "),
        (([0.1, 0.2], [np.inf, 0.2]), "`sds` must be finite; row 0 holds NaN or infinity. "),
        ((S[:, None], S), "`sas` must be a 1-D array of numbers, .* got shape .10, 1. and "),
        (([], []), "`sas` must be a 1-D array .* of at least one; got shape .0,. and dtype "),
        ((S, list("abcdefghij")), "`sds` must be a 1-D array of numbers, .* and dtype <U1"),
        ((S, S, [0, 1]), "`y` must have one label for each of the 10 images; got shape .2,."),
        ((S, S, np.full(10, -1)), "`y` must be in .0, 0., the numbers of the 1 classes; got -1"),
    ],
)
def test_scores_and_labels_that_do_not_fit_are_refused(arguments, message):
    optimizer = SelectionOptimizer(0.5)
    with pytest.raises(InvalidInputError, match=message):
        optimizer.select(*arguments)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"graph": np.eye(10)}, InvalidTypeError, "`graph` must be a scipy sparse array; got nda"),
        (
            {"graph": sparse.eye_array(9, format="csr")},
            InvalidInputError,
            r"`graph` must have shape \(10, 10\), .*; got \(9, 9\). Make it from the same images.",
        ),
        (
            {"graph": sparse.eye_array(10, format="csr") * np.nan},
            InvalidInputError,
            "`graph` must be finite; row 0, 1, 2, 3, 4 and others holds NaN",
        ),
        ({"groups": [1, 2]}, InvalidInputError, "`groups` must have one entry for each of the 10"),
        ({"ids": ["a"]}, InvalidInputError, "`ids` must name each of the 10 images; got 1. "),
        ({"likeliest": S}, InvalidTypeError, "`scores..likeliest..` must hold class numbers"),
        ({"n_classes": 2, "class_names": list("abc")}, InvalidInputError, "each of the 2 classes"),
    ],
)
def test_keywords_that_do_not_fit_are_refused(keywords, error, message):
    optimizer = SelectionOptimizer(0.5, redundancy=0.1 if "graph" in keywords else 0.0)
    with pytest.raises(error, match=message):
        optimizer.select(S, S, [0, 1] * 5, **keywords)


def test_a_quota_that_exceeds_a_class_is_refused():
    optimizer = SelectionOptimizer(0.5, class_balance=[5, 0])
    with pytest.raises(InvalidInputError, match=r"class 0 has 2, asked for 5\. Lower its part, or"):
        optimizer.select(S, S, [0] * 2 + [1] * 8)
