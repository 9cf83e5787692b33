"""Tests of `clip_al.score.neighbors`."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_al import EmbeddingTable, scores
from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.score import neighbors
from clip_al.score.neighbors import mean_neighbour_distances, neighbour_count, neighbour_graph
from tests.helpers import exactly
from tests.reference import contents, quarter_unit, random_unit

BACKENDS = ["numpy", "torch", "faiss"]
gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# Reference


def slow_mean_distances(Z, k):
    """Mean Euclidean distance of each unit row to its k nearest others, in double precision."""
    rows = [np.asarray(z, dtype=np.float64) for z in Z]
    rows = [z / math.sqrt(z @ z) for z in rows]
    out = []
    for i, a in enumerate(rows):
        distances = sorted(
            math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
            for j, b in enumerate(rows)
            if j != i
        )
        out.append(sum(distances[:k]) / k)
    return np.array(out)


def slow_graph(Z, y, k):
    """Dense matrix of the cosines of each image's k nearest of its class, ties by column."""
    Z = np.asarray(Z, dtype=np.float64)
    Z = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    out = np.full((len(Z), len(Z)), np.nan)
    for i in range(len(Z)):
        others = [j for j in range(len(Z)) if j != i and y[j] == y[i]]
        for j in sorted(others, key=lambda j: (-(Z[i] @ Z[j]), j))[:k]:
            out[i, j] = Z[i] @ Z[j]
    return out


def dense(graph):
    """As `slow_graph`: NaN where nothing is stored."""
    out = np.full(graph.shape, np.nan)
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    out[rows, graph.indices] = graph.data
    return out


class Doubling:
    """Stands for an adapter: turns and stretches the space, and returns unit rows."""

    def transform_images(self, Z):
        turned = np.asarray(Z)[:, ::-1] * np.linspace(1, 2, Z.shape[1], dtype=np.float32)
        return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


# neighbour_count


@pytest.mark.parametrize(
    ("k", "n", "count"),
    [
        (1, 2, 1),
        (4, 5, 4),
        (np.int32(3), 5, 3),
        (10, 1, 0),  # no neighbours to ask for
        (10, 0, 0),
        (0.1, 5000, 500),
        (0.1, 14, 1),
        (0.1, 15, 2),
        (0.1, 25, 3),  # a half goes up
        (0.1, 3, 1),
        (0.01, 3, 1),
        (np.float32(0.5), 10, 5),
        (1.0, 5, 4),
        (0.5, 2, 1),
        (0.5, 1, 0),
        (1.0, 0, 0),
    ],
)
def test_a_count_or_a_fraction(k, n, count):
    assert neighbour_count(k, n) == count
    assert type(neighbour_count(k, n)) is int


@given(k=st.floats(0, 1, exclude_min=True), n=st.integers(2, 10**6))
def test_a_fraction_fits_every_class(k, n):
    assert 1 <= neighbour_count(k, n) <= n - 1


@pytest.mark.parametrize(("k", "n"), [(5, 5), (6, 5), (2, 2)])
def test_a_count_that_the_class_does_not_have_is_refused(k, n):
    message = (
        f"`n_neighbors` must be below the number of images of class 3, {n}; got {k}. "
        "Lower it, or pass a fraction such as 0.1, which fits every class."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        neighbour_count(k, n, group="class 3")


@pytest.mark.parametrize("k", [0.0, -0.1, 1.5, 10.0, math.nan, math.inf])
def test_what_is_no_fraction_is_refused(k):
    message = (
        f"`n_neighbors`, as a fraction of the class, must be in (0, 1]; got {k}. "
        "Pass an int for a count of neighbours."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        neighbour_count(k, 100)


@pytest.mark.parametrize("k", [0, -1])
def test_a_count_below_one_is_refused(k):
    with pytest.raises(InvalidInputError, match=f"`n_neighbors` must be at least 1; got {k}"):
        neighbour_count(k, 100)


@pytest.mark.parametrize("k", [True, "10", None, 1j])
def test_what_is_no_number_is_refused(k):
    message = (
        f"`n_neighbors` must be a whole number or a fraction; got {k!r}. Pass 10, or 0.1 for 10 %."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        neighbour_count(k, 100)


# mean_neighbour_distances


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (7, 6), (40, 1), (40, 4), (40, 39)])
def test_distances_equal_the_loop(rng, backend, n, k):
    Z = random_unit(rng, n, 6)
    before = contents(Z)
    values = mean_neighbour_distances(Z, k, backend=backend)
    np.testing.assert_allclose(values, slow_mean_distances(Z, k), atol=1e-6)
    assert values.dtype == np.float32
    assert values.shape == (n,)
    assert contents(Z) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_distances_over_several_blocks(rng, backend, monkeypatch):
    monkeypatch.setattr(neighbors, "CACHED_ROWS", 16)
    monkeypatch.setattr("clip_al.arrays.blocks.BLOCK_BYTES", 4 * 50 * 7)
    Z = random_unit(rng, 50, 6)
    values = mean_neighbour_distances(Z, 0.1, backend=backend)
    np.testing.assert_allclose(values, slow_mean_distances(Z, 5), atol=1e-6)


@pytest.mark.parametrize("n", [4095, 4096, 4097])
def test_rows_longer_than_a_run_of_the_kernel(rng, n):
    Z = random_unit(rng, n, 3)
    for k in (1, 50, n - 1):
        sim = Z.astype(np.float64) @ Z[:5].astype(np.float64).T
        sim[np.arange(5), np.arange(5)] = -2
        nearest = -np.sort(-sim, axis=0)[:k]
        expected = np.sqrt(np.maximum(2 - 2 * nearest, 0)).mean(axis=0)
        values = mean_neighbour_distances(Z, k)[:5]
        # In 3 dimensions the nearest of 4,096 are close: r is exact to about 1e-7 / r.
        np.testing.assert_allclose(values, expected, atol=2e-5 if k == 1 else 2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 3, 8, 19])
