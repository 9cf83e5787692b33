"""One contract for everything that is saved: profiles, adapters, selections, tables, reports.

Written whole or not at all, replaced only on request, and refused with our own error, which
names the file, where it is missing, damaged or something else.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_al.adapt.adapter import DatasetAdapter
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError
from clip_al.show.report.write import write_report
from clip_al.table.embedding_table import EmbeddingTable
from tests.subset.selections import make as make_selection


@dataclasses.dataclass
class Kind:
    """How one kind is made (of two contents, 0 and 1), saved, read and told apart."""

    name: str
    make: Callable[[int], Any]
    save: Callable[..., None]
    load: Callable[[Path], Any] | None
    content: Callable[[Any], Any]
    not_checked: dict[str, int] = dataclasses.field(default_factory=dict)
    """File -> from which byte on it has no checksum."""

    def read(self, path):
        return self.content(self.load(path)) if self.load else path.read_text()


def vocabulary():
    names = [f"word {i}" for i in range(9)]
    directions = np.random.default_rng(0).standard_normal((9, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return ConceptVocabulary.from_names(names).with_embeddings(directions)


def unit_rows(number, n=12):
    Z = np.random.default_rng(number).standard_normal((n, 4))
    return (Z / np.linalg.norm(Z, axis=1, keepdims=True)).astype(np.float32)


def make_profiles(number):
    return ConceptProfiles.from_embeddings(unit_rows(number), vocabulary(), 3)


def make_adapter(number):
    adapter = DatasetAdapter(epochs=1, device="cpu", random_state=number, learning_rate=0.1)
    return adapter.fit(unit_rows(number), np.arange(12) % 2, np.eye(4)[:2])


def save_table(Z, path, **options):
    EmbeddingTable.from_array(path, Z, model_id="mine", **options)


def table_content(table):
    return table[:].tolist(), table.ids.tolist(), table.paths.tolist(), table.model_id, table.key


def adapter_content(adapter):
    weights = {name: weight.tolist() for name, weight in adapter.weights_.items()}
    fitted = adapter.temperature_, adapter.history_, adapter.classes_.tolist()
    return weights, fitted, adapter.get_params()


def profiles_content(profiles):
    arrays = [profiles.ids, profiles.similarities]
    arrays += [profiles.statistics.mean_v, profiles.statistics.std_v]
    return [array.tolist() for array in arrays], profiles.statistics.n


KINDS = [
    Kind(
        "profiles.npz",
        make_profiles,
        ConceptProfiles.save,
        lambda path: ConceptProfiles.load(path, vocabulary()),
        profiles_content,
    ),
    Kind(
        "adapter.safetensors",
        make_adapter,
        DatasetAdapter.save,
        DatasetAdapter.load,
        adapter_content,
    ),
    Kind(
        "subset.json",
        lambda number: make_selection(indices=(0, 2 + number)),
        lambda selection, path, **options: selection.save(path, **options),
        lambda path: type(make_selection()).load(path),
        lambda selection: selection.fingerprint,
    ),
    Kind(
        "photos.table",
        unit_rows,
        save_table,
        EmbeddingTable.open,
        table_content,
        # Rows are not read when a table is opened: they may be larger than memory.
        not_checked={"embeddings.npy": 128},
    ),
    Kind(
        "report.html",
        lambda number: make_selection(indices=(0, 2 + number)),
        lambda selection, path, **options: write_report(selection, path, **options),
        None,
        lambda text: text,
    ),
]
READ = [kind for kind in KINDS if kind.load]
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
each_read = pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def made():
    """Kind -> its two contents."""
    return {kind.name: [kind.make(number) for number in (0, 1)] for kind in KINDS}


@pytest.fixture
def saved(kind, made, tmp_path):
    """Where the first content of a kind was saved."""
    path = tmp_path / kind.name
    kind.save(made[kind.name][0], path)
    return path


def files_of(path):
    """The files that make up what was saved."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return sorted(path.parent.glob(f"{path.stem}.*"))


def snapshot(path):
    return {file.name: file.read_bytes() for file in files_of(path)}


# Writing


@each
def test_what_is_there_is_refused_and_stays(kind, made, saved):
    before = snapshot(saved)
    with pytest.raises(InvalidInputError, match="must be new") as caught:
        kind.save(made[kind.name][1], saved)
    assert str(saved) in str(caught.value)
    assert "overwrite=True" in str(caught.value)
    assert snapshot(saved) == before


