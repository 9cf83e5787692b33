"""Rows that come in blocks, as one array on disk: what a table is made of afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import unit_block
from clip_al.arrays.checks import check_embeddings
from clip_al.errors import InvalidInputError, not_finite

UNIT_WITHIN = 1e-4
"""Rows whose length is as near to 1 are left as they are."""


class RowFile(NamedTuple):
    """Rows on disk, there as long as the block that they were made in.

    Parameters
    ----------
    rows : memmap of shape (n, d), float32
    n_scaled : int
        How many had another length than 1, and were brought to it.
    """

    rows: NDArray[np.float32]
    n_scaled: int


@contextmanager
def row_file(
    folder: Path, blocks: Iterable[NDArray[Any]], name: str, *, normalize: bool
) -> Iterator[RowFile]:
    """Write blocks of rows into a file beside `folder`, and give them as one array.

    Parameters
    ----------
    folder : Path
        The table that will be made; the file has its name and stands beside it.
    blocks : iterable of array-like of shape (b, d)
        Of one width.
    name : str
        What messages call the rows.
    normalize : bool
        Whether to bring rows to unit length.

    Raises
    ------
    InvalidInputError
        Where there is no row, widths differ, a row holds NaN or infinity, or, with `normalize`,
        is all zeros; rows are counted from the first block on.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        path, n, width, n_scaled = Path(scratch) / "rows.f4", 0, 0, 0
        with path.open("wb") as file:
            for given in blocks:
                if not len(given):
                    continue
                block = check_embeddings(given, name, width=width or None, finite=False)
                n_scaled += _check_rows(block, n, name, normalize)
                block = unit_block(block, slice(0, len(block))) if normalize else block
                file.write(np.ascontiguousarray(block, dtype=np.float32).data)
                n, width = n + len(block), block.shape[1]
        if n == 0:
            raise InvalidInputError(f"{name} must hold at least one row; got none. Pass others.")
        yield RowFile(np.memmap(path, dtype=np.float32, mode="r", shape=(n, width)), n_scaled)


def _check_rows(block: NDArray[Any], start: int, name: str, normalize: bool) -> int:
    """Raise where a row has no direction; return how many are not of unit length."""
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if bad.size:
        raise not_finite(name, (bad + start).tolist())
    if not normalize:
        return 0
    zero = np.flatnonzero(~block.any(axis=1))
    if zero.size:
        raise InvalidInputError(
            f"Every embedding must have a direction; row {start + zero[0]} of `{name}` is all "
            "zeros. Leave it out, or encode it again."
        )
    length_b = np.linalg.norm(np.asarray(block, dtype=np.float64), axis=1)
    return int((np.abs(length_b - 1) > UNIT_WITHIN).sum())
