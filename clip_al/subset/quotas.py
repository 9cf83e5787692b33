"""Quotas: how many images to choose of each class, group, or group within a class.

Every rule keeps the total to the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice
from clip_al.arrays.labels import group_by_class
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.selection_checks import Groups

RULES = ("none", "proportional", "equal")
Rule: TypeAlias = "str | ArrayLike | Mapping[Any, float]"
"""How to share out what is chosen: one of `RULES`, or counts or shares by value."""


def check_rule(rule: Rule | None, parameter: str) -> Rule | None:
    """Return a rule of quotas, None for "none"; its numbers are checked where they are used.

    Examples
    --------
    >>> check_rule("none", "class_balance") is None, check_rule("equal", "class_balance")
    (True, 'equal')
    """
    if rule is None:
        raise InvalidTypeError(
            f"`{parameter}` must be {', '.join(map(repr, RULES))}, numbers or a mapping; got None. "
            "Pass 'none' for no quotas."
        )
    if isinstance(rule, str):
        return None if check_choice(rule, RULES, parameter) == "none" else rule
    return rule


def share_out(weights_k: ArrayLike, total: int, capacity_k: ArrayLike) -> NDArray[np.int64]:
    """Share a total out in proportion to weights, by largest remainder.

    Parameters
    ----------
    weights_k : array-like of shape (k,)
        At least 0, not all 0; not modified.
    total : int
        At most the sum of `capacity_k`.
    capacity_k : array-like of shape (k,), int
        The most that each can take.

    Returns
    -------
    ndarray of shape (k,), int64
        Sums to `total`. Each is its exact share rounded down or up; what capacity forbids
        goes to those furthest below their share. Ties by lowest index.

    Examples
    --------
    >>> share_out([2, 1, 1], 5, [9, 9, 9])
    array([3, 1, 1])
    """
    weights = np.asarray(weights_k, dtype=np.float64)
    capacity = np.asarray(capacity_k, dtype=np.int64)
    exact = weights * (total / weights.sum())
    # The small addend keeps a share of 2.9999999 from being taken for less than 3.
    quota: NDArray[np.int64] = np.minimum(np.floor(exact + 1e-9).astype(np.int64), capacity)
    left = total - int(quota.sum())
    while left > 0:
        room = np.flatnonzero(quota < capacity)
        missing = np.round(exact[room] - quota[room], 9)
        neediest = room[np.argsort(-missing, kind="stable")[:left]]
        quota[neediest] += 1
        left -= len(neediest)
    return quota


def share_equally(total: int, capacity_k: ArrayLike) -> NDArray[np.int64]:
    """Share a total out equally; those that hold too little give all, the others the rest.

    Returns
    -------
    ndarray of shape (k,), int64
        Sums to `total`, which must be at most the sum of `capacity_k`. Those that do not
        give all differ by one at most; the odd ones go to the largest, ties by lowest index.

    Examples
    --------
    >>> share_equally(11, [2, 9, 9])
    array([2, 5, 4])
    """
    capacity = np.asarray(capacity_k, dtype=np.int64)
    quota = np.zeros_like(capacity)
    left = total
    # From the smallest up, each takes an equal part of what is left; of equals the lowest
    # index comes last, as the parts round down and the last ones take the odd images.
    rising = np.argsort(capacity[::-1], kind="stable")
    for n_left, k in zip(range(len(capacity), 0, -1), len(capacity) - 1 - rising, strict=True):
        quota[k] = min(int(capacity[k]), left // n_left)
        left -= int(quota[k])
    return quota


@dataclass(frozen=True)
class Attribute:
    """What quotas are over: the code of each image and what the codes are called."""

    codes_n: NDArray[np.int64]
    n_values: int
    names: Sequence[Any]
    what: str
    parameter: str


def class_attribute(
    codes_n: NDArray[np.int64], n_classes: int, class_names: Sequence[str] | None
) -> Attribute:
    """Return the classes as something to put quotas on."""
    names = range(n_classes) if class_names is None else class_names
    return Attribute(codes_n, n_classes, names, "class", "class_balance")


def group_attribute(groups: Groups) -> Attribute:
    """Return the groups as something to put quotas on."""
    return Attribute(groups.codes, len(groups.names), groups.names, "group", "group_balance")


def attribute_quotas(
    rule: Rule,
    attribute: Attribute,
    total: int,
    sizes_k: NDArray[np.int64],
    capacity_k: NDArray[np.int64],
    *,
    within: str = "",
) -> NDArray[np.int64]:
    """Return how many to choose of each value of an attribute.

    Parameters
    ----------
    rule : {"proportional", "equal"}, array-like of shape (k,) or mapping
        In proportion to how many there are; equally; k counts that sum to `total`, or k
        shares that sum to 1; or such counts or shares by name or number, nothing for those
        left out.
    total : int
        How many to choose, at most the sum of `capacity_k`.
    sizes_k, capacity_k : ndarray of shape (k,), int64
        How many there are, and how many of them may be chosen.
    within : str
        Of which class, for the messages; only shares are taken then.

    Raises
    ------
    InvalidInputError
        Where the rule is unknown, or counts or shares have another length or sum, or ask
        for more images than there are.
    """
    if isinstance(rule, str):
        check_choice(rule, RULES[1:], attribute.parameter)  # "none" has no quotas
        if rule == "equal":
            return share_equally(total, capacity_k)
        return share_out(sizes_k, total, capacity_k) if total else np.zeros_like(sizes_k)
    numbers_k = _numbers(rule, attribute)
    is_share = abs(numbers_k.sum() - 1.0) < 1e-6 and not (
        total == 1 and _whole(numbers_k)  # one image and a count of 1: the same thing
    )
    if not is_share and (within or numbers_k.sum() != total or not _whole(numbers_k)):
        counts = "" if within else f" {total} (counts, the images to choose) or"
        raise InvalidInputError(
            f"`{attribute.parameter}` must sum to{counts} 1 (shares); got numbers that sum to "
            f"{numbers_k.sum():g}. "
            + ("Pass shares: they apply within each class." if within else "Change them.")
        )
    exact_k = numbers_k * (total / numbers_k.sum())
    over = np.flatnonzero(np.floor(exact_k + 1e-9) > sizes_k)
    if over.size:
        k = over[0]
        raise InvalidInputError(
            f"`{attribute.parameter}` must not ask for more images than there are; "
            f"{attribute.what} {attribute.names[k]!r}{within} has {sizes_k[k]}, asked for "
            f"{exact_k[k]:g}. Lower its part, or the ratio."
        )
    return share_out(numbers_k, total, capacity_k) if total else np.zeros_like(sizes_k)


def _whole(numbers: NDArray[np.float64]) -> bool:
    return bool((numbers == np.floor(numbers)).all())


def _numbers(rule: Rule, attribute: Attribute) -> NDArray[np.float64]:
    """Return counts or shares as one number a value."""
    parameter, k = attribute.parameter, attribute.n_values
    if isinstance(rule, Mapping):
        number = {name: i for i, name in enumerate(attribute.names)}
        dense = np.zeros(k)
        for name, value in rule.items():
            at = number.get(name, number.get(str(name)))
            if at is None and attribute.what == "class" and isinstance(name, Integral):
                at = int(name)  # a class may be meant by its number although it has a name
            if at is None or not 0 <= at < k:
                known = ", ".join(map(repr, list(attribute.names)[:8]))
                raise InvalidInputError(
                    f"`{parameter}` must name one of the {k} {attribute.what} values ({known}"
                    f"{', …' if k > 8 else ''}); got {name!r}. Correct the name."
                )
            dense[at] = value
        rule = dense
    try:
        numbers_k = np.asarray(rule, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise InvalidTypeError(
            f"`{parameter}` must be {', '.join(map(repr, RULES))}, numbers or a mapping; got "
            f"{rule!r}. Choose one."
        ) from exc
    if numbers_k.shape != (k,) or not np.isfinite(numbers_k).all() or (numbers_k < 0).any():
        raise InvalidInputError(
            f"`{parameter}` must hold one number, at least 0, for each of the {k} "
            f"{attribute.what} values; got {np.asarray(rule).tolist()!r}. Pass counts or shares."
        )
    return numbers_k


Cells: TypeAlias = "list[tuple[NDArray[np.int64], int]]"
"""Positions of the images of one class, group or group of a class, and how many to choose."""


def plan_cells(
    total: int,
    candidates: NDArray[np.int64],
    *,
    classes: Attribute | None,
    class_rule: Rule | None,
    groups: Attribute | None,
    group_rule: Rule | None,
) -> Cells:
    """Split the candidates into the parts that have a quota of their own.

    Parameters
    ----------
    total : int
        How many to choose, at most the number of candidates.
    candidates : ndarray of int64
        Ascending positions of the images that may be chosen; the rules look at all images.
    classes, groups : Attribute or None
        Needed where their rule is given.
    class_rule, group_rule : rule of `attribute_quotas`, or None
        With both, the quota of each class is shared out over its groups.

    Returns
    -------
    list of (ndarray of int64, int)
        Ascending positions and quota of each part; the quotas sum to `total`. One part
        without rules.

    Notes
    -----
    O(n + classes × groups) time and memory.
    """
    outer, outer_rule = (classes, class_rule) if class_rule is not None else (groups, group_rule)
    if outer is None or outer_rule is None:
        return [(candidates, total)]
    sizes_k = np.bincount(outer.codes_n, minlength=outer.n_values)
    codes_c = outer.codes_n[candidates]
    capacity_k = np.bincount(codes_c, minlength=outer.n_values)
    quotas = attribute_quotas(outer_rule, outer, total, sizes_k, capacity_k)
    members = [candidates[part] for part in group_by_class(codes_c, outer.n_values)]
    cells = list(zip(members, quotas.tolist(), strict=True))
    if class_rule is None or group_rule is None or groups is None:
        return cells
    everyone = group_by_class(outer.codes_n, outer.n_values)
    return [
        cell
        for k, (part, quota) in enumerate(cells)
        for cell in _split(part, quota, everyone[k], groups, group_rule, repr(outer.names[k]))
    ]


def _split(
    part: NDArray[np.int64],
    quota: int,
    everyone: NDArray[np.int64],
    groups: Attribute,
    rule: Rule,
    name: str,
) -> Cells:
    """Share the quota of one class out over its groups."""
    sizes = np.bincount(groups.codes_n[everyone], minlength=groups.n_values)
    codes = groups.codes_n[part]
    capacity = np.bincount(codes, minlength=groups.n_values)
    quotas = attribute_quotas(rule, groups, quota, sizes, capacity, within=f" of class {name}")
    members = [part[inner] for inner in group_by_class(codes, groups.n_values)]
    return list(zip(members, quotas.tolist(), strict=True))
