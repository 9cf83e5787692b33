"""Files of embeddings that people have, in five formats, into an `EmbeddingTable`.

.npy, .npz, Parquet, safetensors, and a folder that `datasets` wrote with ``save_to_disk``. The
packages that read them are imported on first use.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError, LeftOutWarning, ModelMismatchError, missing_extra
from clip_al.handed_in.match import ID_NAMES
from clip_al.handed_in.tables import load_npy, read_table
from clip_al.integrations.frames import list_rows, pyarrow_module
from clip_al.integrations.parquet import parquet_batches, parquet_files
from clip_al.table.embedding_table import EmbeddingTable
from clip_al.table.files import read_meta
from clip_al.table.row_file import row_file

BATCH_ROWS = 8192
EMBEDDING_NAMES = (
    "embedding", "embeddings", "image_embedding", "image_embeddings", "image_embeds",
    "image_features", "features", "vector", "vectors", "emb", "z", "x",
)  # fmt: skip
"""What rows of embeddings are called, the likeliest first."""
MORE_ID_NAMES = (*ID_NAMES, "ids", "image_ids", "paths", "filenames", "file_names", "files",
                 "images", "names", "key", "keys", "__key__")  # fmt: skip
"""What ids are called: as the columns of files of labels, and in the plural."""
FORMATS = ".npy, .npz, .parquet, .safetensors, or a folder of a Hugging Face dataset"


@dataclass(frozen=True)
class RowsRead:
    """Embeddings in a file, not read yet.

    Parameters
    ----------
    column : str
        What the file calls them; empty where it holds nothing else.
    blocks : callable
        Yields them in order, (b, d) a block.
    ids : list of str or None
        What it calls the images, where it says so.
    ids_by : str
        What it calls the ids.
    """

    column: str
    blocks: Callable[[], Iterator[NDArray[Any]]]
    ids: list[str] | None = None
    ids_by: str = ""


def table_from_file(
    directory: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    column: str | None = None,
    id_column: str | None = None,
    ids: str | os.PathLike[str] | None = None,
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
    model_id: str = "",
    width: int | None = None,
    **table: Any,
) -> tuple[EmbeddingTable, str]:
    """Write the embeddings of a file as a table, rows brought to unit length.

    Parameters
    ----------
    directory : path
        New or empty.
    source : path
        .npy, .npz, .parquet (a file or a folder of them), .safetensors, or a folder that
        ``Dataset.save_to_disk`` of Hugging Face wrote.
    column, id_column : str, optional
        What the file calls the rows and the ids; left out, its only candidate, or one that is
        called as such things are.
    ids : path, optional
        A file of ids in the order of the rows, in place of the file's own: one a line, a CSV
        with a column of them, or .npy.
    split : str, optional
        Of a Hugging Face dataset that has several.
    images : path, optional
        The folder that the ids are paths in, for pages with pictures. Left out, ids that are
        paths of files count as such.
    model_id : str, default=""
        The model that made them; empty is not known.
    width : int, optional
        How long that model's embeddings are.
    **table
        Further arguments of `EmbeddingTable.from_array`: `dtype`, `overwrite`.

    Returns
    -------
    table : EmbeddingTable
    how : str
        What was taken from the file.

    Raises
    ------
    ModelMismatchError
        Where rows are not of the model's width.
    InvalidInputError, InvalidTypeError
        Where the file has no rows of numbers, a row is not finite or all zeros, a name is not
        there or several things may be meant, ids repeat or are not as many as rows.
    MissingDependencyError
        Where the package that reads the format is not installed.

    Notes
    -----
    One pass in blocks; a .npy or Parquet file may be larger than memory. Disk: 4 n d bytes beside
    `directory` while it runs.
    """
    folder, path = Path(os.path.abspath(directory)), as_path(source, "source")  # noqa: PTH100
    if read_meta(folder) is not None and not table.get("overwrite", False):
        raise InvalidInputError(
            f"`directory` must be new or empty; {str(directory)!r} holds a table. Name another, or "
            "pass overwrite=True to replace it."
        )
    read = open_rows(path, column, id_column, split)
    called = read.column or path.name
    with row_file(folder, read.blocks(), called, normalize=True) as file:
        n, d = file.rows.shape
        if width is not None and d != width:
            raise ModelMismatchError(
                f"Embeddings of {model_id} have {width} columns; those of {path} have {d}."
            )
        names, told = _ids(read, ids, path, n)
        paths, where = _paths(names, images)
        made = EmbeddingTable.from_array(
            folder, file.rows, names, paths=paths, model_id=model_id, **table
        )
    column_told = f" from `{read.column}`" if read.column else ""
    scaled = f"; {file.n_scaled:,} rows were scaled to unit length" if file.n_scaled else ""
    return made, f"{n:,} rows{column_told}, {told}{where}{scaled}"


def open_rows(path: Path, column: str | None, id_column: str | None, split: str | None) -> RowsRead:
    """Return what a file holds; see `table_from_file`."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise InvalidInputError(
            f"A file of embeddings must be there; {path} is not. Check the path."
        )
    is_dataset = path.is_dir() and not any(path.rglob("*.parquet"))
    if split is not None and not is_dataset:
        raise InvalidInputError(
            f"`split` is of a Hugging Face dataset; got it with {path}. Leave it out."
        )
    if is_dataset:
        return _of_dataset(path, column, id_column, split)
    if suffix in (".parquet", ".pq") or path.is_dir():
        return _of_parquet(path, column, id_column)
    if suffix == ".npz":
        return _of_npz(path, column, id_column)
    if suffix == ".safetensors":
        return _of_safetensors(path, column, id_column)
    if suffix != ".npy":
        raise InvalidInputError(
            f"Embeddings are read from {FORMATS}; got {path}. Save them as one of these."
        )
    for name, value in (("column", column), ("id_column", id_column)):
        if value is not None:
            raise InvalidInputError(
                f"`{name}` names a part of a file; {path} is one array. Leave it out; ids come "
                "with `ids`."
            )
    return _of_arrays({"": load_npy(path)}, path, None, None)


