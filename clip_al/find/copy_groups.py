"""What `near_duplicates` found: groups, one image of each, and what is in two splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_indices
from clip_al.arrays.given import length_of
from clip_al.errors import InvalidInputError
from clip_al.file_names import text_column
from clip_al.html_tables import page, table, text

if TYPE_CHECKING:
    import pandas as pd

N_SHOWN = 8


class Leak(NamedTuple):
    """Near-copies in two splits.

    Parameters
    ----------
    first, second : str
        The splits, in the order of their names.
    n_groups : int
        How many groups have images of both.
    n_first, n_second : int
        How many images of each are in these groups.
    """

    first: str
    second: str
    n_groups: int
    n_first: int
    n_second: int

    def __str__(self) -> str:
        groups = "1 group has" if self.n_groups == 1 else f"{self.n_groups:,} groups have"
        return (
            f"{groups} images of {self.first} and {self.second}: {self.n_first:,} of {self.first}, "
            f"{self.n_second:,} of {self.second}"
        )


@dataclass(frozen=True, repr=False, eq=False)
class NearDuplicates:
    """Groups of near-copies, as `near_duplicates` returns them.

    Attributes
    ----------
    threshold : float
        Cosine from which on two images are alike.
    representative : ndarray of shape (n,), int64
        Of each image: the first image of its group; itself where it has no copy.
    similarity : ndarray of shape (n,), float32
        Cosine with that image; below the threshold where only images between link the two.
    splits : ndarray of shape (n,) of str, or None
        As they were passed.
    is_exact : bool
        Whether all pairs were compared.
    recall : float or None
        Where they were not: the share of alike pairs that was found, of images drawn at random
        that were compared with all others; None where these had no copy.
    n_checked : int
        How many pairs that is a share of.
    """

    threshold: float
    representative: NDArray[np.int64]
    similarity: NDArray[np.float32]
    splits: NDArray[np.object_] | None = None
    is_exact: bool = True
    recall: float | None = None
    n_checked: int = 0

    @property
    def n_images(self) -> int:
        """How many images were looked at."""
        return len(self.representative)

    @property
    def distinct(self) -> NDArray[np.int64]:
        """Positions of one image of each group and of all without a copy, rising."""
        return np.flatnonzero(self.representative == np.arange(self.n_images))

    @property
    def copies(self) -> NDArray[np.int64]:
        """Positions of the other images of the groups, rising."""
        return np.flatnonzero(self.representative != np.arange(self.n_images))

    @property
    def groups(self) -> list[NDArray[np.int64]]:
        """Positions of the images of each group, rising; groups by their first image."""
        in_groups = self._in_groups()
        if not in_groups.size:
            return []
        ends = np.flatnonzero(np.diff(self.representative[in_groups])) + 1
        return np.split(in_groups, ends)

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.representative[self.copies]))

    @property
    def leaks(self) -> list[Leak]:
        """Pairs of splits that share near-copies, those with most groups first."""
        rows = self._in_groups()
        if self.splits is None or not rows.size:
            return []
        names, split_r = np.unique(self.splits[rows].astype(str), return_inverse=True)
        pairs = np.stack([self.representative[rows], split_r.reshape(-1)])
        key, count = np.unique(pairs, axis=1, return_counts=True)
        held: dict[tuple[int, int], list[int]] = {}
        ends = np.flatnonzero(np.diff(key[0])) + 1
        for part in np.split(np.arange(key.shape[1]), ends):
            for i, one in enumerate(part):
                for other in part[i + 1 :]:
                    sums = held.setdefault((int(key[1, one]), int(key[1, other])), [0, 0, 0])
                    sums[0] += 1
                    sums[1] += int(count[one])
                    sums[2] += int(count[other])
        found = [Leak(str(names[a]), str(names[b]), *sums) for (a, b), sums in held.items()]
        return sorted(found, key=lambda leak: (-leak.n_groups, leak.first, leak.second))

    def without_copies_of(self, known: Any = ()) -> NDArray[np.int64]:
        """Return one image of each group that has none of some known ones, and all without a copy.

        Parameters
        ----------
        known : array-like of int, or mask of shape (n,)
            Positions of images that are taken already, as those with a label.

        Returns
        -------
        ndarray of int64
            Rising, none of them known: a pool of which no image is a near-copy of another, or of a
            known one.
        """
        taken = check_indices(known, self.n_images, "known")
        distinct = self.distinct
        return distinct[~np.isin(distinct, self.representative[taken])]

    def to_frame(
        self,
        ids: Sequence[str] | NDArray[Any] | None = None,
        paths: Sequence[str] | NDArray[Any] | None = None,
    ) -> pd.DataFrame:
        """Return the images of the groups, group by group.

        Parameters
        ----------
        ids, paths : sequence of str, optional
            Of all n images.

        Returns
        -------
        DataFrame
            ``index``; ``id`` and ``path`` where passed; ``split`` where known; ``group``, counted
            from 1; ``size`` of the group; ``representative``, its first image (by id where
            passed); ``similarity`` to that.
        """
        import pandas as pd

        rows = self._in_groups()
        root_r = self.representative[rows]
        _, group_r, size_g = np.unique(root_r, return_inverse=True, return_counts=True)
        frame = pd.DataFrame({"index": rows})
        for name, given in (("id", ids), ("path", paths)):
            if given is not None:
                frame[name] = text_column(self._checked(given, f"{name}s")[i] for i in rows)
        if self.splits is not None:
            frame["split"] = text_column(self.splits[i] for i in rows)
        frame["group"] = group_r.reshape(-1) + 1
        frame["size"] = size_g[group_r.reshape(-1)]
        frame["representative"] = root_r if ids is None else text_column(ids[i] for i in root_r)
        frame["similarity"] = self.similarity[rows]
        return frame

    def _in_groups(self) -> NDArray[np.int64]:
        """Return the images of the groups, group by group."""
        has_copies = np.zeros(self.n_images, dtype=bool)
        has_copies[self.copies] = has_copies[self.representative[self.copies]] = True
        rows = np.flatnonzero(has_copies)
        return rows[np.argsort(self.representative[rows], kind="stable")]

    def _checked(self, given: Any, name: str) -> Any:
        n = length_of(given, name)
        if n != self.n_images:
            raise InvalidInputError(
                f"`{name}` must have one entry for each of the {self.n_images} images; got {n}. "
                "Pass those of the same images, in the same order."
            )
        return given

    def how_sure(self) -> str:
        """Return whether all pairs were compared, or which share was found, in words."""
        if self.is_exact:
            return "exact"
        if self.recall is None:
            return "approximate, no pair among the images that were compared with all"
        return f"approximate, finds {self.recall:.1%} of pairs ({self.n_checked:,} checked)"

    def _summary(self) -> str:
        groups = "1 group" if self.n_groups == 1 else f"{self.n_groups:,} groups"
        of = f" of {len(self._in_groups()):,}" if self.n_groups else ""
        return (
            f"{groups}{of} among {self.n_images:,} images, cosine at least {self.threshold:g}, "
            f"{self.how_sure()}"
        )

    def __repr__(self) -> str:
        return f"NearDuplicates({self._summary()})"

    def _repr_html_(self) -> str:
        largest = sorted(self.groups, key=len, reverse=True)[:N_SHOWN]
        rows = [
            (str(g[0]), f"{len(g):,}", f"{self.similarity[g].min():.3f}", text(g[1:9].tolist()))
            for g in largest
        ]
        leaks = "".join(f"<p>{text(leak, 200)}</p>" for leak in self.leaks[:N_SHOWN])
        head = ("first image", "images", "least similarity to it", "copies")
        return page(
            f"<b>NearDuplicates</b>: {text(self._summary(), 200)}", leaks, table(head, rows)
        )
