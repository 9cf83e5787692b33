"""Hugging Face `datasets`: a column of images for `ClipEncoder` and `EmbeddingTable`.

The way back needs no code of ours: ``dataset.select(np.sort(indices))``; nor does `Trainer`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra
from clip_al.table.embedding_table import EmbeddingTable

if TYPE_CHECKING:
    from datasets import Dataset


def images_of(dataset: Dataset, column: str = "image") -> Any:
    """Return a column of images, each decoded when it is asked for, or of paths.

    The dataset's format and transforms are left aside, so that no augmentation gets into an
    embedding. Not modified; O(1) memory, but for paths.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where `dataset` is no `datasets.Dataset`, or has no such column of images or paths.
    MissingDependencyError
        Where `datasets` is not installed.
    """
    plain = _only(dataset, column)
    import datasets

    kind = plain.features[column]
    if isinstance(kind, datasets.Image):
        decoded = datasets.Image(mode=kind.mode)
        return (plain if kind.decode else plain.cast_column(column, decoded))[column]
    if isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string"):
        return plain[column][:]
    raise InvalidTypeError(
        f"`column` must hold images or paths; {column!r} holds {kind}. Name another, or cast "
        f"it: `dataset.cast_column({column!r}, datasets.Image())`."
    )


def labels_of(dataset: Dataset, column: str = "label") -> tuple[NDArray[Any], list[str] | None]:
    """Return a column of labels, (n,), and the names of its classes where it has them.

    Raises
    ------
    InvalidInputError, InvalidTypeError, MissingDependencyError
        As `images_of` does.
    """
    plain = _only(dataset, column)
    return np.asarray(plain[column][:]), getattr(plain.features[column], "names", None)


def encode_column(
    dataset: Dataset,
    encoder: ClipEncoder,
    column: str = "image",
    *,
    directory: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> NDArray[np.float32] | EmbeddingTable:
    """Encode a column of images, into memory or, with a `directory`, into a table.

    Parameters
    ----------
    **settings
        Of `ClipEncoder.encode_images` or `EmbeddingTable.create`, such as ``errors="skip"``,
        or, for a table, ``ids=dataset["name"]``.
    """
    images = images_of(dataset, column)
    if directory is None:
        return encoder.encode_images(images, **settings)
    return EmbeddingTable.create(directory, images, encoder, **settings)


def _only(dataset: Any, column: str) -> Any:
    try:
        import datasets
    except ImportError as exc:
        raise missing_extra(
            "clip_al.integrations.hugging_face needs datasets", "huggingface"
        ) from exc
    if not isinstance(dataset, datasets.Dataset):
        raise InvalidTypeError(
            f"`dataset` must be a datasets.Dataset, one split in full; got "
            f"{type(dataset).__name__}. Take a split (`dataset['train']`), without streaming."
        )
    if column not in dataset.column_names:
        names = ", ".join(dataset.column_names)
        raise InvalidInputError(f"`column` must be one of {names}; got {column!r}. Name one.")
    return dataset.with_format(None).select_columns([column])
