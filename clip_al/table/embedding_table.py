"""Embeddings on disk: memory-mapped, resumable, tied to a model.

A table is a directory:

==================  =====================================================================
``embeddings.npy``  (n, d) float32 or float16, unit rows, a plain NumPy file
``index.csv``       one line a row: id, path, size, mtime_ns, sha256
``skipped.csv``     the images that could not be read, with the reason; only if there are any
``meta.json``       model, weights, preprocessing, precision, dtype, n, d, image folder; checksums
                    of index, rows (a block of 1 MiB each) and of itself; rows whose image is gone
``images.csv``      while it is being made: all images, readable or not
``progress.jsonl``  while it is being made: what is safely written
``lock``            while it is being made: held by the process that writes
``replacement.tmp`` while it is brought up to date: the table that will take its place
``texts-….npz``     embeddings of words by the model of the table, see `kept_texts`
==================  =====================================================================

No file holds a time of writing, so the same images and model give the same bytes. The index is
CSV because every tool reads it and Python's parser needs 2 s for a million rows; Parquet would
need a package that nothing else here does.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.checks import check_choice, check_embeddings, check_int
from clip_al.arrays.given import check_flag, check_kind, listed, method_of
from clip_al.atomic import as_folder, as_path, sync_file
from clip_al.encode.clip_models import split_preprocessing
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.images.sources import ImageSource, image_source
from clip_al.table.build import build_table
from clip_al.table.checksums import check_small
from clip_al.table.files import (
    COLUMNS,
    IMAGES,
    ROWS,
    UNFINISHED,
    begin_table,
    check_finished,
    finish_table,
    is_replaced,
    new_meta,
    npy_header,
    put_in_place,
    read_index,
    read_meta,
    read_progress,
    remove_table,
    write_csv,
)
from clip_al.table.ids import as_text, check_ids, check_unique, named_source
from clip_al.table.lock import writing
from clip_al.table.update import TableChanges

REPLACED_MEANWHILE = 5
"""How often a table may be replaced while it is opened."""


class KeyedEncoder(Protocol):
    """What is asked of an encoder of the table's model; `ClipEncoder` has it."""

    @property
    def model_id(self) -> str:
        """Model and weights."""

    @property
    def preprocessing(self) -> str:
        """How images are brought to the model's input."""

    def key(self) -> dict[str, str]:
        """Return what embeddings depend on."""


