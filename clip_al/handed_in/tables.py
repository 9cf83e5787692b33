"""From a file to columns of text: CSV in its many forms, Parquet, a DataFrame.

What a cell means is decided elsewhere: here it becomes text, without the blanks around it.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError, missing_extra

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "|"}
MISSING = frozenset({"", "nan", "NaN", "NAN", "<NA>", "NaT", "None", "null", "NULL", "#N/A"})
"""What programs write where a value is missing."""
SNIFFED_LINES = 50
NO_SEPARATOR = "\x1f"
BINARY = {
    b"PK": "an Excel file or an archive",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"\x1f\x8b": "compressed by gzip",
    b"\x93NUMPY": "an array in .npy format",
    b"%PDF": "a PDF",
}

Source = str | os.PathLike[str] | pd.DataFrame
"""What a table is read from."""


@dataclass(frozen=True)
class TextTable:
    """The cells of a file, as text without the blanks around it.

    Attributes
    ----------
    source : str
        What to call it in a message.
    names : tuple of str
        Of the columns, as the first line has them; "" where it has none.
    columns : tuple of ndarray of shape (n_rows,), object
        Strings; the first line is not among them.
    notes : tuple of str
        What is unusual about the file, such as its encoding.
    form : str
        "csv", "parquet" or "frame": what is left of numbers and of a header.
    separator : str
        What stands between the cells; "" where each line is one cell.
    """

    source: str
    names: tuple[str, ...]
    columns: tuple[NDArray[np.object_], ...]
    notes: tuple[str, ...] = ()
    form: str = "csv"
    separator: str = ""

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def find(self, *wanted: str) -> int | None:
        """Return the position of the column with the first of these names that is there.

        Capitals do not matter.

        Raises
        ------
        InvalidInputError
            Where two columns have the name.
        """
        for name in wanted:
            at = [i for i, own in enumerate(self.names) if own.casefold() == name]
            if len(at) > 1:
                raise InvalidInputError(
                    f"{self.source} must have one column `{name}`; got {len(at)}. Rename the "
                    "others."
                )
            if at:
                return at[0]
        return None

    def described(self) -> str:
        """Name the columns, each with its first value."""
        told = []
        for name, column in zip(self.names, self.columns, strict=True):
            first = f" ({short(column[0])})" if len(column) else ""
            told.append(f"{f'`{name}`' if name else 'one without a name'}{first}")
        return ", ".join(told[:12]) + (", …" if len(told) > 12 else "")

    def with_first_line(self) -> TextTable:
        """Return the table of a file without a header: its first line is a row like the others."""
        rows = (
            np.concatenate([np.array([name], object), column])
            for name, column in zip(self.names, self.columns, strict=True)
        )
        unnamed = ("",) * len(self.names)
        return TextTable(self.source, unnamed, tuple(rows), self.notes, self.form, self.separator)

    def take(self, rows: NDArray[Any]) -> TextTable:
        """Return some of the rows."""
        return TextTable(
            self.source,
            self.names,
            tuple(column[rows] for column in self.columns),
            self.notes,
            self.form,
            self.separator,
        )

    def frame(self) -> pd.DataFrame:
        """Return it as a DataFrame of strings."""
        frame = pd.DataFrame(dict(enumerate(self.columns)), dtype=object)
        return frame.set_axis(list(self.names), axis=1)


def short(value: object, width: int = 60) -> str:
    """Return a value as it is shown in a message."""
    shown = repr(str(value))
    return shown if len(shown) <= width else f"{shown[: width - 2]}…'"


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file.

    Raises
    ------
    InvalidInputError
        Where there is none, naming the files beside it that have a similar name.
    """
    file = as_path(path)
    if file.is_dir():
        raise InvalidInputError(f"{file} must be a file; it is a folder. Name a file in it.")
    try:
        return file.read_bytes()
    except FileNotFoundError as exc:
        raise no_such_file(file) from exc
    except OSError as exc:
        raise InvalidInputError(
            f"{file} must be a file that can be read; {exc.strerror}. Check its permissions."
        ) from exc


def no_such_file(path: Path) -> InvalidInputError:
    """Return the error for a file that is not there."""
    import difflib

    folder = path.parent
    if not folder.is_dir():
        return InvalidInputError(
            f"{path} must be a file; there is no folder {folder}. Correct the path."
        )
    there = sorted(file.name for file in folder.iterdir() if file.is_file())
    close = difflib.get_close_matches(path.name, there, n=3, cutoff=0.5)
    others = [name for name in there if Path(name).suffix == path.suffix]
    known = close or others[:3]
    beside = f"beside it there are {', '.join(known)}" if known else "no such file is in its folder"
    return InvalidInputError(f"{path} must be a file; it is missing, {beside}. Correct the path.")


