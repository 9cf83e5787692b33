"""The likeliest reason why labels, names and images do not belong together.

images, labels, texts ──▶ guesses at the label ──▶ hits, against shuffled labels
──▶ rows moved, names moved, one class twice
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.score.agreement_evidence import (
    Looked,
    better_lag,
    guess_by_means,
    guess_by_text,
    hits_of,
    name_order,
    one_class_twice,
)

HARDLY = 0.12
"""Agreement (`Hits.kappa`) below which labels hardly go with the images."""
PLAINLY = 0.3
"""Agreement from which labels go with the images, so that names can be judged by them."""
FEWEST = 30
"""Images below which nothing is said of the order of rows."""
NEAR_LAGS, FAR_LAGS = 3, 100


@dataclass(frozen=True)
class Finding:
    """One thing that does not agree.

    Parameters
    ----------
    kind : str
        "moved" (all labels by some rows), "reordered" (rows in another known order),
        "shuffled", "unrelated" (hardly better than chance), "names" (names change places),
        "unknown names" (they say nothing about the images), "ids" (identifiers in place of
        names), "one class" (two classes with the same images, or names that hardly differ).
    message : str
        What does not agree, with figures, the likeliest reason, and what to do.
    """

    kind: str
    message: str


class Case:
    """Labels and images that are looked at, and the guesses at the labels."""

    def __init__(
        self,
        looked: Looked,
        codes_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
        names: list[str] | None,
        ids: Sequence[str] | None,
    ) -> None:
        self.looked, self.codes_n, self.texts = looked, codes_n, text_emb_kd
        self.names, self.ids, self.k = names, ids, len(text_emb_kd)
        self.label_s = codes_n[looked.rows]
        self.text_guess_s = guess_by_text(looked, text_emb_kd)
        self.mean_guess_s = guess_by_means(looked, self.label_s, self.k)
        self.by_text = hits_of(self.text_guess_s, self.label_s, self.k)
        self.by_means = hits_of(self.mean_guess_s, self.label_s, self.k)

    def called(self, number: int) -> str:
        """Return a class as messages call it."""
        return f"{number}" if self.names is None else f"{number} ({self.names[number]!r})"

    def fits(self, codes_n: NDArray[np.int64]) -> bool:
        """Whether labels in another order agree plainly with the images."""
        label_s = codes_n[self.looked.rows]
        guesses = (self.text_guess_s, guess_by_means(self.looked, label_s, self.k))
        hits = [hits_of(guess, label_s, self.k) for guess in guesses]
        return any(one.is_above_chance and one.kappa > 2 * HARDLY for one in hits)

    @property
    def figures(self) -> str:
        """How many labels are named, and by chance."""
        parts = [
            f"{what} name {hits.share:.0%} of them, {hits.chance:.0%} by chance"
            for what, hits in (("texts", self.by_text), ("mean images", self.by_means))
            if np.isfinite(hits.error)
        ]
        return "; ".join(parts)


def wrong_rows(case: Case) -> Iterator[Finding]:
    """Find out whether labels stand at other images."""
    rows, lags = case.looked.rows, np.arange(-NEAR_LAGS, NEAR_LAGS + 1)
    if max(case.by_text.kappa, case.by_means.kappa) >= HARDLY:
        # The better guess alone: names in another order look like moved rows to the texts.
        is_text = case.by_text.kappa > case.by_means.kappa
        guess_s = case.text_guess_s if is_text else case.mean_guess_s
        lag = better_lag(guess_s, rows, case.codes_n, lags)
        if lag:
            yield _moved(lag, "At the borders of the classes, images and labels differ")
        return
    low = all(hits.is_below(2 * HARDLY) for hits in (case.by_text, case.by_means))
    if not low or len(rows) < FEWEST:
        return  # too few images to say
    beginning = f"Labels and images agree hardly better than chance ({case.figures})"
    lag = next((lag for lag in _outwards(NEAR_LAGS) if case.fits(np.roll(case.codes_n, -lag))), 0)
    far = np.arange(-FAR_LAGS, FAR_LAGS + 1)
    lag = lag or better_lag(case.text_guess_s, rows, case.codes_n, far)
    if lag:
        yield _moved(lag, beginning)
        return
    for order, places in _orders(len(case.codes_n), case.ids):
        if case.fits(case.codes_n[places]):
            yield Finding(
                "reordered",
                f"{beginning}. The labels fit if they are taken {order}. Match them to the images "
                "by id, not by position.",
            )
            return
    yield _disordered(case, beginning)


def _moved(lag: int, beginning: str) -> Finding:
    n_rows = "one row" if abs(lag) == 1 else f"{abs(lag)} rows"
    up = lag > 0
    return Finding(
        "moved",
        f"{beginning}. The labels fit if all move {'up' if up else 'down'} by {n_rows}: image i "
        f"has the label in row i {'+' if up else '−'} {abs(lag)}. Look for a "
        f"{'line too many' if up else 'missing line'} at the top of the labels, and match them to "
        "the images by id.",
    )


def _disordered(case: Case, beginning: str) -> Finding:
    above = case.by_text.is_above_chance or case.by_means.is_above_chance
    if above:
        return Finding(
            "unrelated",
            f"{beginning}: most labels are wrong or at other images, or they are of something that "
            "this model does not see. Look at some images with their labels before you go on.",
        )
    changes = int((np.diff(case.codes_n) != 0).sum())
    is_sorted = changes == len(np.unique(case.codes_n)) - 1
    why = "; the labels are sorted by class, the images are not" if is_sorted else ""
    return Finding(
        "shuffled",
        f"{beginning}: the rows seem shuffled{why}. Match labels to images by id, not by "
        "position; if they are matched, the labels are of something that this model does not see.",
    )


def _outwards(most: int) -> list[int]:
    return [sign * lag for lag in range(1, most + 1) for sign in (1, -1)]


def _orders(n: int, ids: Sequence[str] | None) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield orders in which labels may have been written: words, and the row of each image."""
    yield "from the last row to the first", np.arange(n)[::-1]
    if ids is None:
        return
    keys: list[tuple[str, Any]] = [
        ("in the order of the ids by number, 2 before 10", _by_number),
        ("in the order of the ids by letter, 10 before 2", str),
        ("in the order of the ids by letter, capitals and small letters alike", str.casefold),
    ]
    for words, key in keys:
        listed = [key(str(one)) for one in ids]
        order = np.array(sorted(range(n), key=listed.__getitem__))
        places = np.empty(n, dtype=np.int64)
        places[order] = np.arange(n)
        if not np.array_equal(places, np.arange(n)):
            yield words, places


