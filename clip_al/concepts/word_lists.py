"""Lists of words as people keep them: text files, Visual Genome.

A list is read as `ConceptLine`s, one a concept, which know where they stand in the source.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clip_al.arrays.given import listed
from clip_al.errors import InvalidInputError, InvalidTypeError


class ConceptLine(NamedTuple):
    """One concept: its name and synonyms, its group, and where it was read."""

    words: tuple[str, ...]
    group: str | None
    where: str


def clean_word(word: str) -> str:
    """Strip a word and fold inner white space to one space."""
    return " ".join(word.split())


def word_key(word: str) -> str:
    """Return what two spellings of one word have in common."""
    return clean_word(word).casefold()


def check_strings(values: Iterable[str], name: str) -> tuple[str, ...]:
    """Return a sequence of strings as a tuple; a single string is refused."""
    strings = (
        () if isinstance(values, str) else tuple(listed(values, name, "a sequence of strings"))
    )
    bad = [values] if isinstance(values, str) else [v for v in strings if not isinstance(v, str)]
    if bad:
        raise InvalidTypeError(
            f"`{name}` must be a sequence of strings; got {bad[0]!r}. Pass a list of strings."
        )
    return tuple(map(str, strings))


def distinct_positions(lines: Sequence[ConceptLine], source: str) -> dict[str, int]:
    """Return the line of each word, or raise where there is none or a word stands twice."""
    if not lines:
        raise InvalidInputError(
            f"{source} must hold at least one concept; got none. Name at least one."
        )
    seen: dict[str, int] = {}
    for i, (words, _, where) in enumerate(lines):
        for key, word in zip(map(word_key, words), words, strict=True):
            if not key:
                raise InvalidInputError(
                    f"{source} must hold no empty name or synonym; got one at {where}. Fill it "
                    "in, or remove the comma or the entry."
                )
            if key in seen:
                raise InvalidInputError(
                    f"{source} must hold each name or synonym once, in any case; got {word!r} at "
                    f"{lines[seen[key]].where} and at {where}. Remove one of them."
                )
            seen[key] = i
    return seen


def first_wins(lines: Sequence[ConceptLine]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the positions to keep and their words, each word at its first place only."""
    seen: set[str] = set()
    kept = []
    for i, line in enumerate(lines):
        if word_key(line.words[0]) not in seen:
            new = {
                word_key(word): word for word in reversed(line.words) if word_key(word) not in seen
            }
            kept.append((i, tuple(reversed(new.values()))))
            seen.update(new)
    return kept


def look_up(word: str, known: dict[str, Any], name: str, what: str) -> Any:
    """Return the entry of a word, or raise an error with the closest ones."""
    if not isinstance(word, str):
        raise InvalidTypeError(f"`{name}` must be {what}, a string; got {word!r}. Pass one.")
    if word_key(word) in known:
        return known[word_key(word)]
    close = ", ".join(map(repr, difflib.get_close_matches(word_key(word), known, n=3)))
    raise InvalidInputError(
        f"`{name}` must be {what} of the vocabulary; got {word!r}. "
        + (f"The closest: {close}." if close else "`list(vocabulary)` shows the names.")
    )


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InvalidInputError(
            f"{path} must be a text file with one concept a line; it cannot be read "
            f"({exc.strerror}). Name the file."
        ) from exc
    except UnicodeDecodeError as exc:
        raise InvalidInputError(
            f"{path} must be UTF-8 text; byte {exc.start} is not. Save it as UTF-8."
        ) from exc


def parse_lines(text: str, source: str) -> list[ConceptLine]:
    """Read ``name, synonym, …`` lines, ``[group]`` headers and ``#`` comments."""
    lines: list[ConceptLine] = []
    group = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if line.startswith("["):
            group = clean_word(line[1:-1])
            if not line.endswith("]") or not group:
                raise InvalidInputError(
                    f"{source} must start a group with a line like [animals]; got {line!r} at "
                    f"line {number}. Close the bracket and name the group."
                )
        elif line:
            words = tuple(clean_word(word) for word in line.split(","))
            lines.append(ConceptLine(words, group, f"line {number}"))
    return lines


def genome_lines(folder: Path, kind: str, min_count: int) -> list[ConceptLine]:
    """Read "objects" or "attributes" of Visual Genome: its short list, or else its JSON file."""
    listed, full = folder / f"{kind}_vocab.txt", folder / f"{kind}.json"
    if listed.is_file():
        return [line._replace(group=kind) for line in parse_lines(read_text(listed), str(listed))]
    if not full.is_file():
        return []
    # An object's "names" are what it is called; its "attributes" what is said of it.
    key = "names" if kind == "objects" else "attributes"
    try:
        found = [item for image in json.loads(read_text(full)) for item in image[kind]]
        counts = Counter(word_key(word) for item in found for word in item.get(key) or ())
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise InvalidInputError(
            f"{full} must be the official file, a list of images with {kind!r} each; got "
            f"{type(exc).__name__}: {exc}. Download it again."
        ) from exc
    common = sorted((-n, word) for word, n in counts.items() if n >= min_count and word)
    return [ConceptLine((word,), kind, str(full)) for _, word in common]
