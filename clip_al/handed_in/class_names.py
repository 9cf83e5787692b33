"""Names of classes: from files, and the numbers of labels that are names."""

from __future__ import annotations

import difflib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.labels import check_distinct, ordered_names
from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError, SeveralLabelsWarning, SimilarNamesWarning
from clip_al.handed_in.tables import as_latin, counted, read_bytes, read_text, similar_names

NUMBER_COLUMNS = (
    "index", "idx", "id", "number", "class", "class_id", "class_idx", "label", "label_id",
)  # fmt: skip
"""What the column of numbers may be called in a list of classes with a header."""
SEVERAL = (
    "Where an image may have several labels: `read_several_labels`, or `--multi-label` of select, "
    "predict and suspects."
)


def names_in_file(path: str | os.PathLike[str], *, distinct: bool) -> list[str]:
    """Return the names of the classes in a file; see `read_class_names`."""
    if as_path(path).suffix.lower() == ".json":
        names = _names_in_json(path)
    else:
        text, _ = read_text(path)
        lines = [as_latin(line).strip() for line in text.rstrip().splitlines()] or [""]
        names = _numbered(path, lines) or lines
    count = Counter(names)
    bad = "" if "" in count else next((name for name in names if count[name] > 1), None)
    if bad == "" or (distinct and bad is not None):
        raise InvalidInputError(
            f"{path} must name each class once, one a line; got "
            f"{f'{bad!r} more than once' if bad else 'an empty line'}. Correct it."
        )
    return names


def encode_given(
    given: list[str],
    ids: Sequence[str] | NDArray[np.object_],
    names: list[str] | None,
    where: str,
    classes: object,
) -> tuple[NDArray[np.int64], list[str]]:
    """Return the class numbers of labels, and the names of the classes; `ids` name the images."""
    numbers = pd.to_numeric(pd.Series(given, dtype=object), errors="coerce")
    are_numbers = bool((numbers % 1 == 0).all())
    if names is None and are_numbers:
        raise InvalidInputError(
            f"Classes must have names where labels are numbers, as CLIP reads names; {where} has "
            f"the label {given[0]!r}, and no file of classes was given. Pass `--classes FILE`: one "
            "name a line, class 0 first."
        )
    listed = sorted(set(given)) if names is None else names
    warn_of_similar(given if names is None else listed, where, "class")
    if names is None:
        _warn_of_lists(listed, where)
    if len(listed) == 1:
        raise InvalidInputError(
            f"Labels must be of two classes or more; all {len(given):,} of {where} are "
            f"{listed[0]!r}. Name the other classes in `--classes FILE`, or check the column."
        )
    # Classes may be called "0", "1" …: then the labels are their names.
    if are_numbers and not set(given) <= set(listed):
        codes = numbers.to_numpy(dtype=np.int64)
        bad = np.flatnonzero((codes < 0) | (codes >= len(listed)))
        if bad.size:
            raise InvalidInputError(
                f"The labels of {where} must be in [0, {len(listed) - 1}], the numbers of the "
                f"{len(listed)} classes of {classes}; {ids[bad[0]]!r} has {given[bad[0]]}. "
                "Count classes from 0."
            )
        return codes, listed
    check_distinct(listed, str(classes))
    number = {name: i for i, name in enumerate(listed)}
    for i, name in enumerate(given):
        if name not in number:
            raise _no_class(name, ids[i], listed, where, classes)
    return np.fromiter((number[name] for name in given), np.int64, len(given)), listed


def _no_class(
    name: str, image: str, classes: Sequence[str], where: str, source: object
) -> InvalidInputError:
    alike = [group for group in similar_names([name, *classes]) if name in group]
    close = difflib.get_close_matches(name, classes, n=3)
    hint = f"The closest are {', '.join(map(repr, close))}. " if close else ""
    if alike:
        other = next(known for known in alike[0] if known != name)
        hint = f"It differs from {other!r} only in case, blanks or Unicode form. "
    if any(set(map(str.strip, name.split(one))) <= {*classes, "", "-"} for one in ";|,"):
        hint = f"{SEVERAL} "
    shown = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
    return InvalidInputError(
        f"Each label of {where} must be one of the {len(classes)} classes of {source} ({shown}); "
        f"{image!r} has {name!r}. {hint}Correct the label, or add the class."
    )


def warn_of_similar(names: Sequence[str], where: str, what: str) -> None:
    """Warn of names that differ only in case, blanks or Unicode form."""
    groups = similar_names(names)
    if groups:
        shown = "; ".join(counted(group, names) for group in groups[:5])
        warnings.warn(
            f"{where} has names that differ only in case, blanks or Unicode form, and each counts "
            f"as a {what} of its own: {shown}. Give one {what} one name.",
            SimilarNamesWarning,
            stacklevel=4,
        )


def _warn_of_lists(listed: Sequence[str], where: str) -> None:
    """Warn of classes that look like lists of others, as ``cat;dog`` beside ``cat`` and ``dog``."""
    known = set(listed)
    for name in listed:
        parts = next((name.split(one) for one in ";|" if one in name), [])
        if parts and all(part.strip() in known for part in parts):
            warnings.warn(
                f"{where} has the label {name!r} beside {' and '.join(map(repr, parts))}: it "
                f"counts as a class of its own. {SEVERAL}",
                SeveralLabelsWarning,
                stacklevel=4,
            )
            return


def _numbered(path: object, lines: Sequence[str]) -> list[str] | None:
    """Return names in the order of the numbers before or behind them; None without numbers."""
    for sep in (",", "\t", ";", ":"):
        pairs = [line.partition(sep)[::2] for line in lines]
        header = any(cell.strip().strip('"').casefold() in NUMBER_COLUMNS for cell in pairs[0])
        rows = [tuple(cell.strip().strip('"') for cell in pair) for pair in pairs[header:]]
        for number, name in ((0, 1), (1, 0)):
            if rows and all(row[number].isdecimal() and row[name] for row in rows):
                return _by_number(path, {int(row[number]): row[name] for row in rows}, len(rows))
    return None


def _by_number(path: object, names: dict[int, str], n: int) -> list[str]:
    if sorted(names) != list(range(n)):
        missing = next((i for i in range(n) if i not in names), None)
        raise InvalidInputError(
            f"{path} must number the {n} classes from 0 to {n - 1}, each once; there is no "
            f"{missing}. Correct the numbers, or leave them out: one name a line, class 0 first."
        )
    return [names[i] for i in range(n)]


def _names_in_json(path: str | os.PathLike[str]) -> list[str]:
    try:
        given = json.loads(read_bytes(path))
        return list(ordered_names(given, str(path)))
    except (ValueError, TypeError) as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{path} must hold a list of names, or names and their numbers, as JSON; {exc}. "
            "Write one name a line into a text file instead."
        ) from exc