def read_text(path: str | os.PathLike[str]) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and what is unusual about its encoding.

    Notes
    -----
    UTF-8 with or without a byte order mark, and UTF-16. Bytes that are neither stay in the
    text as `surrogateescape` keeps them, as in the names of files; `as_latin` makes letters
    of them.
    """
    raw = read_bytes(path)
    for start, what in BINARY.items():
        if raw.startswith(start):
            raise InvalidInputError(f"{path} must be text; it is {what}. Save it as CSV (UTF-8).")
    try:
        return _decode(raw)
    except UnicodeDecodeError as exc:
        raise InvalidInputError(
            f"{path} must be text in UTF-8 or UTF-16; {exc}. Save it as CSV (UTF-8)."
        ) from exc


def _decode(raw: bytes) -> tuple[str, tuple[str, ...]]:
    if raw.startswith(codecs.BOM_UTF8):
        return raw.decode("utf-8-sig", "surrogateescape"), ()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16"), ("read as UTF-16",)
    start = raw[:2000]
    for zeros, name in ((start[1::2], "utf-16-le"), (start[::2], "utf-16-be")):
        if zeros and 2 * zeros.count(0) > len(zeros):
            return raw.decode(name), ("read as UTF-16",)
    try:
        return raw.decode("utf-8"), ()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "surrogateescape"), ()


def as_latin(cell: str) -> str:
    """Return a cell whose bytes are no UTF-8 as Latin-1 (Windows-1252) has them.

    Examples
    --------
    >>> as_latin(b"caf\\xe9".decode("utf-8", "surrogateescape"))
    'café'
    """
    if cell.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in cell):
        return cell
    raw = cell.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def read_table(source: Source) -> TextTable:
    """Read a CSV or Parquet file, or a DataFrame.

    Parameters
    ----------
    source : path or DataFrame
        CSV with comma, semicolon, tab or | between the cells, in UTF-8, UTF-16 or Latin-1;
        Parquet, of which columns of lists are left aside.

    Returns
    -------
    TextTable

    Raises
    ------
    InvalidInputError
        Where there is no such file, it is empty or no text, or a row has more or fewer cells
        than the header.
    MissingDependencyError
        Where a Parquet file is to be read without pyarrow.
    """
    if isinstance(source, pd.DataFrame):
        return _of_frame("the DataFrame", source, "frame")
    path = Path(source)
    if path.suffix.lower() in (".parquet", ".pq"):
        read_bytes(path) if not path.is_file() else None
        return _of_frame(str(source), _parquet(path), "parquet")
    text, notes = read_text(path)
    if not text.strip():
        raise InvalidInputError(
            f"{source} must hold at least one line; it is empty. Leave the option out instead."
        )
    return _of_text(str(source), text, notes)


def _of_text(source: str, text: str, notes: tuple[str, ...]) -> TextTable:
    text = text.lstrip("\n\r")
    if text[:4].lower() == "sep=":  # Excel's own line
        text = text.partition("\n")[2]
    separator = separator_of(text)
    cells = _cells(source, text.rstrip(" \n\r"), separator)
    names, columns = cells[0], list(cells[1:].T)
    kept = [i for i, name in enumerate(names) if name or not (columns[i] == "").all()]
    kept = kept or [0]
    if separator not in ("", ","):
        notes = (*notes, f"cells are separated by {SEPARATORS[separator]}")
    return TextTable(
        source,
        tuple(str(names[i]) for i in kept),
        tuple(columns[i] for i in kept),
        notes,
        "csv",
        separator,
    )


def separator_of(text: str) -> str:
    """Return what stands between the cells of a text; "" where each line is one cell.

    The first of comma, tab, semicolon and | that splits all of the first lines into as many
    cells as the header, two or more; else the first that splits the header.

    Examples
    --------
    >>> separator_of("id;cat\\na.jpg;0,4")
    ';'
    >>> separator_of("a.jpg\\nb, c.jpg")
    ''
    """
    lines = [line for line in text.split("\n", SNIFFED_LINES)[:SNIFFED_LINES] if line.strip()]
    widths = {sep: _widths(lines, sep) for sep in SEPARATORS}
    for sep, width in widths.items():
        if width and width[0] > 1 and len(set(width)) == 1:
            return sep
    for sep, width in widths.items():
        if width and width[0] > 1:
            return sep
    return ""


def _widths(lines: Sequence[str], sep: str) -> list[int]:
    try:
        return [len(row) for row in csv.reader(lines, delimiter=sep)]
    except csv.Error:
        return []


def _cells(source: str, text: str, separator: str) -> NDArray[np.object_]:
    """Return all cells of a text, the first line's too, in one array of strings.

    Lines without a cell are left out, but of a single column, where they stand for a gap.
    """
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator or NO_SEPARATOR, skipinitialspace=True
    )
    try:
        rows = [[cell.strip() for cell in row] or [""] for row in lines]
    except csv.Error as exc:
        raise InvalidInputError(
            f"{source} must be a table of text; {exc} in line {lines.line_num}. Save it as CSV."
        ) from exc
    if separator:
        rows = [row for row in rows if any(row)]
    if len(set(map(len, rows))) > 1:
        raise _uneven(source, rows, separator)
    cells = np.empty((len(rows), len(rows[0])), object)
    cells[:] = rows
    return cells


def _uneven(source: str, rows: Sequence[Sequence[str]], separator: str) -> InvalidInputError:
    """Return the error for rows that have more or fewer cells than the header."""
    width = len(rows[0])
    uneven = [(number, row) for number, row in enumerate(rows) if len(row) != width]
    number, row = uneven[0]
    more = len(row) > width
    remedy = (
        "Remove what stands behind the last cell, or put cells that hold a "
        f"{SEPARATORS.get(separator, 'line break')} between double quotes."
        if more
        else "Fill in what is missing."
    )
    return InvalidInputError(
        f"{source} must have as many cells in each row as its header, {width} "
        f"({', '.join(cell or 'one without a name' for cell in rows[0])}); {len(uneven)} of "
        f"{len(rows) - 1} rows have {'more' if more else 'fewer'}, the first is row {number} with "
        f"{len(row)}: {short(separator.join(row))}. {remedy}"
    )


def _parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file without its columns of lists, such as embeddings."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise missing_extra(f"{path} needs pyarrow", "parquet", ", or save it as CSV") from exc
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
            frame: pd.DataFrame = file.read(columns=flat).to_pandas()
    except (pa.ArrowInvalid, OSError) as exc:
        raise InvalidInputError(
            f"{path} must be a Parquet file; {exc}. Write it again, or save it as CSV."
        ) from exc
    return frame


def _of_frame(source: str, frame: pd.DataFrame, form: str) -> TextTable:
    """Return a DataFrame as text: its index too, where that is more than a count."""
    names = [str(name) for name in frame.columns]
    columns = [_text_of(frame.iloc[:, i]) for i in range(frame.shape[1])]
    if not isinstance(frame.index, pd.RangeIndex):
        levels = range(frame.index.nlevels)
        names = [*(str(name or "") for name in frame.index.names), *names]
        columns = [*(_text_of(frame.index.get_level_values(i)) for i in levels), *columns]
    if not columns:
        raise InvalidInputError(f"{source} must have columns; got none. Write it again.")
    return TextTable(source, tuple(name.strip() for name in names), tuple(columns), (), form)


def _text_of(column: Any) -> NDArray[np.object_]:
    """Return a Series, or a level of an index, as text; "" where a value is missing."""
    missing = np.asarray(column.isna(), dtype=bool)
    values = column.tolist()
    cells = ["" if gap else _cell(value) for gap, value in zip(missing, values, strict=True)]
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return os.fsdecode(value).strip()
    if isinstance(value, float):
        return repr(value)
    return str(value).strip()


def numbers_of(column: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return a column as numbers, NaN for what is none; decimal commas are understood.

    Examples
    --------
    >>> numbers_of(np.array(["0,25", "1e-3", "x"], object)).tolist()
    [0.25, 0.001, nan]
    """
    numbers = _as_numbers(column)
    odd = np.flatnonzero(np.isnan(numbers))
    if odd.size:
        numbers[odd] = _as_numbers([_with_point(str(column[i])) for i in odd])
    return numbers


