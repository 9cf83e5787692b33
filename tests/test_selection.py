"""Tests of `clip_al.selection`."""

from __future__ import annotations

import copy
import json
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_al.errors import InvalidInputError, InvalidTypeError, MissingDependencyError
from clip_al.selection import Groups, Selection, Suspect, encode_classes, encode_groups
from tests.reference import contents

LABELS = [0, 0, 0, 1, 1, 2]
NAMES = ("cat", "dog", "ox")
PINNED = "836ff987c60a4351d7465eefc5227094f6e8ef9ff3fcfc19572af135a85c61d5"


def make(indices=(1, 2, 4), **changes):
    arguments = {
        "scores": {
            "sas": np.array([0.3, 0.1, 0.2, 0.1, 0.9, 0.5], np.float32),
            "label_score": np.array([-0.1, -3.0, -0.2, -0.3, -5.0, -3.0]),
            "likeliest": np.array([0, 1, 0, 1, 2, 0]),
        },
        "settings": {"model": "toy", "ratio": 0.5, "seed": 0},
        "labels": np.array(LABELS),
        "class_names": NAMES,
        "groups": np.array(["night", "day", "day", "day", "night", "day"]),
        "ids": [f"{c}.jpg" for c in "abcdef"],
    }
    return Selection(np.array(indices), 6, **{**arguments, **changes})


def exactly(message):
    return f"^{re.escape(message)}$"


@pytest.fixture
def selection():
    return make()


# What it holds


def test_members(selection):
    assert selection.indices.tolist() == [1, 2, 4]
    assert selection.indices.dtype == np.int64
    assert selection.mask.tolist() == [False, True, True, False, True, False]
    assert selection.ratio == 0.5
    assert len(selection) == 3
    assert repr(selection) == "Selection(3 of 6 images, 50.0%)"
    assert selection.groups.names == ("day", "night")
    assert selection.groups.codes.tolist() == [1, 0, 0, 0, 1, 0]
    assert selection.ids[selection.indices].tolist() == ["b.jpg", "c.jpg", "e.jpg"]


def test_nothing_of_it_can_be_changed(selection):
    arrays = [selection.indices, selection.labels, selection.groups.codes, selection.ids]
    for array in [*arrays, *selection.scores.values()]:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError, match="cannot assign"):
        selection.n_images = 7
    for mapping in (selection.scores, selection.settings):
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["sas"] = 1


def test_inputs_are_neither_shared_nor_changed():
    indices, sas, labels = np.array([0, 2]), np.array([0.1, 0.2, 0.3]), np.array([0, 1, 0])
    before = contents(indices, sas, labels)
    selection = Selection(indices, 3, scores={"sas": sas}, labels=labels)
    fingerprint = selection.fingerprint
    assert contents(indices, sas, labels) == before
    indices[:], sas[:], labels[:] = 1, 9.0, 1
    assert selection.indices.tolist() == [0, 2]
    assert selection.scores["sas"].tolist() == [0.1, 0.2, 0.3]
    assert selection.labels.tolist() == [0, 1, 0]
    assert copy.deepcopy(selection).fingerprint == fingerprint


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_are_equal_and_frozen(selection, copied):
    other = copied(selection)
    assert other == selection
    assert hash(other) == hash(selection)
    assert not other.indices.flags.writeable
    assert other.scores["sas"].dtype == np.float32
    with pytest.raises(TypeError, match="item assignment"):
        other.settings["model"] = "other"


# The fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": (1, 2, 5)},
        {"scores": {}},
        {"scores": {"sas": np.zeros(6)}},
        {"scores": {"sas": np.zeros(6, np.float32)}},
        {"scores": {"sds": np.zeros(6)}},
        {"settings": {}},
        {"settings": {"model": "toy", "ratio": 0.5, "seed": 1}},
        {"labels": np.array([0, 0, 0, 1, 1, 1])},
        {"labels": None},
        {"class_names": ("cat", "dog", "cow")},
        {"groups": None},
        {"groups": np.array(["night", "day", "day", "day", "day", "day"])},
        {"ids": None},
        {"ids": list("abcdef")},
    ],
)
def test_whatever_differs_changes_the_fingerprint(selection, changes):
    other = make(**changes)
    assert other.fingerprint != selection.fingerprint
    assert other != selection


