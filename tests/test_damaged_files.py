"""200 damaged files and states, drawn by a seed: each is noticed by our error, or does no harm.

`test_saved_files` flips every place of a file one by one; here several things go wrong at once, as
on disks and in the hands of people. Tables of embeddings are in `tests/table`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_al import SelectedSubsetSampler
from clip_al.adapt.adapter import DatasetAdapter
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import ClipAlError, InvalidInputError
from clip_al.subset.selection import Selection
from tests.subset.selections import make as make_selection
from tests.test_saved_files import adapter_content, make_adapter, make_profiles, profiles_content
from tests.test_saved_files import vocabulary as concept_vocabulary

N_DAMAGED = 40  # of each kind
WORDS = "[animals]\ndog, hound\ncat\n# a comment\n[sky]\ncloud, clouds\nsun\n"


def sampler_iterator():
    return iter(SelectedSubsetSampler(np.arange(50), random_state=3))


def save_state(path):
    iterator = sampler_iterator()
    for _ in range(7):
        next(iterator)
    path.write_text(json.dumps(iterator.state_dict()))


def load_state(path):
    try:
        state = json.loads(path.read_bytes())
    except ValueError as error:  # the file is the caller's; the state is ours
        raise ClipAlError("no JSON") from error
    iterator = sampler_iterator()
    iterator.load_state_dict(state)
    return list(iterator)


def read_words(path):
    """Read a list of words, and profiles with it, which know the words that they were made with."""
    words = ConceptVocabulary.from_file(path)
    return ConceptProfiles.load(path.parent / "of_words.npz", words).names(0)


def save_words(path):
    path.write_text(WORDS)
    words = ConceptVocabulary.from_file(path).with_embeddings(np.eye(4))
    ConceptProfiles.from_embeddings(np.eye(4), words, 2).save(path.parent / "of_words.npz")


@dataclasses.dataclass
class Kind:
    """How one kind is saved and read, and which of its files are damaged."""

    name: str
    save: Callable[[Path], None]
    read: Callable[[Path], Any]
    files: tuple[str, ...]


KINDS = [
    Kind(
        "profiles.npz",
        lambda path: make_profiles(0).save(path),
        lambda path: profiles_content(ConceptProfiles.load(path, concept_vocabulary())),
        ("profiles.npz",),
    ),
    Kind(
        "subset.json",
        lambda path: make_selection().save(path),
        lambda path: Selection.load(path).fingerprint,
        ("subset.json", "subset.npz"),
    ),
    Kind(
        "adapter.safetensors",
        lambda path: make_adapter(0).save(path),
        lambda path: adapter_content(DatasetAdapter.load(path)),
        ("adapter.safetensors",),
    ),
    Kind("words.txt", save_words, read_words, ("words.txt",)),
    Kind("state.json", save_state, load_state, ("state.json",)),
]


# What goes wrong


def flip(rng, content):
    """Change one to eight bytes."""
    array = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(len(array), size=rng.integers(1, 9))
    array[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
    return array.tobytes()


def truncate(rng, content):
    return content[: rng.integers(len(content))]


def lengthen(rng, content):
    return content + rng.integers(0, 256, rng.integers(1, 200), dtype=np.uint8).tobytes()


def blank(rng, content):
    """Fill a stretch with zeros, as a disk does that lost a block."""
    start = rng.integers(len(content))
    stop = min(len(content), start + rng.integers(1, 4096))
    return content[:start] + bytes(stop - start) + content[stop:]


def repeat(rng, content):
    """Write a stretch twice."""
    start, stop = sorted(rng.integers(len(content) + 1, size=2))
    return content[:stop] + content[start:]


def rewrite_members(rng, content):
    """Write the arrays of an .npz anew: swapped, dropped, reshaped or of another type."""
    try:
        with np.load(io.BytesIO(content)) as file:
            arrays = dict(file)
    except (ValueError, zipfile.BadZipFile, OSError):
        return flip(rng, content)
    names = list(arrays)
    one, other = (names[i] for i in rng.choice(len(names), 2, replace=False))
    which = rng.integers(6)
    if which == 0:
        arrays[one], arrays[other] = arrays[other], arrays[one]
    elif which == 1:
        del arrays[one]
    elif which == 2:
        arrays[one] = arrays[one][..., None]
    elif which == 3:
        arrays[one] = np.zeros(3, "M8[s]")
    elif which == 4:
        arrays[one] = np.roll(arrays[one], 1)
    else:
        arrays[one] = np.array([None, {}], dtype=object)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def change_header(rng, content):
    """Change a number in the header of an array, or of a safetensors file, for one as long."""
    places = [i for i in range(len(content)) if content[i : i + 1].isdigit()]
    near = [i for i in places if content[max(0, i - 40) : i].rfind(b"shape") >= 0]
    chosen = near or places
    if not chosen:
        return flip(rng, content)
    at = chosen[rng.integers(len(chosen))]
    digit = str((int(content[at : at + 1]) + rng.integers(1, 10)) % 10).encode()
    return content[:at] + digit + content[at + 1 :]


WRONG = [None, -1, 10**30, 2.5, "text", "", [], {}, True, [[1], [2]], {"a": None}]


def change_json(rng, content):
    """Give a value in a JSON text another type, or leave it out."""
    try:
        parsed = json.loads(content)
    except ValueError:
        return flip(rng, content)
    if not isinstance(parsed, dict):
        return flip(rng, content)
    inside, key = parsed, list(parsed)[rng.integers(len(parsed))]
    if isinstance(parsed[key], dict) and parsed[key] and rng.random() < 0.5:
        inside = parsed[key]
        key = list(inside)[rng.integers(len(inside))]
    if rng.random() < 0.2:
        del inside[key]
    else:
        inside[key] = WRONG[rng.integers(len(WRONG))]
    return json.dumps(parsed if rng.random() < 0.9 else [parsed]).encode()


DAMAGES = [
    flip, truncate, lengthen, blank, repeat, rewrite_members, change_header, change_json,
]  # fmt: skip


def outcome(kind, path, before):
    """Return "noticed" or "harmless"; another content or another error fails."""
    try:
        found = kind.read(path)
    except ClipAlError:
        return "noticed"
    assert found == before
    return "harmless"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage_is_noticed_or_harmless(kind, tmp_path):
    path = tmp_path / kind.name
    kind.save(path)
    before = kind.read(path)
    whole = {name: (tmp_path / name).read_bytes() for name in kind.files}
    outcomes, damages = Counter(), Counter()
    for number in range(N_DAMAGED):
        rng = np.random.default_rng((15, number))
        damage = DAMAGES[number % len(DAMAGES)]
        name = kind.files[rng.integers(len(kind.files))]
        (tmp_path / name).write_bytes(damage(rng, whole[name]))
        found = outcome(kind, path, before)
        outcomes[found] += 1
        damages[damage.__name__] += 1
        (tmp_path / name).write_bytes(whole[name])
    assert kind.read(path) == before
    assert outcomes["noticed"] >= N_DAMAGED // 2
    assert len(damages) == len(DAMAGES)


def test_that_these_are_200():
    assert N_DAMAGED * len(KINDS) == 200


def test_a_reader_that_looks_at_nothing_is_noticed(tmp_path):
    """The test above can fail: numbers read without a checksum come back changed."""
    careless = Kind("a.npy", lambda path: np.save(path, np.arange(99)), np.load, ("a.npy",))
    path = tmp_path / "a.npy"
    careless.save(path)
    path.write_bytes(flip(np.random.default_rng(0), path.read_bytes()))
    with pytest.raises((AssertionError, ValueError)):
        outcome(careless, path, np.arange(99).tolist())


# Arrays whose checksums are right again: somebody edited the file and wrote it whole


@pytest.mark.parametrize("number", range(24))
def test_selections_written_anew_with_wrong_arrays(tmp_path, number):
    """The text holds the checksum of its arrays, so swapped or reshaped arrays never come in."""
    path = tmp_path / "subset.json"
    make_selection().save(path)
    arrays = tmp_path / "subset.npz"
    arrays.write_bytes(rewrite_members(np.random.default_rng(number), arrays.read_bytes()))
    with pytest.raises(ClipAlError, match="must be the arrays that"):
        Selection.load(path)


@pytest.mark.parametrize("number", range(24))
def test_profiles_written_anew_with_wrong_arrays(tmp_path, number):
    """Members that are swapped or rolled are whole files of a zip; a checksum of all tells."""
    path = tmp_path / "profiles.npz"
    make_profiles(0).save(path)
    path.write_bytes(rewrite_members(np.random.default_rng(number), path.read_bytes()))
    kind = KINDS[0]
    before = profiles_content(make_profiles(0))
    assert outcome(kind, path, before) in ("noticed", "harmless")


def test_spreads_that_were_rolled_are_noticed(tmp_path):
    path = tmp_path / "profiles.npz"
    make_profiles(0).save(path)
    with np.load(path) as file:
        arrays = {**file, "std_v": np.roll(file["std_v"], 1)}
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match="it is damaged or was edited"):
        ConceptProfiles.load(path, concept_vocabulary())


@pytest.mark.parametrize("member", ["indices", "labels", "score sas", "ids"])
@pytest.mark.parametrize("wrong", [np.full(9, 10**6), np.zeros((2, 2)), np.array("a")])
def test_selections_whose_checksum_was_written_anew(tmp_path, member, wrong):
    path, arrays = tmp_path / "subset.json", tmp_path / "subset.npz"
    make_selection().save(path)
    with np.load(arrays) as file:
        parts = {**file, member: wrong}
    np.savez(arrays, **parts)
    meta = json.loads(path.read_text())
    meta["arrays_sha256"] = hashlib.sha256(arrays.read_bytes()).hexdigest()
    path.write_text(json.dumps(meta))
    with pytest.raises(ClipAlError):
        Selection.load(path)
