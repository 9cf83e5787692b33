"""Exceptions and warnings of clip_al.

Every error is also the built-in a caller would expect (`ValueError`, `TypeError`,
`ImportError`), so existing ``except`` clauses keep working.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ClipAlError(Exception):
    """Base of every exception that clip_al raises on purpose."""


class InvalidInputError(ClipAlError, ValueError):
    """A value does not hold what the function needs; the message says what to do."""


class InvalidTypeError(ClipAlError, TypeError):
    """An argument is of a type that the function cannot take."""


class ModelMismatchError(InvalidInputError):
    """Two things that must come from one model come from two."""


class MissingDependencyError(ClipAlError, ImportError):
    """An optional package is not installed; the message names the extra."""


class UnreadableImageError(InvalidInputError):
    """Some images could not be read; all the others were.

    Parameters
    ----------
    failures : sequence of (str, str)
        One (path or position, reason) per unreadable image.
    remedy : str
        What the caller can do about it.

    Attributes
    ----------
    embeddings : ndarray of shape (n, d) or None
        Where `ClipEncoder.encode_images` raised it: the rows of all other images, NaN in
        those of the unreadable ones. A pickle leaves it behind.
    """

    embeddings: Any = None

    def __init__(self, failures: Sequence[tuple[str, str]], remedy: str) -> None:
        self.failures = _listed(failures)
        self.remedy = remedy
        super().__init__(f"{describe_failures(self.failures)} {remedy}")

    def __reduce__(self) -> tuple[type, tuple[list[tuple[str, str]], str]]:
        return type(self), (self.failures, self.remedy)


class TextPriorWarning(UserWarning):
    """The class texts do not help to tell the labelled images apart, and were left out."""


class SimilarNamesWarning(UserWarning):
    """Names of classes or groups differ only in case, blanks or Unicode form."""


class SeveralLabelsWarning(UserWarning):
    """Classes look like lists of others, as ``cat;dog`` beside ``cat`` and ``dog``."""


class LabelAgreementWarning(UserWarning):
    """Labels, names and images do not belong together; the message names the likeliest reason."""


class SkippedImagesWarning(UserWarning):
    """Some images could not be read and were skipped, as the caller asked."""


class CutTextsWarning(UserWarning):
    """Texts differ only in what is beyond the model's context, so they have one embedding."""


class KeptTextsWarning(UserWarning):
    """Embeddings of texts that lie beside a table are unfit, or none can be kept there."""


class LeftOutWarning(UserWarning):
    """A folder holds things that people take for images and that are not read."""


def _listed(values: Any) -> list[Any]:
    """Return a list, of one where it is none: an error that is made raises no other."""
    try:
        return list(values)
    except TypeError:
        return [values]


def describe_failures(failures: Sequence[tuple[str, str]], limit: int = 10) -> str:
    """Name the first `limit` unreadable images and count the rest.

    Examples
    --------
    >>> describe_failures([("a.jpg", "truncated")])
    'Every image must be readable; 1 is not: a.jpg (truncated).'
    """
    try:
        failures = list(failures)
        named = ", ".join(f"{where} ({why})" for where, why in failures[:limit])
        rest = f" and {len(failures) - limit} more" if len(failures) > limit else ""
    except (TypeError, ValueError) as exc:
        raise InvalidTypeError(
            f"`failures` must hold pairs, an image and the reason, and `limit` be a whole number; "
            f"got {failures!r}. Pass a list of tuples."
        ) from exc
    verb = "is" if len(failures) == 1 else "are"
    return f"Every image must be readable; {len(failures)} {verb} not: {named}{rest}."


def missing_extra(need: str, extra: str, instead: str = "") -> MissingDependencyError:
    """Return the error for an optional package that is not installed.

    Parameters
    ----------
    need : str
        What needs which package: "A report needs plotly".
    extra : str
        The extra of clip_al that brings it.
    instead : str
        What else the caller can do: ", or …".

    Examples
    --------
    >>> str(missing_extra("A report needs plotly", "report"))
    'A report needs plotly, which is not installed. Run `pip install "clip_al[report]"`.'
    """
    return MissingDependencyError(
        f'{need}, which is not installed. Run `pip install "clip_al[{extra}]"`{instead}.'
    )


def not_finite(name: str, rows: Sequence[int]) -> InvalidInputError:
    """Return the error for rows that hold NaN or infinity; names the first five.

    Examples
    --------
    >>> str(not_finite("Z", [3]))
    '`Z` must be finite; row 3 holds NaN or infinity. Drop those rows (images that an encoder
    skipped are NaN) or encode them again.'
    """
    listed = _listed(rows)
    named = ", ".join(map(str, listed[:5])) + (" and others" if len(listed) > 5 else "")
    return InvalidInputError(
        f"`{name}` must be finite; row {named} holds NaN or infinity. Drop those rows (images "
        "that an encoder skipped are NaN) or encode them again."
    )