def test_the_fingerprint_is_the_same_everywhere(selection):
    assert selection.fingerprint == PINNED
    again = make(settings={"seed": 0, "ratio": np.float64(0.5), "model": "toy"})
    assert again == selection
    swapped = make(
        scores={name: s.astype(s.dtype.newbyteorder(">")) for name, s in selection.scores.items()}
    )
    assert swapped == selection
    assert selection != selection.fingerprint


# Suspects


def test_suspects_come_lowest_score_first_ties_by_index(selection):
    assert selection.suspects(3) == [
        Suspect(4, "e.jpg", "dog", "ox", -5.0),
        Suspect(1, "b.jpg", "cat", "dog", -3.0),
        Suspect(5, "f.jpg", "ox", "cat", -3.0),
    ]
    assert [s.index for s in selection.suspects(6)] == [4, 1, 5, 3, 2, 0]


def test_suspects_by_alignment_where_there_is_no_score_of_the_label():
    selection = Selection([0], 3, scores={"sas": [0.3, 0.1, 0.2]})
    assert selection.suspects(2) == [
        Suspect(1, None, None, None, 0.1),
        Suspect(2, None, None, None, 0.2),
    ]


def test_suspects_without_names_are_numbers():
    selection = make(class_names=None, ids=None)
    assert selection.suspects(1) == [Suspect(4, None, 1, 2, -5.0)]


def test_twenty_suspects_unless_told():
    assert len(Selection([0], 30, scores={"sas": np.arange(30.0)}).suspects()) == 20


def test_suspects_need_a_score(selection):
    bare = Selection([0], 3, scores={"sds": np.zeros(3)})
    message = (
        "To rank suspects, `scores` must hold 'label_score' or 'sas'; got 'sds'. Pass the score "
        "of each label."
    )
    with pytest.raises(InvalidInputError, match=exactly(message)):
        bare.suspects(1)
    with pytest.raises(InvalidInputError, match=r"`n` must be in \[1, 6\]; got 7"):
        selection.suspects(7)


# The report


def test_the_report_counts_before_and_after(selection):
    report = selection.report()
    assert (report.n_images, report.n_selected) == (6, 3)
    assert report.classes.to_dict("list") == {
        "name": ["cat", "dog", "ox"],
        "before": [3, 2, 1],
        "after": [2, 1, 0],
        "share_before": pytest.approx([1 / 2, 1 / 3, 1 / 6]),
        "share_after": pytest.approx([2 / 3, 1 / 3, 0]),
        "kept": pytest.approx([2 / 3, 1 / 2, 0]),
    }
    assert report.class_balance == (pytest.approx(1 / 3), 0.0)
    assert report.groups["name"].tolist() == ["day", "night"]
    assert report.groups["after"].tolist() == [2, 1]
    assert report.group_balance == (0.5, 0.5)


def test_the_report_can_be_read(selection):
    text = str(selection.report())
    assert text.startswith("3 of 6 images selected (50.0%)\n")
    assert "least / most frequent class: 0.33 before, 0.00 after" in text
    assert "least / most frequent group: 0.50 before, 0.50 after" in text
    assert re.search(r"dog +2 +1 +0.333 +0.333 +0.500", text)


def test_classes_without_images_do_not_count_as_least():
    report = make(class_names=(*NAMES, "yak"), indices=(0, 3, 5)).report()
    assert report.class_balance == (pytest.approx(1 / 3), 1.0)
    assert np.isnan(report.classes["kept"].iloc[3])


def test_a_report_without_labels_and_groups():
    report = Selection([0], 4).report()
    assert report.classes is None
    assert report.class_balance is None
    assert str(report) == "1 of 4 images selected (25.0%)"


# Comparing


def test_compare_says_what_moves(selection):
    comparison = selection.compare(make(indices=(0, 1, 4, 5)))
    assert comparison.n_overlap == 2
    assert comparison.jaccard == 2 / 5
    assert comparison.added.tolist() == [0, 5]
    assert comparison.removed.tolist() == [2]
    assert comparison.moved == {"cat": (1, 1), "ox": (1, 0)}
    assert str(comparison) == (
        "2 images in both (Jaccard 0.400), 2 added, 1 removed\n  cat: +1 -1\n  ox: +1 -0"
    )


def test_compare_with_itself_and_without_labels(selection):
    comparison = selection.compare(selection)
    assert (comparison.n_overlap, comparison.jaccard) == (3, 1.0)
    assert comparison.moved == {}
    assert Selection([0], 6).compare(selection).moved is None


