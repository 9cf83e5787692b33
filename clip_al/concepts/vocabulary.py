"""`ConceptVocabulary`: the knowledge base that images are described with.

Words come from a file, a list or Visual Genome; an
encoder of texts, or the caller, adds one embedding a concept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice, check_int
from clip_al.arrays.given import array_of, check_kind, listed, method_of
from clip_al.arrays.types import TextEncoder
from clip_al.atomic import as_path
from clip_al.concepts.word_lists import (
    ConceptLine,
    check_strings,
    clean_word,
    distinct_positions,
    first_wins,
    genome_lines,
    look_up,
    parse_lines,
    read_text,
    word_key,
)
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError

DEFAULT_TEMPLATES = ("{}", "a photo of a {}", "a picture of {}", "an image with {}")
NOTHING_FITS = "nothing in the vocabulary fits"
"""What is said of an image that shows none of the concepts."""


@dataclass(frozen=True, eq=False, repr=False)
class ConceptVocabulary:
    """A fixed list of concepts, with synonyms, groups and, once encoded, embeddings.

    Parameters
    ----------
    names : tuple of str
        One name a concept; any sequence is converted. No name or synonym may stand twice,
        whatever its case.
    synonyms : tuple of tuple of str, default=()
        For each concept its other names; left out, there are none.
    groups : tuple of str or None, default=()
        For each concept its group; left out, there are none.
    templates : tuple of str
        The prompts that each name is put into, at "{}".
    embeddings : array-like of shape (v, d), optional
        One row a concept; kept as a read-only float32 copy with rows of unit length.
    model : str, optional
        The id of the model that encoded the embeddings.

    Notes
    -----
    Immutable; every method that changes something returns a new vocabulary. O(v d) memory.

    Examples
    --------
    >>> vocabulary = ConceptVocabulary(("dog", "car"), synonyms=((), ("automobile",)))
    >>> vocabulary.index("Automobile"), "cat" in vocabulary, list(vocabulary)
    (1, False, ['dog', 'car'])
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...] = ()
    groups: tuple[str | None, ...] = ()
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    embeddings: NDArray[np.float32] | None = None
    model: str | None = None
    _positions: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(map(clean_word, check_strings(self.names, "names")))
        lists = [check_strings(words, "synonyms") for words in listed(self.synonyms, "synonyms")]
        lists = lists or [()] * len(names)
        synonyms = tuple(tuple(map(clean_word, words)) for words in lists)
        groups = tuple(listed(self.groups, "groups")) or (None,) * len(names)
        check_strings([group for group in groups if group is not None], "groups")
        for what, values in (("synonyms", synonyms), ("groups", groups)):
            if len(values) != len(names):
                raise InvalidInputError(
                    f"`{what}` must hold one entry for each of the {len(names)} names; got "
                    f"{len(values)}. Leave it out where there are none."
                )
        lines = [
            ConceptLine((name, *others), None, f"position {i}")
            for i, (name, others) in enumerate(zip(names, synonyms, strict=True))
        ]
        if self.model is not None:
            check_kind(self.model, str, "model", "Pass `encoder.model_id`, or leave it out.")
        embeddings = self.embeddings
        if embeddings is not None:
            embeddings = _unit_rows(embeddings, "embeddings", len(names))
            embeddings.setflags(write=False)
        for name, value in {
            "names": names,
            "synonyms": synonyms,
            "groups": groups,
            "templates": _check_templates(self.templates),
            "embeddings": embeddings,
            "_positions": distinct_positions(lines, "A vocabulary"),
        }.items():
            object.__setattr__(self, name, value)

    @classmethod
    def load(
        cls, name: str = "general", *, templates: Sequence[str] = DEFAULT_TEMPLATES
    ) -> ConceptVocabulary:
        """Load a vocabulary that ships with the package.

        Examples
        --------
        >>> vocabulary = ConceptVocabulary.load("general")
        >>> len(vocabulary) > 800, vocabulary.groups[vocabulary.index("lorry")]
        (True, 'vehicles')
        """
        folder = resources.files("clip_al") / "concepts" / "vocabularies"
        known = sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".txt"))
        file = f"{check_choice(name, known, 'name')}.txt"
        text = (folder / file).read_text(encoding="utf-8")
        return cls._from_lines(parse_lines(text, file), file, templates)

    @classmethod
    def from_names(
        cls, names: Iterable[str], *, templates: Sequence[str] = DEFAULT_TEMPLATES
    ) -> ConceptVocabulary:
        """Make a vocabulary of names without synonyms, such as the classes of a data set.

        Examples
        --------
        >>> ConceptVocabulary.from_names(["cat", "dog"])
        ConceptVocabulary(2 concepts, not encoded)
        """
        return cls(check_strings(names, "names"), templates=templates)  # type: ignore[arg-type]

    @classmethod
    def from_file(
        cls, path: str | Path, *, templates: Sequence[str] = DEFAULT_TEMPLATES
    ) -> ConceptVocabulary:
        """Read a UTF-8 text file: one concept a line, its name, then synonyms after commas.

        `[group]` on a line of its own starts a group; `#` at the start of a line or after a
        space starts a comment. Errors name the file and the line.
        """
        file = as_path(path)
        return cls._from_lines(parse_lines(read_text(file), str(file)), str(file), templates)

    @classmethod
    def from_visual_genome(
        cls,
        directory: str | Path,
        *,
        min_count: int = 100,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
    ) -> ConceptVocabulary:
        """Read the objects and attributes of Visual Genome as groups of those names.

        Parameters
        ----------
        directory : str or Path
            Holds `objects_vocab.txt` or else the official `objects.json`, and
            `attributes_vocab.txt` or else `attributes.json`; one of the two kinds is enough.
        min_count : int, default=100
            From JSON files, keep what is named at least this often; the lists have no counts.
        templates : sequence of str
            The prompts that each name is put into, at "{}".

        Notes
        -----
        Objects come before attributes, JSON names most frequent first, equal counts in
        alphabetical order. A word can be both, or a synonym of several: its first place
        wins; later, a concept of that name is left out and a synonym dropped. A JSON file is
        parsed in memory as a whole.

        References
        ----------
        R. Krishna et al., "Visual Genome: Connecting Language and Vision Using Crowdsourced
        Dense Image Annotations", IJCV 123, 2017.
        """
        min_count = check_int(min_count, "min_count")
        kinds = ("objects", "attributes")
        folder = as_path(directory, "directory")
        lines = [x for kind in kinds for x in genome_lines(folder, kind, min_count)]
        if not lines:
            raise InvalidInputError(
                "`directory` must hold objects_vocab.txt, attributes_vocab.txt, objects.json or "
                f"attributes.json with names seen {min_count} times; got {directory}, without. "
                "Name the folder of Visual Genome, or lower `min_count`."
            )
        kept = [lines[i]._replace(words=words) for i, words in first_wins(lines)]
        return cls._from_lines(kept, str(directory), templates)

    @classmethod
    def _from_lines(
        cls, lines: Sequence[ConceptLine], source: str, templates: Sequence[str]
    ) -> ConceptVocabulary:
        distinct_positions(lines, source)  # here, where lines of the file can be named
        names = tuple(line.words[0] for line in lines)
        synonyms = tuple(line.words[1:] for line in lines)
        return cls(names, synonyms, tuple(line.group for line in lines), templates)  # type: ignore[arg-type]

    def with_embeddings(self, T: ArrayLike, model: str | None = None) -> ConceptVocabulary:
        """Return the same concepts with embeddings of the caller's own.

        Parameters
        ----------
        T : array-like of shape (v, d)
            One row a concept, in the order of `names`; copied and scaled to unit length.
        model : str, optional
            The id of the model that they come from, as `ClipEncoder.model_id` gives it.

        Examples
        --------
        >>> vocabulary = ConceptVocabulary.from_names(["cat", "dog"])
        >>> vocabulary.with_embeddings([[3, 4], [0, 2]]).embeddings
        array([[0.6, 0.8],
               [0. , 1. ]], dtype=float32)
        """
        return replace(self, embeddings=_unit_rows(T, "T", len(self)), model=model)

    def encode(self, encoder: TextEncoder) -> ConceptVocabulary:
        """Return the same concepts with the text embeddings of an encoder.

        A concept's embedding is the mean of those of its name and synonyms, scaled to unit
        length. One call to `encoder.encode_texts` encodes all of them.

        Examples
        --------
        >>> class Toy:
        ...     model_id = "toy"
        ...     def encode_texts(self, texts, *, templates):
        ...         return [[len(text), 1] for text in texts]
        >>> ConceptVocabulary.from_names(["cat", "sheep"]).encode(Toy())
        ConceptVocabulary(2 concepts, encoded by toy, width 2)
        """
        encode_texts = method_of(encoder, "encode_texts", "encoder", "Pass a `ClipEncoder`.")
        texts = [word for line in self._lines() for word in line.words]
        rows = encode_texts(texts, templates=self.templates)
        text_emb = _unit_rows(rows, "encode_texts(...)", len(texts)).astype(np.float64)
        starts = np.cumsum([0, *(1 + len(others) for others in self.synonyms[:-1])])
        return self.with_embeddings(np.add.reduceat(text_emb, starts), encoder.model_id)

    def include(self, *names_or_groups: str) -> ConceptVocabulary:
        """Keep only the concepts that are named, by name, synonym or group.

        The order stays; embeddings are kept along. A word that names a concept and a group
        stands for both.

        Examples
        --------
        >>> list(ConceptVocabulary.load("general").include("weather", "dog"))[:3]
        ['dog', 'sunny weather', 'cloud']
        """
        return self._take(sorted(self._find(names_or_groups)))

    def exclude(self, *names_or_groups: str) -> ConceptVocabulary:
        """Drop the concepts that are named, by name, synonym or group; see `include`."""
        dropped = self._find(names_or_groups)
        return self._take([i for i in range(len(self)) if i not in dropped])

    def index(self, name: str) -> int:
        """Return the position of the concept with this name or synonym, in any case."""
        return int(look_up(name, self._positions, "name", "a name or synonym"))

    def _find(self, words: Sequence[str]) -> set[int]:
        known = {key: [i] for key, i in self._positions.items()}
        for i, group in enumerate(self.groups):
            if group is not None:
                known.setdefault(word_key(group), []).append(i)
        what = "names, synonyms or groups"
        words = check_strings(words, "names_or_groups")
        return {i for word in words for i in look_up(word, known, "names_or_groups", what)}

    def _take(self, rows: Sequence[int]) -> ConceptVocabulary:
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            synonyms=tuple(self.synonyms[i] for i in rows),
            groups=tuple(self.groups[i] for i in rows),
            # With no row left, the error should be about names.
            embeddings=self.embeddings[rows] if rows and self.embeddings is not None else None,
        )

    def _lines(self) -> list[ConceptLine]:
        rows = zip(self.names, self.synonyms, self.groups, strict=True)
        return [ConceptLine((name, *others), group, "") for name, others, group in rows]

    def __add__(self, other: ConceptVocabulary) -> ConceptVocabulary:
        """Append the concepts of `other`; where a word is in both, its first place wins.

        Both must have the same templates and be encoded by the same model, or neither be.
        A concept keeps its embedding even where it loses a synonym.
        """
        if not isinstance(other, ConceptVocabulary):
            return NotImplemented
        _check_addable(self, other)
        lines = self._lines() + other._lines()
        kept = first_wins(lines)
        embeddings = None
        if self.embeddings is not None and other.embeddings is not None:
            embeddings = np.concatenate([self.embeddings, other.embeddings])[[i for i, _ in kept]]
        return replace(
            self,
            names=tuple(words[0] for _, words in kept),
            synonyms=tuple(words[1:] for _, words in kept),
            groups=tuple(lines[i].group for i, _ in kept),
            embeddings=embeddings,
        )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and word_key(name) in self._positions

    def __repr__(self) -> str:
        n_groups = len(set(self.groups) - {None})
        what = f"{len(self)} concepts" + (f" in {n_groups} groups" if n_groups else "")
        if self.embeddings is None:
            return f"ConceptVocabulary({what}, not encoded)"
        by = f" by {self.model}" if self.model is not None else ""
        return f"ConceptVocabulary({what}, encoded{by}, width {self.embeddings.shape[1]})"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # numpy unpickles and deep-copies arrays as writeable; the constructor seals them.
        values = (self.names, self.synonyms, self.groups, self.templates)
        return type(self), (*values, self.embeddings, self.model)


