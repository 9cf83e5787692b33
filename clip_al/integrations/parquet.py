"""Parquet: files of embeddings, larger than memory if need be, into an `EmbeddingTable`.

pyarrow is imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from clip_al.errors import InvalidInputError
from clip_al.integrations.frames import check_columns, list_rows, pyarrow_module
from clip_al.table.embedding_table import EmbeddingTable
from clip_al.table.files import read_meta
from clip_al.table.row_file import row_file

BATCH_ROWS = 8192
BUFFER_BYTES = 2**20


def table_from_parquet(
    directory: str | os.PathLike[str],
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    column: str = "embedding",
    id_column: str | None = "id",
    path_column: str | None = None,
    normalize: bool = False,
    **table: Any,
) -> EmbeddingTable:
    """Write the embeddings of Parquet files as a table, without holding them in memory.

    Parameters
    ----------
    directory : path
        New or empty.
    source : path or sequence of path
        Files, or a folder of ``.parquet`` files, read in the order of their names.
    column, id_column, path_column : str
        Lists of one length, what the images are called (None: their paths or positions), and
        where they are.
    normalize : bool, default=False
        Bring rows to unit length, in place of refusing others.
    **table
        Further arguments of `EmbeddingTable.from_array`: `model_id`, which is needed, `dtype`,
        `preprocessing`, `overwrite`.

    Returns
    -------
    EmbeddingTable
        What ``EmbeddingTable.from_array`` writes for the same rows, bit for bit.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where files or columns are missing, lists differ in length, and as `from_array`; a
        table that is there is replaced only after all rows were found fit.
    MissingDependencyError
        Where pyarrow is not installed.

    Notes
    -----
    One pass over the files. Memory: a few batches of 8,192 rows, and the ids; never a whole
    column, however large its row group. Disk: 4 n d bytes beside `directory` while it runs.
    """
    folder, files = Path(os.path.abspath(directory)), parquet_files(source)  # noqa: PTH100
    if read_meta(folder) is not None and not table.get("overwrite", False):
        raise InvalidInputError(
            f"`directory` must be new or empty; {str(folder)!r} holds a table. Name another, or "
            "pass overwrite=True to replace it."
        )
    extra = [name for name in (id_column, path_column) if name is not None]
    found: dict[str, list[Any]] = {name: [] for name in extra}

    def blocks() -> Iterator[Any]:
        for batch in parquet_batches(files, [column, *extra]):
            yield list_rows(batch.column(column), column)
            for name, values in found.items():
                values += batch.column(name).to_pylist()

    with row_file(folder, blocks(), column, normalize=normalize) as file:
        return EmbeddingTable.from_array(
            folder,
            file.rows,
            None if id_column is None else found[id_column],
            paths=None if path_column is None else found[path_column],
            **table,
        )


def parquet_files(source: Any) -> list[Path]:
    """Return the files that are meant: one, several, or all of a folder."""
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    files: list[Path] = []
    for path in map(Path, given):
        files += sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InvalidInputError(
            "`source` must name Parquet files, or a folder that holds some; got "
            f"{', '.join(map(str, given[:3])) or 'none'}. Correct the path."
        )
    return files


def parquet_batches(files: Sequence[Path], columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of files in order, a batch at a time."""
    parquet = pyarrow_module("parquet")
    for path in files:
        # A buffer: otherwise the columns of a whole row group are read at once.
        with parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as file:
            check_columns(file.schema_arrow.names, columns)
            yield from (b for b in file.iter_batches(BATCH_ROWS, columns=columns) if len(b))
