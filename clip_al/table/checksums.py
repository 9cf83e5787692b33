"""Is a table on disk what was written: a checksum for each block of rows and for each file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError
from clip_al.table.files import (
    INDEX,
    ROWS,
    SKIPPED,
    check_finished,
    damaged_table,
    file_digest,
    npy_header,
    read_meta,
    read_progress,
    row_checksums,
)

CHECKED_ON_OPEN = 2**24
"""Bytes of rows and index, each, up to which they are compared when a table is opened."""

AGAIN = (
    "Copy it again, or run the same `EmbeddingTable.create` or `clip-al embed` again: it encodes "
    "only what is damaged."
)
"""What to do about a part of a table that is damaged."""


def damaged_rows(folder: Path, meta: dict[str, Any]) -> list[slice]:
    """Return the blocks of rows that are not what was written; none without checksums.

    Reads all rows once, O(1) memory.
    """
    known = meta.get("checksums")
    if known is None:
        return []
    n_rows, step = int(meta["n"]), int(known["rows_per_block"])
    starts = range(0, n_rows, step)
    found = row_checksums(folder, meta, step)
    return [
        slice(start, min(start + step, n_rows))
        for start, was, now in zip(starts, known["rows"], found, strict=True)
        if was != now
    ]


def read_rows(folder: Path, meta: dict[str, Any], rows: slice) -> NDArray[np.float32]:
    """Return rows from start to stop, zeros where the file has no more."""
    dtype, d = np.dtype(meta["key"]["dtype"]), int(meta["d"])
    with (folder / ROWS).open("rb") as file:
        file.seek(len(npy_header(meta["n"], d, dtype)) + rows.start * d * dtype.itemsize)
        content = file.read((rows.stop - rows.start) * d * dtype.itemsize)
    found = np.zeros((rows.stop - rows.start) * d, dtype=dtype)
    whole = content[: len(content) // dtype.itemsize * dtype.itemsize]
    values = np.frombuffer(whole, dtype)
    found[: len(values)] = values
    return found.reshape(-1, d).astype(np.float32)


def has_header(folder: Path, meta: dict[str, Any]) -> bool:
    """Return whether the rows have the size, and begin, as their table says."""
    header = npy_header(meta["n"], meta["d"], meta["key"]["dtype"])
    file = folder / ROWS
    if not file.is_file() or file.stat().st_size != meta["bytes"][ROWS]:
        return False
    with file.open("rb") as rows:
        return rows.read(len(header)) == header


def check_small(folder: Path, meta: dict[str, Any]) -> None:
    """Raise where rows or index are damaged, if they are small enough to be read at once."""
    if meta.get("checksums") is None:
        return
    sizes = meta["bytes"]
    if sizes[INDEX] <= CHECKED_ON_OPEN and file_digest(folder / INDEX) != meta["index_sha256"]:
        raise damaged_table(folder, f"{INDEX} was edited or is damaged", AGAIN)
    if sizes[ROWS] <= CHECKED_ON_OPEN:
        blocks = damaged_rows(folder, meta)
        if blocks:
            raise damaged_table(folder, describe_rows(blocks), AGAIN)


def describe_rows(blocks: list[slice]) -> str:
    """Name damaged blocks of rows.

    Examples
    --------
    >>> describe_rows([slice(0, 64), slice(128, 130)])
    '2 blocks of its rows are not what was written (0 to 63, 128 to 129)'
    """
    named = ", ".join(f"{block.start} to {block.stop - 1}" for block in blocks[:5])
    more = ", ..." if len(blocks) > 5 else ""
    are = "block of its rows is" if len(blocks) == 1 else "blocks of its rows are"
    return f"{len(blocks)} {are} not what was written ({named}{more})"


def check_table(folder: Path) -> dict[str, Any]:
    """Compare every byte of a table with its checksums.

    Returns
    -------
    dict
        `complete`, `checksums` (whether the table has any: not those of 0.1.0), `images`, and
        `damaged`, a list of what is; empty where all is as it was written.

    Raises
    ------
    InvalidInputError
        Where there is no table, or its metadata are damaged.
    """
    meta = read_meta(folder)
    if meta is None:
        raise InvalidInputError(
            f"`directory` must hold a table of embeddings; found none in {str(folder)!r}. "
            "Make one with `EmbeddingTable.create` or `clip-al embed`."
        )
    result: dict[str, Any] = {
        "complete": meta["complete"],
        "checksums": "checksums" in meta,
        "images": meta["n"],
        "damaged": [],
    }
    if not meta["complete"]:
        return {**result, "done": read_progress(folder, meta)[0]}
    damaged = result["damaged"]
    try:
        check_finished(folder, meta)
    except InvalidInputError as exc:
        why = str(exc).partition(" is damaged: ")[2].partition(". Copy it again")[0]
        damaged.append(why or str(exc))
    known = {INDEX: meta.get("index_sha256"), **meta.get("checksums", {}).get("files", {})}
    for name in (INDEX, SKIPPED):
        file = folder / name
        if known.get(name) and file.is_file() and file_digest(file) != known[name]:
            damaged.append(f"{name} was edited or is damaged")
    if (folder / ROWS).is_file():
        blocks = damaged_rows(folder, meta)
        if blocks:
            damaged.append(describe_rows(blocks))
    return result
