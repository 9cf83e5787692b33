"""Make a table of images, go on with one, or bring one up to date with its folder.

A finished table is never written into. What its folder gained, what changed, and what is damaged
is encoded into a copy, the folder ``replacement.tmp`` in it, an unfinished table as any other:
it goes on where it was interrupted, and takes the table's place at once when it is complete. Rows
stay where they are; new ones come after them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.checks import check_int
from clip_al.arrays.given import listed
from clip_al.encode.encoder import ClipEncoder, EncodedBatch
from clip_al.encode.images import ImageSource, image_source
from clip_al.encode.table_checksums import damaged_rows, has_header, read_rows
from clip_al.encode.table_files import (
    COLUMNS,
    IMAGES,
    INDEX,
    NEW_TABLE,
    SKIPPED,
    UNFINISHED,
    Entry,
    RowWriter,
    begin_table,
    changed_images,
    check_key,
    check_same_images,
    csv_digest,
    damaged_table,
    file_digest,
    finish_table,
    new_meta,
    put_in_place,
    read_csv,
    read_lines,
    read_meta,
    read_progress,
    remove_table,
    remove_work_files,
    work_files,
    write_csv,
    write_meta,
)
from clip_al.encode.table_lock import writing
from clip_al.errors import (
    InvalidInputError,
    InvalidTypeError,
    SkippedImagesWarning,
    UnreadableImageError,
    describe_failures,
)

MAX_ID = 100_000
"""Characters of an id; Python reads no CSV field of more than 131,072."""

Failures = list[tuple[int, str]]


class TableChanges(NamedTuple):
    """What a call of `EmbeddingTable.create` did to a table.

    Parameters
    ----------
    encoded : int
        Images that got a row.
    changed : int
        Images whose file is another than before: their rows were encoded again.
    repaired : int
        Images whose rows or lines were damaged: likewise.
    gone : int
        Rows whose image is no longer there, all in all.
    """

    encoded: int = 0
    changed: int = 0
    repaired: int = 0
    gone: int = 0


def build_table(
    folder: Path,
    source: ImageSource,
    encoder: ClipEncoder,
    *,
    dtype: str,
    errors: str,
    overwrite: bool,
    hash_content: bool,
) -> TableChanges:
    """Do what `EmbeddingTable.create` says; the arguments were checked."""
    key = {**encoder.key(), "dtype": dtype}
    found = read_meta(folder, overwrite=overwrite)
    if found is not None and not overwrite:
        check_key(folder, found, key, encoder.model_id)
        if is_current(folder, found, source, errors):
            return TableChanges(gone=len(found.get("gone", ())))
    with writing(folder):
        found = None if overwrite else read_meta(folder)
        if found is None:
            found = new_meta(source, encoder.model_id, key, encoder.embedding_dim, 0)
            size = check_int(encoder.batch_size, "batch_size")
            found |= {"batch_size": size, "hash_content": hash_content}
            begin_table(folder, found)
        check_key(folder, found, key, encoder.model_id)
        entries = list_entries(source, hash_content=found["hash_content"])
        encoded = 0
        if not found["complete"]:
            _finish_first(folder, found, source, entries, encoder, errors)
            found = _finished(folder)
            encoded = found["n"]
        update = TableUpdate.plan(folder, found, source, entries)
        if update.is_needed():
            _carry_out(folder, update, encoder, errors)
        elif update.meta != found:
            write_meta(folder, update.meta)
        remove_work_files(folder)  # where a kill came between the last two steps
    if not update.is_needed():
        report_failures(folder, update.source, update.skipped, errors)
    changes = update.changes()
    return changes._replace(encoded=encoded + changes.encoded)


def is_current(folder: Path, found: dict[str, Any], source: ImageSource, errors: str) -> bool:
    """Return whether a table is finished and as its images are, so that nothing is to be done."""
    if not found["complete"] or work_files(folder):
        return False
    entries = list_entries(source, hash_content=found["hash_content"])
    update = TableUpdate.plan(folder, found, source, entries)
    if update.is_needed() or update.meta != found:
        return False
    report_failures(folder, update.source, update.skipped, errors)
    return True


def is_behind(folder: Path, found: dict[str, Any], source: ImageSource) -> bool:
    """Return whether images of a finished table must be encoded."""
    entries = list_entries(source, hash_content=found["hash_content"])
    return TableUpdate.plan(folder, found, source, entries).is_needed()


@dataclass
class TableUpdate:
    """What a finished table needs to be that of its images, as they are now.

    Parameters
    ----------
    meta : dict
        Of the table, with the root and the gone rows as they are now.
    source : ImageSource
        All images in the order of the list: those of the table, then new ones.
    entries : list of tuple
        The line of each in an index.
    row : ndarray of shape (len(source),), int64
        Which row of the table each has; -1 for one that was skipped or is new.
    skipped : list of (int, str)
        Position and reason of those that could not be read and have not changed.
    changed, damaged : set of int
        Positions whose rows are encoded again.
    n_known : int
        How many of the list the table knows.
    is_harmed : bool
        Whether its files must be written anew, whatever else is to be done.
    """

    meta: dict[str, Any]
    source: ImageSource
    entries: list[Entry]
    row: NDArray[np.int64]
    skipped: Failures
    changed: set[int]
    damaged: set[int]
    n_known: int
    is_harmed: bool
    unread: Failures = field(default_factory=list)

    @classmethod
    def plan(
        cls, folder: Path, found: dict[str, Any], source: ImageSource, entries: list[Entry]
    ) -> TableUpdate:
        """Compare a table with its images, and its rows with their checksums."""
        stored, rows, reasons, suspect, is_harmed = _stored_list(folder, found, entries)
        _check_order(folder, source, stored, rows, entries)
        at = {entry[0]: i for i, entry in enumerate(entries)}
        listed: list[Entry] = []
        row_of, items, gone = [], [], []
        skipped: Failures = []
        changed, damaged = set(), set()
        for entry, row in zip(stored, rows, strict=True):
            i, position = at.get(entry[0]), len(listed)
            if row < 0 and (i is None or entries[i] != entry):
                continue  # gone, or another file now: tried again as a new one
            if row < 0:
                skipped.append((position, reasons[entry[0]]))
            elif row in suspect:
                damaged.add(position)
            elif i is not None and entries[i] != entry:
                changed.add(position)
            if i is None:
                gone.append(row)
            items.append(_item(source, entry) if i is None else source.items[i])
            listed.append(entry if i is None else entries[i])
            row_of.append(row)
        n_known, known = len(listed), {entry[0] for entry in listed}
        new = [i for i, entry in enumerate(entries) if entry[0] not in known]
        listed += [entries[i] for i in new]
        items += [source.items[i] for i in new]
        meta = {name: value for name, value in found.items() if name != "gone"}
        meta |= {"root": source.root, **({"gone": gone} if gone else {})}
        whole = ImageSource(
            items if source.kind == "paths" else source.items,
            source.kind,
            source.root,
            [entry[0] for entry in listed],
        )
        return cls(
            meta, whole, listed, np.array(row_of + [-1] * len(new), dtype=np.int64), skipped,
            changed, damaged, n_known, is_harmed or not has_header(folder, found),
        )  # fmt: skip

    def is_needed(self) -> bool:
        """Return whether rows or files must be written."""
        new = len(self.entries) > self.n_known
        return bool(new or self.changed or self.damaged or self.is_harmed)

    def changes(self) -> TableChanges:
        """Return what carrying it out does."""
        n_unread = len([p for p, _ in self.unread if p >= self.n_known])
        return TableChanges(
            encoded=len(self.entries) - self.n_known - n_unread,
            changed=len(self.changed),
            repaired=len(self.damaged),
            gone=len(self.meta.get("gone", ())),
        )

    def batches(self, folder: Path, encoder: ClipEncoder, start: int) -> Iterator[EncodedBatch]:
        """Yield all rows from a position of the list on: copied, encoded again, and new ones."""
        size, step = self.meta["batch_size"], block_rows(self.meta["d"])
        reasons = dict(self.skipped)
        again = np.zeros(self.n_known, dtype=bool)
        again[list(self.changed | self.damaged)] = True
        for low in range(start, self.n_known, step):
            high = min(low + step, self.n_known)
            row = self.row[low:high]
            has = row >= 0
            block = np.full((high - low, self.meta["d"]), np.nan, dtype=np.float32)
            if has.any():  # rows of a table are in the order of the list
                block[has] = read_rows(folder, self.meta, slice(row[has][0], row[has][-1] + 1))
            positions = low + np.flatnonzero(again[low:high])
            if len(positions):
                self._encode_again(encoder, size, positions, block, low)
            unread = (low + np.flatnonzero(~has)).tolist()
            yield EncodedBatch(low, block, [(p, reasons[p]) for p in unread])
        if len(self.entries) > self.n_known:
            first = max(start, self.n_known)
            yield from encoder.iter_embeddings(self.source, start=first, batch_size=size)

    def _encode_again(
        self,
        encoder: ClipEncoder,
        size: int,
        positions: NDArray[np.int64],
        block: NDArray[np.float32],
        low: int,
    ) -> None:
        """Encode images in place of their rows; an unreadable one keeps a row that is whole."""
        part = self.source.take(positions.tolist())
        for start, rows, failed in encoder.iter_embeddings(part, batch_size=size):
            here = positions[start : start + len(rows)]
            failures = [(int(positions[i]), reason) for i, reason in failed]
            lost = [(p, reason) for p, reason in failures if p in self.damaged]
            if lost:
                raise UnreadableImageError(
                    [(self.source.name(p), why) for p, why in lost],
                    "Their rows in the table are damaged, and only these images can replace them. "
                    "Restore them, or pass overwrite=True (`--force`) to make a table without.",
                )
            read = np.isfinite(rows[:, 0])
            block[here[read] - low] = rows[read]
            self.unread += failures


def _finish_first(
    folder: Path,
    meta: dict[str, Any],
    source: ImageSource,
    entries: list[Entry],
    encoder: ClipEncoder,
    errors: str,
) -> None:
    """Encode what is missing of a table that was never finished, and finish it."""
    whole, listed = source, entries
    if (folder / IMAGES).is_file():
        stored, done = list(read_csv(folder / IMAGES)), read_progress(folder, meta)[0]
        whole, listed = _in_stored_order(folder, stored, done, source, entries)
        if listed != stored:
            write_csv(folder / IMAGES, COLUMNS, listed)
    else:
        write_csv(folder / IMAGES, COLUMNS, listed)
    if (meta["n"], meta["root"]) != (len(listed), source.root):
        meta |= {"n": len(listed), "root": source.root}
        write_meta(folder, meta)
    size = meta["batch_size"]
    failures = append_missing(
        folder, meta, lambda start: encoder.iter_embeddings(whole, start=start, batch_size=size)
    )
    now = set(entries)
    # What became of the others is for the update to see: another file, or none.
    real = [(i, why) for i, why in failures if listed[i] in now]
    if len(failures) == len(listed) or (real and errors == "raise"):
        report_failures(folder, whole, real or failures, errors)
    finish_table(folder, meta, failures)
    if real:
        report_failures(folder, whole, real, errors)


def _in_stored_order(
    folder: Path, stored: list[Entry], done: int, source: ImageSource, entries: list[Entry]
) -> tuple[ImageSource, list[Entry]]:
    """Return the images in an order that begins with those that are done."""
    if not source.is_folder:
        _check_order(folder, source, stored, [0] * len(stored), entries)
        return source, stored[:done] + entries[done:]
    at = {entry[0]: i for i, entry in enumerate(entries)}
    kept = stored[:done]
    items = [
        source.items[at[entry[0]]] if entry[0] in at else _item(source, entry) for entry in kept
    ]
    known = {entry[0] for entry in kept}
    rest = [i for i, entry in enumerate(entries) if entry[0] not in known]
    listed = kept + [entries[i] for i in rest]
    items += [source.items[i] for i in rest]
    whole = ImageSource(items, "paths", source.root, [entry[0] for entry in listed])
    return whole, listed


def _carry_out(folder: Path, update: TableUpdate, encoder: ClipEncoder, errors: str) -> None:
    """Write the table anew beside itself, as an update says, and put it in place."""
    target, table = folder / UNFINISHED, {"sha256": update.meta.get("sha256")}
    unfinished = ("bytes", "checksums", "index_sha256", "sha256")
    meta = {name: value for name, value in update.meta.items() if name not in unfinished}
    meta |= {"complete": False, "n": len(update.entries), "of": table}
    if not _goes_on(target, meta, update.entries):
        remove_table(target)
        begin_table(target, meta)
        write_csv(target / IMAGES, COLUMNS, update.entries)
    begun_at = read_progress(target, meta)[0]
    failures = append_missing(target, meta, lambda start: update.batches(folder, encoder, start))
    known = dict(update.skipped)
    update.unread += [(i, why) for i, why in failures if i not in known]
    update.unread += _unread_before(update, begun_at)
    told = sorted({**known, **dict(update.unread)}.items())
    if told and errors == "raise":
        report_failures(folder, update.source, told, errors)
    stale = sorted(int(update.row[p]) for p, _ in update.unread if p < update.n_known)
    meta.pop("of")
    if stale:  # their rows are of files that are no more
        meta["gone"] = sorted({*meta.get("gone", ()), *stale})
    finish_table(target, meta, failures)
    put_in_place(folder)
    report_failures(folder, update.source, told, errors)


def _goes_on(target: Path, meta: dict[str, Any], entries: list[Entry]) -> bool:
    """Return whether the same update was begun before."""
    if not (target / IMAGES).is_file():
        return False
    try:
        begun = read_meta(target)
    except InvalidInputError:
        return False
    return begun == meta and list(read_csv(target / IMAGES)) == entries


def _unread_before(update: TableUpdate, begun_at: int) -> Failures:
    """Return the changed images that an interrupted call could not read; it kept no record."""
    failures = []
    for position in sorted(p for p in update.changed if p < begun_at):
        try:
            update.source.load(position)
        except Exception as exc:  # whatever a decoder raises
            failures.append((position, update.source.describe_failure(position, exc)))
    return failures


def _finished(folder: Path) -> dict[str, Any]:
    meta = read_meta(folder)
    if meta is None:
        raise damaged_table(folder, "its metadata are gone")
    return meta


def _item(source: ImageSource, entry: Entry) -> str:
    """Return where an image was that is no longer there."""
    return os.path.join(source.root, entry[1])  # noqa: PTH118


def _check_order(
    folder: Path,
    source: ImageSource,
    stored: list[Entry],
    rows: list[int],
    entries: list[Entry],
) -> None:
    """Raise unless the images are a folder's, or begin as those of the table in its order.

    Whoever passes a list goes by its order. Images in memory and those of a Dataset are known
    by their position alone.
    """
    if source.is_folder or stored == entries:
        return
    first = entries[: len(stored)]
    fits = [entry[0] for entry in stored] == [entry[0] for entry in first]
    skips = [(a, b) for a, b, row in zip(stored, first, rows, strict=False) if row < 0]
    if source.kind != "paths" or not fits or any(a != b for a, b in skips):
        raise changed_images(folder, stored, entries)


def _stored_list(
    folder: Path, found: dict[str, Any], entries: list[Entry]
) -> tuple[list[Entry], list[int], dict[str, str], set[int], bool]:
    """Return all images of a table: lines, rows (-1 if skipped), why skipped, damaged rows."""
    stored, suspect, is_harmed = _stored_rows(folder, found, entries)
    rows, reasons = list(range(len(stored))), {}
    for position, entry, reason in _stored_skips(folder, found):
        stored.insert(position, entry)  # in rising order, so all fall in place
        rows.insert(position, -1)
        reasons[entry[0]] = reason
    for block in damaged_rows(folder, found):
        suspect.update(range(block.start, block.stop))
    return stored, rows, reasons, suspect, is_harmed


def _stored_rows(
    folder: Path, meta: dict[str, Any], entries: list[Entry]
) -> tuple[list[Entry], set[int], bool]:
    """Return the line of each row, the rows whose line is not certain, and whether any is not.

    Where the index is damaged, its lines are those of the images that are there, if their
    checksum says so; else lines that are an image's, word for word, are kept, and the others
    get the images that are left, whose rows are then encoded again.
    """
    known, n = meta.get("index_sha256"), meta["n"]
    index = folder / INDEX
    if index.is_file() and (known is None or file_digest(index) == known):
        return list(read_csv(index)), set(), False
    skipped = {entry[0] for _, entry, _ in _stored_skips(folder, meta)}
    likely = [entry for entry in entries if entry[0] not in skipped]
    if len(likely) == n and csv_digest(COLUMNS, likely) == known:
        return likely, set(), True
    lines, there = read_lines(index), set(entries)
    if len(lines) != n:
        raise damaged_table(folder, f"{INDEX} has {len(lines)} lines in place of {n}")
    gone = set(meta.get("gone", ()))
    certain = [line in there or row in gone for row, line in enumerate(lines)]
    named = {line for line, is_certain in zip(lines, certain, strict=True) if is_certain}
    left = iter([entry for entry in entries if entry not in named and entry[0] not in skipped])
    for row, is_certain in enumerate(certain):
        if not is_certain:
            line = next(left, None)
            if line is None:
                raise damaged_table(folder, f"line {row + 2} of {INDEX} is of no image there is")
            lines[row] = line
    return lines, {row for row, is_certain in enumerate(certain) if not is_certain}, True


def _stored_skips(folder: Path, meta: dict[str, Any]) -> list[tuple[int, Entry, str]]:
    """Return position, line and reason of the images that were skipped; none if damaged."""
    file = folder / SKIPPED
    known = meta.get("checksums", {}).get("files", {}).get(SKIPPED)
    if not file.is_file() or (known is not None and file_digest(file) != known):
        return []
    return [(int(at), tuple(entry), why) for at, *entry, why in read_csv(file)]


def named_source(images: Any, ids: Sequence[str] | None) -> ImageSource:
    """Return images, or a source of them, under the names that the rows of a table get."""
    source = images if isinstance(images, ImageSource) else image_source(images)
    source.ids = check_ids(source.ids if ids is None else ids, len(source))
    check_unique(source.ids)
    return source


def list_entries(source: ImageSource, *, hash_content: bool) -> list[Entry]:
    """Return the line of each image in an index."""
    return [
        (source.ids[i], *source.fingerprint(i, hash_content=hash_content))
        for i in range(len(source))
    ]


def finish_if_readable(folder: Path, meta: dict[str, Any], failures: Failures, errors: str) -> None:
    """Finish a table that has its rows, unless `report_failures` will raise."""
    if len(failures) < meta["n"] and (errors == "skip" or not failures):
        finish_table(folder, meta, failures)


def report_failures(folder: Path, source: ImageSource, unread: Failures, errors: str) -> None:
    """Raise or warn about unreadable images, as the caller's caller asked."""
    failures = [(source.name(i), why) for i, why in unread]
    if not failures:
        return
    if len(failures) == len(source):
        raise UnreadableImageError(failures, "None could be read, so there is no table.")
    if errors == "raise":
        raise UnreadableImageError(
            failures,
            f"All others are safe in {str(folder)!r}. To have the table without these, run again "
            'with errors="skip" (`--skip-unreadable`): nothing is encoded a second time. Or repair '
            "them and run again: only these are encoded.",
        )
    message = f"{describe_failures(failures)} They are not in the table; see {folder / SKIPPED}."
    warnings.warn(message, SkippedImagesWarning, stacklevel=_levels_to_caller())


