"""One table made by several processes of a machine.

Each rank encodes a slice of the images into a shard, an unfinished table beside the table:

==============================  ============================================================
``photos.table.shards/0-of-2``  as described in `table`; goes on where it was interrupted
``photos.table.shards/1-of-2``
``photos.table.shards/lock``    held by the rank that joins
==============================  ============================================================

The rank that finds all shards done copies them into the one table and removes them. Ranks share
nothing but these files: no process group, and a lost one is run again alone. Slices are cut
at multiples of the batch size, so every batch, and so every byte, is that of one process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.checks import check_choice, check_count, check_int
from clip_al.arrays.given import check_flag
from clip_al.atomic import as_folder
from clip_al.encode.encoder import ClipEncoder, EncodedBatch
from clip_al.errors import InvalidInputError
from clip_al.images.sources import ImageSource
from clip_al.table.build import (
    append_rows,
    finish_if_readable,
    is_behind,
    list_entries,
    report_failures,
)
from clip_al.table.embedding_table import EmbeddingTable
from clip_al.table.files import (
    IMAGES,
    ROWS,
    begin_table,
    check_key,
    new_meta,
    npy_header,
    read_csv,
    read_meta,
    read_progress,
    remove_table,
)
from clip_al.table.ids import named_source
from clip_al.table.lock import LOCK, lock_file, writing

MOST_RANKS = 2**16
"""Each has a folder of its own."""


class Rank(NamedTuple):
    """Which process this is of those that encode together.

    Parameters
    ----------
    rank, world_size : int
        Number of the process, from 0, and how many there are.
    local_rank : int
        Its number on this machine.
    """

    rank: int
    world_size: int
    local_rank: int

    @classmethod
    def from_environment(cls) -> Rank | None:
        """Return what torchrun says in RANK, WORLD_SIZE and LOCAL_RANK; None without it."""
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        found = {name: os.environ.get(name, os.environ["RANK"]) for name in names}
        for name, value in found.items():
            if not re.fullmatch("[0-9]+", value):
                raise InvalidInputError(
                    f"The environment variable {name} must be a whole number; got {value!r}. Start "
                    "the command with torchrun, or unset RANK."
                )
        return cls(*(int(found[name]) for name in names))

    def device(self, wanted: str | None) -> str | None:
        """Return this rank's GPU where any GPU would do; the ranks take them in turns."""
        if wanted not in (None, "cuda"):
            return wanted
        import torch

        n_gpus = torch.cuda.device_count()
        return f"cuda:{self.local_rank % n_gpus}" if n_gpus else wanted


def encode_shard(
    directory: str | os.PathLike[str],
    images: Any,
    encoder: ClipEncoder,
    *,
    rank: int,
    world_size: int,
    dtype: str = "float32",
    errors: str = "raise",
    overwrite: bool = False,
    hash_content: bool = False,
    ids: Sequence[str] | None = None,
) -> EmbeddingTable | None:
    """Encode one rank's share of a table; whoever finds all shares done joins them.

    Parameters
    ----------
    directory : path
        As for `EmbeddingTable.create`. Shards are kept in ``<directory>.shards`` meanwhile.
    images, encoder, dtype, errors, hash_content, ids
        As for `EmbeddingTable.create`, and the same for every rank but the encoder's device.
        Shards that were begun keep the batch size and `hash_content` of the first.
    rank, world_size : int
        Number of this process, in [0, world_size), and how many there are.
    overwrite : bool, default=False
        Replace a finished table. Shards are not replaced but continued: remove their folder
        to encode all again.

    Returns
    -------
    EmbeddingTable or None
        The table, byte for byte that of `EmbeddingTable.create`; None where other ranks are
        not done yet. To use it in every rank, wait for all, then `EmbeddingTable.open`.

    Raises
    ------
    UnreadableImageError
        As `EmbeddingTable.create`, when the shards are joined: no rank ends early, and a second
        call with ``errors="skip"`` encodes nothing again.
    ModelMismatchError
        Where the shards or the table are of another model, preprocessing or precision.
    InvalidInputError
        Where the shards were begun with another `world_size` or other images, or another
        process is at work on this one.

    Warns
    -----
    SkippedImagesWarning
        With ``errors="skip"``, when the shards are joined.

    Notes
    -----
    A rank that was lost is called again with the same arguments, alone or with all others:
    what is done is not encoded again. The last batch of all aside, shares differ by at most one
    batch. Joining reads and writes every row once, in blocks; the disk holds both meanwhile.
    All ranks need one file system; where it has no locks (Windows), let no two ranks end at once.

    Examples
    --------
    >>> import tempfile
    >>> images, folder = np.zeros((4, 8, 8), np.uint8), f"{tempfile.mkdtemp()}/table"
    >>> encoder = ClipEncoder(batch_size=2, device="cpu", progress=False)
    >>> encode_shard(folder, images, encoder, rank=0, world_size=2)
    >>> encode_shard(folder, images, encoder, rank=1, world_size=2).shape
    (4, 256)
    """
    check_count(world_size, "world_size", MOST_RANKS)
    check_int(rank, "rank", smallest=0, largest=world_size - 1)
    check_choice(dtype, ("float32", "float16"), "dtype")
    check_choice(errors, ("raise", "skip"), "errors")
    check_flag(overwrite, "overwrite")
    hash_content = check_flag(hash_content, "hash_content")
    source, folder = named_source(images, ids), as_folder(directory)
    create = partial(EmbeddingTable.create, folder, source, encoder, dtype=dtype, errors=errors)
    if _is_complete(folder) and not overwrite:
        if rank and _is_behind(folder, source):
            return None  # what is new is the first rank's
        table = create()
        _remove_shards(_shards_folder(folder))
        return table
    size, key = check_int(encoder.batch_size, "batch_size"), {**encoder.key(), "dtype": dtype}
    meta = new_meta(source, encoder.model_id, key, encoder.embedding_dim, size)
    meta["hash_content"] = hash_content
    shards = _Shards.plan(folder, meta, world_size, overwrite)
    shards.encode(rank, source, encoder)
    if not shards.are_done():
        if overwrite or not _is_complete(folder):
            return None
        # Another rank joined all shards when this one was about to look at its own, which
        # was done, and began it anew.
        table = create()
        _remove_shards(shards.folder)
        return table
    with _waiting_lock(shards.folder / LOCK):
        if not shards.are_done():  # another rank joined and removed them meanwhile
            return EmbeddingTable.open(folder)
        unread = _join(folder, source, shards, errors, overwrite)
        report_failures(folder, source, unread, errors)
        _remove_shards(shards.folder)
    return EmbeddingTable.open(folder)


