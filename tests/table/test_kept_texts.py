"""Texts beside a table: encoded once, by no model but the table's, and never taken on trust."""

from __future__ import annotations

import json
import shutil
import threading
import warnings

import numpy as np
import pytest

from clip_al import ClipEncoder, EmbeddingTable
from clip_al.errors import CutTextsWarning, KeptTextsWarning, ModelMismatchError
from clip_al.table import kept_texts
from clip_al.table.kept_texts import KeptTexts
from tests.tiny_clip import write_tiny_clip

WORDS = ["cat", "dog", "ship"]
TEMPLATES = ["a {}", "the {}"]


@pytest.fixture
def table(tmp_path, encoder):
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    return EmbeddingTable.create(tmp_path / "t", images, encoder)


@pytest.fixture
def asked(monkeypatch):
    """Texts that the model was given, call by call."""
    calls = []
    encode = ClipEncoder.encode_texts

    def counted(self, texts, **more):
        calls.append(list(texts))
        return encode(self, texts, **more)

    monkeypatch.setattr(ClipEncoder, "encode_texts", counted)
    return calls


def fresh(table, name):
    """An encoder that has loaded nothing yet, for a table that was just opened."""
    return KeptTexts(EmbeddingTable.open(table.directory), ClipEncoder(name, device="cpu"))


def files(table):
    return sorted(table.directory.glob("texts-*"))


def test_a_text_is_encoded_once_and_its_bits_stay(table, tiny, encoder, asked):
    first = fresh(table, tiny)
    T = first.encode_texts(WORDS, templates=TEMPLATES)
    np.testing.assert_allclose(T, encoder.encode_texts(WORDS, templates=TEMPLATES), atol=1e-6)
    asked.clear()
    again = fresh(table, tiny)
    np.testing.assert_array_equal(again.encode_texts(WORDS[::-1], templates=TEMPLATES), T[::-1])
    assert asked == []
    assert again.encoder._loaded is None
    constants = (again.logit_scale, again.logit_bias, again.model_id)
    assert again.encoder._loaded is None
    assert constants == (encoder.logit_scale, encoder.logit_bias, encoder.model_id)


def test_only_new_words_are_encoded(table, tiny, asked):
    fresh(table, tiny).encode_texts(WORDS, templates=TEMPLATES)
    more = fresh(table, tiny).encode_texts(["frog", *WORDS, "frog"], templates=TEMPLATES)
    assert asked == [WORDS, ["frog"]]
    np.testing.assert_array_equal(more[0], more[-1])
    fresh(table, tiny).encode_texts(["frog", "ship"], templates=TEMPLATES)
    assert len(asked) == 2


def test_other_templates_are_other_texts(table, tiny, asked):
    plain = fresh(table, tiny).encode_texts(WORDS)
    filled = fresh(table, tiny).encode_texts(WORDS, templates=TEMPLATES)
    assert asked == [WORDS, WORDS]
    assert not np.allclose(plain, filled)
    assert len(files(table)) == 2


def test_another_model_is_refused_whatever_lies_there(table, tiny, tmp_path, asked):
    fresh(table, tiny).encode_texts(WORDS)
    other = write_tiny_clip(tmp_path / "other", seed=5)
    with pytest.raises(ModelMismatchError, match="must come from one model"):
        fresh(table, other).encode_texts(WORDS)
    assert asked == [WORDS]


def test_a_table_of_another_model_does_not_read_them(table, tiny, tmp_path, asked):
    fresh(table, tiny).encode_texts(WORDS)
    name = write_tiny_clip(tmp_path / "other", seed=5)
    images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    other = EmbeddingTable.create(tmp_path / "u", images, ClipEncoder(name, device="cpu"))
    shutil.copy(files(table)[0], other.directory)  # under a name that nobody asks for
    T = fresh(other, name).encode_texts(WORDS)
    assert len(asked) == 2
    wanted = next(path for path in files(other) if path.name != files(table)[0].name)
    shutil.copy(files(table)[0], wanted)
    with pytest.warns(KeptTextsWarning, match=r"it was made by another model.* encoded again\."):
        again = fresh(other, name).encode_texts(WORDS)
    np.testing.assert_array_equal(again, T)
    assert len(asked) == 3


def test_a_model_in_a_renamed_folder_is_the_same_one(table, tiny, tmp_path, asked):
    fresh(table, tiny).encode_texts(WORDS)
    shutil.copytree(tiny.removeprefix("local-dir:"), tmp_path / "renamed")
    moved = fresh(table, f"local-dir:{tmp_path / 'renamed'}")
    moved.encode_texts(WORDS)
    assert asked == [WORDS]
    assert moved.model_id == table.model_id


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-2000] ^= 1
    path.write_bytes(bytes(content))


def empty(path):
    path.write_bytes(b"")


def other_things(path):
    np.savez(path, values=np.arange(3))


def other_rows(path):
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "embeddings": arrays["embeddings"][:-1]})


def longer_rows(path):
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "embeddings": arrays["embeddings"] * 2})


def newer(path):
    arrays = dict(np.load(path))
    meta = {**json.loads(str(arrays["meta"])), "format_version": 99}
    np.savez(path, **{**arrays, "meta": np.array(json.dumps(meta))})


@pytest.mark.parametrize(
    "harm", [cut_in_half, flip_a_bit, empty, other_things, other_rows, longer_rows, newer]
)
def test_an_unfit_file_is_named_and_replaced(table, tiny, asked, harm):
    many = [f"word {i}" for i in range(100)]
    T = fresh(table, tiny).encode_texts(many)
    (path,) = files(table)
    harm(path)
    with pytest.warns(KeptTextsWarning, match=rf"{path.name} must be .* encoded again\."):
        again = fresh(table, tiny).encode_texts(many)
    np.testing.assert_array_equal(again, T)
    assert asked == [many, many]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(table, tiny).encode_texts(many)
    assert len(asked) == 2


def test_a_folder_that_cannot_be_written_to_is_said_once(table, tiny, asked, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kept_texts, "write_bytes", refuse)
    with pytest.warns(KeptTextsWarning, match=r"cannot be written to \(Permission denied\)"):
        fresh(table, tiny).encode_texts(WORDS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh(table, tiny).encode_texts(WORDS)
    assert asked == [WORDS, WORDS]
    assert files(table) == []


def test_texts_that_are_cut_off_are_named_each_time(table, tiny):
    long = "a photo of a dog " * 40
    for _ in range(2):
        with pytest.warns(CutTextsWarning, match="2 differ"):
            fresh(table, tiny).encode_texts([f"{long} in snow", f"{long} at night"])


def test_writers_at_once_leave_a_whole_file(table, tiny, encoder):
    def encode(start):
        kept = KeptTexts(EmbeddingTable.open(table.directory), encoder)
        for i in range(5):
            kept.encode_texts([f"word {start} {i}", "cat"])

    threads = [threading.Thread(target=encode, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (path,) = files(table)  # nothing half-written is left
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        T = fresh(table, tiny).encode_texts(["cat"])
    np.testing.assert_allclose(T, encoder.encode_texts(["cat"]), atol=1e-6)
    assert len(json.loads(str(np.load(path)["meta"]))["texts"]) >= 5


def test_the_table_stays_as_it_was(table, tiny, encoder):
    before = {path.name: path.read_bytes() for path in table.directory.iterdir()}
    fresh(table, tiny).encode_texts(WORDS)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    again = EmbeddingTable.create(table.directory, images, encoder)
    after = {path.name: path.read_bytes() for path in again.directory.iterdir()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {path.name for path in files(table)}
