"""A file that names images: where each is, and what to call it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_al.errors import InvalidInputError
from clip_al.handed_in.rows import notes_of
from clip_al.handed_in.tables import TextTable, is_missing, read_table
from clip_al.images.folders import image_extensions

PATH_NAMES = (
    "path", "filepath", "file_path", "image_path", "url", "filename", "file_name", "file", "image",
    "image_name", "img", "name",
)  # fmt: skip
"""What a column of paths is called, the likeliest first."""
LIST_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq")
"""Endings of files that name images."""


@dataclass(frozen=True)
class ImageListRead:
    """What `read_image_list` found.

    Attributes
    ----------
    paths : list of str
        Absolute, or URLs.
    ids : list of str
        From a column ``id`` or ``image_id``; else the paths as they are written.
    how : str
        What was taken for what.
    """

    paths: list[str]
    ids: list[str]
    how: str


def read_image_list(source: str | os.PathLike[str]) -> ImageListRead:
    """Read where images are.

    Parameters
    ----------
    source : path
        CSV or Parquet with a column of paths, such as ``path`` or ``filename``, and perhaps
        ``id``; or one path a line. Paths are relative to the folder of the file or, where none
        is there, to the current one.

    Raises
    ------
    InvalidInputError
        Where there is no such file, no column of paths or several to choose from, or a row
        without a path.
    MissingDependencyError
        Where a Parquet file is to be read without pyarrow.
    """
    file = Path(source)
    cells, at = _path_column(read_table(file), file)
    written = cells.columns[at].tolist()
    empty = np.flatnonzero(is_missing(cells.columns[at]))
    if empty.size or not written:
        where = f"row {empty[0] + 1} has none" if written else "it has no row"
        raise InvalidInputError(f"{file} must give each image a path; {where}. Fill it in.")
    named = cells.find("id", "image_id")
    ids = written if named in (None, at) else cells.columns[named or 0].tolist()
    paths, below = _absolute(written, file)
    column = f"the column `{cells.names[at]}`" if cells.names[at] else "its lines"
    by = "" if ids is written else f", ids by the column `{cells.names[named or 0]}`"
    return ImageListRead(
        paths, ids, f"{len(paths):,} images by {column}{below}{by}{notes_of(cells)}"
    )


def _path_column(cells: TextTable, file: Path) -> tuple[TextTable, int]:
    """Return the table and which column has the paths; a header that is a path is a row."""
    at = cells.find(*PATH_NAMES)
    if at is not None:
        return cells, at
    if len(cells.names) == 1:
        # A header of another name than those known, or the first of the paths.
        header = cells.names[0]
        is_path = _is_there(header, file) or _looks_like_a_path(header) or not len(cells)
        return (cells.with_first_line() if is_path else cells), 0
    at = cells.find("id", "image_id")
    if at is not None and len(cells) and _is_there(cells.columns[at][0], file):
        return cells, at
    raise InvalidInputError(
        f"{file} must say where images are, in a column `path` or `filename`; got "
        f"{cells.described()}. Rename one."
    )


def _looks_like_a_path(header: str) -> bool:
    return "://" in header or Path(header).suffix.lower() in image_extensions()


def _is_there(path: str, file: Path) -> bool:
    return (file.parent / path).is_file() or Path(path).is_file()


def _absolute(written: Sequence[str], file: Path) -> tuple[list[str], str]:
    """Return where the images are, and the folder that was added."""
    if all("://" in path for path in written):
        return list(written), ""
    if any("://" in path for path in written):
        raise InvalidInputError(
            f"{file} must name files or URLs alone; got both. Make a table of each."
        )
    if all(map(os.path.isabs, written)):
        return list(written), ""
    beside, here = os.path.abspath(file.parent), os.getcwd()  # noqa: PTH100, PTH109
    folder = beside
    if not any(os.path.isfile(os.path.join(beside, p)) for p in written) and any(  # noqa: PTH113, PTH118
        map(os.path.isfile, written)
    ):
        folder = here
    return [os.path.join(folder, path) for path in written], f", relative to {folder}"  # noqa: PTH118