def _as_numbers(cells: Sequence[object] | NDArray[np.object_]) -> NDArray[np.float64]:
    series = pd.to_numeric(pd.Series(list(cells), dtype=object), errors="coerce")
    return np.array(series, dtype=np.float64)


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if cell.count(",") == 1 and "." not in cell else cell


def is_missing(column: NDArray[np.object_], known: Iterable[str] = ()) -> NDArray[np.bool_]:
    """Return where a cell says that there is no value; `known` names are values."""
    empty = MISSING - set(known)
    return np.fromiter((cell in empty for cell in column), bool, len(column))


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Return groups of names that differ only in case, blanks or Unicode form.

    Examples
    --------
    >>> similar_names(["dog", "Dog", "cat", "snow leopard", "snow  leopard"])
    [['Dog', 'dog'], ['snow  leopard', 'snow leopard']]
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault("".join(plain.split()), []).append(name)
    return [group for group in alike.values() if len(group) > 1]


def counted(group: Sequence[str], column: Iterable[str]) -> str:
    """Return names with how often each occurs."""
    count = Counter(column)
    return ", ".join(f"{name!r} ({count[name]})" for name in group)


def load_npy(path: str | Path) -> NDArray[Any]:
    """Map an array into memory, without running code that a file may hold."""
    if not as_path(path).is_file():
        read_bytes(path)  # says what is wrong
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as exc:
        raise InvalidInputError(
            f"{path} must be an array of numbers as `numpy.save` writes it; {exc}. Save it again."
        ) from exc
    return array
