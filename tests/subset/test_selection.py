"""Tests of `clip_al.subset.selection`."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.subset.selection import Selection
from tests.reference import contents
from tests.subset.selections import make

PINNED = "836ff987c60a4351d7465eefc5227094f6e8ef9ff3fcfc19572af135a85c61d5"


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


@pytest.mark.parametrize(("step", "loaded"), [("", "[]"), (".to_frame()", "['pandas']")])
def test_tables_are_what_loads_pandas(step, loaded):
    code = (
        f"import sys, clip_al.subset.selection as s; s.Selection([0], 2){step};"
        "print([m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{loaded}\n"


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


def test_extended_floats_are_kept_as_doubles():
    scores = np.array([0.1, 0.2, 0.3], dtype=np.longdouble)
    selection = Selection([1], 3, scores={"sas": scores})
    assert selection.scores["sas"].dtype == np.float64
    assert (
        selection.fingerprint == Selection([1], 3, scores={"sas": scores.astype(float)}).fingerprint
    )