@each
def test_with_overwrite_it_is_replaced(kind, made, saved):
    before = kind.read(saved)
    kind.save(made[kind.name][1], saved, overwrite=True)
    assert kind.read(saved) != before
    fresh = saved.parent / "fresh"
    fresh.mkdir()
    kind.save(made[kind.name][1], fresh / kind.name)
    assert kind.read(fresh / kind.name) == kind.read(saved)
    assert [file.name for file in files_of(saved)] == [
        file.name for file in files_of(fresh / kind.name)
    ]


@each
def test_a_name_keeps_its_dots(kind, made, tmp_path):
    for number, name in enumerate(("subset_0.3", "subset_0.5")):
        kind.save(made[kind.name][number], tmp_path / name)
    one, other = (kind.read(tmp_path / name) for name in ("subset_0.3", "subset_0.5"))
    assert one != other


class Killed(BaseException):
    """What a kill is in these tests: nothing runs after it."""


def kill_at(monkeypatch, step):
    """Let the process end at a step: when something reaches the disk or gets its name."""
    left = iter(range(step))

    def counted(call):
        def wrapper(*arguments, **options):
            if next(left, None) is None:
                raise Killed
            return call(*arguments, **options)

        return wrapper

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    for name in ("replace", "rename", "rmdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    real = Path.unlink

    def unlink(path, *arguments, **options):
        if next(left, None) is not None:
            real(path, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", unlink)


@each
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(kind, made, tmp_path):
    outcomes = []
    for step in range(60):
        path = tmp_path / str(step) / kind.name
        path.parent.mkdir()
        kind.save(made[kind.name][0], path)
        old = kind.read(path)
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, step)
            try:
                kind.save(made[kind.name][1], path, overwrite=True)
                done = True
            except Killed:
                done = False
        outcomes.append(kind.read(path) != old)
        kind.save(made[kind.name][1], path, overwrite=True)  # as if nothing had happened
        assert kind.read(path) != old
        if done:
            break
    assert done
    assert outcomes == sorted(outcomes)  # the old one up to a moment, the new one after
    assert not outcomes[0]
    assert outcomes[-1]
    assert len(outcomes) > 2


# Reading


@each_read
def test_what_was_saved_comes_back(kind, made, saved):
    if kind.name == "photos.table":
        assert kind.load(saved)[:].tolist() == made[kind.name][0].tolist()
    else:
        assert kind.read(saved) == kind.content(made[kind.name][0])


@each_read
def test_a_missing_file_is_our_error(kind, tmp_path):
    with pytest.raises(InvalidInputError) as caught:
        kind.load(tmp_path / kind.name)
    assert str(tmp_path / kind.name) in str(caught.value)


@each_read
@pytest.mark.parametrize("content", ["empty", "text", "npz", "pickle", "folder", "json"])
def test_a_foreign_file_is_our_error(kind, tmp_path, content):
    path = tmp_path / kind.name
    if content == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif content == "npz":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
    else:
        foreign = {"empty": b"", "text": b"mine\n", "json": b'{"format": 3}'}
        path.write_bytes(foreign.get(content, pickle.dumps({"a": 1})))
    with pytest.raises(InvalidInputError) as caught:
        kind.load(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")


@each_read
def test_one_kind_is_not_read_as_another(kind, made, tmp_path):
    for other in READ:
        if other is not kind:
            path = tmp_path / other.name
            other.save(made[other.name][0], path)
            with pytest.raises(InvalidInputError):
                kind.load(path)


def damaged_copies(kind, saved, damage):
    """Yield each file of a kind, and the place at which it was damaged; undo it after."""
    for file in files_of(saved):
        whole = file.read_bytes()
        end = min(len(whole), kind.not_checked.get(file.name, len(whole)))
        for at in damage(end):
            yield file, whole, at
        file.write_bytes(whole)


@each_read
def test_a_truncated_file_is_our_error(kind, saved):
    def places(end):
        # Without the line feed that text ends in, nothing is missing.
        return np.linspace(0, end - 2, 20).astype(int).tolist()

    for file, whole, at in damaged_copies(kind, saved, places):
        file.write_bytes(whole[:at])
        with pytest.raises(InvalidInputError) as caught:
            kind.read(saved)
        assert str(saved.with_suffix("")) in str(caught.value)
    assert kind.read(saved)


def read_or_refuse(kind, path):
    """What is read, or "refused" where our error names the file."""
    try:
        return kind.read(path)
    except InvalidInputError as error:
        return "refused" if str(path.with_suffix("")) in str(error) else str(error)


@each_read
def test_a_flipped_byte_is_our_error_or_no_harm(kind, saved):
    before, refused = kind.read(saved), 0

    def places(end):
        return np.unique(np.linspace(0, end - 1, 150).astype(int)).tolist()

    for file, whole, at in damaged_copies(kind, saved, places):
        for mask in (0x01, 0x20, 0xFF):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
            found = read_or_refuse(kind, saved)
            assert found in (before, "refused"), (file.name, at, mask)
            refused += found == "refused"
    assert refused > 100


# Profiles that are well written and wrong


def changed_profiles(path, **changes):
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": np.full((12, 3), 10**6, np.int32)}, "names the concept 1000000 of a vocabulary"),
        ({"ids": np.full((12, 3), -1, np.int32)}, "it names the concept -1 of a vocabulary of 9"),
        ({"ids": np.zeros((12, 3), np.int32)}, "it names a concept twice for one image"),
        ({"ids": np.zeros((12, 3), np.int64)}, "`ids` is 2-D of int64"),
        ({"ids": np.zeros(12, np.int32)}, "`ids` is 1-D of int32"),
        ({"ids": np.zeros((11, 3), np.int32)}, r"`ids` has shape \(11, 3\) and `similarities`"),
        ({"ids": None}, "it has no `ids`"),
        ({"similarities": np.zeros((12, 3))}, "`similarities` is 2-D of float64"),
        ({"similarities": np.full((12, 3), np.nan, np.float32)}, "similarities are not finite"),
        ({"similarities": np.arange(36, dtype=np.float32).reshape(12, 3)}, "do not fall along"),
        ({"names": np.arange(9)}, "`names` is 1-D of int64"),
        ({"mean_v": np.zeros(8)}, "its statistics are not of 9 concepts"),
        ({"std_v": np.full(9, -1.0)}, "its statistics are not finite, or no spreads"),
        ({"std_v": None}, "it has no `std_v`"),
        ({"n": np.int64(0)}, "its statistics are not of 9 concepts"),
        ({"format": np.array("clip_al.ConceptProfiles 2")}, "it holds .*Profiles 2.* in place of"),
    ],
)
def test_profiles_with_wrong_arrays_are_refused(tmp_path, changes, message):
    path = tmp_path / "profiles.npz"
    make_profiles(0).save(path)
    changed_profiles(path, **changes)
    with pytest.raises(InvalidInputError, match=message) as caught:
        ConceptProfiles.load(path, vocabulary())
    assert str(caught.value).startswith(f"{path} must be a file that `ConceptProfiles.save` wrote")


