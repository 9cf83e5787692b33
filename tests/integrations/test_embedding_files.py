"""Embeddings that people have: five formats, one table, and errors that name what is there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from clip_al.errors import (
    InvalidInputError,
    LeftOutWarning,
    MissingDependencyError,
    ModelMismatchError,
)
from clip_al.integrations.embedding_files import table_from_file
from clip_al.table.embedding_table import EmbeddingTable

N, D = 50, 6
IDS = [f"p{i:02d}.jpg" for i in range(N)]


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_npz(folder: Path, rows: np.ndarray) -> Path:
    np.savez(folder / "e.npz", emb=rows, ids=np.array(IDS), labels=np.arange(N), mean=rows[:3])
    return folder / "e.npz"


def as_npz_bytes(folder: Path, rows: np.ndarray) -> Path:
    np.savez(folder / "e.npz", embeddings=rows, path=np.array(IDS, dtype="S"))
    return folder / "e.npz"


def as_parquet(folder: Path, rows: np.ndarray) -> Path:
    frame = pd.DataFrame({"image_id": IDS, "label": 1, "embedding": list(rows)})
    frame.to_parquet(folder / "e.parquet")
    return folder / "e.parquet"


def as_parquet_folder(folder: Path, rows: np.ndarray) -> Path:
    (folder / "parts").mkdir()
    frame = pd.DataFrame({"id": IDS, "embedding": list(rows)})
    frame[:20].to_parquet(folder / "parts" / "a.parquet")
    frame[20:].to_parquet(folder / "parts" / "b.parquet")
    return folder / "parts"


def as_safetensors(folder: Path, rows: np.ndarray) -> Path:
    tensors = {"image_embeds": torch.tensor(rows), "labels": torch.arange(N)}
    save_file(tensors, folder / "e.safetensors", metadata={"ids": json.dumps(IDS), "format": "pt"})
    return folder / "e.safetensors"


def as_dataset(folder: Path, rows: np.ndarray) -> Path:
    made = datasets.Dataset.from_dict({"file_name": IDS, "label": [0] * N, "emb": rows.tolist()})
    made = made.cast_column("emb", datasets.Sequence(datasets.Value("float32")))
    made.save_to_disk(str(folder / "ds"))
    return folder / "ds"


@pytest.mark.parametrize(
    ("save", "column", "by"),
    [
        (as_npz, "emb", "ids"),
        (as_npz_bytes, "embeddings", "path"),
        (as_parquet, "embedding", "image_id"),
        (as_parquet_folder, "embedding", "id"),
        (as_safetensors, "image_embeds", "ids"),
        (as_dataset, "emb", "file_name"),
    ],
)
def test_each_format_gives_the_same_table(tmp_path, rows, save, column, by):
    path = save(tmp_path, rows)
    table, how = table_from_file(tmp_path / "t", path, model_id="dino")
    np.testing.assert_allclose(table.embeddings, unit(rows), atol=1e-6)
    assert table.ids.tolist() == IDS
    assert table.model_id == "dino"
    told = f"{N} rows from `{column}`, ids from `{by}`; {N} rows were scaled to unit length"
    assert how == told
    assert EmbeddingTable.open(tmp_path / "t").shape == (N, D)


def test_an_array_alone_has_numbers_of_rows_or_a_list_beside_it(tmp_path, rows):
    np.save(tmp_path / "e.npy", unit(rows))
    table, how = table_from_file(tmp_path / "t", tmp_path / "e.npy")
    assert table.ids.tolist() == [str(i) for i in range(N)]
    assert how == f"{N} rows, ids are the numbers of the rows, as e.npy has none"
    lines = tmp_path / "ids.txt"
    lines.write_text("\n".join(IDS))
    table, how = table_from_file(tmp_path / "u", tmp_path / "e.npy", ids=lines)
    assert table.ids.tolist() == IDS
    assert how == f"{N} rows, ids from {lines}"
    (tmp_path / "ids.csv").write_text("label;id\n" + "\n".join(f"cat;{name}" for name in IDS))
    table, _ = table_from_file(tmp_path / "v", tmp_path / "e.npy", ids=tmp_path / "ids.csv")
    assert table.ids.tolist() == IDS
    np.save(tmp_path / "ids.npy", np.array(IDS))
    table, _ = table_from_file(tmp_path / "w", tmp_path / "e.npy", ids=tmp_path / "ids.npy")
    assert table.ids.tolist() == IDS


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_read(tmp_path, rows, dtype):
    np.save(tmp_path / "e.npy", (rows * 50).astype(dtype))
    table, _ = table_from_file(tmp_path / "t", tmp_path / "e.npy")
    np.testing.assert_allclose(table.embeddings, unit(rows), atol=2e-3)


def test_bfloat16_is_read(tmp_path, rows):
    save_file({"e": torch.tensor(rows).bfloat16()}, tmp_path / "e.safetensors")
    table, _ = table_from_file(tmp_path / "t", tmp_path / "e.safetensors")
    np.testing.assert_allclose(table.embeddings, unit(rows), atol=2e-2)


def test_ids_that_are_paths_are_where_the_images_are(tmp_path, rows, monkeypatch):
    (tmp_path / "photos").mkdir()
    for name in IDS[:30]:
        (tmp_path / "photos" / name).touch()
    path = as_npz_bytes(tmp_path, rows)
    table, how = table_from_file(tmp_path / "t", path, images=tmp_path / "photos")
    assert table.paths[0] == str(tmp_path / "photos" / IDS[0])
    assert f"ids from `path`, 30 of them files in {tmp_path / 'photos'};" in how
    with pytest.raises(InvalidInputError, match=r"has no file 'p00\.jpg', nor any other of the 50"):
        table_from_file(tmp_path / "u", path, images=tmp_path / "nothing")
    for name in IDS:
        (tmp_path / "photos" / name).touch()
    monkeypatch.chdir(tmp_path / "photos")
    table, how = table_from_file(tmp_path / "v", path)
    assert ", paths of files;" in how
    assert table.paths[3] == str(tmp_path / "photos" / IDS[3])


def test_a_split_of_several_is_named(tmp_path, rows):
    part = datasets.Dataset.from_dict({"id": IDS, "emb": rows.tolist()})
    folder = tmp_path / "ds"
    datasets.DatasetDict({"train": part, "test": part.select(range(9))}).save_to_disk(str(folder))
    with pytest.raises(InvalidInputError, match=r"one of the splits of .*, train, test; got none"):
        table_from_file(tmp_path / "t", folder)
    with pytest.raises(InvalidInputError, match="got 'val'"):
        table_from_file(tmp_path / "t", folder, split="val")
    table, _ = table_from_file(tmp_path / "t", folder, split="test")
    assert len(table) == 9


def bad_value(rows: np.ndarray) -> np.ndarray:
    rows[7, 2] = np.nan
    return rows


def no_direction(rows: np.ndarray) -> np.ndarray:
    rows[9] = 0
    return rows


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (bad_value, "`embeddings` must be finite; row 7 holds NaN or infinity"),
        (no_direction, "row 9 of `embeddings` is all zeros"),
    ],
)
def test_rows_without_a_direction_are_named(tmp_path, rows, harm, message):
    path = as_npz_bytes(tmp_path, harm(rows))
    with pytest.raises(InvalidInputError, match=message):
        table_from_file(tmp_path / "t", path)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("arrays", "more", "message"),
    [
        ({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, {}, "it may be `a`, `b`"),
        ({"a": np.ones(3)}, {}, "there are none. It has `a` float64"),
        ({"a": np.ones((3, 2))}, {"column": "c"}, "got 'c'"),
        ({"a": np.eye(3)}, {"id_column": "c"}, "`id_column` must name .* got 'c'"),
        ({"a": np.eye(3), "id": np.array(["x", "y", "x"])}, {}, "1 repeated: 'x'"),
        ({"a": np.eye(3), "id": np.array(["x", "y"])}, {"id_column": "id"}, "`id_column` must"),
        ({"a": np.eye(3)}, {"split": "train"}, "`split` is of a Hugging Face dataset"),
        ({"a": np.eye(3)}, {"images": "."}, "The ids must be paths in the folder"),
    ],
)
def test_what_may_mean_several_things_is_refused(tmp_path, arrays, more, message):
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(InvalidInputError, match=message):
        table_from_file(tmp_path / "t", tmp_path / "e.npz", **more)


def test_other_files_are_refused(tmp_path, rows):
    with pytest.raises(InvalidInputError, match="must be there;"):
        table_from_file(tmp_path / "t", tmp_path / "none.npy")
    (tmp_path / "e.pt").write_bytes(b"x")
    with pytest.raises(InvalidInputError, match=r"Embeddings are read from \.npy, \.npz"):
        table_from_file(tmp_path / "t", tmp_path / "e.pt")
    for name in ("e.npy", "e.npz", "e.safetensors"):
        (tmp_path / name).write_bytes(b"other things" * 9)
        with pytest.raises(InvalidInputError, match=name):
            table_from_file(tmp_path / "t", tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError, match="is a folder of other things"):
        table_from_file(tmp_path / "t", tmp_path / "folder")
    np.savez(tmp_path / "o.npz", a=rows, ids=np.array(IDS, dtype=object))
    with pytest.raises(InvalidInputError, match="Save ids as"):
        table_from_file(tmp_path / "t", tmp_path / "o.npz", id_column="ids")
    with pytest.warns(LeftOutWarning, match=r"left out: ids, of Python objects.*dtype=str"):
        _, how = table_from_file(tmp_path / "o", tmp_path / "o.npz")
    assert "ids are the numbers of the rows" in how
    np.save(tmp_path / "e.npy", rows)
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    with pytest.raises(InvalidInputError, match="each of the 50 rows, in their order; got 3"):
        table_from_file(tmp_path / "t", tmp_path / "e.npy", ids=tmp_path / "ids.txt")
    with pytest.raises(ModelMismatchError, match=r"have 512 columns; those of .* have 6"):
        table_from_file(tmp_path / "t", tmp_path / "e.npy", model_id="clip", width=512)


def test_a_table_that_is_there_stays_without_overwrite(tmp_path, rows):
    np.save(tmp_path / "e.npy", rows)
    table_from_file(tmp_path / "t", tmp_path / "e.npy")
    with pytest.raises(InvalidInputError, match="must be new or empty"):
        table_from_file(tmp_path / "t", tmp_path / "e.npy")
    np.save(tmp_path / "f.npy", rows[:9])
    table, _ = table_from_file(tmp_path / "t", tmp_path / "f.npy", overwrite=True)
    assert len(table) == 9


def test_a_missing_package_is_named(tmp_path, rows, monkeypatch):
    dataset, parquet = as_dataset(tmp_path, rows), as_parquet(tmp_path, rows)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"needs datasets.*clip_al\[huggingface\]"):
        table_from_file(tmp_path / "t", dataset)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match=r"pyarrow.*clip_al\[parquet\]"):
        table_from_file(tmp_path / "t", parquet)