def _of_npz(path: Path, column: str | None, id_column: str | None) -> RowsRead:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays, objects = {}, []
            for name in file.files:
                try:
                    arrays[name] = file[name]
                except ValueError:  # an array of objects: reading it would run code of the file
                    if name in (column, id_column):
                        raise
                    objects.append(name)
    except (ValueError, OSError, EOFError, KeyError) as exc:
        raise InvalidInputError(
            f"{path} must be arrays of numbers and strings as `numpy.savez` writes them; {exc}. "
            "Save ids as `np.array(ids, dtype=str)`."
        ) from exc
    except Exception as exc:  # zipfile and zlib raise their own
        raise InvalidInputError(f"{path} cannot be read: {exc}. Copy it again.") from exc
    if objects:
        warnings.warn(
            f"In {path} left out: {', '.join(objects)}, of Python objects, which could run code. "
            "To have ids, save them as `np.array(ids, dtype=str)`.",
            LeftOutWarning, stacklevel=4,
        )  # fmt: skip
    return _of_arrays(arrays, path, column, id_column)


def _of_safetensors(path: Path, column: str | None, id_column: str | None) -> RowsRead:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:  # numpy has no bfloat16
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as exc:
        raise InvalidInputError(f"{path} cannot be read: {exc}. Copy it again.") from exc
    arrays = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in tensors.items()
    }
    for name, text in metadata.items():  # the format has no strings but these
        listed = _json_list(text)
        if listed is not None and name not in arrays:
            arrays[name] = np.array(listed, dtype=str)
    return _of_arrays(arrays, path, column, id_column)


def _json_list(text: str) -> list[str] | None:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    texts = isinstance(listed, list) and all(isinstance(value, str | int) for value in listed)
    return [str(value) for value in listed] if texts and listed else None


