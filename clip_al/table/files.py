"""The files of an `EmbeddingTable`: their format, and how to write them so that a kill is safe.

Every step may be repeated; metadata are written last and at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clip_al import __version__
from clip_al.atomic import TEMPORARY, replacing, sync_file
from clip_al.encode.clip_models import split_preprocessing
from clip_al.errors import InvalidInputError, ModelMismatchError
from clip_al.images.sources import Fingerprint, ImageSource
from clip_al.table.lock import LOCK, is_held, writing

FORMAT = "clip_al.EmbeddingTable"
FORMAT_VERSION = 1
META, ROWS, INDEX, SKIPPED = "meta.json", "embeddings.npy", "index.csv", "skipped.csv"
IMAGES, PROGRESS = "images.csv", "progress.jsonl"
UNFINISHED, READY = "replacement.tmp", "replacement"
"""Folders in a table: one that is to replace it, not yet complete, and complete."""
COLUMNS = ("id", *Fingerprint._fields)
KINDS = {
    "complete": bool, "n": int, "d": int, "model_id": str, "key": dict, "batch_size": int,
    "hash_content": bool, "root": str,
}  # fmt: skip
BLOCK_BYTES, MAX_BLOCKS = 2**20, 4096
"""Rows that share a checksum: so many bytes, or more in a table of more blocks than that."""
CHECKPOINT_S = 1.0
"""Seconds between two records of progress: what a kill can cost, besides one batch."""

NEW_TABLE = "name another directory, or pass overwrite=True (`--force`) to encode all again."
"""What to do about a table that does not fit."""

RULES = {
    1: "photos as they lie, whatever their EXIF orientation",
    2: "photos upright by their EXIF orientation, deep greys by what they hold",
}
"""What the numbers of `pixels.READING` mean."""

Entry = tuple[str, ...]
"""One line of an index: the id and the fields of a `Fingerprint`."""


def new_meta(
    source: ImageSource, model_id: str, key: dict[str, str], d: int, batch_size: int
) -> dict[str, Any]:
    """Return the metadata of a table that is to be begun."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "clip_al": __version__,
        "complete": False,
        "n": len(source),
        "d": d,
        "model_id": model_id,
        "key": key,
        "batch_size": batch_size,
        "hash_content": False,
        "root": source.root,
    }


def read_meta(folder: Path, *, overwrite: bool = False) -> dict[str, Any] | None:
    """Return what a directory says of its table, or None where it is new or empty.

    Raises where it holds other things, or, unless `overwrite`, where the metadata are damaged.
    """
    refusal = (
        f"`directory` must be new, empty or a table of embeddings; {str(folder)!r} holds other "
        "things. Name another directory."
    )
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(refusal)
    _take_replacement(folder)
    try:
        meta = json.loads((folder / META).read_bytes())
    except FileNotFoundError:
        names = _file_names(folder)
        if META in names:  # another process has just begun it
            return read_meta(folder, overwrite=overwrite)
        ours = {LOCK, *(n for n in names if n.startswith(META) and n.endswith(TEMPORARY))}
        if names - ours:
            raise InvalidInputError(refusal) from None
        return None
    except ValueError as exc:
        raise InvalidInputError(refusal) from exc
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InvalidInputError(refusal)
    if overwrite:
        return meta
    version = meta.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InvalidInputError(
            f"The table must be of format {FORMAT_VERSION} or older; {str(folder)!r} has "
            f"{version}, written by clip_al {meta.get('clip_al')}. Update clip_al."
        )
    for name, kind in KINDS.items():
        if not isinstance(meta.get(name), kind):
            raise damaged_table(folder, f"{META} has {meta.get(name)!r} as `{name}`")
    # Tables of 0.1.0 and unfinished ones have no checksum.
    if "sha256" in meta and meta["sha256"] != _digest(meta):
        raise damaged_table(folder, f"{META} was edited or is damaged")
    return meta


