"""Which row of a table that people bring belongs to which image: by id, path or file name.

TextTable, ids and paths of the images ──match_rows──▶ Match: a column, and an image a row
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError
from clip_al.handed_in.tables import TextTable, as_latin, numbers_of, short

ID_NAMES = (
    "id", "image_id", "path", "filepath", "file_path", "image_path", "filename", "file_name",
    "file", "image", "image_name", "img", "name",
)  # fmt: skip
"""Names of columns that are looked at first, and tell an id from a number."""
COUNTER_NAMES = ("", "index", "unnamed: 0", "level_0", "__index_level_0__")
"""What programs call a column that only counts rows."""
STEM = "file name without its ending"
NORMALISED = "its slashes, `./` and Unicode form aside"

Column = NDArray[np.object_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """Which image each row names.

    Attributes
    ----------
    column : int
        Of the table: the one that names the images.
    rule : str
        As what its cells were understood: "" for ids.
    at : ndarray of shape (n_rows,), int64
        The image of each row, -1 for none.
    n_images : int
        How many images are named, each counted once.
    """

    column: int
    rule: str
    at: Positions
    n_images: int

    @property
    def n_rows(self) -> int:
        """How many rows name an image."""
        return int((self.at >= 0).sum())


class ImageNames:
    """What the images of a table are called, and may be called in a file.

    Parameters
    ----------
    ids : sequence of str
        Distinct.
    paths : sequence of str, optional
        Where the images are; "" for one without a file.
    """

    def __init__(self, ids: Iterable[str], paths: Iterable[str] | None = None) -> None:
        self.ids: Column = _objects(ids)
        self.paths: Column = _objects([""] * len(self.ids) if paths is None else paths)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def exact(self) -> Any:
        """The ids, as an index of pandas to look up in."""
        return pd.Index(self.ids, dtype=object)

    @cached_property
    def _plain(self) -> list[str]:
        return [normal(name) for name in self.ids]

    @cached_property
    def _files(self) -> list[list[str]]:
        """The parts of each image's path, or of its id where it has none."""
        pairs = zip(self.paths, self._plain, strict=True)
        return [(normal(path) if path else name).split("/") for path, name in pairs]

    def rules(self) -> Iterator[tuple[str, Callable[[Column], Positions]]]:
        """Yield what the cells of a column may be, with what finds the images; best first."""
        yield "", self._by_id
        yield NORMALISED, self._by_plain_id
        yield "path", self._by_end_of_path
        yield "longer path", self._by_id_at_the_end
        yield STEM, self._by_stem

    def _by_id(self, cells: Column) -> Positions:
        return _looked_up(self.exact, cells)

    def _by_plain_id(self, cells: Column) -> Positions:
        return _unique(self._plain, [normal(as_latin(cell)) for cell in cells])

    def _by_end_of_path(self, cells: Column) -> Positions:
        """Find the path that ends in the cell's; a file name alone where it is unique."""
        parts = [_absolute(normal(cell)).split("/") for cell in cells]
        depth = np.fromiter(map(len, parts), int, len(parts))
        at = np.full(len(cells), -1)
        for n in _common(depth):
            rows = np.flatnonzero(depth == n)
            ends = ["/".join(file[-n:]) if len(file) >= n else "" for file in self._files]
            at[rows] = _unique(ends, ["/".join(parts[row]) for row in rows])
        return at

    def _by_id_at_the_end(self, cells: Column) -> Positions:
        """Find the id that a longer path ends in: the same folder under another name.

        Only where all of these paths begin alike; else the folders may be other images'.
        """
        parts = [normal(cell).split("/") for cell in cells]
        depth = np.array([name.count("/") + 1 for name in self._plain])
        at = np.full(len(cells), -1)
        for n in _common(depth):
            images = np.flatnonzero(depth == n)
            longer = np.flatnonzero([len(part) > n for part in parts])
            found = _unique(
                [self._plain[i] for i in images], ["/".join(parts[row][-n:]) for row in longer]
            )
            rows = longer[found >= 0]
            at[rows] = images[found[found >= 0]]
        starts = {
            "/".join(parts[row])[: -len(self._plain[at[row]])] for row in np.flatnonzero(at >= 0)
        }
        return at if len(starts) == 1 else np.full(len(cells), -1)

    def _by_stem(self, cells: Column) -> Positions:
        stems = [os.path.splitext(file[-1])[0] for file in self._files]  # noqa: PTH122
        return _unique(stems, [normal(cell) for cell in cells])

    def closest(self, cell: str) -> list[str]:
        """Return ids that look like a cell."""
        import difflib

        # Comparing costs about 40 µs a name, so only so many are looked at.
        return difflib.get_close_matches(cell, self.ids[:20_000].tolist(), n=3)


def normal(path: str) -> str:
    r"""Return a path with slashes, in one Unicode form, without `./` before it.

    Examples
    --------
    >>> normal(".\\dog\\6.jpg")
    'dog/6.jpg'
    """
    plain = path if path.isascii() else unicodedata.normalize("NFC", path)
    if "\\" in plain:
        plain = plain.replace("\\", "/")
    while "//" in plain:
        plain = plain.replace("//", "/")
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _absolute(path: str) -> str:
    return normal(os.path.abspath(path)) if path.startswith("../") else path  # noqa: PTH100


