"""What the rows of a table are called: ids that a file gives back, each of one image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from clip_al.arrays.given import listed
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.images.find_source import find_source
from clip_al.images.sources import ImageSource

MAX_ID = 100_000
"""Characters of an id; Python reads no CSV field of more than 131,072."""


def named_source(images: Any, ids: Sequence[str] | None) -> ImageSource:
    """Return images, or a source of them, under the names that the rows of a table get."""
    source = find_source(images)
    source.ids = check_ids(source.ids if ids is None else ids, len(source))
    check_unique(source.ids)
    return source


def as_text(ids: Iterable[Any]) -> list[str]:
    """Return ids as strings; whole numbers are taken too, as tables of data often hold them."""
    names = listed(ids, "ids")
    for value in names:
        if not isinstance(value, (str, Integral)):
            raise InvalidTypeError(
                f"`ids` must be strings or whole numbers; got {value!r}. Convert them."
            )
    return [str(value) for value in names]


def check_ids(ids: Iterable[Any], n: int) -> list[str]:
    """Return ids as strings that a file gives back, one for each of n images."""
    names = as_text(ids)
    if len(names) != n:
        raise InvalidInputError(
            f"`ids` must name each of the {n} images; got {len(names)}. Pass one an image."
        )
    for position, name in enumerate(names):
        problem = _problem_of(name)
        if problem:
            raise InvalidInputError(
                f"`ids` must be texts that a file gives back; the id at position {position}, "
                f"{name[:40]!r}{' …' if len(name) > 40 else ''}, {problem}. Shorten or replace it."
            )
    return names


def _problem_of(name: str) -> str:
    if len(name) > MAX_ID:
        return f"has {len(name):,} characters, more than {MAX_ID:,}"
    if "\0" in name:
        return "has a null character"
    if name.isascii():
        return ""
    try:  # bytes of a name that is no UTF-8 are kept as Python keeps them
        back = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        back = ""
    return "" if back == name else "has half of a surrogate pair, which no file can hold"


def check_unique(ids: list[str]) -> None:
    """Raise where an id stands for two images."""
    first: dict[str, int] = {}
    repeated = [name for i, name in enumerate(ids) if first.setdefault(name, i) != i]
    if repeated:
        named = ", ".join(map(repr, repeated[:5])) + (", ..." if len(repeated) > 5 else "")
        raise InvalidInputError(
            f"Every id must stand for one image; {len(repeated)} repeated: {named}. Leave the "
            "repeated images out, or pass distinct `ids`."
        )
