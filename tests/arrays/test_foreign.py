"""Arrays of every kind give what NumPy's give, or an error of ours: `clip_al.arrays.foreign`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import clip_al
from clip_al.arrays.foreign import plain
from clip_al.arrays.labels import encode_labels
from clip_al.errors import ClipAlError, InvalidInputError, InvalidTypeError
from tests.reference import random_probabilities, random_unit

pa = pytest.importorskip("pyarrow")

N, D, K = 40, 6, 3
NAMES = ["ant", "bee", "cat"]


class Frame:
    """What only the dataframe protocol reads, as a polars frame does for those without polars."""

    def __init__(self, frame):
        self.frame = frame

    def __len__(self):
        return len(self.frame)

    def __dataframe__(self, *args, **kwargs):
        return self.frame.__dataframe__(*args, **kwargs)


def column_of_rows(Z):
    rows = np.empty(len(Z), dtype=object)
    rows[:] = list(Z)
    return rows


def arrow_lists(Z):
    return pa.array(Z.tolist(), type=pa.list_(pa.float32()))


MATRICES = {
    "requires grad": lambda Z: torch.tensor(Z, requires_grad=True),
    "parameter": lambda Z: torch.nn.Parameter(torch.tensor(Z)),
    "sparse tensor": lambda Z: torch.tensor(Z).to_sparse(),
    "csr matrix": sparse.csr_matrix,
    "csr array": sparse.csr_array,
    "matrix": np.matrix,
    "mask of nothing": np.ma.array,
    "objects": lambda Z: Z.astype(object),
    "nullable frame": lambda Z: pd.DataFrame(Z).astype("Float32"),
    "arrow frame": lambda Z: pd.DataFrame(Z).astype("float32[pyarrow]"),
    "column of arrays": lambda Z: pd.Series(list(Z)),
    "array of arrays": column_of_rows,
    "arrow lists": arrow_lists,
    "arrow chunks": lambda Z: pa.chunked_array([arrow_lists(Z[:9]), arrow_lists(Z[9:])]),
    "arrow table": lambda Z: pa.table({f"{i}": Z[:, i] for i in range(Z.shape[1])}),
    "dataframe protocol": lambda Z: Frame(pd.DataFrame(Z, columns=[f"{i}" for i in range(D)])),
    "lists": lambda Z: Z.tolist(),
}
NUMBERS = {
    "requires no grad": torch.tensor,
    "nullable": lambda y: pd.Series(y, dtype="Int64"),
    "arrow-backed": lambda y: pd.Series(y, dtype="int64[pyarrow]"),
    "arrow": pa.array,
    "objects": lambda y: y.astype(object),
    "categories": lambda y: pd.Categorical(y),
    "index": pd.Index,
    "unsigned": lambda y: y.astype(np.uint8),
}
TEXTS = {
    "NumPy's strings": lambda names: np.array(names, dtype=np.dtypes.StringDType()),
    "pandas strings": lambda names: pd.Series(names, dtype="string"),
    "arrow-backed": lambda names: pd.Series(names, dtype=pd.ArrowDtype(pa.string())),
    "arrow": pa.array,
    "arrow dictionary": lambda names: pa.array(names).dictionary_encode(),
    "arrow chunks": lambda names: pa.chunked_array([names[:5], names[5:]]),
    "categories": pd.Categorical,
    "bytes": lambda names: np.array(names, dtype="S"),
}


@pytest.fixture
def Z():
    return random_unit(np.random.default_rng(0), N, D)


@pytest.fixture
def y():
    return np.random.default_rng(1).integers(K, size=N)


@pytest.mark.parametrize("kind", MATRICES)
def test_embeddings_of_every_kind(Z, kind):
    expected = clip_al.neighbors.mean_neighbour_distances(Z, 3)
    given = MATRICES[kind](Z)
    found = clip_al.neighbors.mean_neighbour_distances(given, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["requires grad", "csr array", "nullable frame", "arrow lists"])
def test_probabilities_of_every_kind(kind):
    P = random_probabilities(np.random.default_rng(2), N, D).astype(np.float32)
    found = clip_al.uncertainty.margin(MATRICES[kind](P))
    np.testing.assert_allclose(found, clip_al.uncertainty.margin(P), atol=1e-6)


@pytest.mark.parametrize("kind", NUMBERS)
def test_class_numbers_of_every_kind(y, kind):
    found = encode_labels(NUMBERS[kind](y), n_images=N, n_classes=K)
    assert found.dtype == np.int64
    assert found.tolist() == y.tolist()


@pytest.mark.parametrize("kind", TEXTS)
def test_class_names_of_every_kind(y, kind):
    given = TEXTS[kind]([NAMES[number] for number in y])
    found = encode_labels(given, n_images=N, n_classes=K, class_names=NAMES)
    assert found.tolist() == y.tolist()
    groups = clip_al.Selection.from_indices([0], N, groups=given).groups
    assert groups.names == ("ant", "bee", "cat")
    assert groups.codes.tolist() == y.tolist()


@pytest.mark.parametrize("kind", NUMBERS)
def test_positions_of_every_kind(kind):
    positions = np.array([3, 1, 7])
    found = clip_al.Selection.from_indices(NUMBERS[kind](positions), N)
    assert found.indices.tolist() == [1, 3, 7]


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]"])
def test_a_nullable_mask_names_images(dtype):
    mask = pd.Series(np.arange(N) % 10 == 0, dtype=dtype)
    assert clip_al.Selection.from_indices(mask, N).indices.tolist() == [0, 10, 20, 30]


def test_a_tensor_in_half_the_bits(Z):
    found = clip_al.neighbors.mean_neighbour_distances(torch.tensor(Z).bfloat16(), 3)
    np.testing.assert_allclose(found, clip_al.neighbors.mean_neighbour_distances(Z, 3), atol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_tensor_on_another_device(Z, y):
    found = clip_al.neighbors.mean_neighbour_distances(torch.tensor(Z).cuda(), 3)
    np.testing.assert_allclose(found, clip_al.neighbors.mean_neighbour_distances(Z, 3), atol=1e-5)
    assert encode_labels(torch.tensor(y).cuda(), n_images=N, n_classes=K).tolist() == y.tolist()


def test_a_tensor_without_values_is_refused():
    with pytest.raises(InvalidTypeError, match=r"got one of torch.float32 on meta"):
        clip_al.neighbors.mean_neighbour_distances(torch.empty(4, 2, device="meta"), 1)


def test_a_memory_map_stays_one(Z, tmp_path):
    from clip_al.arrays.checks import check_embeddings

    np.save(tmp_path / "z.npy", Z)
    assert isinstance(check_embeddings(np.load(tmp_path / "z.npy", mmap_mode="r")), np.memmap)


MISSING = {
    "nullable": lambda: pd.Series([0, 1, None, 2], dtype="Int64"),
    "arrow": lambda: pa.array([0, 1, None, 2]),
    "objects": lambda: np.array([0, 1, None, 2], dtype=object),
    "NaN among objects": lambda: np.array([0, 1, np.nan, 2], dtype=object),
    "masked": lambda: np.ma.array([0, 1, 5, 2], mask=[0, 0, 1, 0]),
    "strings": lambda: pd.Series(["ant", "bee", None, "cat"], dtype="string"),
    "NumPy's strings": lambda: np.array(
        ["ant", "bee", None, "cat"], dtype=np.dtypes.StringDType(na_object=None)
    ),
    "categories": lambda: pd.Categorical(["ant", "bee", None, "cat"]),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_is_refused(kind):
    with pytest.raises(ClipAlError):
        encode_labels(MISSING[kind](), n_images=4, n_classes=3, class_names=NAMES)


@pytest.mark.parametrize("kind", ["objects", "NaN among objects"])
def test_the_missing_label_is_named_and_not_the_first_one(kind):
    with pytest.raises(InvalidTypeError, match=r"got (None|nan) at position 2"):
        encode_labels(MISSING[kind](), n_images=4, n_classes=3)


ODD = {
    "ragged lists": lambda Z: [[1.0, 2.0], [1.0]],
    "ragged arrow": lambda Z: pa.array([[1.0, 2.0], [1.0]]),
    "an arrow row missing": lambda Z: pa.array([[1.0, 2.0], None]),
    "masked": lambda Z: np.ma.array(Z, mask=Z > 0),
    "missing numbers": lambda Z: pd.DataFrame(Z).astype("Float32").mask(Z > 0),
    "text": lambda Z: pd.DataFrame({"a": ["x", "y"]}),
    "one number": lambda Z: 3,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_matrix_is_refused_by_name(Z, kind):
    with pytest.raises(ClipAlError, match="`Z` must"):
        clip_al.neighbors.mean_neighbour_distances(ODD[kind](Z), 1)


def test_labels_that_end_in_nul_are_not_one_class():
    with pytest.raises(InvalidInputError, match="NUL"):
        clip_al.Selection.from_indices([0], 2, y=["a", "a\0"])


def test_a_score_is_not_called_as_a_column():
    with pytest.raises(InvalidInputError, match="selected"):
        clip_al.Selection.from_indices([0], 2, scores={"selected": [1.0, 2.0]})


def test_objects_that_are_no_numbers_stay_objects():
    mixed = np.array(["a", 1], dtype=object)
    assert plain(mixed) is mixed
    assert plain(np.array([1.5, 2], dtype=object)).dtype == np.float64
    assert plain(np.array([True, False], dtype=object)).dtype == object


def test_a_sparse_pool_with_embeddings(Z):
    X = sparse.csr_matrix(np.eye(N))
    strategy = clip_al.UncertaintyCoverageSampling()
    indices, _ = strategy(None, X, 4, embeddings=Z)
    assert indices.tolist() == strategy(None, np.eye(N), 4, embeddings=Z)[0].tolist()
