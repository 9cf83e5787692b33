"""Tests of `clip_al.concepts.vocabulary`."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from clip_al.concepts.vocabulary import DEFAULT_TEMPLATES, ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from tests.helpers import exactly

DATA = Path(os.environ.get("CLIP_AL_DATA", Path(__file__).parents[2] / "shared" / "data"))
GROUPS = {
    "animals",
    "vehicles",
    "people",
    "plants",
    "parts",
    "household",
    "furniture",
    "tools",
    "electronics",
    "clothing",
    "food",
    "toys and games",
    "sport",
    "musical instruments",
    "materials",
    "colours",
    "textures",
    "shapes",
    "scenes",
    "weather",
    "light",
    "actions",
    "photo quality",
    "symbols",
    "style",
}


class HashEncoder:
    """Encodes a text by a hash of it, and records what it was asked."""

    model_id = "hash"

    def __init__(self, d: int = 8) -> None:
        self.d = d
        self.calls: list[tuple[list[str], tuple[str, ...]]] = []

    def encode_one(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        row = np.random.default_rng(seed).normal(size=self.d)
        return (row / np.linalg.norm(row)).astype(np.float32)

    def encode_texts(self, texts, *, templates):
        self.calls.append((list(texts), tuple(templates)))
        return np.stack([self.encode_one(text) for text in texts])


def write(folder: Path, text: str, name: str = "words.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def encoded() -> ConceptVocabulary:
    vocabulary = ConceptVocabulary(
        ("dog", "car", "red", "sky"),
        synonyms=(("hound",), ("automobile", "motorcar"), (), ()),
        groups=("animals", "vehicles", "colours", None),
    )
    return vocabulary.encode(HashEncoder())


# The general vocabulary


def test_general_is_large_grouped_and_free_of_duplicates():
    vocabulary = ConceptVocabulary.load()
    words = [w.casefold() for w in vocabulary]
    words += [w.casefold() for others in vocabulary.synonyms for w in others]
    assert len(vocabulary) >= 800
    assert set(vocabulary.groups) == GROUPS
    assert len(set(words)) == len(words)
    assert vocabulary.templates == DEFAULT_TEMPLATES
    assert vocabulary.embeddings is None
    assert vocabulary.model is None


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("aeroplane", "airplane"),
        ("plane", "airplane"),
        ("car", "automobile"),
        ("bird", "bird"),
        ("cat", "cat"),
        ("deer", "deer"),
        ("dog", "dog"),
        ("frog", "frog"),
        ("horse", "horse"),
        ("ship", "ship"),
        ("boat", "boat"),
        ("lorry", "truck"),
        ("animal", "animal"),
        ("mammal", "mammal"),
        ("pet", "pet"),
        ("amphibian", "amphibian"),
        ("vehicle", "vehicle"),
        ("aircraft", "aircraft"),
        ("watercraft", "watercraft"),
        *[
            (str(i), name)
            for i, name in enumerate(
                ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
            )
        ],
        *[(f"letter {letter}", f"letter {letter}") for letter in "abcdefghijklmnopqrstuvwxyz"],
        ("handwriting", "handwriting"),
        ("slanted", "slanted"),
        ("windshield", "windscreen"),
    ],
)
def test_general_knows(word, name):
    vocabulary = ConceptVocabulary.load("general")
    assert vocabulary.names[vocabulary.index(word)] == name


def test_load_lists_the_known_names():
    with pytest.raises(InvalidInputError, match=r"`name` must be one of .*'general'.*; got 'nope'"):
        ConceptVocabulary.load("nope")


# Files


def test_file_with_groups_synonyms_and_comments(tmp_path):
    path = write(
        tmp_path,
        "\ufeff# my words\nred,  scarlet\n\n[animals]  # living\n  big   dog , hound # good\n"
        "C#\n[things]\nbox\n[animals]\ncat\n",
    )
    vocabulary = ConceptVocabulary.from_file(str(path), templates=("a {}",))
    assert vocabulary.names == ("red", "big dog", "C#", "box", "cat")
    assert vocabulary.synonyms == (("scarlet",), ("hound",), (), (), ())
    assert vocabulary.groups == (None, "animals", "animals", "things", "animals")
    assert vocabulary.templates == ("a {}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{path} must hold at least one concept; got none. Name at least one."),
        ("# none\n[a]\n", "{path} must hold at least one concept; got none. Name at least one."),
        (
            "cat\n\ndog, Cat\n",
            "{path} must hold each name or synonym once, in any case; got 'Cat' at line 1 and at "
            "line 3. Remove one of them.",
        ),
        (
            "[a]\ndog, dog\n",
            "{path} must hold each name or synonym once, in any case; got 'dog' at line 2 and at "
            "line 2. Remove one of them.",
        ),
        (
            "cat\ndog,, hound\n",
            "{path} must hold no empty name or synonym; got one at line 2. Fill it in, or remove "
            "the comma or the entry.",
        ),
        (
            "cat\n[animals\n",
            "{path} must start a group with a line like [animals]; got '[animals' at line 2. "
            "Close the bracket and name the group.",
        ),
        (
            "[ ]\n",
            "{path} must start a group with a line like [animals]; got '[ ]' at line 1. "
            "Close the bracket and name the group.",
        ),
    ],
)
def test_file_errors_name_file_and_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(InvalidInputError, match=exactly(message.format(path=path))):
        ConceptVocabulary.from_file(path)


def test_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"dog\ncaf\xe9\n")
    message = f"{path} must be UTF-8 text; byte 7 is not. Save it as UTF-8."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptVocabulary.from_file(path)


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match=r"missing\.txt must be a text file"):
        ConceptVocabulary.from_file(tmp_path / "missing.txt")


# Names and the constructor


def test_from_names_keeps_order_and_strips():
    vocabulary = ConceptVocabulary.from_names(name for name in [" dog", "big  cat", np.str_("a,b")])
    assert vocabulary.names == ("dog", "big cat", "a,b")
    assert vocabulary.synonyms == ((), (), ())
    assert vocabulary.groups == (None, None, None)
    assert all(type(name) is str for name in vocabulary)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (
            ["cat", "dog", "CAT"],
            InvalidInputError,
            "A vocabulary must hold each name or synonym once, in any case; got 'CAT' at position "
            "0 and at position 2. Remove one of them.",
        ),
        (
            [],
            InvalidInputError,
            "A vocabulary must hold at least one concept; got none. Name at least one.",
        ),
        (
            ["cat", " "],
            InvalidInputError,
            "A vocabulary must hold no empty name or synonym; got one at position 1. Fill it in, "
            "or remove the comma or the entry.",
        ),
        (
            "cat",
            InvalidTypeError,
            "`names` must be a sequence of strings; got 'cat'. Pass a list of strings.",
        ),
        (
            ["cat", 3],
            InvalidTypeError,
            "`names` must be a sequence of strings; got 3. Pass a list of strings.",
        ),
    ],
)
def test_from_names_errors(names, error, message):
    with pytest.raises(error, match=exactly(message)):
        ConceptVocabulary.from_names(names)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"synonyms": [["hound"]]},
            InvalidInputError,
            "`synonyms` must hold one entry for each of the 2 names; got 1. Leave it out where "
            "there are none.",
        ),
        (
            {"groups": ["a", "b", "c"]},
            InvalidInputError,
            "`groups` must hold one entry for each of the 2 names; got 3. Leave it out where "
            "there are none.",
        ),
        (
            {"synonyms": ["hound", []]},
            InvalidTypeError,
            "`synonyms` must be a sequence of strings; got 'hound'. Pass a list of strings.",
        ),
        (
            {"groups": ["a", 1]},
            InvalidTypeError,
            "`groups` must be a sequence of strings; got 1. Pass a list of strings.",
        ),
        (
            {"templates": []},
            InvalidInputError,
            "`templates` must hold at least one text, each with one {} for the name; got (). Write "
            "for instance 'a photo of a {}'.",
        ),
        (
            {"templates": ["{}", "a photo"]},
            InvalidInputError,
            "`templates` must hold at least one text, each with one {} for the name; got ('{}', "
            "'a photo'). Write for instance 'a photo of a {}'.",
        ),
        (
            {"templates": ["{} and {}"]},
            InvalidInputError,
            "`templates` must hold at least one text, each with one {} for the name; got "
            "('{} and {}',). Write for instance 'a photo of a {}'.",
        ),
        (
            {"templates": "a {}"},
            InvalidTypeError,
            "`templates` must be a sequence of strings; got 'a {}'. Pass a list of strings.",
        ),
    ],
)
def test_constructor_errors(arguments, error, message):
    with pytest.raises(error, match=exactly(message)):
        ConceptVocabulary(["dog", "cat"], **arguments)


def test_length_iteration_membership_and_index(encoded):
    assert len(encoded) == 4
    assert list(encoded) == ["dog", "car", "red", "sky"]
    assert "Hound" in encoded
    assert "animals" not in encoded
    assert 3 not in encoded
    assert encoded.index("MOTORCAR") == encoded.index(" car ") == 1


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("automobil", "The closest: 'automobile'."),
        ("zzz", "`list(vocabulary)` shows the names."),
    ],
)
def test_index_of_an_unknown_name(encoded, word, hint):
    message = f"`name` must be a name or synonym of the vocabulary; got '{word}'. {hint}"
    with pytest.raises(InvalidInputError, match=exactly(message)):
        encoded.index(word)


def test_repr_is_short(encoded):
    assert repr(encoded) == "ConceptVocabulary(4 concepts in 3 groups, encoded by hash, width 8)"
    unnamed = ConceptVocabulary.from_names(["a"]).with_embeddings([[1.0, 0.0]])
    assert repr(unnamed) == "ConceptVocabulary(1 concepts, encoded, width 2)"
    assert len(repr(ConceptVocabulary.load())) < 80


# Embeddings


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_with_embeddings_normalises_a_copy(dtype):
    T = np.array([[3, 4], [0, -2]], dtype=dtype)
    before = T.copy()
    plain = ConceptVocabulary.from_names(["a", "b"])
    vocabulary = plain.with_embeddings(T, model="mine")
    np.testing.assert_allclose(vocabulary.embeddings, [[0.6, 0.8], [0, -1]], atol=1e-7)
    assert vocabulary.embeddings.dtype == np.float32
    assert vocabulary.model == "mine"
    assert plain.embeddings is None
    np.testing.assert_array_equal(T, before)
    T[:] = 7
    np.testing.assert_allclose(vocabulary.embeddings[0], [0.6, 0.8], atol=1e-7)


def test_rows_of_unit_length_stay_bit_for_bit():
    rows = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    plain = ConceptVocabulary.from_names(map(str, range(2_000)))
    once = plain.with_embeddings(rows)
    twice = plain.with_embeddings(once.embeddings)
    assert once.embeddings.tobytes() == twice.embeddings.tobytes()
    np.testing.assert_allclose(np.linalg.norm(once.embeddings, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("T", "error", "message"),
    [
        (
            [1.0, 2.0],
            InvalidInputError,
            "`T` must be 2-D with 2 rows, one for each text or concept; got shape (2,). Encode "
            "the words in order, one row each.",
        ),
        (
            np.ones((3, 4)),
            InvalidInputError,
            "`T` must be 2-D with 2 rows, one for each text or concept; got shape (3, 4). Encode "
            "the words in order, one row each.",
        ),
        (
            np.ones((2, 0)),
            InvalidInputError,
            "`T` must be 2-D with 2 rows, one for each text or concept; got shape (2, 0). Encode "
            "the words in order, one row each.",
        ),
        (
            [[1.0, 0.0], [np.nan, 1.0]],
            InvalidInputError,
            "`T` must be finite and no row all zero; row 1 is not. Encode it again.",
        ),
        (
            [[np.inf, 0.0], [1.0, 1.0]],
            InvalidInputError,
            "`T` must be finite and no row all zero; row 0 is not. Encode it again.",
        ),
        (
            [[1.0, 0.0], [0.0, 0.0]],
            InvalidInputError,
            "`T` must be finite and no row all zero; row 1 is not. Encode it again.",
        ),
        (
            [["a"], ["b"]],
            InvalidTypeError,
            "`T` must hold numbers; got dtype <U1. Pass embeddings of texts.",
        ),
    ],
)
def test_with_embeddings_errors(T, error, message):
    vocabulary = ConceptVocabulary.from_names(["a", "b"])
    with pytest.raises(error, match=exactly(message)):
        vocabulary.with_embeddings(T)


def test_encode_equals_a_slow_loop():
    encoder = HashEncoder()
    vocabulary = ConceptVocabulary.load().encode(encoder)
    expected = []
    for name, others in zip(vocabulary.names, vocabulary.synonyms, strict=True):
        mean = np.mean([encoder.encode_one(w).astype(float) for w in (name, *others)], axis=0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(vocabulary.embeddings, expected, atol=1e-6)
    assert vocabulary.model == "hash"


def test_encode_asks_once_with_all_words_and_the_templates():
    encoder = HashEncoder()
    plain = ConceptVocabulary(("dog", "car"), (("hound",), ()), templates=("one {}", "two {}"))
    plain.encode(encoder)
    assert encoder.calls == [(["dog", "hound", "car"], ("one {}", "two {}"))]
    assert plain.embeddings is None


def test_encode_refuses_an_encoder_that_drops_texts():
    encoder = HashEncoder()
    encoder.encode_texts = lambda texts, *, templates: np.ones((1, 4))
    vocabulary = ConceptVocabulary.from_names(["a", "b"])
    message = "`encode_texts(...)` must be 2-D with 2 rows, one for each text or concept; got"
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        vocabulary.encode(encoder)


# Immutability


def test_nothing_can_be_assigned(encoded):
    with pytest.raises(dataclasses.FrozenInstanceError):
        encoded.model = "other"
    with pytest.raises(ValueError, match="read-only"):
        encoded.embeddings[0, 0] = 1


def test_lists_passed_in_are_copied_and_not_modified():
    names, synonyms = ["dog", " cat "], [["hound"], []]
    vocabulary = ConceptVocabulary(names, synonyms)
    assert names == ["dog", " cat "]
    names[0] = "x"
    synonyms[0].append("y")
    assert vocabulary.names == ("dog", "cat")
    assert vocabulary.synonyms == (("hound",), ())


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))]
)
def test_copies_are_equal_and_sealed(encoded, clone):
    twin = clone(encoded)
    assert (twin.names, twin.synonyms, twin.groups) == (
        encoded.names,
        encoded.synonyms,
        encoded.groups,
    )
    assert (twin.templates, twin.model) == (encoded.templates, encoded.model)
    assert twin.embeddings.tobytes() == encoded.embeddings.tobytes()
    assert not twin.embeddings.flags.writeable
    assert twin.index("hound") == 0


# Subsets


def test_include_by_group_name_and_synonym_keeps_order_and_rows(encoded):
    part = encoded.include("RED", "animals", "motorcar")
    assert part.names == ("dog", "car", "red")
    assert part.synonyms == (("hound",), ("automobile", "motorcar"), ())
    assert part.groups == ("animals", "vehicles", "colours")
    assert part.embeddings.tobytes() == encoded.embeddings[:3].tobytes()
    assert (part.model, part.templates) == (encoded.model, encoded.templates)
    assert part.index("red") == 2
    assert "sky" not in part
    assert len(encoded) == 4


def test_exclude_is_the_complement_of_include():
    vocabulary = ConceptVocabulary.load()
    words = ("colours", "dog", "lorry")
    kept, dropped = vocabulary.exclude(*words), vocabulary.include(*words)
    assert set(kept) | set(dropped) == set(vocabulary)
    assert not set(kept) & set(dropped)
    assert "truck" in dropped
    assert vocabulary.exclude().names == vocabulary.names


def test_a_word_for_a_concept_and_a_group_stands_for_both():
    vocabulary = ConceptVocabulary(("food", "bread", "cup"), groups=("words", "food", "things"))
    assert vocabulary.include("food").names == ("food", "bread")
    assert vocabulary.exclude("food").names == ("cup",)


@pytest.mark.parametrize("method", ["include", "exclude"])
def test_unknown_words_are_answered_with_the_closest(encoded, method):
    message = (
        "`names_or_groups` must be names, synonyms or groups of the vocabulary; got 'vehicle'. "
        "The closest: 'vehicles'."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        getattr(encoded, method)("dog", "vehicle")


def test_subset_errors(encoded):
    message = "A vocabulary must hold at least one concept; got none. Name at least one."
    with pytest.raises(InvalidInputError, match=exactly(message)):
        encoded.include()
    with pytest.raises(InvalidInputError, match=exactly(message)):
        encoded.exclude(*encoded)
    message = (
        "`names_or_groups` must be a sequence of strings; got ['dog']. Pass a list of strings."
    )
    with pytest.raises(InvalidTypeError, match=exactly(message)):
        encoded.include(["dog"])


# Sums


def test_sum_keeps_the_first_place_of_each_word(encoded):
    other = ConceptVocabulary(
        ("Car", "cat", "hound", "blue"),
        synonyms=(("van",), ("kitty", "Dog"), (), ()),
        groups=("x", "animals", "x", "colours"),
    ).encode(HashEncoder())
    total = encoded + other
    assert total.names == ("dog", "car", "red", "sky", "cat", "blue")
    assert total.synonyms == (("hound",), ("automobile", "motorcar"), (), (), ("kitty",), ())
    assert total.groups == ("animals", "vehicles", "colours", None, "animals", "colours")
    expected = np.concatenate([encoded.embeddings, other.embeddings[[1, 3]]])
    assert total.embeddings.tobytes() == expected.tobytes()
    assert total.model == "hash"
    assert len(encoded) == len(other) == 4


def test_sum_of_plain_vocabularies():
    total = ConceptVocabulary.from_names(["a"]) + ConceptVocabulary.from_names(["b", "A"])
    assert total.names == ("a", "b")
    assert total.embeddings is None


def test_sum_with_itself_changes_nothing(encoded):
    total = encoded + encoded
    assert (total.names, total.synonyms) == (encoded.names, encoded.synonyms)
    assert total.embeddings.tobytes() == encoded.embeddings.tobytes()


@pytest.mark.parametrize(
    ("other_model", "width"), [("other", 8), (None, 8), ("hash", 4)], ids=["name", "none", "width"]
)
def test_sum_of_two_models_is_refused(encoded, other_model, width):
    other = ConceptVocabulary.from_names(["b"]).with_embeddings(np.ones((1, width)), other_model)
    by = f" by {other_model}" if other_model else ""
    message = (
        "Vocabularies must be encoded by one model to be added; got ConceptVocabulary(4 concepts "
        "in 3 groups, encoded by hash, width 8) and ConceptVocabulary(1 concepts, encoded"
        f"{by}, width {width}). Encode both with one encoder."
    )
    with pytest.raises(ModelMismatchError, match=exactly(message)):
        encoded + other


def test_sum_of_encoded_and_plain_is_refused(encoded):
    other = ConceptVocabulary.from_names(["b"])
    message = (
        "Vocabularies must both be encoded or neither to be added; got ConceptVocabulary(4 "
        "concepts in 3 groups, encoded by hash, width 8) and ConceptVocabulary(1 concepts, not "
        "encoded). Encode both, or add them first."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        encoded + other


def test_sum_with_other_templates_is_refused():
    first = ConceptVocabulary.from_names(["a"], templates=["a {}"])
    second = ConceptVocabulary.from_names(["b"], templates=["the {}"])
    message = (
        "Vocabularies must have the same templates to be added; got ('a {}',) and ('the {}',). "
        "Pass the same `templates` to both."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        first + second


def test_sum_with_something_else_is_a_type_error(encoded):
    with pytest.raises(TypeError, match="unsupported operand"):
        encoded + 3


# Visual Genome


def genome_json(folder: Path) -> Path:
    objects = [["tree"], ["Tree", "oak"], ["tree"], ["car"], ["car"], ["bus"], ["bus"], ["rare"]]
    attributes = [["green", "tall"], None, ["Green"], ["tree"], ["tree"], ["tall", "tall"]]
    (folder / "objects.json").write_text(
        json.dumps(
            [
                {"image_id": 1, "objects": [{"names": n, "synsets": []} for n in objects[:4]]},
                {"image_id": 2, "objects": [{"names": n, "synsets": []} for n in objects[4:]]},
            ]
        )
    )
    items = [{"names": ["x"], "attributes": a} if a else {"names": ["x"]} for a in attributes]
    (folder / "attributes.json").write_text(json.dumps([{"image_id": 1, "attributes": items}]))
    return folder


def test_visual_genome_counts_the_official_files(tmp_path):
    vocabulary = ConceptVocabulary.from_visual_genome(genome_json(tmp_path), min_count=2)
    # Objects: tree 3, bus 2, car 2. Attributes: tall 3, green 2, and tree, an object already.
    assert vocabulary.names == ("tree", "bus", "car", "tall", "green")
    assert vocabulary.groups == ("objects",) * 3 + ("attributes",) * 2
    assert vocabulary.synonyms == ((),) * 5


def test_visual_genome_prefers_the_lists_and_first_wins(tmp_path):
    genome_json(tmp_path)
    write(tmp_path, "orange\ntree,trees\nplant,trees,bush\ntree\n", "objects_vocab.txt")
    write(tmp_path, "orange,amber\ngreen,bush\n", "attributes_vocab.txt")
    vocabulary = ConceptVocabulary.from_visual_genome(tmp_path, min_count=1, templates=["the {}"])
    assert vocabulary.names == ("orange", "tree", "plant", "green")
    assert vocabulary.synonyms == ((), ("trees",), ("bush",), ())
    assert vocabulary.groups == ("objects", "objects", "objects", "attributes")
    assert vocabulary.templates == ("the {}",)


def test_visual_genome_with_one_kind(tmp_path):
    write(tmp_path, "green\n", "attributes_vocab.txt")
    assert ConceptVocabulary.from_visual_genome(tmp_path).groups == ("attributes",)


def test_visual_genome_errors(tmp_path):
    message = (
        "`directory` must hold objects_vocab.txt, attributes_vocab.txt, objects.json or "
        f"attributes.json with names seen 100 times; got {tmp_path}, without. Name the folder of "
        "Visual Genome, or lower `min_count`."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptVocabulary.from_visual_genome(tmp_path)
    genome_json(tmp_path)
    with pytest.raises(InvalidInputError, match=exactly(message)):
        ConceptVocabulary.from_visual_genome(tmp_path)
    with pytest.raises(InvalidInputError, match="`min_count` must be at least 1; got 0"):
        ConceptVocabulary.from_visual_genome(tmp_path, min_count=0)


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "[[1]]", '[{"image_id": 1}]', "3"])
def test_visual_genome_refuses_another_json(tmp_path, text):
    path = write(tmp_path, text, "objects.json")
    message = f"{path} must be the official file, a list of images with 'objects' each; got "
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        ConceptVocabulary.from_visual_genome(tmp_path)


@pytest.mark.shared_data
@pytest.mark.skipif(
    not (DATA / "visual_genome").is_dir(),
    reason="no visual_genome folder in CLIP_AL_DATA or beside the checkout",
)
def test_visual_genome_lists_of_the_shared_data():
    vocabulary = ConceptVocabulary.from_visual_genome(DATA / "visual_genome")
    assert 1_500 < len(vocabulary) <= 2_000
    assert set(vocabulary.groups) == {"objects", "attributes"}
    assert vocabulary.names[0] == "yolk"
    grey = vocabulary.index("grey")
    assert (vocabulary.names[grey], vocabulary.groups[grey]) == ("gray", "attributes")
