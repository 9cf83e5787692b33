"""What `plots` is given: positions and titles; checked, and names made fit to be drawn."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_indices
from clip_al.arrays.given import array_of, length_of
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.errors import InvalidInputError
from clip_al.subset.selection import Selection

LONGEST = 40


def positions_of(rows: Selection | ArrayLike, n: int, name: str) -> NDArray[np.int64]:
    """Return a selection, positions or a mask as positions; at least one."""
    if isinstance(rows, Selection):
        if rows.n_images != n:
            raise InvalidInputError(
                f"`{name}` must be a selection of the same {n} images; got one of "
                f"{rows.n_images}. Pass what it was made from."
            )
        return rows.indices
    positions = check_indices(rows, n, name)
    if positions.size == 0:
        raise InvalidInputError(f"`{name}` must hold at least one image; got none. Pass some.")
    return positions


def titles_of(
    drawn: NDArray[np.int64],
    n_images: int,
    titles: Sequence[str] | None,
    profiles: ConceptProfiles | None,
    labels: ArrayLike | None,
) -> list[str]:
    """Return the title of each image drawn: its own, or its label and first two concepts."""
    if titles is not None:
        _check_count(titles, len(drawn), "titles", "each image drawn")
        return ["\n".join(map(one_line, str(title).splitlines())) for title in titles]
    lines: list[list[str]] = [[] for _ in drawn]
    if labels is not None:
        names_n = array_of(labels, "labels")
        _check_count(names_n, n_images, "labels", "each image")
        for line, index in zip(lines, drawn, strict=True):
            line.append(one_line(names_n[index], 20))
    if profiles is not None:
        _check_count(profiles, n_images, "profiles", "each image")
        for line, index in zip(lines, drawn, strict=True):
            line.extend(one_line(name, 20) for name in profiles.words(int(index))[:2])
    return ["\n".join(line) for line in lines]


def _check_count(values: Sized, n: int, name: str, what: str) -> None:
    if length_of(values, name) != n:
        raise InvalidInputError(
            f"`{name}` must hold one entry for {what}, {n}; got {len(values)}. Pass as many, in "
            "the same order."
        )


def one_line(value: object, longest: int = LONGEST) -> str:
    """Return anybody's text on one line, without control characters, not too long."""
    line = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * longest])
    line = " ".join(line.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
