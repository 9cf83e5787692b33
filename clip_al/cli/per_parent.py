"""``select --per-parent``: so many picks of a photo or a video, whatever it was cut into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_int
from clip_al.cli.picks import Query
from clip_al.errors import InvalidInputError
from clip_al.images.parents import parent_codes


def pick_per_parent(
    query: Query, pick: Callable[[Query], NDArray[np.int64]], per_parent: int | None
) -> NDArray[np.int64]:
    """Return rows of a table, best first, at most so many of one parent.

    Parameters
    ----------
    query : Query
    pick : callable
        Answers a query.
    per_parent : int or None
        Those with a label count too; None is no limit.

    Raises
    ------
    InvalidInputError
        Where the parents do not give as many as the budget.

    Notes
    -----
    What is picked beyond the limit is dropped, and the rest asked for again without the parents
    that have given all they may; what was chosen before counts as labelled then.
    """
    if per_parent is None:
        return pick(query)
    per_parent = check_int(per_parent, "--per-parent")
    codes = parent_codes(query.table.ids)
    n_parents = int(codes.max()) + 1
    n_given = np.bincount(codes[query.known], minlength=n_parents)
    in_pool = np.bincount(codes[query.pool], minlength=n_parents)
    most = int(np.clip(per_parent - n_given, 0, in_pool).sum())
    if query.budget > most:
        raise InvalidInputError(
            f"`--budget` must be at most {most}, as many as the {n_parents:,} photos or videos of "
            f"the table give with `--per-parent {per_parent}` beside those with labels; got "
            f"{query.budget}. Lower it, or raise `--per-parent`."
        )
    chosen: list[int] = []
    while len(chosen) < query.budget:
        known = np.concatenate([query.known, np.array(chosen, dtype=np.int64)])
        full = np.flatnonzero(n_given[codes] >= per_parent)
        rest = replace(query, known=known, left_out=np.union1d(query.left_out, full))
        for row in pick(replace(rest, budget=min(query.budget - len(chosen), len(rest.pool)))):
            if n_given[codes[row]] < per_parent:
                n_given[codes[row]] += 1
                chosen.append(int(row))
    return np.array(chosen, dtype=np.int64)