def _objects(values: Iterable[str]) -> Column:
    listed = list(values)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _common(depth: NDArray[np.int64], n: int = 8) -> list[int]:
    """Return the most frequent depths of paths."""
    values, counts = np.unique(depth, return_counts=True)
    return [int(value) for value in values[np.argsort(-counts, kind="stable")][:n]]


def _looked_up(index: Any, cells: Sequence[str] | Column) -> Positions:
    wanted: Any = pd.Index(list(cells), dtype=object)
    return np.asarray(index.get_indexer(wanted), dtype=np.int64)


def _unique(names: Sequence[str], cells: Sequence[str]) -> Positions:
    """Return which name each cell is; -1 where there is none, or two images have it."""
    index: Any = pd.Index(list(names), dtype=object)
    single = np.flatnonzero(~index.duplicated(keep=False) & (index != ""))
    at = _looked_up(index[single], list(cells))
    return np.where(at >= 0, single[at], -1) if len(single) else at


def is_count(cells: Column) -> bool:
    """Return whether a column counts its rows from 0, in order."""
    return all(cell == str(i) for i, cell in enumerate(cells)) and len(cells) > 0


def is_counter(table: TextTable, column: int) -> bool:
    """Return whether a column only counts the rows, as pandas writes it."""
    name = table.names[column].casefold()
    return name in COUNTER_NAMES and is_count(table.columns[column])


def match_rows(table: TextTable, images: ImageNames, aside: Collection[int] = ()) -> Match | None:
    """Find the column that names the images, and the image of each row.

    Parameters
    ----------
    table : TextTable
    images : ImageNames
    aside : collection of int
        Columns that hold something else: labels, for instance.

    Returns
    -------
    Match or None
        By the column that names most images; None where none names any.

    Raises
    ------
    InvalidInputError
        Where two columns name all images, and not the same ones.

    Notes
    -----
    Ids are looked for in all columns first, then paths. Numbers are ids only in a column that
    is called like one, and no file names where the column may count rows. O(rows) a column and
    rule.
    """
    columns = [i for i in range(len(table.names)) if i not in aside and _may_name(table, i)]
    columns.sort(key=lambda i: _rank(table.names[i]))
    found: list[Match] = []
    for rule, find in images.rules():
        for column in columns:
            if rule == STEM and table.names[column].casefold() in COUNTER_NAMES:
                continue
            at = find(table.columns[column])
            n_images = len(np.unique(at[at >= 0]))
            if n_images:
                found.append(Match(column, rule, at, n_images))
        if any(match.n_images == len(images) or match.n_rows == len(table) for match in found):
            break
    if not found:
        return None
    best = max(found, key=lambda match: match.n_images)  # the first of equals
    if table.names[best.column].casefold() != "id":
        _check_agreement(table, images, best, found)
    return best


def _may_name(table: TextTable, column: int) -> bool:
    name = table.names[column].casefold()
    called = name in ID_NAMES or name == "" or len(table.names) == 1
    return called or bool(np.isnan(numbers_of(table.columns[column])).any())


def _rank(name: str) -> int:
    plain = name.casefold()
    return ID_NAMES.index(plain) if plain in ID_NAMES else len(ID_NAMES)


def _check_agreement(
    table: TextTable, images: ImageNames, best: Match, found: Sequence[Match]
) -> None:
    for other in found:
        rows = np.flatnonzero((best.at != other.at) & (best.at >= 0) & (other.at >= 0))
        if other.n_images == best.n_images and rows.size:
            first = rows[0]
            raise InvalidInputError(
                f"{table.source} must name the images in one column; `{table.names[best.column]}` "
                f"and `{table.names[other.column]}` name different ones, in row {first + 1} "
                f"{short(images.ids[best.at[first]])} and {short(images.ids[other.at[first]])}. "
                "Call the right one `id`."
            )


def told(match: Match, table: TextTable) -> str:
    """Say by what the rows were matched."""
    name = table.names[match.column]
    column = f"the column `{name}`" if name else "the column without a name"
    if table.names == ("",):
        column = "its lines"
    return f"by {column}" + (f" ({_rule_told(match)})" if match.rule else "")


def _rule_told(match: Match) -> str:
    return match.rule if match.rule == NORMALISED else f"as {match.rule}"


def side_by_side(table: TextTable, images: ImageNames, column: int, at: Positions) -> str:
    """Show a cell that names no image beside the id of an image that no row names."""
    rows = np.flatnonzero(at < 0)
    left = np.flatnonzero(~np.isin(np.arange(len(images)), at))
    mine = f"a row says {short(table.columns[column][rows[0]])}" if rows.size else ""
    theirs = f"the table has {short(images.ids[left[0]])}" if left.size else ""
    return " where ".join(part for part in (mine, theirs) if part)


def no_column(table: TextTable, images: ImageNames, what: str) -> InvalidInputError:
    """Return the error for a table in which no column names the images."""
    rest = f", … ({len(images)} in all)" if len(images) > 2 else ""
    examples = ", ".join(short(name) for name in images.ids[:2])
    return InvalidInputError(
        f"A column of {table.source} must name the images: their ids, paths, or file names where "
        f"those are unique; none does. It has the columns {table.described()}; the ids of the "
        f"images are {examples}{rest}. Correct the names and call their column `id`, or keep "
        f"{what} alone in the file, in the order of the images."
    )