@given(seed=st.integers(0, 2**16), n=st.integers(1, 30))
def test_compare_is_the_reverse_the_other_way(seed, n):
    rng = np.random.default_rng(seed)
    one, other = (
        Selection.from_indices(rng.permutation(n)[: rng.integers(1, n + 1)], n) for _ in range(2)
    )
    there, back = one.compare(other), other.compare(one)
    assert (
        there.added.tolist()
        == back.removed.tolist()
        == sorted(set(other.indices) - set(one.indices))
    )
    union = set(one.indices) | set(other.indices)
    assert there.jaccard == back.jaccard == len(set(one.indices) & set(other.indices)) / len(union)


def test_selections_of_other_images_cannot_be_compared(selection):
    smaller, renamed = Selection([0], 5), make(ids=list("abcdef"))
    with pytest.raises(InvalidInputError, match="this one is of 6 images, the other of 5"):
        selection.compare(smaller)
    with pytest.raises(InvalidInputError, match=r"image 0 is 'a\.jpg' here and 'a' in the other"):
        selection.compare(renamed)
    with pytest.raises(InvalidTypeError, match="must be a Selection; got list"):
        selection.compare([1, 2])


# Tables


def test_the_table_has_one_row_an_image(selection):
    frame = selection.to_frame()
    assert frame.columns.tolist() == [
        "index", "id", "selected", "given", "group", "sas", "label_score", "likeliest",
    ]  # fmt: skip
    assert frame["selected"].tolist() == selection.mask.tolist()
    assert frame["given"].tolist() == ["cat", "cat", "cat", "dog", "dog", "ox"]
    assert frame["likeliest"].tolist() == ["cat", "dog", "cat", "dog", "ox", "cat"]
    assert frame["group"].tolist() == ["night", "day", "day", "day", "night", "day"]
    frame.loc[0, "sas"] = 9.0
    assert selection.scores["sas"][0] == np.float32(0.3)


def test_the_table_of_a_bare_selection():
    assert Selection([1], 2).to_frame().to_dict("list") == {
        "index": [0, 1],
        "selected": [False, True],
    }
    frame = Selection([1], 2, labels=[1, 0]).to_frame()
    assert frame["given"].tolist() == [1, 0]


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
        "Parquet needs pyarrow, which is not installed. Run `pip install 'clip_al[parquet]'`, or "
        "use `to_csv`."
    )
    with pytest.raises(MissingDependencyError, match=exactly(message)):
        selection.to_parquet(tmp_path / "subset.parquet")
    assert list(tmp_path.iterdir()) == []


# Files


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


def test_a_kill_between_the_two_files_is_noticed(selection, tmp_path, monkeypatch):
    path = tmp_path / "subset.json"
    selection.save(path)
    real = type(path).replace

    def killed(self, target):
        if self.name == "subset.json.tmp":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(type(path), "replace", killed)
    other = make(indices=(0, 5))
    with pytest.raises(KeyboardInterrupt):
        other.save(path, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(
        InvalidInputError, match=r"subset.npz' must be the arrays that .*got others"
    ):
        Selection.load(path)
    other.save(path, overwrite=True)
    assert Selection.load(path) == other


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), r"`path` must name a saved selection; '.*subset.json' is missing. "),
        (lambda p: p.with_suffix(".npz").unlink(), r"two files; '.*subset.npz' is missing beside "),
        (lambda p: p.write_text("{"), r"'.*subset.json' is damaged or no JSON text. Copy it again"),
        (lambda p: p.write_bytes(b"\xff"), r"'.*subset.json' is damaged or no JSON text. Copy it"),
        (lambda p: p.write_text("[]"), r"'.*subset.json' holds other things. Name what "),
        (
            lambda p: p.with_suffix(".npz").write_bytes(p.with_suffix(".npz").read_bytes()[:-9]),
            r"'.*subset.npz' must be the arrays that '.*subset.json' was saved with; got others, ",
        ),
        (lambda p: edit(p, settings={}), r"'.*subset.json' must be what was saved; it is damaged"),
        (lambda p: edit(p, n_images=2), r"'.*subset.json' must be what was saved; it is damaged"),
        (lambda p: edit(p, scores=["sds"]), r"'.*subset.json' must be what was saved; it is dam"),
        (lambda p: edit(p, scores=3), r"'.*subset.json' must be what was saved; it is damaged"),
        (lambda p: edit(p, class_names=None), r"'.*subset.json' must be what was saved; it is dam"),
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
    import hashlib

    path = tmp_path / "subset.json"
    selection.save(path)
    np.savez(path.with_suffix(".npz"), indices=np.array([{}], dtype=object))
    edit(path, arrays_sha256=hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest())
    with pytest.raises(InvalidInputError, match="it is damaged or was edited"):
        Selection.load(path)