def _is_complete(folder: Path) -> bool:
    meta = read_meta(folder)
    return meta is not None and bool(meta["complete"])


def _is_behind(folder: Path, source: ImageSource) -> bool:
    meta = read_meta(folder)
    return meta is not None and is_behind(folder, meta, source)


class _Shard(NamedTuple):
    """A folder and the images that it is for, from `start` up to `stop`."""

    folder: Path
    start: int
    stop: int

    def is_done(self) -> bool:
        if self.start == self.stop:
            return True
        meta = read_meta(self.folder)
        return meta is not None and read_progress(self.folder, meta)[0] == meta["n"]

    def batches(self, start: int) -> Iterator[EncodedBatch]:
        """Yield the rows that are stored, from a position among all images on."""
        meta = read_meta(self.folder) if max(start, self.start) < self.stop else None
        if meta is None:
            return
        _, n_rows, failures = read_progress(self.folder, meta)
        rows = _map_rows(self.folder, meta, n_rows)
        reasons, n, d = dict(failures), meta["n"], meta["d"]
        readable = np.ones(n, dtype=bool)
        readable[list(reasons)] = False
        row_of = np.cumsum(readable) - readable
        step = block_rows(d)
        for low in range(max(start - self.start, 0), n, step):
            here = readable[low : low + step]
            block = np.full((len(here), d), np.nan, dtype=np.float32)
            block[here] = rows[row_of[low] : row_of[low] + np.count_nonzero(here)]
            unread = (low + np.flatnonzero(~here)).tolist()
            failed = [(self.start + i, reasons[i]) for i in unread]
            yield EncodedBatch(self.start + low, block, failed)