def _of_arrays(
    arrays: Mapping[str, NDArray[Any]], path: Path, column: str | None, id_column: str | None
) -> RowsRead:
    rows = {name: a for name, a in arrays.items() if a.ndim == 2 and a.dtype.kind == "f"}
    described = ", ".join(
        f"`{name}` {a.dtype} {a.shape}" if name else f"one of {a.dtype}, shape {a.shape}"
        for name, a in arrays.items()
    )
    chosen = _choose(rows, column, path, described)
    array = arrays[chosen]
    fits = {
        name: a
        for name, a in arrays.items()
        if a.shape == array.shape[:1] and a.dtype.kind in "iuUS"
    }
    by = _id_column(list(fits), id_column, path, described)
    step = block_rows(array.shape[1])

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(array), step):
            yield array[start : start + step]

    return RowsRead(chosen, blocks, None if by is None else _texts(fits[by]), by or "")


def _of_parquet(path: Path, column: str | None, id_column: str | None) -> RowsRead:
    parquet = pyarrow_module("parquet")
    files = parquet_files(path)
    with parquet.ParquetFile(files[0]) as first:
        schema = first.schema_arrow
    chosen, by = _columns(schema, path, column, id_column)
    return _in_batches(
        lambda: parquet_batches(files, [chosen, *([] if by is None else [by])]), chosen, by
    )


def _of_dataset(
    path: Path, column: str | None, id_column: str | None, split: str | None
) -> RowsRead:
    try:
        import datasets
    except ImportError as exc:
        raise missing_extra(
            f"The dataset {path} needs datasets", "huggingface", ", or save it as Parquet"
        ) from exc
    try:
        found = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as exc:
        raise InvalidInputError(
            f"Embeddings are read from {FORMATS}; {path} is a folder of other things. Name the "
            "folder that `save_to_disk` wrote."
        ) from exc
    if isinstance(found, datasets.DatasetDict):
        splits = list(found)
        if split is None and len(splits) > 1:
            raise InvalidInputError(
                f"`split` must name one of the splits of {path}, {', '.join(splits)}; got none. "
                "Pass it."
            )
        if split is not None and split not in splits:
            raise InvalidInputError(
                f"`split` must name one of the splits of {path}, {', '.join(splits)}; got "
                f"{split!r}. Correct it."
            )
        found = found[split or splits[0]]
    chosen, by = _columns(found.features.arrow_schema, path, column, id_column)
    wanted = found.select_columns([chosen, *([] if by is None else [by])]).with_format("arrow")
    return _in_batches(lambda: wanted.iter(BATCH_ROWS), chosen, by)


def _columns(
    schema: Any, path: Path, column: str | None, id_column: str | None
) -> tuple[str, str | None]:
    """Return the columns of rows and of ids in a table of Arrow."""
    types = pyarrow_module("types")

    def is_list(kind: Any) -> bool:
        kind = getattr(kind, "storage_type", kind)
        listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(listed and types.is_floating(kind.value_type))

    described = ", ".join(f"`{field.name}` {field.type}" for field in schema)
    lists = [field.name for field in schema if is_list(field.type)]
    chosen = _choose(lists, column, path, described)
    named = [
        field.name
        for field in schema
        if types.is_string(field.type)
        or types.is_large_string(field.type)
        or types.is_integer(field.type)
    ]
    return chosen, _id_column(named, id_column, path, described)


def _in_batches(batches: Callable[[], Iterable[Any]], column: str, by: str | None) -> RowsRead:
    """Return rows that are read a batch of Arrow at a time; the ids are there after the last."""
    ids: list[str] = []

    def blocks() -> Iterator[NDArray[Any]]:
        for batch in batches():
            part = batch.column(column)
            for chunk in getattr(part, "chunks", [part]):
                if len(chunk):
                    yield list_rows(chunk, column)
            if by is not None:
                names = batch.column(by).to_pylist()
                if None in names:
                    raise InvalidInputError(
                        f"The column `{by}` must name each row; row {len(ids) + names.index(None)} "
                        "has no value. Fill it in, or name another with `id_column`."
                    )
                ids.extend(map(str, names))

    return RowsRead(column, blocks, None if by is None else ids, by or "")


