"""What was chosen to train on: a frozen record that can be read, compared, saved and exported."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_indices, check_int
from clip_al.arrays.given import check_kind
from clip_al.atomic import write_frame
from clip_al.errors import InvalidInputError
from clip_al.file_names import text_column
from clip_al.subset.notebook import selection_html
from clip_al.subset.selection_checks import (
    Groups,
    check_chosen,
    check_ids,
    check_labels,
    check_likeliest,
    check_names,
    check_scores,
    check_settings,
    encode_classes,
    encode_groups,
    frozen,
)
from clip_al.subset.selection_files import (
    SCORE,
    damaged,
    fingerprint_of,
    pack_arrays,
    read_files,
    unpack_ids,
    write_files,
    write_parquet,
)
from clip_al.subset.selection_summaries import (
    Comparison,
    SelectionReport,
    Suspect,
    count_moves,
    name_of,
    names_of,
    share_table,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """The images chosen from a dataset, and why; frozen, all arrays read-only copies.

    Made by `SelectionOptimizer.select`, `ClipSelector.fit` or `from_indices`. Two selections
    are equal where their fingerprints are.

    Parameters
    ----------
    indices : array-like of shape (b,), int
        Positions of the chosen images, ascending, at least one.
    n_images : int
        Size n of the dataset.
    scores : mapping of str to array-like of shape (n,)
        Of every image, chosen or not. Known names: ``sas``, ``sds``, ``total`` (higher is
        chosen first), ``label_score`` (how credible the given label is), ``likeliest``
        (number of the likeliest class).
    settings : mapping
        What was asked and with which model and seed; anything that JSON can hold.
    labels : array-like of shape (n,), int, optional
        Number of the class that each image is labelled with.
    class_names : sequence of str, optional
        What the classes are called.
    groups : array-like of shape (n,) of str or int, or Groups, optional
        An attribute of each image, such as where it was taken.
    ids : sequence of str, optional
        What the images are called.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of all of the above, 64 hexadecimal digits; the same on every machine.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where lengths differ, positions repeat or lie outside, or settings are not JSON.

    Notes
    -----
    O(n) time and memory; arrays are copied, so later changes to the inputs do not show.

    Examples
    --------
    >>> selection = Selection.from_indices([4, 1], 5, y=["a", "b", "a", "a", "b"])
    >>> selection
    Selection(2 of 5 images, 40.0%)
    >>> selection.mask.tolist()
    [False, True, False, False, True]
    >>> print(selection.compare(Selection.from_indices([1, 2], 5)))
    1 images in both (Jaccard 0.333), 1 added, 1 removed
      a: +1 -0
      b: +0 -1
    """

    indices: NDArray[np.int64]
    n_images: int
    scores: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] | None = None
    groups: Groups | None = None
    ids: NDArray[np.object_] | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        n = check_int(self.n_images, "n_images")
        names = check_names(self.class_names)
        checked: dict[str, Any] = {
            "n_images": n,
            "indices": frozen(check_chosen(self.indices, n)),
            "scores": MappingProxyType(check_scores(self.scores, n)),
            "settings": MappingProxyType(check_settings(self.settings)),
            "class_names": names,
            "labels": check_labels(self.labels, n, names),
            "groups": None if self.groups is None else encode_groups(self.groups, n_images=n),
            "ids": None if self.ids is None else check_ids(self.ids, n),
        }
        check_likeliest(checked["scores"], names)
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen
        object.__setattr__(self, "fingerprint", fingerprint_of(self._head(), self._arrays()))

    @classmethod
    def from_indices(
        cls,
        indices: ArrayLike,
        n_images: int,
        *,
        scores: Mapping[str, ArrayLike] | None = None,
        settings: Mapping[str, Any] | None = None,
        y: ArrayLike | None = None,
        class_names: Sequence[str] | None = None,
        groups: ArrayLike | Groups | None = None,
        ids: Sequence[str] | None = None,
    ) -> Selection:
        """Make a selection of images that were chosen in another way.

        Parameters
        ----------
        indices : array-like of int, or boolean mask of shape (n,)
            Distinct positions in any order.
        n_images : int
            Size n of the dataset.
        y : array-like of shape (n,), optional
            Class numbers or names; names without `class_names` are numbered in their order.
        scores, settings, class_names, groups, ids
            As for `Selection`.
        """
        n = check_int(n_images, "n_images")
        labels = None
        if y is not None:
            labels, _, class_names = encode_classes(y, n_images=n, class_names=class_names)
        return cls(
            np.sort(check_indices(indices, n)),
            n,
            scores={} if scores is None else scores,  # type: ignore[arg-type]  # checked and converted
            settings={} if settings is None else settings,
            labels=labels,
            class_names=class_names,  # type: ignore[arg-type]
            groups=groups,  # type: ignore[arg-type]
            ids=ids,  # type: ignore[arg-type]
        )

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Whether each image is chosen, (n,); a new array each time."""
        mask_n = np.zeros(self.n_images, dtype=bool)
        mask_n[self.indices] = True
        return mask_n

    @property
    def ratio(self) -> float:
        """Share of the images that is chosen, in (0, 1]: the actual one, not the asked one."""
        return len(self.indices) / self.n_images

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        return f"Selection({len(self)} of {self.n_images} images, {self.ratio:.1%})"

    def _repr_html_(self) -> str:
        return selection_html(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping cannot be pickled; a dict of the same can.
        scores, settings = dict(self.scores), dict(self.settings)
        rest = (self.labels, self.class_names, self.groups, self.ids)
        return type(self), (self.indices, self.n_images, scores, settings, *rest)

    def suspects(self, n: int = 20) -> list[Suspect]:
        """Return the n images most likely mislabelled, worst first, chosen or not.

        Parameters
        ----------
        n : int
            How many, in [1, n_images].

        Returns
        -------
        list of Suspect
            By ``label_score``, lowest first; without it, by ``sas``. Ties by lowest index.

        Raises
        ------
        InvalidInputError
            Where the selection holds neither score.
        """
        n = check_int(n, "n", largest=self.n_images)
        name = next((name for name in ("label_score", "sas") if name in self.scores), None)
        if name is None:
            raise InvalidInputError(
                "To rank suspects, `scores` must hold 'label_score' or 'sas'; got "
                f"{', '.join(map(repr, self.scores)) or 'none'}. Pass the score of each label."
            )
        score_n, likeliest_n = self.scores[name], self.scores.get("likeliest")
        order = np.argsort(score_n, kind="stable")[:n]
        return [
            Suspect(
                int(i),
                None if self.ids is None else self.ids[i],
                None if self.labels is None else name_of(self.labels[i], self.class_names),
                None if likeliest_n is None else name_of(likeliest_n[i], self.class_names),
                float(score_n[i]),
            )
            for i in order
        ]

    def report(self) -> SelectionReport:
        """Return how the shares of classes and groups change; O(n) time."""
        classes = groups = None
        if self.labels is not None:
            names = self.class_names or range(int(self.labels.max()) + 1)
            classes = share_table(self.labels, names, self.indices)
        if self.groups is not None:
            groups = share_table(*self.groups, self.indices)
        return SelectionReport(self.n_images, len(self), classes, groups)

    def compare(self, other: Selection) -> Comparison:
        """Return what changes from this selection to another of the same images.

        Raises
        ------
        InvalidInputError
            Where the other is of another dataset: of another size, or with other ids.
        """
        check_kind(other, Selection, "other", "Make one with `Selection.from_indices`.")
        if other.n_images != self.n_images:
            raise InvalidInputError(
                "Both selections must be of one dataset; this one is of "
                f"{self.n_images} images, the other of {other.n_images}. Compare selections of "
                "the same images."
            )
        if self.ids is not None and other.ids is not None and (self.ids != other.ids).any():
            at = int(np.flatnonzero(self.ids != other.ids)[0])
            raise InvalidInputError(
                f"Both selections must be of one dataset; image {at} is {self.ids[at]!r} here "
                f"and {other.ids[at]!r} in the other. Compare selections of the same images, in "
                "the same order."
            )
        mine, others = self.mask, other.mask
        n_overlap = int(np.count_nonzero(mine & others))
        added, removed = np.flatnonzero(others & ~mine), np.flatnonzero(mine & ~others)
        jaccard = n_overlap / (n_overlap + len(added) + len(removed))
        moved = None
        if self.labels is not None:
            moved = count_moves(self.labels, self.class_names, added, removed)
        return Comparison(n_overlap, jaccard, added, removed, moved)

    def to_frame(self) -> pd.DataFrame:
        """Return one row an image: index, id, selected, given, group, scores, likeliest.

        Columns that the selection knows nothing of are left out; classes and groups are
        names where those are known.
        """
        import pandas as pd

        columns: dict[str, Any] = {"index": np.arange(self.n_images)}
        if self.ids is not None:
            columns["id"] = text_column(self.ids.copy())
        columns["selected"] = self.mask
        if self.labels is not None:
            columns["given"] = text_column(names_of(self.labels, self.class_names))
        if self.groups is not None:
            columns["group"] = text_column(names_of(*self.groups))
        columns |= {name: score.copy() for name, score in self.scores.items()}
        if "likeliest" in columns:
            likeliest = names_of(columns.pop("likeliest"), self.class_names)
            columns["likeliest"] = text_column(likeliest)
        return pd.DataFrame(columns)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as a CSV file, in place of one that is there."""
        write_frame(path, self.to_frame())

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as a Parquet file, in place of one that is there.

        Raises
        ------
        MissingDependencyError
            Where pyarrow is not installed.
        """
        write_parquet(path, self.to_frame())

    def report_html(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write one HTML page that shows the selection; see `write_report` for the options.

        Parameters
        ----------
        path : path
            Of the file, for instance ``report.html``.
        **options
            ``images=``, ``embeddings=``, ``profiles=``, ``against=`` and others.
        """
        # By name, because the report is made from selections and imports this module.
        importlib.import_module("clip_al.show.report.write").write_report(self, path, **options)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the selection as JSON text, and its arrays beside it as ``.npz``.

        Parameters
        ----------
        path : path
            Of the JSON file, for instance ``subset.json``; the arrays go to ``subset.npz``,
            and those of ``subset_0.3`` to ``subset_0.3.npz``.
        overwrite : bool, default=False
            Replace files that are there.

        Raises
        ------
        InvalidInputError
            Where one of the files is there, the folder is not, or `path` ends in ``.npz``.

        Notes
        -----
        A kill at any moment leaves the old selection or the new one; the text holds the
        SHA-256 of the arrays, so that `load` refuses those of another save. The same selection
        gives the same bytes.
        """
        write_files(path, self._head(), self._arrays(), self.fingerprint, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Selection:
        """Read what `save` wrote.

        Parameters
        ----------
        path : path
            Of the JSON file; the ``.npz`` must lie beside it under the same name.

        Raises
        ------
        InvalidInputError
            Where a file is missing, damaged, or of a newer format; the message says which.
        """
        head, arrays = read_files(path)
        try:
            selection = cls._from_parts(head, arrays)
        except (KeyError, TypeError, ValueError) as exc:
            raise damaged(path) from exc
        if selection.fingerprint != head.get("fingerprint"):
            raise damaged(path)
        return selection

    def _head(self) -> dict[str, Any]:
        return {
            "n_images": self.n_images,
            "settings": dict(self.settings),
            "class_names": self.class_names,
            "group_names": None if self.groups is None else self.groups.names,
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        groups = None if self.groups is None else self.groups.codes
        return pack_arrays(
            self.indices, self.scores, labels=self.labels, groups=groups, ids=self.ids
        )

    @classmethod
    def _from_parts(cls, head: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Selection:
        groups = None
        if "groups" in arrays:
            groups = Groups(arrays["groups"], tuple(head["group_names"]))
        return cls(
            arrays["indices"],
            head["n_images"],
            scores={name: arrays[f"{SCORE}{name}"] for name in head["scores"]},
            settings=head["settings"],
            labels=arrays.get("labels"),
            class_names=head["class_names"],
            groups=groups,
            ids=unpack_ids(arrays["ids"]) if "ids" in arrays else None,  # type: ignore[arg-type]
        )