@dataclass
class _Shards:
    """All shards of a table, and what they have in common.

    `meta` is that of the table they are for.
    """

    folder: Path
    meta: dict[str, Any]
    shards: list[_Shard]

    @classmethod
    def plan(cls, table: Path, meta: dict[str, Any], world_size: int, overwrite: bool) -> _Shards:
        """Cut the images into slices; raise unless what was begun fits them."""
        home = _shards_folder(table)
        known = _begun(home)
        unfinished = None if overwrite else read_meta(table)
        if unfinished is not None:
            check_key(table, unfinished, meta["key"], meta["model_id"])
        first = next(iter(known.values()), unfinished) or meta
        meta = {**meta, **{name: first[name] for name in ("batch_size", "hash_content")}}
        shards = cls(home, meta, _slices(home, meta["n"], meta["batch_size"], world_size))
        shards.check(known)
        return shards

    def check(self, known: dict[Path, dict[str, Any]]) -> None:
        """Raise unless the shards that were begun are of this model and cut in this way."""
        sizes = {shard.folder: shard.stop - shard.start for shard in self.shards}
        for folder, meta in known.items():
            check_key(
                folder, meta, self.meta["key"], self.meta["model_id"], remedy=_remedy(self.folder)
            )
            if folder not in sizes:
                then = folder.name.rpartition("-")[2]
                raise InvalidInputError(
                    f"`world_size` must stay that which {str(self.folder)!r} was begun with, "
                    f"{then}; got {len(self.shards)}. Run {then} ranks, {_remedy(self.folder)}"
                )
            for name, wanted in {**self.meta, "n": sizes[folder]}.items():
                if name in ("n", "batch_size", "hash_content") and meta[name] != wanted:
                    raise InvalidInputError(
                        "Every rank must be given the same images and settings; "
                        f"{str(folder)!r} was begun with {name} = {meta[name]}, got {wanted}. "
                        f"Give all the same, {_remedy(self.folder)}"
                    )

    def encode(self, rank: int, source: ImageSource, encoder: ClipEncoder) -> None:
        """Encode what is missing of one shard; unreadable images are only noted."""
        shard = self.shards[rank]
        if shard.start == shard.stop:
            return
        part = source.part(shard.start, shard.stop)
        with writing(shard.folder):
            meta = read_meta(shard.folder)
            if meta is None:
                meta = {**self.meta, "n": len(part)}
                begin_table(shard.folder, meta)
            size = meta["batch_size"]
            append_rows(
                shard.folder, meta, part, list_entries(part, hash_content=meta["hash_content"]),
                lambda start: encoder.iter_embeddings(part, start=start, batch_size=size),
                remedy=_remedy(self.folder),
            )  # fmt: skip

    def are_done(self) -> bool:
        return all(shard.is_done() for shard in self.shards)

    def batches(self, start: int) -> Iterator[EncodedBatch]:
        """Yield the rows of all shards, from position `start` on."""
        for shard in self.shards:
            yield from shard.batches(start)

    def entries(self, source: ImageSource) -> list[tuple[str, ...]]:
        """Return the line of each image in an index, as it was when the image was encoded."""
        files = [shard.folder / IMAGES for shard in self.shards if shard.start < shard.stop]
        entries = [entry for file in files for entry in read_csv(file)]
        if [entry[0] for entry in entries] == source.ids:
            return entries
        pairs = zip_longest((entry[0] for entry in entries), source.ids, fillvalue="nothing")
        then, now = next((old, new) for old, new in pairs if old != new)
        raise InvalidInputError(
            f"The images must be those that {str(self.folder)!r} was begun with; where it has "
            f"{then!r}, got {now!r}. Restore them, {_remedy(self.folder)}"
        )


def _join(
    folder: Path, source: ImageSource, shards: _Shards, errors: str, overwrite: bool
) -> list[tuple[int, str]]:
    """Copy all shards into the table; return position and reason of each unreadable image."""
    shards.check(_begun(shards.folder))
    entries = shards.entries(source)
    with writing(folder):
        meta = None if overwrite else read_meta(folder)
        if meta is None:
            meta = shards.meta
            begin_table(folder, meta)
        unread = append_rows(folder, meta, source, entries, shards.batches)
        finish_if_readable(folder, meta, unread, errors)
    return unread


def _shards_folder(table: Path) -> Path:
    path = os.path.abspath(table)  # noqa: PTH100  resolve() would follow links
    return Path(f"{path}.shards")


def _shard_folders(home: Path) -> list[Path]:
    return sorted(home.glob("*-of-*"))


def _begun(home: Path) -> dict[Path, dict[str, Any]]:
    """Return the metadata of each shard that was begun."""
    found = {folder: read_meta(folder) for folder in _shard_folders(home)}
    return {folder: meta for folder, meta in found.items() if meta is not None}


def _remedy(home: Path) -> str:
    return f"name another directory, or remove {str(home)!r} to encode all again."


def _slices(home: Path, n: int, batch_size: int, world_size: int) -> list[_Shard]:
    """Cut n images into slices of whole batches, as even as can be."""
    n_batches = -(-n // batch_size)
    cuts = (min(r * n_batches // world_size * batch_size, n) for r in range(world_size + 1))
    return [
        _Shard(home / f"{rank}-of-{world_size}", start, stop)
        for rank, (start, stop) in enumerate(pairwise(cuts))
    ]


def _map_rows(folder: Path, meta: dict[str, Any], n_rows: int) -> NDArray[Any]:
    shape, dtype = (n_rows, meta["d"]), np.dtype(meta["key"]["dtype"])
    if n_rows == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    header = npy_header(meta["n"], meta["d"], dtype)
    return np.memmap(folder / ROWS, dtype, "r", len(header), shape)


@contextmanager
def _waiting_lock(path: Path) -> Iterator[None]:
    """Let one process at a time through; the folder may be gone when it is this one's turn."""
    try:
        file = path.open("ab")
    except FileNotFoundError:
        yield
        return
    with file:
        lock_file(file, wait=True)
        yield


def _remove_shards(home: Path) -> None:
    """Remove all shards; another rank may do so too, and a kill leaves whole ones."""
    for folder in _shard_folders(home):
        with suppress(InvalidInputError):  # a late rank writes it, and will remove it
            with writing(folder):
                remove_table(folder)
            with suppress(OSError):
                folder.rmdir()
    (home / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # no shards, or things that are not ours
        home.rmdir()
