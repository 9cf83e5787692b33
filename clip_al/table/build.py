"""Make a table of images, go on with one, or bring one up to date with its folder.

A finished table is never written into. What its folder gained, what changed, and what is damaged
is encoded into a copy, the folder ``replacement.tmp`` in it, an unfinished table as any other:
it goes on where it was interrupted, and takes the table's place at once when it is complete. Rows
stay where they are; new ones come after them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clip_al.arrays.checks import check_int
from clip_al.encode.encoder import ClipEncoder, EncodedBatch
from clip_al.errors import (
    InvalidInputError,
    SkippedImagesWarning,
    UnreadableImageError,
    describe_failures,
)
from clip_al.images.sources import ImageSource
from clip_al.table.files import (
    COLUMNS,
    IMAGES,
    NEW_TABLE,
    SKIPPED,
    UNFINISHED,
    Entry,
    RowWriter,
    begin_table,
    check_key,
    check_same_images,
    damaged_table,
    finish_table,
    new_meta,
    put_in_place,
    read_csv,
    read_meta,
    read_progress,
    remove_table,
    remove_work_files,
    work_files,
    write_csv,
    write_meta,
)
from clip_al.table.lock import writing
from clip_al.table.update import Failures, TableChanges, TableUpdate, check_order, item_of


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
        check_order(folder, source, stored, [0] * len(stored), entries)
        return source, stored[:done] + entries[done:]
    at = {entry[0]: i for i, entry in enumerate(entries)}
    kept = stored[:done]
    items = [
        source.items[at[entry[0]]] if entry[0] in at else item_of(source, entry) for entry in kept
    ]
    known = {entry[0] for entry in kept}
    rest = [i for i, entry in enumerate(entries) if entry[0] not in known]
    listed = kept + [entries[i] for i in rest]
    items += [source.items[i] for i in rest]
    whole = ImageSource(items, source.kind, source.root, [entry[0] for entry in listed])
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
    """Return how far up the first caller outside of this package is."""
    import inspect

    here = Path(__file__).parent
    for level, frame in enumerate(inspect.stack(0)[1:], start=1):
        if Path(frame.filename).parent != here:
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
