"""What ``select --classes`` and ``predict`` share: labels of some images, and a head for all."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.cli.options import encoder_of, err, note
from clip_al.errors import TextPriorWarning
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.label.head.classifier import ClipClassifier
    from clip_al.table.embedding_table import EmbeddingTable
    from clip_al.table.kept_texts import KeptTexts


@dataclass(frozen=True)
class LabelledRows:
    """Images of a table that people have labelled, and those that they were merely shown.

    Parameters
    ----------
    rows : ndarray of shape (l,), int64
        Positions in the table.
    codes : ndarray of shape (l,), int64, or None
        Class numbers, or with several labels an image (l, k) bool; None where the file names
        images and no labels.
    """

    rows: NDArray[np.int64]
    codes: NDArray[Any] | None


@dataclass(frozen=True)
class TrainedHead:
    """A `ClipClassifier`, fitted to the labels that there are, and what it was fitted to.

    Parameters
    ----------
    classifier : ClipClassifier
    names : list of str
        Of the classes, in the order of its columns.
    known : LabelledRows
    encoder : KeptTexts
        Of the names.
    """

    classifier: ClipClassifier
    names: list[str]
    known: LabelledRows
    encoder: KeptTexts

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, or none."""
        return bool(self.classifier.multi_label)

    @property
    def n_labels(self) -> int:
        """How many labelled images it was fitted to; 0 is zero-shot."""
        return 0 if self.known.codes is None else len(self.known.codes)

    @property
    def class_emb_kd(self) -> NDArray[np.float32]:
        """The texts of the classes."""
        return np.asarray(self.classifier.text_emb_kd_, dtype=np.float32)

    @property
    def logit_scale(self) -> float:
        """By which the model of the texts multiplies cosines."""
        return float(self.encoder.logit_scale)

    def blocks(self, table: EmbeddingTable) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Yield the probabilities of a table's images, some rows at a time."""
        step = block_rows(max(len(self.names), table.embeddings.shape[1]), 8)
        for start in range(0, len(table), step):
            rows = slice(start, min(start + step, len(table)))
            yield rows, self.classifier.predict_proba(table.embeddings[rows])

    def probabilities(self, table: EmbeddingTable) -> NDArray[np.float32]:
        """Return the probabilities of all images, (n, k) float32."""
        prob_nk = np.empty((len(table), len(self.names)), np.float32)
        with progress_bar(True, f"Predicting {len(table):,} images", None):
            for rows, prob_bk in self.blocks(table):
                prob_nk[rows] = prob_bk
        return prob_nk


def train_head(
    table: EmbeddingTable,
    classes: Path,
    labelled: Path | None,
    model: str | None,
    pretrained: str | None,
    random_state: int,
    multi_label: bool = False,
) -> TrainedHead:
    """Fit a head on the labelled images of a table, or take the class names alone; say which.

    Parameters
    ----------
    table : EmbeddingTable
    classes : Path
        Names of the classes, one a line.
    labelled : Path or None
        As `read_labelled` of `clip_al.handed_in` takes it, or `read_several_labels`.
    model, pretrained : str or None
        In place of the table's model.
    random_state : int
        Of the folds that are held out.
    multi_label : bool
        Whether an image may have several labels, or none.
    """
    from clip_al.handed_in.read import read_class_names
    from clip_al.label.head.classifier import ClipClassifier

    names = read_class_names(classes)
    known = LabelledRows(np.empty(0, np.int64), None)
    if labelled is not None:
        read = _read_several if multi_label else _read_known
        known = read(labelled, table, names, classes)
    encoder = encoder_of(table, model, pretrained)
    table.check_model(encoder)
    encoder.progress = False  # a few names: one display at a time
    classifier = ClipClassifier(names, encoder, multi_label=multi_label, random_state=random_state)
    none = np.empty((0, len(names)), bool) if multi_label else np.empty(0, np.int64)
    codes = none if known.codes is None else known.codes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with progress_bar(True, f"Training on {len(codes):,} labels", None):
            classifier.fit(table[known.rows[: len(codes)]], codes)
    _say(names, codes, known, labelled)
    for warning in caught:
        if issubclass(warning.category, TextPriorWarning):
            warnings.warn(_why_no_texts(classes, len(codes)), TextPriorWarning, stacklevel=2)
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return TrainedHead(classifier, names, known, encoder)


def _read_known(path: Path, table: EmbeddingTable, names: list[str], classes: Path) -> LabelledRows:
    """Read which images have a label, and the labels of a file with a column ``label``."""
    from clip_al.handed_in.class_names import encode_given
    from clip_al.handed_in.read import read_labelled

    read = read_labelled(path, table, "--labelled", classes=names)
    note(path, read.how)
    if read.labels is None:
        return LabelledRows(read.indices, None)
    if not read.labels:
        return LabelledRows(read.indices, np.empty(0, np.int64))
    codes, _ = encode_given(read.labels, table.ids[read.indices], names, str(path), classes)
    return LabelledRows(read.indices, codes)


def _read_several(
    path: Path, table: EmbeddingTable, names: list[str], classes: Path
) -> LabelledRows:
    """Read labels of which an image may have several, or which images were merely shown."""
    from clip_al.handed_in.read import read_labelled, read_several_labels
    from clip_al.handed_in.several_labels import holds_labels

    if not holds_labels(path, names):
        read = read_labelled(path, table, "--labelled")
        note(path, read.how)
        return LabelledRows(read.indices, None)
    several = read_several_labels(path, table, classes, all_images=False)
    note(path, several.how)
    return LabelledRows(several.indices, several.labels)


def _say(names: list[str], codes: NDArray[Any], known: LabelledRows, labelled: Path | None) -> None:
    """Say on standard error what the head knows."""
    if len(codes):
        several = codes.ndim == 2
        own = np.flatnonzero(codes.any(axis=0)) if several else np.unique(codes)
        missing = [name for k, name in enumerate(names) if k not in set(own.tolist())]
        seen = len(names) - len(missing)
        labels = f"{len(codes):,} labels"
        if several:
            labels = f"{codes.sum():,} labels of {len(codes):,} images,"
        said = f"{labels} of {seen} of {len(names)} classes: head trained."
        if not missing:
            said = f"{labels} of {len(names)} classes: head trained."
        else:
            said += f" No label yet of {_listed(missing)}."
    else:
        said = f"No labels: zero-shot by the names of {len(names)} classes."
        if labelled is not None and known.codes is None:
            said = f"No labels ({labelled} has no column `label`): " + said.partition(": ")[2]
    err.print(said, highlight=False, markup=False, soft_wrap=True)


def _listed(names: list[str], n: int = 5) -> str:
    rest = len(names) - n
    return ", ".join(names[:n]) + (f" and {rest} more" if rest > 0 else "")


def _why_no_texts(classes: Path, n_labels: int) -> str:
    return (
        f"The class names do not help to tell the {n_labels:,} labelled images apart, and were "
        f"left out. Most likely the labels are numbers in another order than {classes}, or CLIP "
        "knows little of these classes. Check the file of names."
    )
