"""The files of a `Selection`: JSON text for people, and beside it an ``.npz`` with the arrays.

Neither file is a pickle; each is put in place
at once, and so are exported tables. Plain functions on a `head`, a dict of what JSON holds, and
on `arrays` by name.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al import __version__
from clip_al.atomic import as_path, check_new, write_bytes
from clip_al.errors import InvalidInputError, missing_extra
from clip_al.file_names import shown_names
from clip_al.saved_files import SavedFile

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "clip_al.Selection"
FORMAT_VERSION = 1
SAVED = SavedFile("Selection.save", "Copy it again, or select again.")
SCORE = "score "
"""What the name of an array that is a score begins with."""


def pack_arrays(
    indices: NDArray[np.int64],
    scores: Mapping[str, NDArray[Any]],
    *,
    labels: NDArray[np.int64] | None,
    groups: NDArray[np.int64] | None,
    ids: NDArray[np.object_] | None,
) -> dict[str, NDArray[Any]]:
    """Return all that is one entry an image, each array in one byte order."""
    arrays: dict[str, NDArray[Any]] = {"indices": indices}
    if labels is not None:
        arrays["labels"] = labels
    if groups is not None:
        arrays["groups"] = groups
    if ids is not None:
        # JSON keeps every string as it is, which a NumPy array of strings does not.
        arrays["ids"] = np.frombuffer(json.dumps(ids.tolist()).encode("ascii"), dtype=np.uint8)
    arrays |= {f"{SCORE}{name}": score for name, score in scores.items()}
    return {name: np.asarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}


def unpack_ids(packed: NDArray[np.uint8]) -> list[str]:
    """Return the ids that `pack_arrays` packed."""
    ids: list[str] = json.loads(packed.tobytes())
    return ids


def fingerprint_of(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of a selection, 64 hexadecimal digits; the same on every machine."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0{len(array)}\0".encode("utf-8", "replace"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_files(
    path: str | os.PathLike[str],
    head: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    fingerprint: str,
    *,
    overwrite: bool,
) -> None:
    """Write the two files, so that a kill at any moment leaves the old pair or the new one.

    The text holds the SHA-256 of its arrays. These wait under another name, which `read_files`
    knows, until the text is in place.
    """
    text_file, array_file = _paths(path)
    for file in (text_file, array_file):
        check_new(file, overwrite=overwrite)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # no objects, so no pickle
    data = buffer.getvalue()
    meta = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "clip_al": __version__,
        "n_images": head["n_images"],
        "n_selected": len(arrays["indices"]),
        "scores": [name.removeprefix(SCORE) for name in arrays if name.startswith(SCORE)],
        "settings": head["settings"],
        "class_names": head["class_names"],
        "group_names": head["group_names"],
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
        "fingerprint": fingerprint,
    }
    waiting = _waiting(array_file)
    write_bytes(waiting, data)
    write_bytes(text_file, (json.dumps(meta, indent=2) + "\n").encode(), overwrite=overwrite)
    waiting.replace(array_file)


def read_files(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what `write_files` wrote: the text, with the fingerprint, and the arrays."""
    text_file, array_file = _paths(path)
    meta = _read_meta(text_file)
    # The last is what 0.1.0 called the arrays of `subset_0.3`.
    names = (array_file, _waiting(array_file), text_file.with_suffix(".npz"))
    there = [file for file in names if file.is_file()]
    if not there:
        raise InvalidInputError(
            f"A selection is two files; {str(array_file)!r} is missing beside "
            f"{str(text_file)!r}. Copy both, or select again."
        )
    for file in there:
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() == meta.get("arrays_sha256"):
            return meta, SAVED.read_arrays(file, data)
    raise InvalidInputError(
        f"{str(there[0])!r} must be the arrays that {str(text_file)!r} was saved with; "
        "got others, or a damaged file. Copy both files again, or select again."
    )


def damaged(path: str | os.PathLike[str]) -> InvalidInputError:
    """Return the error of a text that is not what was saved."""
    return SAVED.unfit(path, "it is damaged or was edited")


def write_parquet(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as a Parquet file, in place of one that is there; needs pyarrow.

    Parquet holds Unicode alone: see `clip_al.file_names` for names that are not.
    """
    try:
        importlib.import_module("pyarrow")
    except ImportError as exc:
        raise missing_extra("Parquet needs pyarrow", "parquet", ", or use `to_csv`") from exc
    buffer = io.BytesIO()
    shown_names(table).to_parquet(buffer, engine="pyarrow", index=False)
    write_bytes(path, buffer.getvalue())


def _paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    text_file = as_path(path)
    if not text_file.name:
        raise InvalidInputError("`path` must name a file; got an empty one. Name the JSON file.")
    if text_file.suffix == ".npz":
        raise InvalidInputError(
            f"`path` must be that of the JSON file; got {str(text_file)!r}. Name it "
            f"{str(text_file.with_suffix('.json'))!r}: the arrays lie beside it."
        )
    # The name may have a dot of its own: `subset_0.3` and `subset_0.5` are two selections.
    return text_file, text_file.with_name(f"{text_file.name.removesuffix('.json')}.npz")


def _waiting(array_file: Path) -> Path:
    """Return what arrays are called until their text is in place."""
    return array_file.with_name(f"{array_file.name}.new")


def _read_meta(text_file: Path) -> dict[str, Any]:
    content = SAVED.read(text_file)
    try:
        meta = json.loads(content)
    except ValueError as exc:
        raise SAVED.unfit(text_file, "it is damaged or no JSON text") from exc
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise SAVED.unfit(text_file, "it holds other things")
    version = meta.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InvalidInputError(
            f"A selection must be of format {FORMAT_VERSION} or older; {str(text_file)!r} has "
            f"{version}, written by clip_al {meta.get('clip_al')}. Update clip_al."
        )
    return meta
