"""Tests of `clip_al.subset.selection_files`, through `Selection`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, MissingDependencyError
from clip_al.subset.selection import Selection
from tests.helpers import exactly
from tests.subset.selections import make


@pytest.fixture
def selection():
    return make()


# Save and load


def same(one, other):
    """Everything equal, to the type."""
    assert one == other
    assert list(one.scores) == list(other.scores)
    for name, score in one.scores.items():
        assert score.dtype == other.scores[name].dtype
        assert score.tobytes() == other.scores[name].tobytes()
    assert one.settings == other.settings
    assert one.class_names == other.class_names
    for name in ("labels", "ids", "indices"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None)
        assert a is None or a.tolist() == b.tolist()
    assert (one.groups is None) == (other.groups is None)
    assert one.groups is None or one.groups.names == other.groups.names


def test_what_was_saved_comes_back(selection, tmp_path):
    path = tmp_path / "subset.json"
    selection.save(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["subset.json", "subset.npz"]
    same(Selection.load(str(path)), selection)
    bare = Selection([2], 3)
    bare.save(tmp_path / "bare.json")
    same(Selection.load(tmp_path / "bare.json"), bare)


@settings(max_examples=10)  # each waits for the disk
@given(
    ids=st.lists(st.text(), min_size=6, max_size=6),
    names=st.lists(st.text(), min_size=3, max_size=3, unique=True),
    asked=st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text()
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
        max_size=3,
    ),
    scores=st.lists(st.floats(), min_size=6, max_size=6),
)  # fmt: skip
def test_any_text_and_number_comes_back(tmp_path_factory, ids, names, asked, scores):
    selection = make(
        ids=ids, class_names=names, groups=np.array(ids, object), settings=asked,
        scores={"sas": np.array(scores)},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("saved") / "subset.json"
    selection.save(path)
    same(Selection.load(path), selection)


def test_file_names_that_are_no_text_come_back(tmp_path):
    selection = make(ids=["\udcff.jpg", "a\0", *"cdef"])  # how Python reads bytes that are no UTF-8
    selection.save(tmp_path / "subset.json")
    same(Selection.load(tmp_path / "subset.json"), selection)


def test_the_text_can_be_read(selection, tmp_path):
    selection.save(tmp_path / "subset.json")
    meta = json.loads((tmp_path / "subset.json").read_text())
    assert meta["settings"] == {"model": "toy", "ratio": 0.5, "seed": 0}
    assert (meta["n_images"], meta["n_selected"]) == (6, 3)
    assert meta["fingerprint"] == selection.fingerprint


def test_the_same_selection_gives_the_same_files(selection, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make().save(tmp_path / name / "subset.json")
    for name in ("subset.json", "subset.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("there", ["subset.json", "subset.npz"])
def test_files_are_replaced_only_on_request(selection, tmp_path, there):
    path = tmp_path / "subset.json"
    (tmp_path / there).write_bytes(b"mine")
    message = (
        f"`path` must be new; {str(tmp_path / there)!r} is there. Name another, or pass "
        "overwrite=True to replace it."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        selection.save(path)
    assert (tmp_path / there).read_bytes() == b"mine"
    selection.save(path, overwrite=True)
    assert Selection.load(path) == selection


def test_the_arrays_are_not_the_place_to_save_to(selection, tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"must be that of the JSON file; got .*subset\.npz"
    ):
        selection.save(tmp_path / "subset.npz")
    with pytest.raises(InvalidInputError, match="must be that of the JSON file"):
        Selection.load(tmp_path / "subset.npz")


@pytest.mark.parametrize("name", ["subset_0.3", "subset_0.3.json", "a.b.json", "subset"])
def test_a_name_keeps_its_dots(tmp_path, name):
    other = make(indices=(0, 5))
    for path in (tmp_path / "subset_0.5", tmp_path / name):
        (other if path.name == "subset_0.5" else make()).save(path)
    assert Selection.load(tmp_path / name) == make()
    assert Selection.load(tmp_path / "subset_0.5") == other
    assert (tmp_path / f"{name.removesuffix('.json')}.npz").is_file()


def test_arrays_that_the_release_wrote_beside_a_name_with_a_dot_are_found(selection, tmp_path):
    path = tmp_path / "subset_0.3"
    selection.save(path)
    (tmp_path / "subset_0.3.npz").rename(tmp_path / "subset_0.npz")  # as 0.1.0 did
    assert Selection.load(path) == selection


UNFIT = r"subset.json must be a file that `Selection.save` wrote; it is "


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda p: p.unlink(),
            UNFIT + r"missing. Copy it again, or",
        ),
        (lambda p: p.with_suffix(".npz").unlink(), r"two files; '.*subset.npz' is missing beside "),
        (
            lambda p: p.write_text("{"),
            UNFIT + r"damaged or no JSON text. Copy it again",
        ),
        (
            lambda p: p.write_bytes(b"\xff"),
            UNFIT + r"damaged or no JSON text. Copy it again",
        ),
        (
            lambda p: p.write_text("[]"),
            r"subset.json must be a .* it holds other things. Copy it",
        ),
        (
            lambda p: p.with_suffix(".npz").write_bytes(p.with_suffix(".npz").read_bytes()[:-9]),
            r"'.*subset.npz' must be the arrays that '.*subset.json' was saved with; got others, ",
        ),
        (
            lambda p: edit(p, settings={}),
            UNFIT + "damaged or was edited",
        ),
        (
            lambda p: edit(p, n_images=2),
            UNFIT + "damaged or was edited",
        ),
        (
            lambda p: edit(p, scores=["sds"]),
            UNFIT + "damaged or was edited",
        ),
        (lambda p: edit(p, scores=3), UNFIT + "damaged or was edited"),
        (
            lambda p: edit(p, class_names=None),
            UNFIT + "damaged or was edited",
        ),
        (
            lambda p: edit(p, format_version=2, clip_al="9.0"),
            r"of format 1 or older; '.*subset.json' has 2, written by clip_al 9.0. Update clip_al.",
        ),
    ],
)
def test_damage_is_told_by_file(selection, tmp_path, damage, message):
    path = tmp_path / "subset.json"
    selection.save(path)
    damage(path)
    with pytest.raises(InvalidInputError, match=message):
        Selection.load(path)


def test_a_pickle_among_the_arrays_is_not_loaded(selection, tmp_path):
    path = tmp_path / "subset.json"
    selection.save(path)
    np.savez(path.with_suffix(".npz"), indices=np.array([{}], dtype=object))
    edit(path, arrays_sha256=hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest())
    with pytest.raises(InvalidInputError, match=r"damaged or holds other things \(Object arr"):
        Selection.load(path)


def test_files_may_be_moved_together(selection, tmp_path):
    selection.save(tmp_path / "subset.json")
    for suffix in ("json", "npz"):
        shutil.move(tmp_path / f"subset.{suffix}", tmp_path / f"renamed.{suffix}")
    assert Selection.load(tmp_path / "renamed.json") == selection


# Tables


def test_csv_holds_the_table(selection, tmp_path):
    path = tmp_path / "subset.csv"
    selection.to_csv(path)
    selection.to_csv(str(path))
    expected = selection.to_frame()
    pd.testing.assert_frame_equal(
        pd.read_csv(path, dtype={"sas": np.float32}), expected, check_dtype=False
    )
    assert [file.name for file in tmp_path.iterdir()] == ["subset.csv"]


def test_parquet_holds_the_table(selection, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    selection.to_parquet(tmp_path / "subset.parquet")
    read = pd.read_parquet(tmp_path / "subset.parquet")
    pd.testing.assert_frame_equal(read, selection.to_frame(), check_dtype=False)


def test_parquet_without_pyarrow_names_the_extra(selection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    message = (
        'Parquet needs pyarrow, which is not installed. Run `pip install "clip_al[parquet]"`, or '
        "use `to_csv`."
    )
    with pytest.raises(MissingDependencyError, match=exactly(message)):
        selection.to_parquet(tmp_path / "subset.parquet")
    assert list(tmp_path.iterdir()) == []
