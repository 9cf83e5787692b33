"""What was chosen to train on: a frozen record that can be read, compared, saved and exported.

Imports `checks`, `labels`, `errors` and a helper of `table_files`. A saved selection is two
files: JSON text for people, and beside it an ``.npz`` with the arrays; neither is a pickle.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al import __version__
from clip_al.checks import check_indices, check_int
from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.labels import encode_labels
from clip_al.table_files import sync_file

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "clip_al.Selection"
FORMAT_VERSION = 1


class Groups(NamedTuple):
    """An attribute of each image: (n,) int64 codes, and what each code is called."""

    codes: NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Suspect:
    """An image that may be mislabelled; classes are names where those are known."""

    index: int
    id: str | None
    given: str | int | None
    likeliest: str | int | None
    score: float


@dataclass(frozen=True)
class SelectionReport:
    """Shares of each class and group before and after; `str` of it is readable.

    Attributes
    ----------
    n_images, n_selected : int
        Size before and after.
    classes, groups : DataFrame or None
        One row each: ``name``, ``before`` and ``after`` (counts), ``share_before``,
        ``share_after``, ``kept`` (after / before, NaN for a class without images). None
        where the selection knows no labels, or no groups.
    """

    n_images: int
    n_selected: int
    classes: pd.DataFrame | None
    groups: pd.DataFrame | None

    @property
    def class_balance(self) -> tuple[float, float] | None:
        """Least over most frequent class, before and after; classes without images aside."""
        return _balance(self.classes)

    @property
    def group_balance(self) -> tuple[float, float] | None:
        """Least over most frequent group, before and after."""
        return _balance(self.groups)

    def __str__(self) -> str:
        share = self.n_selected / self.n_images
        lines = [f"{self.n_selected} of {self.n_images} images selected ({share:.1%})"]
        for what, table in (("class", self.classes), ("group", self.groups)):
            balance = _balance(table)
            if table is None or balance is None:
                continue
            before, after = balance
            lines += [
                "",
                f"least / most frequent {what}: {before:.2f} before, {after:.2f} after",
                table.rename(columns={"name": what}).to_string(
                    index=False, max_rows=40, float_format="{:.3f}".format
                ),
            ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """What changes from one selection to another of the same images.

    Attributes
    ----------
    n_overlap : int
        How many images both chose.
    jaccard : float
        Overlap over union, in [0, 1]; 1 where they are the same.
    added, removed : ndarray of int64
        Positions that only the other, and only this one, chose; ascending.
    moved : dict or None
        Class to (added, removed), for the classes where anything moved; None without labels.
    """

    n_overlap: int
    jaccard: float
    added: NDArray[np.int64]
    removed: NDArray[np.int64]
    moved: dict[str | int, tuple[int, int]] | None

    def __str__(self) -> str:
        lines = [
            f"{self.n_overlap} images in both (Jaccard {self.jaccard:.3f}), "
            f"{len(self.added)} added, {len(self.removed)} removed"
        ]
        for name, (added, removed) in (self.moved or {}).items():
            lines.append(f"  {name}: +{added} -{removed}")
        return "\n".join(lines)


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
        chosen first), ``label_score`` (log-probability of the given label), ``likeliest``
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
        names = _check_names(self.class_names)
        checked = {
            "n_images": n,
            "indices": _frozen(_check_chosen(self.indices, n)),
            "scores": MappingProxyType(_check_scores(self.scores, n)),
            "settings": MappingProxyType(_check_settings(self.settings)),
            "class_names": names,
            "labels": _check_labels(self.labels, n, names),
            "groups": None if self.groups is None else encode_groups(self.groups, n_images=n),
            "ids": None if self.ids is None else _check_ids(self.ids, n),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the dataclass is frozen
        object.__setattr__(self, "fingerprint", _fingerprint(self))

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
            scores=scores or {},  # type: ignore[arg-type]  # checked and converted
            settings=settings or {},
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
                None if self.labels is None else self._class(self.labels[i]),
                None if likeliest_n is None else self._class(likeliest_n[i]),
                float(score_n[i]),
            )
            for i in order
        ]

    def _class(self, number: Any) -> str | int:
        return int(number) if self.class_names is None else self.class_names[int(number)]

    def report(self) -> SelectionReport:
        """Return how the shares of classes and groups change; O(n) time."""
        classes = groups = None
        if self.labels is not None:
            n_classes = int(self.labels.max()) + 1
            names = self.class_names or range(n_classes)
            classes = _share_table(self.labels, names, self.indices)
        if self.groups is not None:
            groups = _share_table(*self.groups, self.indices)
        return SelectionReport(self.n_images, len(self), classes, groups)

    def compare(self, other: Selection) -> Comparison:
        """Return what changes from this selection to another of the same images.

        Raises
        ------
        InvalidInputError
            Where the other is of another dataset: of another size, or with other ids.
        """
        if not isinstance(other, Selection):
            raise InvalidTypeError(
                f"`other` must be a Selection; got {type(other).__name__}. Make one with "
                "`Selection.from_indices`."
            )
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
        return Comparison(n_overlap, jaccard, added, removed, self._moved(added, removed))

    def _moved(
        self, added: NDArray[np.int64], removed: NDArray[np.int64]
    ) -> dict[str | int, tuple[int, int]] | None:
        if self.labels is None:
            return None
        n_classes = int(self.labels.max()) + 1
        counts = [np.bincount(self.labels[part], minlength=n_classes) for part in (added, removed)]
        return {
            self._class(c): (int(counts[0][c]), int(counts[1][c]))
            for c in np.flatnonzero(counts[0] + counts[1])
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row an image: index, id, selected, given, group, scores, likeliest.

        Columns that the selection knows nothing of are left out; classes and groups are
        names where those are known.
        """
        import pandas as pd

        columns: dict[str, Any] = {"index": np.arange(self.n_images)}
        if self.ids is not None:
            columns["id"] = self.ids.copy()
        columns["selected"] = self.mask
        if self.labels is not None:
            columns["given"] = self._classes(self.labels)
        if self.groups is not None:
            columns["group"] = np.array(self.groups.names, dtype=object)[self.groups.codes]
        columns |= {name: score.copy() for name, score in self.scores.items()}
        if "likeliest" in columns:
            columns["likeliest"] = self._classes(columns.pop("likeliest"))
        return pd.DataFrame(columns)

    def _classes(self, codes_n: NDArray[np.int64]) -> NDArray[Any]:
        if self.class_names is None:
            return codes_n.copy()
        return np.array(self.class_names, dtype=object)[codes_n]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as a CSV file, in place of one that is there."""
        data = self.to_frame().to_csv(index=False, lineterminator="\n")
        _write_at_once(Path(path), data.encode("utf-8", "surrogateescape"))

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as a Parquet file, in place of one that is there.

        Raises
        ------
        MissingDependencyError
            Where pyarrow is not installed.
        """
        try:
            importlib.import_module("pyarrow")
        except ImportError as exc:
            raise MissingDependencyError(
                "Parquet needs pyarrow, which is not installed. Run `pip install "
                "'clip_al[parquet]'`, or use `to_csv`."
            ) from exc
        buffer = io.BytesIO()
        self.to_frame().to_parquet(buffer, engine="pyarrow", index=False)
        _write_at_once(Path(path), buffer.getvalue())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the selection as JSON text, and its arrays beside it as ``.npz``.

        Parameters
        ----------
        path : path
            Of the JSON file, for instance ``subset.json``; the arrays go to ``subset.npz``.
        overwrite : bool, default=False
            Replace files that are there.

        Raises
        ------
        InvalidInputError
            Where one of the files is there, or `path` ends in ``.npz``.

        Notes
        -----
        Each file is put in place at once, the arrays first; the text holds their SHA-256, so
        that `load` refuses arrays of another save. The same selection gives the same bytes.
        """
        text_file, array_file = _files(path)
        there = [file for file in (text_file, array_file) if file.exists()]
        if there and not overwrite:
            raise InvalidInputError(
                f"`path` must be new; {str(there[0])!r} is there. Name another, or pass "
                "overwrite=True to replace it."
            )
        buffer = io.BytesIO()
        np.savez(buffer, **_to_arrays(self))  # type: ignore[arg-type]  # no objects, so no pickle
        data = buffer.getvalue()
        meta = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "clip_al": __version__,
            "n_images": self.n_images,
            "n_selected": len(self),
            "scores": list(self.scores),
            "settings": dict(self.settings),
            "class_names": self.class_names,
            "group_names": None if self.groups is None else self.groups.names,
            "arrays_sha256": hashlib.sha256(data).hexdigest(),
            "fingerprint": self.fingerprint,
        }
        _write_at_once(array_file, data)
        _write_at_once(text_file, (json.dumps(meta, indent=2) + "\n").encode())

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
        text_file, array_file = _files(path)
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
        damaged = (
            f"{str(text_file)!r} must be what was saved; it is damaged or was edited. Copy it "
            "again, or select again."
        )
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                selection = _from_arrays(dict(arrays), meta)
        except (KeyError, TypeError, ValueError) as exc:
            raise InvalidInputError(damaged) from exc
        if selection.fingerprint != meta.get("fingerprint"):
            raise InvalidInputError(damaged)
        return selection


def encode_groups(groups: Any, *, n_images: int, name: str = "groups") -> Groups:
    """Return an attribute as codes and names, numbered in ascending order of the values.

    Examples
    --------
    >>> encode_groups(["night", "day", "night"], n_images=3)
    Groups(codes=array([1, 0, 1]), names=('day', 'night'))
    """
    if isinstance(groups, Groups):
        values, names = np.asarray(groups.codes), tuple(map(str, groups.names))
    else:
        values, names = np.asarray(groups), ()
    if values.shape != (n_images,):
        raise InvalidInputError(
            f"`{name}` must have one entry for each of the {n_images} images; got shape "
            f"{values.shape}. Pass the attribute of the same images, in the same order."
        )
    if isinstance(groups, Groups):
        codes = encode_labels(values, n_images=n_images, n_classes=len(names), name=name)
        return Groups(_frozen(codes), names)
    mixed = values.dtype == object and not all(isinstance(value, str) for value in values)
    if values.dtype.kind not in "OUiub" or mixed:
        raise InvalidTypeError(
            f"`{name}` must hold names or whole numbers; got dtype {values.dtype}. Convert it, "
            "for instance with `astype(str)`, and name what is missing."
        )
    distinct, codes = np.unique(values, return_inverse=True)
    return Groups(_frozen(codes.astype(np.int64)), tuple(map(str, distinct.tolist())))


def encode_classes(
    y: ArrayLike,
    *,
    n_images: int,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[NDArray[np.int64], int, tuple[str, ...] | None]:
    """Return labels as numbers, how many classes there are, and their names where known.

    Without `n_classes` and `class_names`, the classes are those that occur: names in
    ascending order, or numbers up to the largest.
    """
    names = _check_names(class_names)
    values = np.asarray(y)
    if names is None and values.dtype.kind in "OUS":
        names = tuple(np.unique(values.astype(str)).tolist())
    if names is not None and n_classes not in (None, len(names)):
        raise InvalidInputError(
            f"`class_names` must name each of the {n_classes} classes; got {len(names)} names. "
            "Pass one a class, in the order of the class numbers."
        )
    if n_classes is None:
        numbers = names is None and values.size and values.dtype.kind in "iub"
        n_classes = max(0, int(values.max())) + 1 if numbers else len(names or ())
    else:
        n_classes = check_int(n_classes, "n_classes")
    codes = encode_labels(y, n_images=n_images, n_classes=n_classes, class_names=names)
    return codes, n_classes, names


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def _check_chosen(indices: Any, n: int) -> NDArray[np.int64]:
    array = check_indices(indices, n)
    if array.size == 0:
        raise InvalidInputError("A selection must hold at least one image; got none. Choose one.")
    if (np.diff(array) < 0).any():
        raise InvalidInputError(
            "`indices` must be in ascending order; got others. Use `Selection.from_indices`."
        )
    return array


def _check_scores(scores: Mapping[str, Any], n: int) -> dict[str, NDArray[Any]]:
    checked = {}
    for name, values in scores.items():
        array = np.asarray(values)
        if array.shape != (n,) or array.dtype.kind not in "fiu":
            raise InvalidInputError(
                f"`scores[{name!r}]` must be one number for each of the {n} images; got shape "
                f"{array.shape} and dtype {array.dtype}. Score all images, chosen or not."
            )
        whole = array.dtype.kind in "iu"
        # One byte order, so that a fingerprint is the same everywhere.
        checked[str(name)] = _frozen(
            array.astype(np.int64 if whole else array.dtype.newbyteorder("<"))
        )
    if "likeliest" in checked and checked["likeliest"].dtype != np.int64:
        raise InvalidTypeError(
            "`scores['likeliest']` must hold class numbers; got dtype "
            f"{checked['likeliest'].dtype}. Pass what `argmax` over the classes returns."
        )
    return checked


def _check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = json.dumps(dict(settings), default=_to_plain, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise InvalidTypeError(
            f"`settings` must hold what JSON can hold; {exc}. Pass numbers, strings, lists and "
            "mappings."
        ) from exc
    plain: dict[str, Any] = json.loads(text)
    return plain


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not")


def _check_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    listed = tuple(names)
    if isinstance(names, str) or not all(isinstance(name, str) for name in listed):
        raise InvalidTypeError(
            f"`class_names` must be a sequence of strings; got {names!r}. Pass one name a class."
        )
    if len(set(listed)) != len(listed):
        repeated = next(name for name in listed if listed.count(name) > 1)
        raise InvalidInputError(
            f"`class_names` must name each class once; got {repeated!r} more than once. Rename one."
        )
    return tuple(map(str, listed))


def _check_labels(labels: Any, n: int, names: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    codes, _, _ = encode_classes(labels, n_images=n, class_names=names)
    return _frozen(codes)


def _check_ids(ids: Any, n: int) -> NDArray[np.object_]:
    listed = [str(value) for value in ids]
    if len(listed) != n:
        raise InvalidInputError(
            f"`ids` must name each of the {n} images; got {len(listed)}. Pass one an image."
        )
    array = np.empty(n, dtype=object)
    array[:] = listed
    array.setflags(write=False)
    return array


def _to_arrays(selection: Selection) -> dict[str, NDArray[Any]]:
    """Return all that is one entry an image, each array in one byte order."""
    arrays: dict[str, NDArray[Any]] = {"indices": selection.indices}
    if selection.labels is not None:
        arrays["labels"] = selection.labels
    if selection.groups is not None:
        arrays["groups"] = selection.groups.codes
    if selection.ids is not None:
        # JSON keeps every string as it is, which a NumPy array of strings does not.
        text = json.dumps(selection.ids.tolist()).encode("ascii")
        arrays["ids"] = np.frombuffer(text, dtype=np.uint8)
    arrays |= {f"score {name}": score for name, score in selection.scores.items()}
    return {name: np.asarray(a, a.dtype.newbyteorder("<")) for name, a in arrays.items()}


def _from_arrays(arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> Selection:
    groups = None
    if "groups" in arrays:
        groups = Groups(arrays["groups"], tuple(meta["group_names"]))
    names = meta["class_names"]
    return Selection(
        arrays["indices"],
        meta["n_images"],
        scores={name: arrays[f"score {name}"] for name in meta["scores"]},
        settings=meta["settings"],
        labels=arrays.get("labels"),
        class_names=None if names is None else tuple(names),
        groups=groups,
        ids=json.loads(arrays["ids"].tobytes()) if "ids" in arrays else None,
    )


def _fingerprint(selection: Selection) -> str:
    head = {
        "n_images": selection.n_images,
        "settings": dict(selection.settings),
        "class_names": selection.class_names,
        "group_names": None if selection.groups is None else selection.groups.names,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, array in sorted(_to_arrays(selection).items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0{len(array)}\0".encode("utf-8", "replace"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _share_table(codes_n: NDArray[np.int64], names: Any, indices: NDArray[np.int64]) -> Any:
    import pandas as pd

    before = np.bincount(codes_n, minlength=len(names))
    after = np.bincount(codes_n[indices], minlength=len(names))
    with np.errstate(invalid="ignore"):
        kept = after / before
    return pd.DataFrame(
        {
            "name": list(names),
            "before": before,
            "after": after,
            "share_before": before / before.sum(),
            "share_after": after / after.sum(),
            "kept": kept,
        }
    )


def _balance(table: pd.DataFrame | None) -> tuple[float, float] | None:
    if table is None:
        return None
    before, after = table["before"].to_numpy(), table["after"].to_numpy()
    there = before > 0
    return tuple(float(x[there].min() / x[there].max()) for x in (before, after))  # type: ignore[return-value]


def _files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
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


def _write_at_once(path: Path, data: bytes) -> None:
    """Write under another name and put in place when complete, so a kill leaves no half file."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        sync_file(file)
    temporary.replace(path)