def _levels_to_caller() -> int:
    """Return how far up the first caller outside of the making of tables is."""
    import inspect

    ours = {"table_build.py", "table.py", "table_shards.py"}
    here = Path(__file__).parent
    for level, frame in enumerate(inspect.stack(0)[1:], start=1):
        path = Path(frame.filename)
        if path.parent != here or path.name not in ours:
            return level
    return 2


def append_rows(
    folder: Path,
    meta: dict[str, Any],
    source: ImageSource,
    entries: list[Entry],
    batches_from: Callable[[int], Iterable[EncodedBatch]],
    *,
    remedy: str = NEW_TABLE,
) -> Failures:
    """Write what is missing of a table of just these images, as `append_missing` does."""
    if (folder / IMAGES).is_file():
        check_same_images(folder, entries, remedy)
        meta["root"] = source.root  # the folder may have been moved
    else:
        write_csv(folder / IMAGES, COLUMNS, entries)
    return append_missing(folder, meta, batches_from)


def append_missing(
    folder: Path, meta: dict[str, Any], batches_from: Callable[[int], Iterable[EncodedBatch]]
) -> Failures:
    """Write what is missing, the batches from a position on; return position and reason of each
    unreadable image.
    """
    with RowWriter.open(folder, meta) as writer:
        if writer.done < meta["n"]:
            for batch in batches_from(writer.done):
                writer.append(batch.embeddings, batch.failures)
        return writer.failures