def damaged_table(
    folder: Path,
    why: str,
    remedy: str = "Copy it again, or make it again with overwrite=True (`--force`).",
) -> InvalidInputError:
    """Return the error for a table whose files are not what was written."""
    return InvalidInputError(f"The table {str(folder)!r} is damaged: {why}. {remedy}")


def _digest(meta: dict[str, Any]) -> str:
    """Return the SHA-256 of metadata, apart from itself."""
    rest = {name: value for name, value in meta.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_finished(folder: Path, meta: dict[str, Any]) -> None:
    """Raise unless a finished table has its files, of the sizes and kinds that it was given.

    A few reads, whatever its size: of the rows only the header is looked at.
    """
    try:
        header = npy_header(meta["n"], meta["d"], meta["key"]["dtype"])
        sizes = dict(meta["bytes"])
        expected = len(header) + meta["n"] * meta["d"] * np.dtype(meta["key"]["dtype"]).itemsize
        fit = sizes[ROWS] == expected and INDEX in sizes and set(sizes) <= {ROWS, INDEX, SKIPPED}
    except (KeyError, TypeError, ValueError) as exc:
        raise damaged_table(folder, f"{META} lacks or mistakes {exc}") from exc
    if not fit:
        raise damaged_table(folder, f"{META} is not of {meta['n']} rows of {meta['d']}")
    for name, size in sizes.items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            told = "no such file" if found is None else f"{found} bytes"
            raise InvalidInputError(
                f"{name} of the table {str(folder)!r} must have {size} bytes; got {told}. "
                "The table is damaged: make it again with overwrite=True (`--force`)."
            )
    with (folder / ROWS).open("rb") as rows:
        if rows.read(len(header)) != header:
            raise damaged_table(folder, f"{ROWS} does not begin as the array of this table")


def read_index(folder: Path, meta: dict[str, Any]) -> list[Entry]:
    """Return the index of a finished table, compared with its checksum."""
    known = meta.get("index_sha256")  # not in tables of 0.1.0
    if known is not None and known != file_digest(folder / INDEX):
        raise damaged_table(folder, f"{INDEX} was edited or is damaged")
    try:
        entries = list(read_csv(folder / INDEX))
    except csv.Error as exc:
        raise damaged_table(folder, f"{INDEX} is no CSV file ({exc})") from exc
    if len(entries) != meta["n"] or any(len(entry) != len(COLUMNS) for entry in entries):
        raise damaged_table(folder, f"{INDEX} is not of {meta['n']} images")
    return entries


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _file_names(folder: Path) -> set[str]:
    try:
        return {file.name for file in folder.iterdir()}
    except FileNotFoundError:
        return set()


def begin_table(folder: Path, meta: dict[str, Any]) -> None:
    """Make `folder` an empty, unfinished table, removing the files of an earlier one.

    The record of progress goes first, so that a kill in between never leaves new metadata
    with old progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PROGRESS, IMAGES):
        (folder / name).unlink(missing_ok=True)
    write_meta(folder, meta)
    for name in (INDEX, SKIPPED, ROWS):
        (folder / name).unlink(missing_ok=True)
    remove_table(folder / UNFINISHED)


def finish_table(folder: Path, meta: dict[str, Any], failures: list[tuple[int, str]]) -> None:
    """Write index and metadata; every step may be repeated, and the metadata commit it."""
    reasons = dict(failures)
    n = meta["n"] - len(reasons)
    with (folder / ROWS).open("r+b") as file:
        file.write(npy_header(n, meta["d"], meta["key"]["dtype"]))
        sync_file(file)
    images = folder / IMAGES
    readable = (entry for i, entry in enumerate(read_csv(images)) if i not in reasons)
    write_csv(folder / INDEX, COLUMNS, readable)
    if reasons:
        skipped = (
            (str(i), *entry, reasons[i]) for i, entry in enumerate(read_csv(images)) if i in reasons
        )
        write_csv(folder / SKIPPED, ("position", *COLUMNS, "reason"), skipped)
    names = (ROWS, INDEX, SKIPPED) if reasons else (ROWS, INDEX)
    sizes = {name: (folder / name).stat().st_size for name in names}
    digests = {name: file_digest(folder / name) for name in names if name != ROWS}
    done = {**meta, "complete": True, "n": n, "bytes": sizes, "index_sha256": digests[INDEX]}
    row_bytes = meta["d"] * np.dtype(meta["key"]["dtype"]).itemsize
    step = max(1, BLOCK_BYTES // row_bytes, -(-n // MAX_BLOCKS))
    checksums = list(row_checksums(folder, done, step))
    done["checksums"] = {"rows_per_block": step, "rows": checksums, "files": digests}
    write_meta(folder, done)
    remove_work_files(folder)


def row_checksums(folder: Path, meta: dict[str, Any], rows_per_block: int) -> Iterator[str]:
    """Yield a checksum of each block of rows; bytes that are missing count as none."""
    row_bytes = int(meta["d"]) * np.dtype(meta["key"]["dtype"]).itemsize
    with (folder / ROWS).open("rb") as file:
        file.seek(len(npy_header(meta["n"], meta["d"], meta["key"]["dtype"])))
        for start in range(0, int(meta["n"]), rows_per_block):
            n_rows = min(rows_per_block, meta["n"] - start)
            yield hashlib.blake2b(file.read(n_rows * row_bytes), digest_size=16).hexdigest()


def put_in_place(folder: Path) -> None:
    """Let the finished table in the folder `UNFINISHED` replace the one that it is in.

    The new name is the moment: a kill before leaves the old table, and whoever reads the
    folder after a kill moves the rest.
    """
    (folder / UNFINISHED).rename(folder / READY)
    _move_replacement(folder)


def _take_replacement(folder: Path) -> None:
    """Move a replacement that a kill left, or wait for whoever does."""
    if not (folder / READY).is_dir():
        return
    if is_held(folder):
        _move_replacement(folder)
        return
    with writing(folder, wait=True):
        _move_replacement(folder)


def is_replaced(folder: Path) -> bool:
    """Return whether the files of a table are just being exchanged."""
    return (folder / READY).is_dir()


def _move_replacement(folder: Path) -> None:
    ready = folder / READY
    try:
        kept = json.loads((ready / META).read_bytes())["bytes"]
    except FileNotFoundError:  # all was moved
        kept = {}
    for name in (PROGRESS, IMAGES, SKIPPED) if kept else ():
        if name not in kept:
            (folder / name).unlink(missing_ok=True)
    for name in (*kept, META) if kept else ():
        with suppress(FileNotFoundError):  # it was moved before
            (ready / name).replace(folder / name)
    for name in _file_names(ready):  # what a kill left half-written
        (ready / name).unlink(missing_ok=True)
    with suppress(OSError):
        ready.rmdir()


def work_files(folder: Path) -> set[str]:
    """Return what only an unfinished table needs, and what a kill left half-written."""
    written = (META, INDEX, SKIPPED, IMAGES)
    names = _file_names(folder)
    left = {name for name in names if name.endswith(TEMPORARY) and name.startswith(written)}
    return left | (names & {IMAGES, PROGRESS, LOCK, UNFINISHED})


def remove_work_files(folder: Path) -> None:
    """Remove the work files of a table, apart from its lock."""
    for name in sorted(work_files(folder) - {LOCK}):
        if name == UNFINISHED:
            remove_table(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def remove_table(folder: Path) -> None:
    """Remove a table with its folder, the metadata last, so that a kill leaves a table or none."""
    for name in sorted(_file_names(folder) - {LOCK}, key=lambda name: name == META):
        if name in (UNFINISHED, READY):
            remove_table(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or its lock is held and goes last
        folder.rmdir()


def check_key(
    folder: Path,
    found: dict[str, Any],
    key: dict[str, str],
    model_id: str,
    *,
    remedy: str = NEW_TABLE,
) -> None:
    """Raise unless a table was made with this model, preprocessing, precision and type."""
    known = found["key"]
    remedy = f"{remedy[0].upper()}{remedy[1:]}"
    if known["weights"] != key["weights"]:
        raise ModelMismatchError(
            f"A table holds the embeddings of one model; {str(folder)!r} was made by "
            f"{found['model_id']}, got {model_id}. {remedy}"
        )
    (own, reading), (wanted, now) = map(
        split_preprocessing, (known["preprocessing"], key["preprocessing"])
    )
    if own == wanted and reading != now:
        raise ModelMismatchError(
            f"A table holds images that were read by one set of rules; those of {str(folder)!r} "
            f"were read by rules {reading} ({RULES.get(reading, 'of another clip_al')}), this "
            f"clip_al reads by rules {now} ({RULES[now]}). It can still be opened and selected "
            f"from, but new rows would not fit. {remedy}"
        )
    for field in ("preprocessing", "precision"):
        if known[field] != key[field]:
            raise ModelMismatchError(
                f"A table holds embeddings of one {field}; {str(folder)!r} was made with "
                f"{known[field]}, got {key[field]}. {remedy}"
            )
    if known["dtype"] != key["dtype"]:
        raise InvalidInputError(
            f"A table has one dtype; {str(folder)!r} holds {known['dtype']}, got {key['dtype']}. "
            f"{remedy}"
        )


def check_same_images(folder: Path, entries: list[Entry], remedy: str = NEW_TABLE) -> None:
    """Raise unless the images are those that an unfinished table was begun with."""
    stored = list(read_csv(folder / IMAGES))
    if stored != entries:
        raise changed_images(folder, stored, entries, remedy)


def changed_images(
    folder: Path, stored: list[Entry], entries: list[Entry], remedy: str = NEW_TABLE
) -> InvalidInputError:
    """Return the error for other images than those of a table; it says what changed."""
    old, new = ({entry[0]: entry[1:] for entry in side} for side in (stored, entries))
    changes = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "modified": [name for name in new if name in old and new[name] != old[name]],
    }
    told = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in changes.items()
        if names
    ]
    return InvalidInputError(
        f"The images must be those that the table {str(folder)!r} was begun with; got "
        f"{', '.join(told) or 'another order'}. Restore them, {remedy}"
    )


class RowWriter:
    """Appends rows and keeps a record of what has reached the disk, to go on from.

    The record is only ever appended to, and after the rows that it speaks of. A line that is
    torn, or whose rows are missing, is dropped together with all after it.
    """

    def __init__(self, meta: dict[str, Any], rows: IO[bytes], log: IO[bytes]) -> None:
        self._rows, self._log = rows, log
        self._dtype = np.dtype(meta["key"]["dtype"])
        header = npy_header(meta["n"], meta["d"], self._dtype)
        row_bytes = meta["d"] * self._dtype.itemsize
        available = _rows_in(rows.seek(0, os.SEEK_END), meta)
        self.done, self.n_rows, self.failures, length = parse_progress(log.read(), available)
        log.seek(length)
        log.truncate()
        rows.seek(0)
        rows.write(header)
        rows.truncate(len(header) + self.n_rows * row_bytes)
        rows.seek(0, os.SEEK_END)
        self._recorded = (self.done, len(self.failures))
        self._recorded_at = time.monotonic()

    @classmethod
    @contextmanager
    def open(cls, folder: Path, meta: dict[str, Any]) -> Iterator[RowWriter]:
        """Open the files, under the table's lock; what was appended is recorded on any way out."""
        for name in (ROWS, PROGRESS):
            (folder / name).touch()
        with (folder / PROGRESS).open("r+b") as log, (folder / ROWS).open("r+b") as rows:
            writer = cls(meta, rows, log)
            try:
                yield writer
            finally:
                writer.record()

    def append(self, embeddings: NDArray[np.float32], failures: list[tuple[int, str]]) -> None:
        """Write the readable rows of a batch; record progress about once a second."""
        readable = np.ones(len(embeddings), dtype=bool)
        readable[[index - self.done for index, _ in failures]] = False
        self._rows.write(np.ascontiguousarray(embeddings[readable], self._dtype).data)
        self.done += len(embeddings)
        self.n_rows += int(readable.sum())
        self.failures += failures
        if time.monotonic() - self._recorded_at >= CHECKPOINT_S:
            self.record()

    def record(self) -> None:
        """Bring the rows to the disk, then say so in the record."""
        done, n_failures = self._recorded
        if done == self.done:
            return
        sync_file(self._rows)
        line = {"done": self.done, "rows": self.n_rows, "failures": self.failures[n_failures:]}
        self._log.write(json.dumps(line).encode() + b"\n")
        sync_file(self._log)
        self._recorded = (self.done, len(self.failures))
        self._recorded_at = time.monotonic()


def read_progress(folder: Path, meta: dict[str, Any]) -> tuple[int, int, list[tuple[int, str]]]:
    """Return images done, rows written and failures of an unfinished table."""
    try:
        log, size = (folder / PROGRESS).read_bytes(), (folder / ROWS).stat().st_size
    except FileNotFoundError:
        return 0, 0, []
    available = _rows_in(size, meta)
    done, n_rows, failures, _ = parse_progress(log, available)
    return done, n_rows, failures


def _rows_in(size: int, meta: dict[str, Any]) -> int:
    """Return how many rows a file of embeddings of `size` bytes has room for."""
    dtype, d = np.dtype(meta["key"]["dtype"]), int(meta["d"])
    n_bytes = size - len(npy_header(meta["n"], d, dtype))
    return n_bytes // int(d * dtype.itemsize)


def parse_progress(log: bytes, available: int) -> tuple[int, int, list[tuple[int, str]], int]:
    """Return images done, rows written, failures, and the length of the log that holds.

    Examples
    --------
    >>> parse_progress(b'{"done": 4, "rows": 3, "failures": [[1, "empty"]]}\\n{"done": 8', 9)
    (4, 3, [(1, 'empty')], 51)
    """
    done, n_rows, length, failures = 0, 0, 0, []
    for line in log.splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or record["rows"] > available:
            break
        done, n_rows, length = record["done"], record["rows"], length + len(line)
        failures += [(int(index), str(reason)) for index, reason in record["failures"]]
    return done, n_rows, failures, length


def npy_header(n: int, d: int, dtype: Any) -> bytes:
    """Return the header of a .npy file; its length is the same whatever `n` is."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": (n, d)}
    )
    return buffer.getvalue()


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Replace the metadata at once; those of a finished table with a checksum."""
    if meta["complete"]:
        meta = {**meta, "sha256": _digest(meta)}
    with replacing(folder / META) as file:
        json.dump(meta, file, indent=2, sort_keys=True)
        file.write("\n")


def write_csv(path: Path, columns: Sequence[str], entries: Iterable[Sequence[str]]) -> None:
    """Replace a CSV file at once."""
    with replacing(path) as file:
        _write_lines(file, columns, entries)


def _write_lines(file: IO[str], columns: Sequence[str], entries: Iterable[Sequence[str]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    # Python before 3.13 leaves a lone carriage return bare, and reads it as the end of a line.
    quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    for entry in entries:
        (quoting if any("\r" in field for field in entry) else writer).writerow(entry)


def csv_digest(columns: Sequence[str], entries: Iterable[Sequence[str]]) -> str:
    """Return the SHA-256 that a CSV file of these lines would have."""
    buffer = io.StringIO()
    _write_lines(buffer, columns, entries)
    return hashlib.sha256(buffer.getvalue().encode("utf-8", "surrogateescape")).hexdigest()


def read_lines(path: Path) -> list[Entry]:
    """Return as many lines of a damaged CSV file as can be told apart."""
    lines: list[Entry] = []
    with suppress(FileNotFoundError, StopIteration, RuntimeError, csv.Error):
        lines.extend(read_csv(path))
    return lines


def read_csv(path: Path) -> Iterator[Entry]:
    """Yield the lines of a CSV file without its header."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for line in reader:
            yield tuple(line)