def test_the_release_did_not_name_the_format(tmp_path):
    path = tmp_path / "profiles.npz"
    make_profiles(0).save(path)
    changed_profiles(path, format=None)
    assert profiles_content(ConceptProfiles.load(path, vocabulary()))


# Tables


def test_what_else_lies_in_a_table_stays(tmp_path):
    path = tmp_path / "photos.table"
    save_table(unit_rows(0), path)
    (path / "mine.txt").write_text("mine")
    save_table(unit_rows(1), path, overwrite=True)
    assert sorted(file.name for file in path.iterdir()) == [
        "embeddings.npy", "index.csv", "meta.json", "mine.txt",
    ]  # fmt: skip


def test_a_table_can_be_replaced_by_its_own_rows(tmp_path):
    path = tmp_path / "photos.table"
    save_table(unit_rows(0), path)
    save_table(EmbeddingTable.open(path).embeddings[::2], path, overwrite=True)
    assert np.array_equal(EmbeddingTable.open(path)[:], unit_rows(0)[::2])


def test_a_table_that_is_edited_is_refused(tmp_path):
    path = tmp_path / "photos.table"
    save_table(unit_rows(0), path)
    copied = tmp_path / "copy.table"
    shutil.copytree(path, copied)
    meta = copied / "meta.json"
    meta.write_text(meta.read_text().replace('"mine"', '"yours"'))
    with pytest.raises(InvalidInputError, match=r"copy.table' is damaged: meta.json was edited"):
        EmbeddingTable.open(copied)