def _check_templates(templates: Iterable[str]) -> tuple[str, ...]:
    checked = check_strings(templates, "templates")
    if not checked or any(template.count("{}") != 1 for template in checked):
        raise InvalidInputError(
            "`templates` must hold at least one text, each with one {} for the name; got "
            f"{checked!r}. Write for instance 'a photo of a {{}}'."
        )
    return checked


def _unit_rows(T: ArrayLike, name: str, n_rows: int) -> NDArray[np.float32]:
    """Return a float32 copy with rows of unit length; rows that have it stay bit for bit."""
    array = np.array(array_of(T, name))
    if array.dtype.kind not in "fiu":
        raise InvalidTypeError(
            f"`{name}` must hold numbers; got dtype {array.dtype}. Pass embeddings of texts."
        )
    if array.ndim != 2 or array.shape[0] != n_rows or array.shape[1] == 0:
        raise InvalidInputError(
            f"`{name}` must be 2-D with {n_rows} rows, one for each text or concept; got shape "
            f"{array.shape}. Encode the words in order, one row each."
        )
    array = array.astype(np.float64)
    norm = np.linalg.norm(array, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norm) | (norm == 0))
    if bad.size:
        raise InvalidInputError(
            f"`{name}` must be finite and no row all zero; row {bad[0]} is not. Encode it again."
        )
    norm[np.abs(norm - 1) < 1e-6] = 1
    unit: NDArray[np.float32] = (array / norm).astype(np.float32)
    return unit


def _check_addable(first: ConceptVocabulary, second: ConceptVocabulary) -> None:
    if first.templates != second.templates:
        raise InvalidInputError(
            "Vocabularies must have the same templates to be added; got "
            f"{first.templates!r} and {second.templates!r}. Pass the same `templates` to both."
        )
    if (first.embeddings is None) != (second.embeddings is None):
        raise InvalidInputError(
            f"Vocabularies must both be encoded or neither to be added; got {first!r} and "
            f"{second!r}. Encode both, or add them first."
        )
    if first.embeddings is None or second.embeddings is None:
        return
    if first.model != second.model or first.embeddings.shape[1] != second.embeddings.shape[1]:
        raise ModelMismatchError(
            f"Vocabularies must be encoded by one model to be added; got {first!r} and "
            f"{second!r}. Encode both with one encoder."
        )
