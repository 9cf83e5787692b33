"""Embeddings out of frames and Parquet files, and selections back into frames."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

from clip_al import CBDMarginSampling, EmbeddingTable, Selection
from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.integrations import parquet
from clip_al.integrations.frames import embeddings_of, join_selection
from clip_al.integrations.parquet import table_from_parquet
from tests.reference import make_vocabulary, random_probabilities, random_unit

pa = pytest.importorskip("pyarrow", reason="needs clip_al[parquet]")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = ["fixed", "list", "large", "sliced", "tensor"]


def arrow_column(Z, kind):
    flat = pa.array(np.ascontiguousarray(Z).ravel())
    offsets = np.arange(0, Z.size + 1, Z.shape[1])
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, Z.shape[1])
    if kind == "list":
        return pa.ListArray.from_arrays(offsets.astype(np.int32), flat)
    if kind == "large":
        return pa.LargeListArray.from_arrays(offsets, flat)
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(Z))
    padded = np.concatenate([Z[:3], Z, Z[:2]])
    return arrow_column(padded, "fixed").slice(3, len(Z))


def parquet_file(path, Z, ids=None, kind="fixed", **settings):
    columns = {"id": [f"{i}.jpg" for i in range(len(Z))] if ids is None else ids}
    pq.write_table(pa.table({**columns, "embedding": arrow_column(Z, kind)}), path, **settings)
    return path


def bytes_in(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def make_selection(n=6, chosen=(1, 4), **changes):
    scores = {"sas": np.linspace(0, 1, n)}
    ids = [f"{i}.jpg" for i in range(n)]
    return Selection.from_indices(list(chosen), n, **{"scores": scores, "ids": ids, **changes})


# Frames


@pytest.mark.parametrize(
    ("kind", "dtype"),
    # pyarrow makes no tensors of half floats.
    [*itertools.product(KINDS, [np.float32, np.float64]), ("list", np.float16)],
)
def test_a_list_column_of_arrow_is_a_view(Z, kind, dtype):
    column = arrow_column(Z.astype(dtype), kind)
    array = embeddings_of(pa.table({"embedding": column}))
    np.testing.assert_array_equal(array, Z.astype(dtype))
    assert array.dtype == dtype
    values = getattr(column, "storage", column).flatten().to_numpy()
    assert np.shares_memory(array, values)
    assert not array.flags.writeable


def test_chunks_are_joined(Z):
    parts = [pa.table({"embedding": arrow_column(part, "list")}) for part in np.split(Z, 3)]
    np.testing.assert_array_equal(embeddings_of(pa.concat_tables(parts)), Z)


def test_a_list_column_of_pandas(Z):
    frame = pd.DataFrame({"id": range(60), "embedding": list(Z)}, index=np.arange(60)[::-1])
    array = embeddings_of(frame)
    np.testing.assert_array_equal(array, Z)
    assert array.dtype == Z.dtype
    lists = pd.DataFrame({"embedding": Z.tolist()})
    np.testing.assert_allclose(embeddings_of(lists), Z)


def test_an_arrow_column_of_pandas_is_a_view(Z):
    column = arrow_column(Z, "list")
    frame = pd.DataFrame({"embedding": pd.Series(column, dtype=pd.ArrowDtype(column.type))})
    array = embeddings_of(frame)
    np.testing.assert_array_equal(array, Z)
    assert np.shares_memory(array, column.flatten().to_numpy())


def test_one_column_per_dimension(Z):
    names = [f"e{i}" for i in range(12)]
    frame = pd.DataFrame(Z, columns=names)
    array = embeddings_of(frame, names)
    assert np.shares_memory(array, frame.to_numpy())
    np.testing.assert_array_equal(array, Z)
    frame.insert(5, "id", range(60))  # not adjacent any more
    np.testing.assert_array_equal(embeddings_of(frame, names), Z)
    np.testing.assert_array_equal(embeddings_of(frame, names[::-1]), Z[:, ::-1])


def test_a_query_over_a_frame_is_that_over_the_array(Z, vocabulary, probabilities):
    strategy = CBDMarginSampling(vocabulary, m=6)
    expected = strategy.select(Z, 8, probabilities=probabilities)
    table = pa.table({"embedding": arrow_column(Z, "fixed")})
    for frame in (table, pd.DataFrame({"embedding": list(Z)})):
        picks = strategy.select(embeddings_of(frame), 8, probabilities=probabilities)
        np.testing.assert_array_equal(picks, expected)


@pytest.mark.parametrize(
    ("frame", "column", "message"),
    [
        (pd.DataFrame({"a": [1]}), "embedding", "column 'embedding' must be there; got 'a'"),
        (pd.DataFrame({"a": [1.0]}), ["a", "b"], "column 'b' must be there; got 'a'"),
        (pd.DataFrame({"a": [1.0]}), [], "Name a column; got 'a'"),
        (pd.DataFrame({"a": [[1.0], [1.0, 2.0]]}), "a", "lists of one length, at least one"),
        (pd.DataFrame({"a": [[1.0], None]}), "a", "lists of one length"),
        (pd.DataFrame({"a": []}), "a", "lists of one length, at least one"),
        (pd.DataFrame({"a": [[1.0], [np.nan]]}), "a", "`column a` must be finite; row 1"),
        (pd.DataFrame({"a": [1.0, 2.0]}), "a", r"must be 2-D, .*; got shape \(2,\)"),
        (pa.table({"a": [[1.0], None]}), "a", "got 1 missing values"),
        (pa.table({"a": [[1.0, None]]}), "a", "got 1 missing values"),
        (pa.table({"a": [[1.0], [1.0, 2.0]]}), "a", r"and the lengths \[1, 2\]"),
    ],
)
def test_what_is_no_embedding_is_refused(frame, column, message):
    with pytest.raises(InvalidInputError, match=message):
        embeddings_of(frame, column)


@pytest.mark.parametrize(
    ("frame", "column", "message"),
    [
        ([[1.0]], "a", "must be a DataFrame or a pyarrow Table; got list"),
        (pa.table({"a": ["x"]}), "a", "must hold lists of floats; got string"),
        (pa.table({"a": [[1]]}), "a", "must hold lists of floats; got list"),
        (pa.table({"a": [1.0]}), ["a"], "must name one column of lists"),
        (pd.DataFrame({"a": [["x"]]}), "a", "must hold numbers"),
    ],
)
def test_what_is_no_number_is_refused(frame, column, message):
    with pytest.raises(InvalidTypeError, match=message):
        embeddings_of(frame, column)


# Parquet


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["fixed", "list", "large", "tensor"])
def test_a_file_gives_the_table_of_the_array(tmp_path, monkeypatch, Z, kind, dtype):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    file = parquet_file(tmp_path / "z.parquet", Z, kind=kind, row_group_size=20)
    table = table_from_parquet(tmp_path / "a", file, model_id="toy", dtype=dtype)
    ids = [f"{i}.jpg" for i in range(60)]
    EmbeddingTable.from_array(tmp_path / "b", Z, ids, model_id="toy", dtype=dtype)
    assert bytes_in(tmp_path / "a") == bytes_in(tmp_path / "b")
    assert table.ids.tolist() == ids
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "z.parquet"]


def test_real_images_go_through_and_are_picked_alike(mini, tmp_path, probabilities):
    digits = load_digits().images[:60]
    Z = mini.encode_images(list((digits * 15.9).astype(np.uint8)))
    frame = pd.DataFrame({"id": np.arange(60) * 10, "embedding": list(Z)})
    frame.to_parquet(tmp_path / "z.parquet")
    table = table_from_parquet(tmp_path / "t", tmp_path / "z.parquet", model_id="mini")
    assert table.index_of(["590", "0"]).tolist() == [59, 0]
    vocabulary = make_vocabulary(random_unit(np.random.default_rng(0), 30, Z.shape[1]), "mini")
    strategy = CBDMarginSampling(vocabulary, m=5)
    np.testing.assert_array_equal(
        strategy.select(table, 9, probabilities=probabilities),
        strategy.select(Z, 9, probabilities=probabilities),
    )


def test_a_folder_is_read_in_the_order_of_names(tmp_path, Z):
    folder = tmp_path / "files"
    (folder / "part=1").mkdir(parents=True)
    parquet_file(folder / "part=1" / "0.parquet", Z[30:], [f"{i}.jpg" for i in range(30, 60)])
    parquet_file(folder / "a.parquet", Z[:30])
    table = table_from_parquet(tmp_path / "t", folder, model_id="toy")
    np.testing.assert_array_equal(table[:], Z)
    listed = [folder / "part=1" / "0.parquet", folder / "a.parquet"]
    other = table_from_parquet(tmp_path / "u", listed, model_id="toy")
    assert other.ids[0] == "30.jpg"


def test_ids_and_paths_are_as_from_array(tmp_path, Z):
    table = pa.table({"file": ["/a/1.jpg", "/a/2.jpg"], "embedding": arrow_column(Z[:2], "list")})
    pq.write_table(table, tmp_path / "z.parquet")
    read = table_from_parquet(
        tmp_path / "t", tmp_path / "z.parquet", id_column=None, path_column="file", model_id="toy"
    )
    expected = EmbeddingTable.from_array(
        tmp_path / "u", Z[:2], paths=["/a/1.jpg", "/a/2.jpg"], model_id="toy"
    )
    assert read.ids.tolist() == expected.ids.tolist()
    assert read.paths.tolist() == ["/a/1.jpg", "/a/2.jpg"]
    none = table_from_parquet(
        tmp_path / "v", tmp_path / "z.parquet", id_column=None, model_id="toy"
    )
    assert none.ids.tolist() == ["0", "1"]


def test_rows_of_any_length_are_normalised_when_asked(tmp_path, Z):
    file = parquet_file(tmp_path / "z.parquet", 3 * Z.astype(np.float64))
    with pytest.raises(InvalidInputError, match=r"unit length; row \d+ has length 3"):
        table_from_parquet(tmp_path / "t", file, model_id="toy")
    table = table_from_parquet(tmp_path / "t", file, model_id="toy", normalize=True)
    np.testing.assert_allclose(table[:], Z, atol=1e-6)


def test_a_table_is_not_lost_to_a_bad_file(tmp_path, Z):
    good = parquet_file(tmp_path / "good.parquet", Z)
    bad = parquet_file(tmp_path / "bad.parquet", np.where(np.arange(60)[:, None] == 50, np.nan, Z))
    table_from_parquet(tmp_path / "t", good, model_id="toy")
    before = bytes_in(tmp_path / "t")
    with pytest.raises(InvalidInputError, match=r"must be new or empty; .* holds a table"):
        table_from_parquet(tmp_path / "t", good, model_id="toy")
    with pytest.raises(InvalidInputError, match="row 50 holds NaN"):
        table_from_parquet(tmp_path / "t", bad, model_id="toy", overwrite=True)
    assert bytes_in(tmp_path / "t") == before
    table_from_parquet(tmp_path / "t", good, model_id="other", overwrite=True)
    assert EmbeddingTable.open(tmp_path / "t").model_id == "other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.parquet", "good.parquet", "t"]


def test_files_that_do_not_fit_are_refused(tmp_path, Z):
    good = parquet_file(tmp_path / "good.parquet", Z[:2])
    narrow = parquet_file(tmp_path / "narrow.parquet", random_unit(np.random.default_rng(0), 2, 5))
    twice = parquet_file(tmp_path / "twice.parquet", Z[:2], ["a", "a"])
    unnamed = parquet_file(tmp_path / "unnamed.parquet", Z[:2], ["a", None])
    empty = parquet_file(tmp_path / "empty.parquet", Z[:0])

    def table_of(*files, **settings):
        table_from_parquet(tmp_path / "t", files, model_id="toy", **settings)

    with pytest.raises(InvalidInputError, match="must have 12 columns; got 5"):
        table_of(good, narrow)
    with pytest.raises(InvalidInputError, match="1 repeated: 'a'"):
        table_of(twice)
    with pytest.raises(InvalidTypeError, match="must be strings or whole numbers; got None"):
        table_of(unnamed)
    with pytest.raises(InvalidInputError, match="must hold at least one row"):
        table_of(empty)
    with pytest.raises(InvalidInputError, match="must name Parquet files"):
        table_of()
    with pytest.raises(InvalidInputError, match=r"must name Parquet files, .*nowhere"):
        table_of(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="column 'z' must be there; got 'id', 'embedding'"):
        table_of(good, column="z")
    assert not (tmp_path / "t").exists()


POOLS = []  # threads of Arrow may free into a pool after the test: it must outlive them


def test_memory_is_a_few_batches_not_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1024)
    rng = np.random.default_rng(0)
    file, n_bytes = tmp_path / "z.parquet", 40_000 * 256 * 4
    Z = random_unit(rng, 40_000, 256).astype(np.float32)
    parquet_file(file, Z, row_group_size=40_000, compression="none", use_dictionary=False)
    expected, pool = Z[::1000].copy(), pa.proxy_memory_pool(pa.default_memory_pool())
    POOLS.append(pool)
    del Z
    default = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        table = table_from_parquet(tmp_path / "t", file, model_id="toy")
        most = pool.max_memory()
        pq.read_table(file)  # the measure notices a whole file
        whole = pool.max_memory()
    finally:
        pa.set_memory_pool(default)
    np.testing.assert_array_equal(table[::1000], expected)
    assert most < n_bytes / 4
    assert whole > n_bytes


# Back


def test_a_selection_joins_by_id():
    frame = pd.DataFrame(
        {"id": ["4.jpg", "0.jpg", "4.jpg", "1.jpg"], "place": list("abcd")}, index=[9, 9, 3, 1]
    )
    before = frame.copy()
    joined = join_selection(frame, make_selection())
    pd.testing.assert_frame_equal(frame, before)
    assert joined.index.tolist() == [9, 9, 3, 1]
    assert joined.columns.tolist() == ["id", "place", "index", "selected", "sas"]
    assert joined["selected"].tolist() == [True, False, True, True]
    assert joined["selected"].dtype == bool
    assert joined["sas"].round(1).tolist() == [0.8, 0.0, 0.8, 0.2]


def test_every_image_joined_is_the_selection_itself():
    selection = make_selection()
    order = np.random.default_rng(0).permutation(6)
    joined = join_selection(pd.DataFrame({"id": selection.ids[order]}), selection)
    chosen = joined.loc[joined["selected"], "index"]
    np.testing.assert_array_equal(np.sort(chosen), selection.indices)


def test_images_that_it_does_not_know_are_missing_not_left_out():
    joined = join_selection(pd.DataFrame({"id": ["9.jpg", "1.jpg"]}), make_selection())
    assert joined["selected"].isna().tolist() == [True, False]
    assert joined["selected"][1] is np.True_ or joined["selected"][1] is True
    assert joined["sas"].isna().tolist() == [True, False]


def test_whole_numbers_are_ids_too():
    selection = make_selection(ids=list("012345"))
    joined = join_selection(pd.DataFrame({"key": [4, 2]}), selection, id_column="key", prefix="s_")
    assert joined.columns.tolist() == ["key", "s_index", "s_selected", "s_sas"]
    assert joined["s_selected"].tolist() == [True, False]


def test_what_cannot_be_joined_is_refused():
    frame = pd.DataFrame({"id": ["1.jpg"], "sas": [0.5]})
    with pytest.raises(InvalidInputError, match=r"'sas' is\. Rename it, or pass `prefix=`"):
        join_selection(frame, make_selection())
    frame = frame.drop(columns="sas")
    with pytest.raises(InvalidInputError, match="it has no ids"):
        join_selection(frame, make_selection(ids=None))
    with pytest.raises(InvalidInputError, match="it has one id twice"):
        join_selection(frame, make_selection(ids=["1.jpg"] * 6))
    with pytest.raises(InvalidInputError, match="column 'key' must be there; got 'id'"):
        join_selection(frame, make_selection(), id_column="key")
    with pytest.raises(InvalidInputError, match=r"such as '0\.jpg'; it knows none of '7', '8'"):
        join_selection(pd.DataFrame({"id": [7, 8]}), make_selection())
    with pytest.raises(InvalidInputError, match="it knows none of none"):
        join_selection(pd.DataFrame({"id": []}), make_selection())


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch, Z):
    table, file = pa.table({"embedding": arrow_column(Z, "list")}), tmp_path / "z.parquet"
    file.touch()

    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[parquet\]"'):
        embeddings_of(table)
    with pytest.raises(MissingDependencyError, match=r'pip install "clip_al\[parquet\]"'):
        table_from_parquet(tmp_path / "t", file, model_id="toy")


def test_probabilities_of_a_frame_are_no_embeddings():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(random_probabilities(rng, 5, 3), columns=list("abc"))
    np.testing.assert_array_equal(embeddings_of(frame, ["b", "c"]), frame[["b", "c"]])
