"""The files of a `Selection`: JSON text for people, and beside it an ``.npz`` with the arrays.

Imports `errors` and a helper of `table_files`. Neither file is a pickle; each is put in place
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
from clip_al.atomic import replacing
from clip_al.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "clip_al.Selection"
FORMAT_VERSION = 1
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
    """Write the two files, the arrays first: the text holds their SHA-256."""
    text_file, array_file = _paths(path)
    there = [file for file in (text_file, array_file) if file.exists()]
    if there and not overwrite:
        raise InvalidInputError(
            f"`path` must be new; {str(there[0])!r} is there. Name another, or pass "
            "overwrite=True to replace it."
        )
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
    _write_bytes(array_file, data)
    _write_bytes(text_file, (json.dumps(meta, indent=2) + "\n").encode())


def read_files(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what `write_files` wrote: the text, with the fingerprint, and the arrays."""
    text_file, array_file = _paths(path)
    meta = _read_meta(text_file)
    try:
        data = array_file.read_bytes()
    except FileNotFoundError as exc:
        raise InvalidInputError(
            f"A selection is two files; {str(array_file)!r} is missing beside "
            f"{str(text_file)!r}. Copy both, or select again."
        ) from exc
    if hashlib.sha256(data).hexdigest() != meta.get("arrays_sha256"):
        raise InvalidInputError(
            f"{str(array_file)!r} must be the arrays that {str(text_file)!r} was saved with; "
            "got others, or a damaged file. Copy both files again, or select again."
        )
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return meta, dict(arrays)
    except (KeyError, TypeError, ValueError) as exc:
        raise damaged(path) from exc


def damaged(path: str | os.PathLike[str]) -> InvalidInputError:
    """Return the error of a text that is not what was saved."""
    return InvalidInputError(
        f"{str(Path(path))!r} must be what was saved; it is damaged or was edited. Copy it "
        "again, or select again."
    )


def write_csv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as a CSV file, in place of one that is there."""
    data = table.to_csv(index=False, lineterminator="\n")
    _write_bytes(Path(path), data.encode("utf-8", "surrogateescape"))


def write_parquet(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as a Parquet file, in place of one that is there; needs pyarrow."""
    try:
        importlib.import_module("pyarrow")
    except ImportError as exc:
        raise MissingDependencyError(
            "Parquet needs pyarrow, which is not installed. Run `pip install "
            "'clip_al[parquet]'`, or use `to_csv`."
        ) from exc
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", index=False)
    _write_bytes(Path(path), buffer.getvalue())


def _paths(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    text_file = Path(path)
    if text_file.suffix == ".npz":
        raise InvalidInputError(
            f"`path` must be that of the JSON file; got {str(text_file)!r}. Name it "
            f"{str(text_file.with_suffix('.json'))!r}: the arrays lie beside it."
        )
    return text_file, text_file.with_suffix(".npz")


def _read_meta(text_file: Path) -> dict[str, Any]:
    try:
        meta = json.loads(text_file.read_bytes())
    except FileNotFoundError as exc:
        raise InvalidInputError(
            f"`path` must name a saved selection; {str(text_file)!r} is missing. Make it with "
            "`Selection.save`."
        ) from exc
    except ValueError as exc:
        raise InvalidInputError(
            f"`path` must name a saved selection; {str(text_file)!r} is damaged or no JSON "
            "text. Copy it again, or select again."
        ) from exc
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise InvalidInputError(
            f"`path` must name a saved selection; {str(text_file)!r} holds other things. Name "
            "what `Selection.save` wrote."
        )
    version = meta.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InvalidInputError(
            f"A selection must be of format {FORMAT_VERSION} or older; {str(text_file)!r} has "
            f"{version}, written by clip_al {meta.get('clip_al')}. Update clip_al."
        )
    return meta


def _write_bytes(path: Path, data: bytes) -> None:
    with replacing(path, "wb") as file:
        file.write(data)