def as_text(ids: Iterable[Any]) -> list[str]:
    """Return ids as strings; whole numbers are taken too, as tables of data often hold them."""
    names = listed(ids, "ids")
    for value in names:
        if not isinstance(value, (str, Integral)):
            raise InvalidTypeError(
                f"`ids` must be strings or whole numbers; got {value!r}. Convert them."
            )
    return [str(value) for value in names]


def check_ids(ids: Iterable[Any], n: int) -> list[str]:
    """Return ids as strings that a file gives back, one for each of n images."""
    names = as_text(ids)
    if len(names) != n:
        raise InvalidInputError(
            f"`ids` must name each of the {n} images; got {len(names)}. Pass one an image."
        )
    for position, name in enumerate(names):
        problem = _problem_of(name)
        if problem:
            raise InvalidInputError(
                f"`ids` must be texts that a file gives back; the id at position {position}, "
                f"{name[:40]!r}{' …' if len(name) > 40 else ''}, {problem}. Shorten or replace it."
            )
    return names


def _problem_of(name: str) -> str:
    if len(name) > MAX_ID:
        return f"has {len(name):,} characters, more than {MAX_ID:,}"
    if "\0" in name:
        return "has a null character"
    if name.isascii():
        return ""
    try:  # bytes of a name that is no UTF-8 are kept as Python keeps them
        back = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        back = ""
    return "" if back == name else "has half of a surrogate pair, which no file can hold"


def check_unique(ids: list[str]) -> None:
    """Raise where an id stands for two images."""
    first: dict[str, int] = {}
    repeated = [name for i, name in enumerate(ids) if first.setdefault(name, i) != i]
    if repeated:
        named = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        raise InvalidInputError(
            f"Every id must stand for one image; {len(repeated)} repeated: {named}. Leave the "
            "repeated images out, or pass distinct `ids`."
        )