def test_tied_distances(rng, backend, k):
    Z = quarter_unit(rng, 20, 6)
    expected = slow_mean_distances(Z, k)
    np.testing.assert_allclose(mean_neighbour_distances(Z, k, backend=backend), expected, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_identical_images_are_at_distance_zero(rng, backend, dtype):
    Z = np.repeat(random_unit(rng, 4, 512, dtype), 5, axis=0)
    assert mean_neighbour_distances(Z, 4, backend=backend).tolist() == [0.0] * 20
    assert mean_neighbour_distances(Z, 5, backend=backend).min() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_also_where_a_few_dimensions_dominate_as_in_clip(rng, backend):
    Z = rng.standard_normal((50, 512)).astype(np.float32)
    Z[:, [92, 133]] += 20
    distances = mean_neighbour_distances(np.repeat(Z, 3, axis=0), 2, backend=backend)
    assert distances.tolist() == [0.0] * 150


def test_what_is_just_further_apart_than_rounding_is_seen():
    angle = np.array([0.0, 0.0025])
    Z = np.column_stack([np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(mean_neighbour_distances(Z, 1), 0.0025, rtol=0.03)
    assert mean_neighbour_distances(Z, 1).min() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_opposite_and_orthogonal_images(backend):
    Z = [[1.0, 0.0], [-1.0, 0.0]]
    assert mean_neighbour_distances(Z, 1, backend=backend).tolist() == [2.0, 2.0]
    values = mean_neighbour_distances(np.eye(6), 3, backend=backend)
    np.testing.assert_allclose(values, math.sqrt(2), atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 10, 0.1, 1.0])
def test_an_only_image_has_distance_zero(backend, k):
    assert mean_neighbour_distances([[3.0, 4.0]], k, backend=backend).tolist() == [0.0]


def test_ten_percent_is_the_default(rng):
    Z = random_unit(rng, 30, 4)
    np.testing.assert_array_equal(mean_neighbour_distances(Z), mean_neighbour_distances(Z, 3))


@given(seed=st.integers(0, 2**16), n=st.integers(2, 20), share=st.floats(0, 1))
def test_distances_follow_a_permutation_and_grow_with_k(seed, n, share):
    rng = np.random.default_rng(seed)
    Z, order, k = random_unit(rng, n, 5), rng.permutation(n), 1 + int(share * (n - 2))
    values = mean_neighbour_distances(Z, k)
    np.testing.assert_allclose(mean_neighbour_distances(Z[order], k), values[order], atol=1e-5)
    assert (values >= 0).all()
    assert (values <= 2).all()
    assert (mean_neighbour_distances(Z, n - 1) >= values - 1e-6).all()


def test_lengths_do_not_matter(rng):
    Z = random_unit(rng, 25, 8)
    scaled = Z.astype(np.float64) * np.geomspace(1e-30, 1e30, 25)[:, None]
    nearly = Z * np.linspace(1 - 9e-5, 1 + 9e-5, 25, dtype=np.float32)[:, None]
    expected = slow_mean_distances(Z, 3)
    np.testing.assert_allclose(mean_neighbour_distances(scaled, 3), expected, atol=1e-6)
    np.testing.assert_allclose(mean_neighbour_distances(nearly, 3), expected, atol=1e-6)


def test_a_second_call_and_another_core_count_give_the_same_bytes(rng, monkeypatch):
    Z = random_unit(rng, 1500, 16)
    first = contents(mean_neighbour_distances(Z, 0.1))
    assert contents(mean_neighbour_distances(Z, 0.1)) == first
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert contents(mean_neighbour_distances(Z, 0.1)) == first


def test_one_set_with_too_large_a_count_is_refused(rng):
    with pytest.raises(InvalidInputError, match="number of images of the set, 5; got 5"):
        mean_neighbour_distances(random_unit(rng, 5, 3), 5)


def test_a_row_that_is_not_finite_is_named_by_its_place(rng):
    Z = random_unit(rng, 40, 3)
    Z[31, 1] = np.nan
    with pytest.raises(InvalidInputError, match="`Z` must be finite; row 31 holds NaN"):
        mean_neighbour_distances(Z, 2)


def test_a_row_of_zeros_is_named_by_its_place(rng):
    Z = random_unit(rng, 40, 3)
    Z[31] = 0
    with pytest.raises(InvalidInputError, match="row 31 is all zeros"):
        neighbour_graph(Z, np.arange(40) % 2, 2)


def test_an_unknown_backend_is_refused():
    message = "`backend` must be one of 'auto', 'faiss', 'torch', 'numpy'; got 'cuml'. Choose one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        mean_neighbour_distances(np.eye(3), 1, backend="cuml")


@pytest.mark.parametrize("backend", ["numpy", "faiss"])
def test_a_device_that_the_backend_cannot_use_is_refused(backend):
    message = (
        f"`device` must be 'cpu', and embeddings an array, for the backend {backend!r}; "
        "got 'cuda'. Pass backend='torch'."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        mean_neighbour_distances(np.eye(3), 1, backend=backend, device="cuda")


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_every_backend_runs_on_the_cpu(backend, device):
    values = mean_neighbour_distances(np.eye(3), 1, backend=backend, device=device)
    np.testing.assert_allclose(values, math.sqrt(2), atol=1e-7)


def test_without_faiss_its_backend_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    message = (
        "The backend 'faiss' needs faiss, which is not installed. "
        "Run `pip install \"clip_al[cpu]\"`, or pass backend='numpy'."
    )
    with pytest.raises(MissingDependencyError, match=exactly(message)):
        mean_neighbour_distances(np.eye(3), 1, backend="faiss")


@gpu
@needs_gpu
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_the_gpu_gives_the_same_distances(rng, backend):
    Z = random_unit(rng, 700, 32)
    values = mean_neighbour_distances(Z, 0.1, backend=backend, device="cuda")
    np.testing.assert_allclose(values, mean_neighbour_distances(Z, 0.1), atol=1e-5)


# neighbour_graph


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_graph_equals_the_loop(rng, backend, k):
    Z, y = random_unit(rng, 50, 6), rng.integers(0, 4, 50)
    before = contents(Z, y)
    graph = neighbour_graph(Z, y, 5, k, backend=backend)
    np.testing.assert_allclose(dense(graph), slow_graph(Z, y, k), atol=1e-6)
    assert graph.format == "csr"
    assert graph.dtype == np.float32
    assert graph.shape == (50, 50)
    assert contents(Z, y) == before


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_ties_go_to_the_lowest_column(rng, backend, k, monkeypatch):
    monkeypatch.setattr(neighbors, "CACHED_ROWS", 8)
    Z, y = quarter_unit(rng, 40, 6), rng.integers(0, 2, 40)
    graph = neighbour_graph(Z, y, 2, k, backend=backend)
    np.testing.assert_allclose(dense(graph), slow_graph(Z, y, k), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_faiss_finds_the_same_cosines_among_ties(rng, k):
    Z, y = quarter_unit(rng, 40, 6), rng.integers(0, 2, 40)
    found, expected = dense(neighbour_graph(Z, y, 2, k, backend="faiss")), slow_graph(Z, y, k)
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(expected, axis=1), atol=1e-6)
    assert np.isnan(found.diagonal()).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_columns_ascend_and_each_row_holds_its_count(rng, backend):
    y = np.array([0] * 20 + [1] * 4 + [2] + [4] * 2)
    graph = neighbour_graph(random_unit(rng, 27, 5), y, 5, 10, backend=backend)
    assert np.diff(graph.indptr).tolist() == [10] * 20 + [3] * 4 + [0] + [1] * 2
    for start, end in zip(graph.indptr[:-1], graph.indptr[1:], strict=True):
        assert (np.diff(graph.indices[start:end]) > 0).all()


def test_a_fraction_of_each_class(rng):
    y = np.array([0] * 20 + [1] * 5)
    graph = neighbour_graph(random_unit(rng, 25, 5), y, 2, 0.2)
    assert np.diff(graph.indptr).tolist() == [4] * 20 + [1] * 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_images_are_neighbours_of_each_other_not_of_themselves(rng, backend):
    Z = np.repeat(random_unit(rng, 2, 64), 6, axis=0)
    found = dense(neighbour_graph(Z, np.zeros(12, int), 1, 5, backend=backend))
    block = np.where(np.eye(6, dtype=bool), np.nan, 1.0)
    np.testing.assert_allclose(found[:6, :6], block, atol=1e-6)
    np.testing.assert_allclose(found[6:, 6:], block, atol=1e-6)
    assert np.isnan(found[:6, 6:]).all()


def test_the_graph_of_adapted_images(rng):
    Z, y = random_unit(rng, 30, 6), rng.integers(0, 3, 30)
    graph = neighbour_graph(Z, y, 3, 3, adapter=Doubling())
    expected = slow_graph(Doubling().transform_images(Z), y, 3)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert not np.allclose(dense(graph), slow_graph(Z, y, 3), atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("kind", ["float64", "memmap", "table", "readonly", "fortran", "list"])
def test_every_kind_of_input_gives_one_graph(rng, tmp_path, kind):
    Z, y = random_unit(rng, 30, 6), rng.integers(0, 3, 30)
    np.save(tmp_path / "z.npy", Z)
    readonly = Z.copy()
    readonly.setflags(write=False)
    X = {
        "float64": Z.astype(np.float64),
        "memmap": np.load(tmp_path / "z.npy", mmap_mode="r"),
        "table": EmbeddingTable.from_array(tmp_path / "t", Z, map(str, range(30)), model_id="m"),
        "readonly": readonly,
        "fortran": np.asfortranarray(Z),
        "list": Z.tolist(),
    }[kind]
    graph, expected = neighbour_graph(X, y, 3, 4), neighbour_graph(Z, y, 3, 4)
    np.testing.assert_array_equal(graph.indices, expected.indices)
    np.testing.assert_allclose(graph.data, expected.data, atol=1e-6)


def test_half_precision_gives_nearly_the_same_distances(rng):
    Z = random_unit(rng, 30, 64)
    half = mean_neighbour_distances(Z.astype(np.float16), 4)
    np.testing.assert_allclose(half, mean_neighbour_distances(Z, 4), atol=1e-3)


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(InvalidInputError, match=r"`y` must be in \[0, 1\], .* got 2 at position 1"):
        neighbour_graph(np.eye(3), [0, 2, 1], 2)


def test_labels_of_other_images_are_refused():
    with pytest.raises(
        InvalidInputError, match=r"one label for each of the 3 images; got .*\(2,\)"
    ):
        neighbour_graph(np.eye(3), [0, 1], 2)


@pytest.mark.parametrize("k", [0, -3])
def test_a_graph_of_no_neighbours_is_refused(k):
    with pytest.raises(InvalidInputError, match=f"`n_neighbors` must be at least 1; got {k}"):
        neighbour_graph(np.eye(3), [0, 0, 0], 1, k)


@gpu
@needs_gpu
def test_the_gpu_gives_the_same_graph(rng):
    Z, y = random_unit(rng, 300, 32), rng.integers(0, 3, 300)
    graph, expected = (neighbour_graph(Z, y, 3, 5, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_array_equal(graph.indices, expected.indices)
    np.testing.assert_allclose(graph.data, expected.data, atol=1e-5)


class BadAdapter:
    """Gives what the loops over cosines of unit vectors cannot take."""

    def __init__(self, change):
        self.transform_images = self.transform_texts = self.adapt = change


@pytest.mark.parametrize(
    "change",
    [
        lambda Z: 3 * Z,
        lambda Z: np.full_like(Z, np.nan),
        lambda Z: Z[1:],
        lambda Z: Z[:, 0],
        lambda Z: None,
        lambda Z: [[1.0], [1.0, 2.0]],
    ],
)
def test_what_an_adapter_gives_is_looked_at(Z, change):
    y, T = np.arange(len(Z)) % 2, Z[:2]
    adapter = BadAdapter(change)
    for call in (
        lambda: neighbour_graph(Z, y, 2, 3, adapter=adapter),
        lambda: scores.sample_diversity_scores(Z, y, 3, adapter=adapter),
        lambda: scores.semantic_alignment_scores(Z, y, T, adapter=adapter),
        lambda: scores.class_prototypes(Z, y, 2, adapter=adapter),
    ):
        with pytest.raises((InvalidInputError, InvalidTypeError), match="adapter"):
            call()


def test_an_adapter_without_its_methods_is_named(Z):
    with pytest.raises(InvalidTypeError, match=r"must have `transform_images`.* got a dict"):
        neighbour_graph(Z, np.arange(len(Z)) % 2, 2, 3, adapter={})
