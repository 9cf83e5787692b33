"""Tests of files of several labels an image: the three forms, what is missing, corrections."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from clip_al import files
from clip_al.errors import InvalidInputError, SeveralLabelsWarning
from clip_al.handed_in.pair_decisions import apply_pair_decisions, are_pairs
from clip_al.handed_in.several_labels import read_several_labels
from clip_al.table.embedding_table import EmbeddingTable

IDS = ["a/1.jpg", "a/2.jpg", "b/3.jpg", "b/4.jpg"]
NAMES = ["cat", "dog", "sky"]
Y = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]], dtype=bool)
LISTS = "id,label\na/1.jpg,cat;dog\na/2.jpg,sky\nb/3.jpg,-\nb/4.jpg,sky; cat\n"
ROWS = "id,label\na/1.jpg,cat\nb/4.jpg,sky\na/1.jpg,dog\na/2.jpg,sky\nb/3.jpg,-\nb/4.jpg,cat\n"
COLUMNS = "id,n,cat,dog,sky\na/1.jpg,7,1,1,0\na/2.jpg,5,0,0,1\nb/3.jpg,3,0,0,0\nb/4.jpg,9,1,0,1\n"
FORMS = {
    "lists": LISTS,
    "lists, |": LISTS.replace(";", "|"),
    "lists, semicolons between cells": LISTS.replace(";", "|").replace(",", ";"),
    "lists, labels": LISTS.replace("label", "labels"),
    "several rows": ROWS,
    "a column each": COLUMNS,
    "a column each, true and false": re.sub(
        r",([01])(?=[,\n])", lambda m: [",False", ",True"][int(m[1])], COLUMNS
    ),
    "a column each, numbers of pandas": re.sub(r",([01])(?=[,\n])", r",\1.0", COLUMNS),
}
SAID = {
    "lists": "5 labels of 4 images, 3 classes, separated by `;`, by the column `id`",
    "lists, |": "separated by `|`",
    "several rows": "several rows an image",
    "a column each": "a column of zeros and ones each",
}


@pytest.fixture
def table(tmp_path):
    return EmbeddingTable.from_array(tmp_path / "t", np.eye(4), IDS, model_id="toy", paths=IDS)


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\n".join(NAMES))
    return path


def written(tmp_path, text, name="y.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_classes", [False, True])
def test_three_forms_say_the_same(tmp_path, table, classes, form, with_classes):
    path = written(tmp_path, FORMS[form])
    read = read_several_labels(path, table, classes if with_classes else None)
    assert read.class_names == NAMES
    assert read.labels.tolist() == Y.tolist()
    assert read.indices.tolist() == [0, 1, 2, 3]
    assert SAID.get(form, "4 images") in read.how
    assert files.read_several_labels is read_several_labels


def test_frames_arrays_numbers_and_other_orders(tmp_path, table, classes):
    frame = pd.DataFrame({"id": IDS[::-1], "label": ["2;0", "-", "2", "0;1"]})
    assert read_several_labels(frame, table, classes).labels.tolist() == Y.tolist()
    np.save(tmp_path / "y.npy", Y.astype(np.int8))
    assert read_several_labels(tmp_path / "y.npy", table, classes).labels.tolist() == Y.tolist()
    with pytest.raises(InvalidInputError, match="holds zeros and ones without names; pass `--cl"):
        read_several_labels(tmp_path / "y.npy", table)
    swapped = written(tmp_path, "sky\ndog\ncat\n", "swapped.txt")
    for text in (LISTS, COLUMNS):
        read = read_several_labels(written(tmp_path, text), table, swapped)
        assert read.labels.tolist() == Y[:, ::-1].tolist()


def test_without_a_header_and_in_the_tables_order(tmp_path, table):
    bare = LISTS.partition("\n")[2]
    assert read_several_labels(written(tmp_path, bare), table).labels.tolist() == Y.tolist()
    alone = "label\ncat;dog\nsky\n-\nsky;cat\n"
    assert read_several_labels(written(tmp_path, alone), table).labels.tolist() == Y.tolist()


def test_names_that_hold_a_separator_are_names_where_classes_say_so(tmp_path, table):
    classes = written(tmp_path, "cat; or dog\nsky\n", "classes.txt")
    text = "id,label\na/1.jpg,cat; or dog\na/2.jpg,sky\nb/3.jpg,cat; or dog|sky\nb/4.jpg,-\n"
    read = read_several_labels(written(tmp_path, text), table, classes)
    assert read.labels.astype(int).tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]


def test_commas_are_separators_where_all_parts_are_classes(tmp_path, table, classes):
    frame = pd.DataFrame({"id": IDS, "label": ["cat, dog", "sky", "-", "sky, cat"]})
    assert read_several_labels(frame, table, classes).labels.tolist() == Y.tolist()
    assert "cat, dog" in read_several_labels(frame, table).class_names


def test_images_that_nobody_has_looked_at_are_not_labelled(tmp_path, table, classes):
    for text in (
        "id,label\na/1.jpg,cat;dog\na/2.jpg,\nb/3.jpg,-\n",
        "id,cat,dog,sky\na/1.jpg,1,1,0\na/2.jpg,,,\nb/3.jpg,0,0,0\n",
    ):
        path = written(tmp_path, text)
        read = read_several_labels(path, table, classes, all_images=False)
        assert read.indices.tolist() == [0, 2]
        assert read.labels.tolist() == Y[[0, 2]].tolist()
        message = "must give each image its labels; 2 of 4 have none, the first is 'a/2.jpg'"
        with pytest.raises(InvalidInputError, match=message):
            read_several_labels(path, table, classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LISTS.replace("cat;dog", "cat;bird"), "'a/1.jpg' has 'bird'"),
        (LISTS.replace("cat;dog", "cat|dog"), "must have one separator between labels, `;` or `|`"),
        (COLUMNS.replace("a/1.jpg,7,1,1,0", "a/1.jpg,7,1,,0"), "'a/1.jpg' has no cell for 'dog'"),
        (COLUMNS.replace("dog", "bird"), "a column of zeros and ones for each class; of 'dog' t"),
        (COLUMNS.replace("7,1,1,0", "7,1,2,0"), "of 'dog' it holds other than zeros and ones"),
        ("id,x,y,z\na/1.jpg,u,v,w\n", "must hold labels in one of three forms: a column `label`"),
        (COLUMNS + "a/1.jpg,7,1,1,0\n", "must name each image once; got 'a/1.jpg'"),
    ],
)
def test_messages(tmp_path, table, classes, text, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_several_labels(written(tmp_path, text), table, classes)


def test_other_images_are_refused_only_where_images_are_named_to_be_labelled(tmp_path, table):
    path = written(tmp_path, LISTS + "c/9.jpg,cat\n")
    assert "1 rows name other images" in read_several_labels(path, table).how
    with pytest.raises(InvalidInputError, match=r"the first is 'c/9\.jpg'"):
        read_several_labels(path, table, all_images=False)


def test_files_of_several_labels_are_not_taken_for_classes(tmp_path, table, classes):
    for text in (LISTS.replace("-", "dog"), ROWS.replace("-", "dog")):
        with pytest.raises(InvalidInputError, match="several labels: `read_several_labels`, or"):
            files.read_labels(written(tmp_path, text), table, classes)
    frame = pd.DataFrame({"id": IDS, "label": ["cat; dog", "sky", "cat", "dog"]})
    with pytest.warns(SeveralLabelsWarning, match="has the label 'cat; dog' beside 'cat' and ' d"):
        assert len(files.read_labels(frame, table).class_names) == 4


def test_probabilities_of_labels_need_not_sum_to_one(tmp_path, table):
    frame = pd.DataFrame({"id": IDS, "cat": [0.9, 0.8, 0.1, 0.0], "dog": [0.9, 0.1, 0.1, 0.2]})
    read = files.read_probabilities(frame, table, multi_label=True)
    assert read.probabilities[0].tolist() == [0.9, 0.9]
    with pytest.raises(InvalidInputError, match="several labels, pass `multi_label=True`"):
        files.read_probabilities(frame, table)


# Corrections


def suspects_of(*rows):
    columns = ["id", "label", "suspected", "decision"]
    return pd.DataFrame(rows, columns=columns).assign(probability=0.9)


@pytest.mark.parametrize("form", FORMS)
def test_decisions_go_into_the_file_in_its_own_form(tmp_path, table, form):
    path = written(tmp_path, FORMS[form])
    marked = suspects_of(
        ("a/1.jpg", "dog", "given", "wrong"),
        ("a/1.jpg", "sky", "missing", "wrong"),
        ("a/2.jpg", "sky", "given", "wrong"),
        ("b/3.jpg", "dog", "missing", "wrong"),
        ("b/4.jpg", "cat", "given", "right"),
        ("b/4.jpg", "dog", "missing", "unclear"),
        ("b/4.jpg", "dog", "missing", ""),
    )
    assert are_pairs(marked)
    done = apply_pair_decisions(path, marked)
    assert (done.changed, done.kept, done.emptied, done.undecided) == (4, 1, 0, 2)
    assert done.how.startswith("2 labels added, 2 taken away, 1 kept as right, 2 suspects und")
    frame = done.table.frame()
    assert frame.columns.tolist() == pd.read_csv(path, sep=None, engine="python").columns.tolist()
    again = read_several_labels(frame, table)
    wanted = Y.copy()
    wanted[0, 1:], wanted[1, 2], wanted[2, 1] = [False, True], False, True
    at = [NAMES.index(name) for name in again.class_names]
    assert again.labels.tolist() == wanted[:, at].tolist()
    # A second time nothing changes: what is wrong has been set right.
    twice = apply_pair_decisions(frame, marked)
    assert (twice.changed, twice.kept) == (0, 5)
    assert twice.table.frame().equals(frame)


def test_an_image_in_several_rows_loses_all_and_gets_another(tmp_path, table):
    path = written(tmp_path, ROWS)
    marked = suspects_of(("a/1.jpg", "dog", "given", "wrong"), ("a/1.jpg", "cat", "given", "wrong"))
    frame = apply_pair_decisions(path, marked).table.frame()
    assert frame.loc[frame["id"] == "a/1.jpg", "label"].tolist() == ["-"]
    marked.loc[2] = ["a/1.jpg", "sky", "missing", "wrong", 0.9]
    frame = apply_pair_decisions(path, marked).table.frame()
    assert frame.loc[frame["id"] == "a/1.jpg", "label"].tolist() == ["sky"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a/1.jpg", "dog", "given", ""), "must hold decisions; its column `decision` is empty"),
        (("a/1.jpg", "dog", "given", "cat"), "must be `right`, `wrong` or `unclear`; that of 'a/1"),
        (("a/1.jpg", "dog", "missing", "right"), "the labels say that 'a/1.jpg' has 'dog'"),
        (("a/1.jpg", "dog", "odd", "right"), "must be `given` or `missing`; got 'odd'"),
    ],
)
def test_messages_about_decisions(tmp_path, row, message):
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        apply_pair_decisions(written(tmp_path, LISTS), suspects_of(row))


def test_a_suspect_that_is_not_among_the_labels(tmp_path):
    marked = suspects_of(("a/1.jpg", "dog", "given", "right"), ("z.jpg", "dog", "given", "wrong"))
    with pytest.raises(InvalidInputError, match=r"it has none of 'z\.jpg'"):
        apply_pair_decisions(written(tmp_path, LISTS), marked)
