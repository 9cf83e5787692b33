"""What one looks at in a selection: suspects, shares before and after, differences, a table.

pandas is imported where a table is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from clip_al.file_names import text_column
from clip_al.score.label_noise.confusion import ConfusedPair, share_in_words

if TYPE_CHECKING:
    import pandas as pd

PAIR_FIELDS = set(ConfusedPair._fields)
SMALL_CHANCE = 5e-4  # reads 0.0 %


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


def label_noise_in_words(settings: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Say how many labels look wrong, and which classes are worth a look.

    Parameters
    ----------
    settings : mapping
        Of a selection: `wrong_fraction`, and where a confusion was fitted `wrong_interval` and
        `confused_pairs`.

    Returns
    -------
    share : str
        Without a full stop; empty where the selection does not know, or its file is damaged.
    pairs : list of str
        Largest share first.

    Examples
    --------
    >>> label_noise_in_words({"wrong_fraction": 0.1, "wrong_interval": [0.08, 0.12]})
    ('10 % of the labels look wrong (8–12 %)', [])
    >>> label_noise_in_words({"wrong_fraction": 0.0})
    ('no sign of labels drawn by chance', [])
    """
    share, interval = settings.get("wrong_fraction"), settings.get("wrong_interval")
    if not _is_share(share):
        return "", []
    if not (
        isinstance(interval, Sequence) and len(interval) == 2 and all(map(_is_share, interval))
    ):
        if share < SMALL_CHANCE:
            return "no sign of labels drawn by chance", []
        return f"{share:.1%} of the labels look wrong, as if drawn by chance", []
    listed = settings.get("confused_pairs")
    pairs = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else []
    known = [pair for pair in pairs if isinstance(pair, Mapping) and set(pair) == PAIR_FIELDS]
    low, high = interval
    return share_in_words(share, (low, high)), [str(ConfusedPair(**pair)) for pair in known]


def share_table(
    codes_n: NDArray[np.int64], names: Sequence[Any], indices: NDArray[np.int64]
) -> pd.DataFrame:
    """Return one row a class or group: how many there are and how many are chosen."""
    import pandas as pd

    before = np.bincount(codes_n, minlength=len(names))
    after = np.bincount(codes_n[indices], minlength=len(names))
    with np.errstate(invalid="ignore"):
        kept = after / before
    return pd.DataFrame(
        {
            "name": text_column(list(names)),
            "before": before,
            "after": after,
            "share_before": before / before.sum(),
            "share_after": after / after.sum(),
            "kept": kept,
        }
    )


def count_moves(
    codes_n: NDArray[np.int64],
    names: tuple[str, ...] | None,
    added: NDArray[np.int64],
    removed: NDArray[np.int64],
) -> dict[str | int, tuple[int, int]]:
    """Return how many were added and removed of each class where anything moved."""
    n_classes = int(codes_n.max()) + 1
    n_added, n_removed = (np.bincount(codes_n[x], minlength=n_classes) for x in (added, removed))
    moved: dict[str | int, tuple[int, int]] = {}
    for c in np.flatnonzero(n_added + n_removed):
        before = moved.get(name_of(c, names), (0, 0))  # two classes may share a name
        moved[name_of(c, names)] = (before[0] + int(n_added[c]), before[1] + int(n_removed[c]))
    return moved


def name_of(code: int | np.integer[Any], names: tuple[str, ...] | None) -> str | int:
    """Return the name of a class, or its number where there are no names."""
    return int(code) if names is None else names[int(code)]


def names_of(codes_n: NDArray[np.int64], names: tuple[str, ...] | None) -> NDArray[Any]:
    """Return the name, or number, of each image's class or group; a new array."""
    return codes_n.copy() if names is None else np.array(names, dtype=object)[codes_n]


def _balance(table: pd.DataFrame | None) -> tuple[float, float] | None:
    if table is None:
        return None
    before, after = table["before"].to_numpy(), table["after"].to_numpy()
    there = before > 0
    return tuple(float(x[there].min() / x[there].max()) for x in (before, after))  # type: ignore[return-value]


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