class EmbeddingTable:
    """Unit-length embeddings in a directory, with what each row stands for.

    Made by `create` or `from_array`, read by `open`. It can be passed wherever embeddings
    are: NumPy takes it without a copy, and ``table[rows]`` reads only those rows.

    Attributes
    ----------
    embeddings : memmap of shape (n, d), float32 or float16
        Read-only, left on disk.
    model_id : str
        Model and weights, as `ClipEncoder.model_id`.
    key : dict of str to str
        Model, weights, preprocessing, precision and dtype.
    directory, root : Path
        Where the table is, and the folder its paths are relative to.
    changes : TableChanges or None
        What the call of `create` that returned this object did.

    Notes
    -----
    Opening costs no more than a few file reads; `ids`, `paths` and `index_of` read the index
    on first use, 2 s and 250 MB for a million rows. Pickles and copies hold the directory's
    name, not the rows.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> table = EmbeddingTable.from_array(folder, np.eye(3), ["a", "b", "c"], model_id="toy")
    >>> table.index_of(["c", "a"])
    array([2, 0])
    >>> EmbeddingTable.open(folder)[1]
    array([0., 1., 0.], dtype=float32)
    """

    def __init__(self, directory: Path, meta: dict[str, Any], root: str) -> None:
        self.directory = directory
        self.root = Path(root)
        self.key: dict[str, str] = meta["key"]
        self.model_id: str = meta["model_id"]
        self.embeddings: NDArray[Any] = np.load(directory / ROWS, mmap_mode="r")
        self.shape = (int(meta["n"]), int(meta["d"]))
        self.changes: TableChanges | None = None
        self._meta = meta
        self.ndim = 2
        self.dtype = self.embeddings.dtype

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        images: Any,
        encoder: ClipEncoder,
        *,
        dtype: str = "float32",
        errors: str = "raise",
        overwrite: bool = False,
        hash_content: bool = False,
        ids: Sequence[str] | None = None,
    ) -> EmbeddingTable:
        """Encode images into a table, go on with one, or bring one up to date with its folder.

        Parameters
        ----------
        directory : path
            New or empty, or a table of the same folder and model: an unfinished one is
            continued. Of a finished one, new files are encoded and get rows after the others,
            files that changed and rows that are damaged are encoded again in their place, and
            rows whose file is gone stay and are listed in `gone`. Ids and rows never move.
        images : folder, sequence, array or torch Dataset
            As for `ClipEncoder.encode_images`; besides, ``"shards/*.tar"`` for tar shards, a URL
            of a folder that fsspec reads, or a list of URLs.
        encoder : ClipEncoder
            The model; a continued table keeps the batch size that it was begun with.
        dtype : {"float32", "float16"}
            Type on disk.
        errors : {"raise", "skip"}
            What to do about unreadable images, once all others are encoded and safe: raise
            an error and leave the table open for a second call, or leave them out, list them
            in ``skipped.csv`` and warn. A file that changed and can no longer be read keeps its
            row, as a gone one.
        overwrite : bool, default=False
            Begin anew where a table is there, which is lost; other directories are never
            touched.
        hash_content : bool, default=False
            Tell files apart by SHA-256 in place of the modification time; reads each file
            twice. A continued table keeps what it was begun with.
        ids : sequence of str, optional
            What to call the images. Left out: paths relative to the folder, paths as they
            were passed, or positions.

        Returns
        -------
        EmbeddingTable

        Raises
        ------
        UnreadableImageError
            With ``errors="raise"`` where images could not be read, and always where none
            could. A second call with ``errors="skip"`` finishes without encoding anything.
        ModelMismatchError
            Where the directory holds a table of another model, preprocessing or precision.
        InvalidInputError
            Where images in memory, or of a Dataset, are others than those of the table, a list
            of paths does not begin with those of the table, ids repeat or cannot be written,
            the directory holds other things, or another process is writing to it.

        Warns
        -----
        SkippedImagesWarning
            With ``errors="skip"``, naming the images left out.

        Notes
        -----
        Rows are written in order and recorded about once a second after they have reached the
        disk; a run killed at any moment and called again gives the same bytes as one that
        was not. A finished table is not written into: it is replaced at once by its successor,
        which takes as much disk meanwhile. All rows are compared with their checksums, about 1 s
        a gigabyte. Memory: a few batches and up to 1 kB an image for the index, never the array.
        The images of a torch Dataset cannot be compared with those of the first call, only
        counted.
        """
        check_choice(dtype, ("float32", "float16"), "dtype")
        check_choice(errors, ("raise", "skip"), "errors")
        check_flag(overwrite, "overwrite")
        hash_content = check_flag(hash_content, "hash_content")
        source, folder = named_source(images, ids), as_folder(directory)
        changes = build_table(
            folder, source, encoder,
            dtype=dtype, errors=errors, overwrite=overwrite, hash_content=hash_content,
        )  # fmt: skip
        table = cls.open(folder)
        table.changes = changes
        return table

    @classmethod
    def from_array(
        cls,
        directory: str | os.PathLike[str],
        Z: Any,
        ids: Sequence[str] | None = None,
        *,
        model_id: str,
        paths: Sequence[str | os.PathLike[str]] | None = None,
        preprocessing: str = "",
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> EmbeddingTable:
        """Write embeddings that were computed elsewhere as a table.

        Parameters
        ----------
        directory : path
            New or empty.
        Z : array-like of shape (n, d)
            Unit-length rows; a memory-mapped array is copied block by block.
        ids : sequence of str, optional
            What to call the images; left out, the paths, or the positions.
        model_id : str
            Which model made them; vocabularies are compared with it.
        paths : sequence of path, optional
            Where the images are.
        preprocessing : str, optional
            How the images were prepared, for the record.
        dtype : {"float32", "float16"}
            Type on disk.
        overwrite : bool, default=False
            Replace a table that is there, once the new one is complete.

        Raises
        ------
        InvalidInputError
            Where a row is not finite or not of unit length, ids repeat, or the directory is
            not empty.
        """
        check_choice(dtype, ("float32", "float16"), "dtype")
        check_kind(model_id, str, "model_id", "Pass the name of the model that made them.")
        check_kind(preprocessing, str, "preprocessing", "Pass text, for the record.")
        check_flag(overwrite, "overwrite")
        array, folder = check_embeddings(Z, "Z"), as_folder(directory)
        n, d = array.shape
        source = ImageSource(range(n), "dataset", "", [str(i) for i in range(n)])
        if paths is not None:
            source = image_source(
                [os.fspath(as_path(path, "paths")) for path in listed(paths, "paths")]
            )
        if len(source) != n:
            raise InvalidInputError(
                f"`paths` must name each of the {n} rows; got {len(source)}. Pass one a row."
            )
        source.ids = check_ids(source.ids if ids is None else ids, n)
        check_unique(source.ids)
        _check_unit_rows(array)
        found = read_meta(folder, overwrite=overwrite)
        if found is not None and not overwrite:
            raise InvalidInputError(
                f"`directory` must be new or empty; {str(folder)!r} holds a table. Name another, "
                "or pass overwrite=True to replace it."
            )
        key = {"model": model_id, "weights": "", "preprocessing": preprocessing, "precision": ""}
        meta = new_meta(source, model_id, {**key, "dtype": dtype}, d, 0)
        with writing(folder):
            found = read_meta(folder, overwrite=overwrite)
            target = folder if found is None else folder / UNFINISHED
            remove_table(folder / UNFINISHED)
            begin_table(target, meta)
            with (target / ROWS).open("wb") as file:
                file.write(npy_header(n, d, dtype))
                step = block_rows(d)
                for start in range(0, n, step):
                    file.write(np.ascontiguousarray(array[start : start + step], dtype).data)
                sync_file(file)
            lines = ((source.ids[i], *source.fingerprint(i)) for i in range(n))
            write_csv(target / IMAGES, COLUMNS, lines)
            finish_table(target, meta, [])
            if found is not None:
                put_in_place(folder)
        return cls.open(folder)

    @classmethod
    def open(
        cls, directory: str | os.PathLike[str], *, root: str | os.PathLike[str] | None = None
    ) -> EmbeddingTable:
        """Open a finished table.

        Parameters
        ----------
        directory : path
            What `create` or `from_array` made.
        root : path, optional
            Where the images are now, if their folder was moved.

        Raises
        ------
        InvalidInputError
            Where there is no table, or it is unfinished, damaged, or of a newer version. Rows
            and index of up to 16 MiB are compared with their checksums, larger ones by
            `clip-al check` and `create`; the index also on its first use.
        """
        folder = as_folder(directory)
        root = None if root is None else as_path(root, "root")
        for _ in range(REPLACED_MEANWHILE):
            meta = read_meta(folder)
            try:
                table = cls._open(folder, meta, root)
            except InvalidInputError:
                if not is_replaced(folder) and read_meta(folder) == meta:
                    raise
            else:
                if not is_replaced(folder) and read_meta(folder) == meta:
                    return table
        raise InvalidInputError(
            f"A table must stay the same while it is opened; {str(folder)!r} was replaced "
            f"{REPLACED_MEANWHILE} times meanwhile. Open it when its writers are done."
        )

    @classmethod
    def _open(cls, folder: Path, meta: dict[str, Any] | None, root: Any) -> EmbeddingTable:
        if meta is None:
            raise InvalidInputError(
                f"`directory` must hold a table of embeddings; found none in {str(folder)!r}. "
                "Make one with `EmbeddingTable.create` or `clip-al embed`."
            )
        if not meta["complete"]:
            done, rows, _ = read_progress(folder, meta)
            unread = f", {done - rows} of them unreadable" if rows < done else ""
            raise InvalidInputError(
                f"A table must be finished before it is opened; {str(folder)!r} has {done} of "
                f"{meta['n']} images done{unread}. Run the same `EmbeddingTable.create` or "
                "`clip-al embed` again to finish it."
            )
        check_finished(folder, meta)
        check_small(folder, meta)
        return cls(folder, meta, meta["root"] if root is None else os.path.abspath(root))  # noqa: PTH100

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n, d = self.shape
        return f"EmbeddingTable({n} images, width {d}, {self.model_id}, {self.dtype})"

    def first_rows(self, n: int) -> EmbeddingTable:
        """Return the table as it was when it had n rows: rows never move when a folder grows.

        Pickles and copies of it are of the whole table.
        """
        n = check_int(n, "n", largest=len(self))
        part = type(self)(self.directory, self._meta, str(self.root))
        part.embeddings, part.shape = self.embeddings[:n], (n, self.shape[1])
        return part

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.directory), str(self.root))

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return rows as float32: by position, slice, integer array or boolean mask."""
        return np.asarray(self.embeddings[rows], dtype=np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if dtype is None or np.dtype(dtype) == self.dtype:
            return np.array(self.embeddings) if copy else self.embeddings
        if copy is False:
            wanted = np.dtype(dtype)
            raise ValueError(f"a table of {self.dtype} cannot be read as {wanted} without a copy")
        return np.asarray(self.embeddings, dtype=dtype)

    @property
    def ids(self) -> NDArray[np.object_]:
        """What each row is called: an array of n strings, indexable by rows."""
        return self._index[0]

    @property
    def paths(self) -> NDArray[np.object_]:
        """Absolute path of each row's image, an array of n strings; empty without a file."""
        return self._index[1]

    @property
    def gone(self) -> NDArray[np.int64]:
        """Rows whose image was no longer in its folder when `create` last looked, rising."""
        rows = np.array(self._meta.get("gone", ()), dtype=np.int64)
        return rows[rows < len(self)]

    @cached_property
    def _index(self) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        ids, paths = np.empty(len(self), object), np.empty(len(self), object)
        root = str(self.root)
        for i, entry in enumerate(read_index(self.directory, self._meta)[: len(self)]):
            ids[i] = entry[0]
            paths[i] = os.path.join(root, entry[1]) if entry[1] else ""  # noqa: PTH118
        return ids, paths

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def index_of(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the positions of ids, in the order given.

        Raises
        ------
        InvalidInputError
            Where an id is not in the table; the message names the closest ones.
        """
        if isinstance(ids, str):
            raise InvalidTypeError(f"`ids` must be a sequence; got the string {ids!r}. Pass [id].")
        wanted = as_text(ids)
        unknown = [name for name in wanted if name not in self._positions]
        if unknown:
            # Comparing costs about 40 µs a name, so only so many are looked at.
            known = itertools.islice(self._positions, 50_000)
            close = difflib.get_close_matches(unknown[0], known, n=3)
            hint = f" The closest are {', '.join(map(repr, close))}." if close else ""
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            raise InvalidInputError(
                f"`ids` must be among the {len(self)} of the table; got {unknown[0]!r}{more}.{hint}"
            )
        return np.array([self._positions[name] for name in wanted], dtype=np.int64)

    def check_model(self, model: KeyedEncoder | str) -> None:
        """Raise ModelMismatchError unless an encoder, or a `model_id`, is the table's.

        An encoder is compared by its weights, so a local folder may be renamed, and by its
        preprocessing, but not by its precision nor by how image files were read.
        """
        if not isinstance(model, str):
            method_of(model, "key", "model", "Pass a `ClipEncoder`, or the id of a model.")
        other = model if isinstance(model, str) else model.model_id
        renamed = not isinstance(model, str) and model.key()["weights"] == self.key["weights"]
        if other != self.model_id and not renamed:
            raise ModelMismatchError(
                f"Both must come from one model; the table {str(self.directory)!r} was made by "
                f"{self.model_id}, got {other}. Encode with {self.model_id}, or make another table."
            )
        known = self.key["preprocessing"]
        if isinstance(model, str) or not known:
            return
        # How files were read makes no other space: words fit tables of 0.1.0 as they did.
        if split_preprocessing(known)[0] != split_preprocessing(model.preprocessing)[0]:
            raise ModelMismatchError(
                "Both must have one preprocessing; the images of the table "
                f"{str(self.directory)!r} were prepared with {known!r}, got "
                f"{model.preprocessing!r}. Make another table."
            )


def _reopen(directory: str, root: str) -> EmbeddingTable:
    return EmbeddingTable.open(directory, root=root)


def _check_unit_rows(array: NDArray[Any]) -> None:
    step = block_rows(array.shape[1])
    for start in range(0, len(array), step):
        lengths = np.linalg.norm(array[start : start + step].astype(np.float32), axis=1)
        worst = int(np.argmax(np.abs(lengths - 1.0)))
        if abs(lengths[worst] - 1.0) > 1e-2:
            raise InvalidInputError(
                f"`Z` must have rows of unit length; row {start + worst} has length "
                f"{lengths[worst]:.4g}. Pass Z / np.linalg.norm(Z, axis=1, keepdims=True)."
            )
