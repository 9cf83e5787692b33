"""One answer an image from those of several people."""

from __future__ import annotations

import numpy as np
import pytest

from clip_al.errors import InvalidInputError
from clip_al.integrations.annotations import CANCELLED, EMPTY, OPEN, UNCHANGED, Answer, settle

NAMES = ["cat", "dog", "hen"]


def told(found):
    return dict(zip(found.ids, found.names(), strict=True))


def of(**given):
    """Return answers: of each image those of its annotations."""
    return [Answer(name, labels) for name, answers in given.items() for labels in answers]


def test_labels_come_as_numbers_and_by_name():
    found = settle(of(b=[("dog",)], a=[("cat",), ("cat",)]), NAMES)
    assert found.ids == ("b", "a")
    assert found.labels.tolist() == [1, 0]
    assert found.labels.dtype == np.int64
    assert told(found) == {"b": ("dog",), "a": ("cat",)}


def test_without_names_the_classes_are_those_that_occur():
    found = settle(of(b=[("owl",)], a=[("cat",)]), None)
    assert found.class_names == ("cat", "owl")
    assert found.labels.tolist() == [1, 0]


def test_several_labels_are_rows_of_yes_and_no():
    found = settle(of(a=[("dog", "cat")], b=[("hen",)]), NAMES, multi_label=True)
    np.testing.assert_array_equal(found.labels, [[True, True, False], [False, False, True]])
    assert told(found) == {"a": ("cat", "dog"), "b": ("hen",)}
    empty = settle([Answer("a")], NAMES, multi_label=True)
    assert empty.labels.shape == (0, 3)


def test_one_label_is_asked_for_and_two_are_refused():
    answers = of(a=[("cat",)], b=[("dog", "cat")], c=[("hen", "cat")])
    message = r"of x\.json must choose one .*; that of 'b' is 'dog', 'cat' \(2 are .*\. Keep"
    with pytest.raises(InvalidInputError, match=message):
        settle(answers, NAMES, where="x.json")
    with pytest.raises(InvalidInputError, match=r"of the classes cat, dog, hen; that of 'a' is 'o"):
        settle(of(a=[("owl",)]), NAMES)


DIFFERENT = of(
    same=[("cat", "dog"), ("dog", "cat")],
    most=[("cat", "dog"), ("cat",), ("cat", "hen")],
    tied=[("cat",), ("cat", "dog")],
    none=[("cat",), ("dog",), ("hen",)],
)


def test_several_labels_that_differ_are_left_out_or_counted_one_by_one():
    left = settle(DIFFERENT, NAMES, multi_label=True)
    assert told(left) == {"same": ("cat", "dog")}
    assert left.conflicting["most"] == {"cat": 3, "dog": 1, "hen": 1}
    counted = settle(DIFFERENT, NAMES, multi_label=True, conflicts="majority")
    assert told(counted) == {"same": ("cat", "dog"), "most": ("cat",)}
    assert list(counted.conflicting) == ["tied", "none"]
    with pytest.raises(InvalidInputError, match=r"of x must agree; 3 images got several"):
        settle(DIFFERENT, NAMES, multi_label=True, conflicts="raise", where="x")


def test_the_strongest_reason_for_no_label_is_told():
    answers = [
        Answer("a"),
        Answer("a", (), CANCELLED),
        Answer("b"),
        Answer("c", (), CANCELLED),
        Answer("c", (), EMPTY),
        Answer("d", (), UNCHANGED),
        Answer("e", (), EMPTY),
        Answer("e", ("cat",)),
    ]
    found = settle(answers, NAMES)
    assert found.reasons == {"a": CANCELLED, "b": OPEN, "c": EMPTY, "d": UNCHANGED}
    assert found.skipped == ("a", "b", "c", "d")
    assert told(found) == {"e": ("cat",)}


def test_ground_truth_alone_decides():
    answers = [Answer("a", ("cat",)), Answer("a", ("dog",), is_truth=True), Answer("a", ("cat",))]
    assert told(settle(answers, NAMES)) == {"a": ("dog",)}
