"""What a finished table needs to be that of its images as they are now: new, changed, damaged.

Nothing is written here; `build` carries it out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.encode.encoder import ClipEncoder, EncodedBatch
from clip_al.errors import UnreadableImageError
from clip_al.images.sources import ImageSource
from clip_al.table.checksums import damaged_rows, has_header, read_rows
from clip_al.table.files import (
    COLUMNS,
    INDEX,
    SKIPPED,
    Entry,
    changed_images,
    csv_digest,
    damaged_table,
    file_digest,
    read_csv,
    read_lines,
)

Failures = list[tuple[int, str]]
"""Position and reason of unreadable images."""


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
        check_order(folder, source, stored, rows, entries)
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
            items.append(item_of(source, entry) if i is None else source.items[i])
            listed.append(entry if i is None else entries[i])
            row_of.append(row)
        n_known, known = len(listed), {entry[0] for entry in listed}
        new = [i for i, entry in enumerate(entries) if entry[0] not in known]
        listed += [entries[i] for i in new]
        items += [source.items[i] for i in new]
        meta = {name: value for name, value in found.items() if name != "gone"}
        meta |= {"root": source.root, **({"gone": gone} if gone else {})}
        whole = ImageSource(
            items if source.is_named else source.items,
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


def item_of(source: ImageSource, entry: Entry) -> str:
    """Return where an image was that is no longer there."""
    return entry[0] if source.kind == "stored" else os.path.join(source.root, entry[1])  # noqa: PTH118


def check_order(
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
    if not source.is_named or not fits or any(a != b for a, b in skips):
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