def test_files_may_be_moved_together(selection, tmp_path):
    selection.save(tmp_path / "subset.json")
    for suffix in ("json", "npz"):
        shutil.move(tmp_path / f"subset.{suffix}", tmp_path / f"renamed.{suffix}")
    assert Selection.load(tmp_path / "renamed.json") == selection


# Making one


def test_from_indices_takes_any_order_a_mask_and_names():
    one = Selection.from_indices([4, 1], 5, y=["b", "a", "b", "b", "a"], ids=range(5))
    other = Selection.from_indices([False, True, False, False, True], 5, y=[1, 0, 1, 1, 0],
                                   class_names=["a", "b"], ids=list("01234"))  # fmt: skip
    assert one == other
    assert one.indices.tolist() == [1, 4]
    assert one.labels.tolist() == [1, 0, 1, 1, 0]
    assert one.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], 3), InvalidInputError, "must hold at least one image; got none"),
        (([0, 0], 3), InvalidInputError, "must name each image once; got 0"),
        (([3], 3), InvalidInputError, r"must be in \[0, 2\].*; got 3"),
        (([0], 0), InvalidInputError, "`n_images` must be at least 1; got 0"),
        (([0.5], 3), InvalidTypeError, "must be a 1-D array of whole numbers"),
        (([2, 1], 3), InvalidInputError, "must be in ascending order; got others"),
    ],
)
def test_indices_that_are_none_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Selection(*arguments)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"scores": {"sas": np.zeros(5)}},
            InvalidInputError,
            "one number for each of the 6 images",
        ),
        ({"scores": {"sas": list("abcdef")}}, InvalidInputError, "shape .6,. and dtype <U1"),
        ({"scores": {"likeliest": np.zeros(6)}}, InvalidTypeError, "got dtype float64. Pass what"),
        ({"settings": {"model": object()}}, InvalidTypeError, "JSON can hold; a object is not"),
        ({"settings": {"x": float("nan")}}, InvalidTypeError, "JSON can hold; Out of range"),
        ({"settings": {"x": {1, 2}}}, InvalidTypeError, "JSON can hold; a set is not"),
        ({"labels": [0, 1]}, InvalidInputError, "one label for each of the 6 images"),
        ({"labels": [0, 1, 2, 3, 0, 0]}, InvalidInputError, r"in \[0, 2\].*got 3 at position 3"),
        ({"class_names": "cat"}, InvalidTypeError, "must be a sequence of strings; got 'cat'"),
        ({"class_names": ["a", "b", "a"]}, InvalidInputError, "got 'a' more than once. Rename one"),
        ({"ids": ["a"]}, InvalidInputError, "`ids` must name each of the 6 images; got 1"),
        (
            {"groups": [1.5] * 6},
            InvalidTypeError,
            "`groups` must hold names or whole numbers; got ",
        ),
        ({"groups": ["a", None] * 3}, InvalidTypeError, "got dtype object. Convert it"),
        ({"groups": ["a"]}, InvalidInputError, "one entry for each of the 6 images; got shape .1,"),
        ({"groups": Groups(np.full(6, 2), ("a", "b"))}, InvalidInputError, "got 2 at position 0"),
    ],
)
def test_what_does_not_fit_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_groups_of_numbers_are_in_their_order():
    codes, names = encode_groups(np.array([10, 9, 10]), n_images=3)
    assert names == ("9", "10")
    assert codes.tolist() == [1, 0, 1]


def test_classes_are_those_that_occur_unless_told():
    codes, k, names = encode_classes([2, 0], n_images=2)
    assert (codes.tolist(), k, names) == ([2, 0], 3, None)
    codes, k, names = encode_classes(["b", "a"], n_images=2)
    assert (codes.tolist(), k, names) == ([1, 0], 2, ("a", "b"))
    assert encode_classes([0, 0], n_images=2, n_classes=4)[1] == 4
    with pytest.raises(InvalidInputError, match="name each of the 2 classes; got 3 names"):
        encode_classes([0, 0], n_images=2, n_classes=2, class_names=["a", "b", "c"])


@pytest.mark.parametrize(("step", "loaded"), [("", "[]"), (".to_frame()", "['pandas']")])
def test_tables_are_what_loads_pandas(step, loaded):
    code = (
        f"import sys, clip_al.selection as s; s.Selection([0], 2){step};"
        "print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{loaded}\n"
