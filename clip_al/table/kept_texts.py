"""A text is encoded once: what a model made of it lies beside the table of its images.

A file ``texts-….npz`` in the table's folder holds the embeddings of all texts that were put into
one set of templates by the model of the table. Such files may be removed at any time.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.atomic import write_bytes
from clip_al.encode.clip_models import model_label
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import (
    CutTextsWarning,
    InvalidInputError,
    KeptTextsWarning,
    ModelMismatchError,
)
from clip_al.saved_files import SavedFile
from clip_al.table.embedding_table import EmbeddingTable

FORMAT, FORMAT_VERSION = "clip_al.texts", 1
SAVED = SavedFile("clip-al", "Its texts are encoded again.")
CONSTANTS = ("logit_scale", "logit_bias")
WITHOUT_WORDS = (
    "Without words work `select --budget` (with --probabilities or without), `search --like` with "
    "an id, `duplicates`, `report --no-concepts` and `check`. Words need embeddings of a CLIP "
    "model, named when the table is made: `clip-al embed --from FILE -o TABLE --model NAME "
    "--pretrained WEIGHTS`."
)
"""What to do with embeddings of a model that reads no texts."""
_told: set[str] = set()
"""Folders of which was said that nothing can be kept in them."""


@dataclass
class KnownTexts:
    """Embeddings of texts by one model with one set of templates.

    Parameters
    ----------
    rows : dict of str to ndarray of shape (d,), float32
        Of each text, in the order in which they came.
    constants : dict of str to float or None
        `logit_scale` and `logit_bias` of the model.
    """

    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    constants: dict[str, float | None] = field(default_factory=dict)


class KeptTexts:
    """An encoder of texts for the images of a table, which encodes each text once.

    The model is loaded where a text has not been encoded before, and only then.

    Parameters
    ----------
    table : EmbeddingTable
    encoder : ClipEncoder
        Of the model that made the table. Where its name says so, this is believed until it is
        loaded: what lies beside the table was made by the table's weights.

    Notes
    -----
    A file that is damaged, or was made by other weights, is replaced, with a warning. Where the
    folder cannot be written to, nothing is kept, which is said once. Two processes at once write
    one after the other; what the first added may have to be encoded again.
    """

    def __init__(self, table: EmbeddingTable, encoder: ClipEncoder) -> None:
        self.table, self.encoder = table, encoder
        named = re.sub("@[0-9a-f]{8}$", "", table.key["model"])
        self._is_own = model_label(encoder.model, encoder.pretrained) == named
        self._constants: dict[str, float | None] = {}

    def __repr__(self) -> str:
        return f"KeptTexts({self.table!r}, {self.encoder!r})"

    @property
    def progress(self) -> bool:
        """Whether encoding shows its progress."""
        return self.encoder.progress

    @progress.setter
    def progress(self, shown: bool) -> None:
        self.encoder.progress = shown

    @property
    def model_id(self) -> str:
        """The table's, or that of another model, which `EmbeddingTable.check_model` refuses."""
        return self.table.model_id if self._is_own else self.encoder.model_id

    @property
    def preprocessing(self) -> str:
        """How images are brought to the model's input."""
        own = self.table.key["preprocessing"]
        return own if self._is_own else self.encoder.preprocessing

    def key(self) -> dict[str, str]:
        """Return what the embeddings depend on, as `ClipEncoder.key`."""
        return dict(self.table.key) if self._is_own else self.encoder.key()

    @property
    def logit_scale(self) -> float:
        """By which the model multiplies cosines."""
        value = self._constant("logit_scale")
        return 1.0 if value is None else value

    @property
    def logit_bias(self) -> float | None:
        """What the model adds to scaled cosines; None without."""
        return self._constant("logit_bias")

    def encode_images(self, images: Any, *, errors: str = "raise") -> NDArray[np.float32]:
        """Return one unit row for each image, as `ClipEncoder.encode_images`."""
        self._check()
        return self.encoder.encode_images(images, errors=errors)

    def encode_texts(
        self, texts: Sequence[str], *, templates: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Return one unit row for each text; what was encoded before is read.

        Parameters
        ----------
        texts, templates
            As for `ClipEncoder.encode_texts`.

        Returns
        -------
        ndarray of shape (t, d), float32

        Raises
        ------
        ModelMismatchError
            Where the encoder is not of the table's model.

        Warns
        -----
        KeptTextsWarning
            Where a file is damaged or of another model, or nothing can be kept.
        CutTextsWarning
            As `ClipEncoder.encode_texts`; what it names is not kept.
        """
        words = list(texts)
        fills = ["{}"] if templates is None else list(templates)
        path = self._path(fills)
        if not self._is_own:
            self._check()
        known = self._read(path, fills)
        missing = [word for word in dict.fromkeys(words) if word not in known.rows]
        if missing or not words:
            self._check()
            self._encode(missing, fills, path, known)
        self._constants = known.constants
        return np.stack([known.rows[word] for word in words])

    def _check(self) -> None:
        """Load the model, and raise unless it is the table's."""
        try:
            self.table.check_model(self.encoder)
        except ModelMismatchError:
            raise
        except InvalidInputError as exc:
            if self.table.key["weights"] or not self._is_own:
                raise
            raise InvalidInputError(
                f"Words are encoded by the model that made the images' embeddings; the table "
                f"{str(self.table.directory)!r} has those of {self.table.model_id}, which cannot "
                f"be loaded: {str(exc).rstrip('.')}. {WITHOUT_WORDS}"
            ) from exc
        self._is_own = True

    def _encode(self, missing: list[str], fills: list[str], path: Path, known: KnownTexts) -> None:
        """Encode texts, add them to what is known, and keep it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = self.encoder.encode_texts(missing, templates=fills)
        for warning in caught:
            warnings.warn(warning.message, warning.category, stacklevel=3)
        known.rows |= dict(zip(missing, rows, strict=True))
        known.constants = {name: getattr(self.encoder, name) for name in CONSTANTS}
        if any(issubclass(warning.category, CutTextsWarning) for warning in caught):
            return  # so that it is said each time
        # What another process has added meanwhile stays.
        meanwhile = self._read(path, fills, warn=False)
        self._write(path, fills, KnownTexts(meanwhile.rows | known.rows, known.constants))

    def _path(self, fills: Iterable[str]) -> Path:
        identity = json.dumps([self._weights, *fills])
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        return self.table.directory / f"texts-{digest[:16]}.npz"

    @property
    def _weights(self) -> str:
        """What the model is known by; tables of foreign embeddings have its id alone."""
        return self.table.key["weights"] or self.table.model_id

    def _constant(self, name: str) -> float | None:
        if not self._constants:
            self._check()
            self._constants = {each: getattr(self.encoder, each) for each in CONSTANTS}
        return self._constants[name]

    def _read(self, path: Path, fills: list[str], *, warn: bool = True) -> KnownTexts:
        """Return what is in a file; nothing where there is none or it is not what it must be."""
        if not path.exists():
            return KnownTexts()
        try:
            return self._checked(path, fills)
        except InvalidInputError as exc:
            if warn:
                warnings.warn(str(exc), KeptTextsWarning, stacklevel=4)
            return KnownTexts()

    def _checked(self, path: Path, fills: list[str]) -> KnownTexts:
        arrays = SAVED.read_arrays(path, SAVED.read(path))
        try:
            meta, rows_td = json.loads(str(arrays["meta"])), arrays["embeddings"]
            texts, constants = meta["texts"], {name: meta[name] for name in CONSTANTS}
            found = (meta["format"], meta["format_version"], meta["weights"], meta["templates"])
        except (KeyError, TypeError, ValueError) as exc:
            raise SAVED.unfit(path, "it is damaged or holds other things") from exc
        if found != (FORMAT, FORMAT_VERSION, self._weights, fills):
            raise SAVED.unfit(path, "it was made by another model, with other templates or by a "
                              "newer clip_al")  # fmt: skip
        lengths = np.linalg.norm(rows_td, axis=-1) if rows_td.dtype == np.float32 else np.zeros(1)
        fits = rows_td.shape == (len(texts), self.table.shape[1]) and len(set(texts)) == len(texts)
        if not fits or not (np.abs(lengths - 1) < 1e-2).all():
            raise SAVED.unfit(path, "it does not hold a row of unit length for each of its texts")
        return KnownTexts(dict(zip(texts, rows_td, strict=True)), constants)

    def _write(self, path: Path, fills: list[str], known: KnownTexts) -> None:
        meta = {
            "format": FORMAT, "format_version": FORMAT_VERSION, "weights": self._weights,
            "model": self.table.model_id, "templates": fills, "texts": list(known.rows),
            **known.constants,
        }  # fmt: skip
        buffer = io.BytesIO()
        rows_td = np.stack(list(known.rows.values()))
        np.savez(buffer, meta=np.array(json.dumps(meta)), embeddings=rows_td)
        try:
            write_bytes(path, buffer.getvalue())
        except (OSError, InvalidInputError) as exc:
            folder = str(self.table.directory)
            if folder not in _told:
                _told.add(folder)
                why = getattr(exc, "strerror", None) or str(exc)
                warnings.warn(
                    f"Texts are encoded once where their embeddings can be kept beside the table; "
                    f"{folder!r} cannot be written to ({why}), so that every command encodes them "
                    "again. To keep them, copy the table to a folder of yours.",
                    KeptTextsWarning,
                    stacklevel=4,
                )