def _choose(candidates: Iterable[str], wanted: str | None, path: Path, described: str) -> str:
    """Return which of several holds the embeddings."""
    names = list(candidates)
    if wanted is not None:
        if wanted in names:
            return wanted
        why = f"`column` must name rows of floats, (n, d); got {wanted!r}"
    elif len(names) == 1:
        return names[0]
    else:
        plain = {name.casefold(): name for name in reversed(names)}
        likely = next((plain[name] for name in EMBEDDING_NAMES if name in plain), None)
        if likely is not None:
            return likely
        several = ", ".join(f"`{name}`" for name in names)
        why = f"it may be {several}" if names else "there are none"
    raise InvalidInputError(
        f"{path} must hold embeddings, rows of floats of one length; {why}. It has "
        f"{described or 'nothing'}. Name the right one with `column`."
    )


def _id_column(names: Sequence[str], wanted: str | None, path: Path, described: str) -> str | None:
    """Return which of the columns that may be ids is one."""
    if wanted is not None:
        if wanted not in names:
            raise InvalidInputError(
                f"`id_column` must name texts or whole numbers, one a row; got {wanted!r}. {path} "
                f"has {described}. Name one of these."
            )
        return wanted
    plain = {name.casefold(): name for name in reversed(names)}
    return next((plain[name] for name in MORE_ID_NAMES if name in plain), None)


def _texts(array: NDArray[Any]) -> list[str]:
    if array.dtype.kind == "S":
        return [value.decode("utf-8", "surrogateescape") for value in array.tolist()]
    return [str(value) for value in array.tolist()]


def _ids(
    read: RowsRead, companion: str | os.PathLike[str] | None, path: Path, n: int
) -> tuple[list[str] | None, str]:
    """Return what the images are called, and how that was found."""
    if companion is not None:
        names = _companion(as_path(companion, "ids"), n)
        return names, f"ids from {companion}"
    if read.ids is None:
        return None, f"ids are the numbers of the rows, as {path.name} has none"
    return read.ids, f"ids from `{read.ids_by}`"


def _companion(path: Path, n: int) -> list[str]:
    """Return the ids in a file, one for each of n rows."""
    if path.suffix.lower() == ".npy":
        array = load_npy(path)
        names = _texts(array) if array.ndim == 1 and array.dtype.kind in "iuUS" else []
        found = len(array) if array.ndim else 0
    else:
        cells = read_table(path)
        at = cells.find(*MORE_ID_NAMES)
        if at is None and len(cells) != n and len(cells.names) == 1 and cells.form == "csv":
            cells = cells.with_first_line()  # one id a line, without a header
        if at is None and len(cells.names) > 1:
            raise InvalidInputError(
                f"{path} must have a column of ids, such as `id`; got {cells.described()}. Rename "
                "it."
            )
        names, found = cells.columns[at or 0].tolist(), len(cells)
    if len(names) != n:
        raise InvalidInputError(
            f"{path} must name each of the {n:,} rows, in their order; got {found:,}. Pass one id "
            "a row."
        )
    return names


def _paths(
    ids: list[str] | None, images: str | os.PathLike[str] | None
) -> tuple[list[str] | None, str]:
    """Return where the images are, as far as ids say so, and how many are there."""
    if images is None:
        if ids and all(os.path.isfile(name) for name in ids):  # noqa: PTH113
            return ids, ", paths of files"
        return None, ""
    if ids is None:
        raise InvalidInputError(
            "The ids must be paths in the folder of images; there are none, and rows alone do not "
            "say which image is whose. Pass `ids`, or leave the folder out."
        )
    paths = [os.path.join(os.fspath(images), name) for name in ids]  # noqa: PTH118
    there = sum(map(os.path.isfile, paths))
    if not there:
        raise InvalidInputError(
            f"The ids must be paths in the folder of images; {str(images)!r} has no file "
            f"{ids[0]!r}, nor any other of the {len(ids):,}. Name the folder that they begin in."
        )
    return paths, f", {there:,} of them files in {images}"