def _by_number(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part]


def wrong_names(case: Case) -> Iterator[Finding]:
    """Find out whether names fit the images that have them, where labels do."""
    if case.by_means.is_above_chance and case.by_means.kappa > PLAINLY:
        for a, b in one_class_twice(case.mean_guess_s, case.label_s, case.k):
            yield Finding(
                "one class",
                f"Classes {case.called(a)} and {case.called(b)} have images that cannot be told "
                "apart: they seem to be one class with two names. Merge them, or check their "
                "labels.",
            )
    cycles = name_order(case.looked, case.label_s, case.texts, case.text_guess_s)
    if cycles:
        yield Finding("names", _of_cycles(case, cycles))
        return
    weak = case.by_text.kappa < case.by_means.kappa / 2
    if case.names is not None and (_are_synsets(case.names) or (weak and _are_ids(case.names))):
        yield Finding(
            "ids",
            f"The class names seem to be ids, such as {case.names[0]!r}, and CLIP reads words. "
            "Pass what they stand for as `class_names`.",
        )
    elif case.by_means.kappa > PLAINLY and case.by_text.is_below(HARDLY):
        yield Finding(
            "unknown names",
            "The class names say nothing about the images: their texts name "
            f"{case.by_text.share:.0%} of the labels, {case.by_text.chance:.0%} by chance, and "
            f"mean images {case.by_means.share:.0%}. They may be in another order than the class "
            "numbers, or words that this model does not know.",
        )


def _of_cycles(case: Case, cycles: list[list[int]]) -> str:
    after = np.arange(case.k)
    for cycle in cycles:
        after[cycle] = cycle[1:] + cycle[:1]
    moved = np.flatnonzero(after != np.arange(case.k))
    concerned = np.isin(case.label_s, moved)
    label_i, guess_i = case.label_s[concerned], case.text_guess_s[concerned]
    now, then = (guess_i == label_i).mean(), (guess_i == after[label_i]).mean()
    return (
        f"The names fit if {_moves(case, after, moved)}: now their texts name {now:.0%} of the "
        f"labels of these classes, then {then:.0%}. Check the order of the class names."
    )


def _moves(case: Case, after: NDArray[np.int64], moved: NDArray[np.int64]) -> str:
    k = case.k
    still = after == np.arange(k)
    reverse = np.arange(k)[::-1]
    if len(moved) == 2:
        return f"classes {case.called(moved[0])} and {case.called(moved[1])} change places"
    if len(moved) >= k - 1 and (still | (after == reverse)).all():
        return "they are taken in reverse order"
    for step in (1, -1):
        if (after == (np.arange(k) + step) % k).all():
            return f"all move {'up' if step > 0 else 'down'} by one class"
    if case.names is not None:
        new = [case.names[number] for number in after]
        if new == sorted(new):
            return "they are sorted by letter"
    shown = [f"{c} gets {case.called(int(after[c]))}" for c in moved[:4].tolist()]
    more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
    return f"{len(moved)} classes change places: class {', class '.join(shown)}{more}"


def _are_synsets(names: list[str]) -> bool:
    return sum(bool(re.fullmatch(r"n\d{8}", name.strip())) for name in names) * 2 > len(names)


def _are_ids(names: list[str]) -> bool:
    """Whether all names are numbers, numbered words, or hexadecimal."""
    ids = r"[^\W\d]{0,8}[ _.:-]?\d+|(?=.*\d)[0-9a-fA-F-]{8,}"
    return all(re.fullmatch(ids, name.strip()) for name in names)


def near_names(names: list[str] | None) -> Iterator[Finding]:
    """Find names that differ in case, blanks or Unicode form alone."""
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names or ()):
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain, []).append(name)
    for alike in groups.values():
        if len(alike) > 1:
            listed = " and ".join(repr(name) for name in alike)
            yield Finding(
                "one class",
                f"The class names {listed} differ in case, blanks or Unicode form alone: they seem "
                "to be one class. Merge them.",
            )
