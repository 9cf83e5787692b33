"""Files of labels as people have them; each stands for a kind.

Twelve images, cat/1.jpg to dog/6.jpg. In each file dog/6.jpg comes first, so that rows taken by
position give 0 of 12 right labels.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clip_al.errors import InvalidInputError, SimilarNamesWarning
from clip_al.handed_in.read import (
    read_class_names,
    read_groups,
    read_indices,
    read_labelled,
    read_labels,
    read_picks,
    read_probabilities,
)
from clip_al.table.embedding_table import EmbeddingTable

IDS = [f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(1, 7)]
BACKWARDS = IDS[::-1]
RIGHT = [0] * 6 + [1] * 6


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingTable:
    """Be beside the folder `pics`, and have its table."""
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "pics" / name for name in IDS]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return EmbeddingTable.from_array(
        tmp_path / "pics.table", np.eye(12), IDS, model_id="toy", paths=paths
    )


def rows(header: str, line: str, names: list[str] = BACKWARDS) -> str:
    """Return a file: {id} is the image, {label} its folder."""
    lines = [
        line.format(id=name, label=name[:3], stem=name[4:5], back=name.replace("/", "\\"))
        for name in names
    ]
    return "\n".join([header, *lines]) + "\n"


def write(text: str, name: str = "labels.csv", encoding: str = "utf-8") -> str:
    Path(name).write_bytes(text.encode(encoding))
    return name


LABELS = {
    "filename": ("filename,label", "{id},{label}", "by the column `filename`"),
    "path": ("path,label", "pics/{id},{label}", "by the column `path` (as path)"),
    "pandas_index": (",label", "{id},{label}", "by the column without a name"),
    "trailing_space": ("id,label", "{id},{label} ", "by the column `id`"),
    "semicolon": ("id;label", "{id};{label}", "`id`; cells are separated by semicolon"),
    "tab": ("id\tlabel", "{id}\t{label}", "`id`; cells are separated by tab"),
    "header_space": ("id, label", "{id}, {label}", "by the column `id`"),
    "header_capital": ("ID,Label", "{id},{label}", "by the column `ID`"),
    "windows_paths": ("id,label", "{back},{label}", "by the column `id` (its slashes, `./` and"),
    "dot": ("file,label", "./{id},{label}", "by the column `file` (its slashes, `./` and"),
    "another_machine": ("path,label", "/elsewhere/photos/{id},{label}", "(as longer path)"),
    "windows_machine": ("path,label", "C:\\me\\{back},{label}", "(as longer path)"),
    "counter_before_ids": (",width,id,label", "7,640,{id},{label}", "by the column `id`"),
    "trailing_comma_everywhere": ("id,label,", "{id},{label},", "by the column `id`"),
    "excel": ("sep=;\nid;label", "{id};{label}", "by the column `id`"),
    "quoted": ('"id","label"', '"{id}","{label}"', "by the column `id`"),
    "no_header": ("dog/6.jpg,dog", "{id},{label}", "by the column without a name"),
}


@pytest.mark.parametrize("case", LABELS)
def test_every_label_lands_on_its_image(table: EmbeddingTable, case: str) -> None:
    header, line, how = LABELS[case]
    names = BACKWARDS[1:] if case == "no_header" else BACKWARDS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_labels(write(rows(header, line, names)), table)
    assert read.labels.tolist() == RIGHT
    assert read.class_names == ["cat", "dog"]
    assert read.how.startswith("12 labels by ")
    assert how in read.how


def test_absolute_paths(table: EmbeddingTable, tmp_path: Path) -> None:
    read = read_labels(write(rows("path,label", f"{tmp_path}/pics/{{id}},{{label}}")), table)
    assert read.labels.tolist() == RIGHT
    assert read.how == "12 labels by the column `path` (as path), 2 classes"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_encodings(table: EmbeddingTable, encoding: str) -> None:
    text = rows("id,label", "{id},{label}").replace("dog\n", "chien brûlé\n")
    read = read_labels(write(text, encoding=encoding), table)
    assert read.labels.tolist() == RIGHT
    assert read.class_names == ["cat", "chien brûlé"]
    note = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "cp1252": "Latin-1"}.get(encoding)
    assert note is None or f"read as {note}" in read.how
    assert ("read as" in read.how) is (note is not None)


def test_the_names_of_classes_in_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("brûlé\ncafé\n".encode("latin-1"))
    assert read_class_names(path) == ["brûlé", "café"]


def unique_files(tmp_path: Path) -> EmbeddingTable:
    names = [f"{i // 3}/img_{i}.png" for i in range(6)]
    return EmbeddingTable.from_array(tmp_path / "t", np.eye(6), names, model_id="toy")


@pytest.mark.parametrize(
    ("cell", "how"),
    [("img_{i}.png", "(as path)"), ("img_{i}", "(as file name without its ending)")],
)
def test_file_names_that_are_unique(tmp_path: Path, cell: str, how: str) -> None:
    lines = [f"{cell.format(i=i)},{'ab'[i % 2]}" for i in reversed(range(6))]
    (tmp_path / "l.csv").write_text("\n".join(["image,label", *lines]))
    read = read_labels(tmp_path / "l.csv", unique_files(tmp_path))
    assert read.labels.tolist() == [0, 1] * 3
    assert how in read.how


def test_file_names_that_are_not_unique_are_refused(table: EmbeddingTable) -> None:
    with pytest.raises(
        InvalidInputError, match=r"A column of labels\.csv must name the images"
    ) as e:
        read_labels(write(rows("file,label", "{stem}.jpg,{label}")), table)
    assert "`file` ('6.jpg'), `label` ('dog'); the ids of the images are 'cat/1.jpg'" in str(
        e.value
    )


def test_ids_of_another_folder_are_shown_beside_those_of_the_table(table: EmbeddingTable) -> None:
    with pytest.raises(InvalidInputError) as e:
        read_labels(write(rows("file,label", "{id}.bmp,{label}")), table)
    assert "It has the columns `file` ('dog/6.jpg.bmp'), `label` ('dog')" in str(e.value)
    assert "the ids of the images are 'cat/1.jpg', 'cat/2.jpg', … (12 in all)" in str(e.value)
    text = rows("id,label", "{id},{label}").replace("cat/2.jpg", "cat/2.jpeg")
    with pytest.raises(InvalidInputError) as e:
        read_labels(write(text), table)
    assert (
        "1 are missing, the first is 'cat/2.jpg' (a row says 'cat/2.jpeg' where the table"
        in str(e.value)
    )


def test_never_by_position_where_another_column_is_there(table: EmbeddingTable) -> None:
    with pytest.raises(InvalidInputError, match=r"none does\. It has the columns `width`"):
        read_labels(write(rows("width,label", "640,{label}")), table)
    # A count of the rows says nothing: pandas writes it beside a column of labels.
    counted = "\n".join([",label", *(f"{i},{name[:3]}" for i, name in enumerate(IDS))])
    read = read_labels(write(counted), table)
    assert read.labels.tolist() == RIGHT
    assert read.how == "12 labels in the order of the table, as no column names images, 2 classes"
    # One of shuffled rows says that the order is another.
    shuffled = "\n".join([",label", *(f"{11 - i},{BACKWARDS[i][:3]}" for i in range(12))])
    with pytest.raises(InvalidInputError, match="must name the images"):
        read_labels(write(shuffled), table)


def test_columns_that_contradict_each_other_are_refused(table: EmbeddingTable) -> None:
    lines = [f"{a},{b},{a[:3]}" for a, b in zip(IDS, BACKWARDS, strict=True)]
    with pytest.raises(InvalidInputError, match="`file` and `image` name different ones, in row 1"):
        read_labels(write("\n".join(["image,file,label", *lines])), table)
    read = read_labels(write("\n".join(["id,next,label", *lines])), table)
    assert read.labels.tolist() == RIGHT


def test_a_folder_of_the_same_name_is_not_taken_for_another(tmp_path: Path) -> None:
    """`cat/1.jpg` is not `1.jpg` of the folder `dog`."""
    paths = [tmp_path / "dog" / f"{i}.jpg" for i in range(1, 7)]
    ids = [path.name for path in paths]
    dogs = EmbeddingTable.from_array(tmp_path / "t", np.eye(6), ids, model_id="toy", paths=paths)
    (tmp_path / "l.csv").write_text(rows("id,label", "{id},{label}{stem}"))
    read = read_labels(tmp_path / "l.csv", dogs)
    assert read.class_names == [f"dog{i}" for i in range(1, 7)]
    assert read.labels.tolist() == list(range(6))
    assert "6 rows name other images" in read.how


def test_rows_with_more_cells_than_the_header(table: EmbeddingTable) -> None:
    text = rows("id,label", "{id},{label},")
    for read in (read_labels, read_groups, read_labelled, read_probabilities):
        with pytest.raises(InvalidInputError) as e:
            read(write(text), table)
        assert str(e.value) == (
            "labels.csv must have as many cells in each row as its header, 2 (id, label); 12 of 12 "
            "rows have more, the first is row 1 with 3: 'dog/6.jpg,dog,'. Remove what stands "
            "behind the last cell, or put cells that hold a comma between double quotes."
        )
    with pytest.raises(InvalidInputError, match="1 of 2 rows have fewer, the first is row 2 with"):
        read_labels(write("id,label,x\na,b,c\nd,e\n"), table)


def test_names_that_differ_only_in_case_blanks_or_unicode_form(table: EmbeddingTable) -> None:
    text = (
        rows("id,label", "{id},{label}").replace("dog\n", "Dog\n", 2).replace("cat\n", "ca t\n", 1)
    )
    message = re.escape("labels.csv has names that differ only in case, blanks or Unicode form")
    with pytest.warns(SimilarNamesWarning, match=message) as warned:
        read_labels(write(text), table)
    said = str(warned[0].message)
    assert "'Dog' (2), 'dog' (4)" in said
    assert "'ca t' (1), 'cat' (5)" in said
    composed = rows("id,group", "{id},caf\u00e9").replace("caf\u00e9", "cafe\u0301", 3)
    with pytest.warns(SimilarNamesWarning, match="each counts as a group of its own"):
        read_groups(write(composed), table)
    with pytest.raises(InvalidInputError, match="It differs from 'Dog' only in case"):
        read_labels(write(rows("id,label", "{id},{label}")), table, write("cat\nDog\n", "c.txt"))


def test_groups_by_file_name(table: EmbeddingTable) -> None:
    read = read_groups(write(rows("filename,group", "{id},{label}")), table)
    assert read.groups == [name[:3] for name in IDS]
    assert read.how == "12 groups by the column `filename`"


@pytest.mark.parametrize("cell", ["{id}", "pics/{id}", "{back}", "./{id}"])
def test_labelled_by_any_name(table: EmbeddingTable, cell: str) -> None:
    for header, line in (("filename,x", f"{cell},1"), (",x", f"{cell},1"), ("image", cell)):
        read = read_indices(write(rows(header, line, ["dog/6.jpg", "cat/2.jpg"])), table)
        assert read.indices.tolist() == [11, 1]


def test_one_id_a_line_that_holds_a_comma(tmp_path: Path) -> None:
    ids = ["a, b.jpg", "c, d.jpg", "e.jpg"]
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(3), ids, model_id="toy")
    (tmp_path / "ids.txt").write_text("c, d.jpg\na, b.jpg\n")
    assert read_indices(tmp_path / "ids.txt", table).indices.tolist() == [1, 0]


def test_rows_with_an_empty_label_stay_in_the_pool(table: EmbeddingTable) -> None:
    labels = ["cat", "dog", "", " ", "NaN", "cat", "None", "<NA>", "null"]
    lines = [f"{name},{label}" for name, label in zip(IDS, labels, strict=False)]
    read = read_labelled(write("\n".join(["id,label", *lines])), table)
    assert read.indices.tolist() == [0, 1, 5]
    assert read.how == "3 of 9 rows have a label, 6 stay in the pool, by the column `id`"
    # What `select` writes has no labels: there each row counts.
    read = read_labelled(write("rank,index,id\n1,3,cat/4.jpg\n2,0,cat/1.jpg\n"), table)
    assert read.indices.tolist() == [3, 0]


def test_a_label_that_stands_for_none(table: EmbeddingTable) -> None:
    text = rows("id,label", "{id},{label}").replace("cat/3.jpg,cat", "cat/3.jpg,NaN")
    with pytest.raises(InvalidInputError, match=r"1 of 12 have none, .* with 'NaN'"):
        read_labels(write(text), table)
    read = read_labels(write(text), table, write("cat\ndog\nNaN\n", "classes.txt"))
    assert read.labels.tolist() == [0, 0, 2, *RIGHT[3:]]


def test_one_class_alone(table: EmbeddingTable) -> None:
    text = rows("id,label", "{id},dog")
    message = "Labels must be of two classes or more; all 12 of labels.csv are 'dog'."
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels(write(text), table)
    assert set(read_labels(write(text), table, write("cat\ndog\n", "c.txt")).labels) == {1}


# Probabilities


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("id;cat;dog", "{id};{a:.2f};{b:.2f}"),
        ("filename,cat,dog", '{id},"{a:.2f}","{b:.2f}"'),
        (",cat,dog", "pics/{id},{a:.2f},{b:.2f}"),
        ("id\tcat\tdog", "{id}\t{a:.2f}\t{b:.2f}"),
    ],
)
def test_probabilities_with_decimal_commas(table: EmbeddingTable, header: str, line: str) -> None:
    expected = np.column_stack([np.arange(12) / 20, 1 - np.arange(12) / 20])
    lines = [
        line.format(id=name, a=a, b=b).replace("0.", "0,").replace("1.0", "1,0")
        if (header[2:3] != "\t" and "," not in header.replace('"', "")) or '"' in line
        else line.format(id=name, a=a, b=b)
        for name, (a, b) in zip(IDS, expected, strict=True)
    ]
    read = read_probabilities(write("\n".join([header, *reversed(lines)])), table)
    np.testing.assert_allclose(read.probabilities, expected)
    assert read.class_names == ["cat", "dog"]
    assert read.how.startswith("12 rows of 2 classes by the column ")


def test_probabilities_of_two_decimals(table: EmbeddingTable) -> None:
    text = rows("id,a,b,c", "{id},0.34,0.34,0.34")
    read = read_probabilities(write(text), table)
    np.testing.assert_allclose(read.probabilities, 1 / 3)
    with pytest.raises(InvalidInputError, match=r"which sums to 1\.2"):
        read_probabilities(write(rows("id,a,b,c", "{id},0.4,0.4,0.4")), table)


def test_probabilities_never_by_position_where_a_column_could_say(table: EmbeddingTable) -> None:
    with pytest.raises(InvalidInputError, match="keep the probabilities alone in the file"):
        read_probabilities(write(rows("file,a,b", "x{id},0.5,0.5")), table)
    read = read_probabilities(write(rows("a,b", "0.25,0.75")), table)
    assert read.how == "12 rows of 2 classes in the order of the table, as no column names images"


# Lists of classes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "cat\ndog, the pet\nbird\n"),
        ("c.txt", "0,cat\n1,dog, the pet\n2,bird\n"),
        ("c.txt", "2: bird\n0: cat\n1: dog, the pet\n"),
        ("c.csv", 'index;name\n0;cat\n2;bird\n1;"dog, the pet"\n'),
        ("c.csv", "cat\t0\nbird\t2\ndog, the pet\t1\n"),
        ("c.json", '["cat", "dog, the pet", "bird"]'),
        ("c.json", '{"bird": 2, "cat": 0, "dog, the pet": 1}'),
        ("c.json", '{"0": "cat", "2": "bird", "1": "dog, the pet"}'),
    ],
)
def test_lists_of_classes(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name) == ["cat", "dog, the pet", "bird"]


def test_a_list_without_a_header_loses_no_name(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("salt, pepper\n0, zero\n")
    assert read_class_names(tmp_path / "c.txt") == ["salt, pepper", "0, zero"]


def test_numbers_that_are_names_stay_names(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("7\n3\n")
    assert read_class_names(tmp_path / "c.txt") == ["7", "3"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "c.txt",
            "1,cat\n2,dog\n",
            "must number the 2 classes from 0 to 1, each once; there is no 0.",
        ),
        ("c.json", '{"cat": 1, "dog": 2}', "must number k classes from 0 to k - 1, each once; got"),
        ("c.json", "{", "must hold a list of names, or names and their numbers, as JSON;"),
        ("c.txt", "cat\n\ndog\n", "got an empty line. Correct it."),
        ("c.txt", "cat\ncat\n", "got 'cat' more than once. Correct it."),
    ],
)
def test_lists_of_classes_that_do_not_count(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_class_names(tmp_path / name)


def test_a_name_twice_is_no_harm_where_labels_are_numbers(table: EmbeddingTable) -> None:
    labels = write("\n".join(["id,label", *(f"{name},{i % 3}" for i, name in enumerate(IDS))]))
    read = read_labels(labels, table, write("crane\ncat\ncrane\n", "c.txt"))
    assert read.labels.tolist() == [i % 3 for i in range(12)]
    assert read.class_names == ["crane", "cat", "crane"]


# Parquet and DataFrames


@pytest.fixture
def frame() -> pd.DataFrame:
    frame = pd.DataFrame({"filename": BACKWARDS, "label": [name[:3] for name in BACKWARDS]})
    return frame.assign(group=frame["label"], cat=0.25, dog=0.75)


@pytest.mark.parametrize("form", ["frame", "index", "parquet", "parquet index"])
def test_frames_and_parquet(table: EmbeddingTable, frame: pd.DataFrame, form: str) -> None:
    if "index" in form:
        frame = frame.set_index("filename")
    source: pd.DataFrame | str = frame
    probabilities: pd.DataFrame | str = frame[[c for c in frame if c not in ("label", "group")]]
    if "parquet" in form:
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        frame.assign(embedding=[[0.5, 0.5]] * 12).to_parquet("l.parquet")
        probabilities.to_parquet("p.parquet")
        source, probabilities = "l.parquet", "p.parquet"
    assert read_labels(source, table).labels.tolist() == RIGHT
    assert read_groups(source, table).groups == [name[:3] for name in IDS]
    assert read_labelled(source, table).indices.tolist() == list(range(11, -1, -1))
    read = read_probabilities(probabilities, table)
    np.testing.assert_allclose(read.probabilities, [[0.25, 0.75]] * 12)
    assert "by the column `filename`" in read.how


def test_gaps_in_a_frame_are_no_names(table: EmbeddingTable, frame: pd.DataFrame) -> None:
    for gap in (None, np.nan, pd.NA):
        frame["label"] = frame["label"].astype(object)
        frame.loc[0, "label"] = gap
        assert len(read_labelled(frame, table).indices) == 11
        with pytest.raises(InvalidInputError, match=r"the DataFrame must give each image a label"):
            read_labels(frame, table)


# What is no table


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04", "must be text; it is an Excel file or an archive. Save it as CSV (UTF-8)."),
        (b"\x93NUMPY", "must be text; it is an array in .npy format."),
        (b"", "must hold at least one line; it is empty."),
        (b"\xff\xfea", "must be text in UTF-8 or UTF-16;"),
    ],
)
def test_what_is_no_table(table: EmbeddingTable, content: bytes, message: str) -> None:
    Path("labels.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels("labels.csv", table)


def test_a_file_that_is_not_there(table: EmbeddingTable) -> None:
    write("id\n", "labels_ok.csv")
    message = "labels.csv must be a file; it is missing, beside it there are labels_ok.csv. Correct"
    for read in (read_labels, read_groups, read_labelled, read_probabilities, read_picks):
        with pytest.raises(InvalidInputError, match=re.escape(message)):
            read("labels.csv", table)
    with pytest.raises(InvalidInputError, match=re.escape("there is no folder nowhere")):
        read_labels("nowhere/labels.csv", table)
    with pytest.raises(InvalidInputError, match="pics must be a file; it is a folder"):
        read_labels("pics", table)


def test_names_of_files_that_are_no_utf_8(tmp_path: Path) -> None:
    ids = [os.fsdecode(b"caf\xe9.jpg"), "b.jpg"]
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(2), ids, model_id="toy")
    (tmp_path / "l.csv").write_bytes(b"id,label\nb.jpg,x\ncaf\xe9.jpg,y\n")
    assert read_labels(tmp_path / "l.csv", table).labels.tolist() == [1, 0]
    assert read_indices(tmp_path / "l.csv", table).indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label,Label\na,b,c\n", "labels.csv must have one column `label`; got 2. Rename the"),
        (
            f"id,label\na,{'x' * 200_000}\n",
            "must be a table of text; field larger than",
        ),
    ],
)
def test_columns_that_are_not_clear(table: EmbeddingTable, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        read_labels(write(text), table)
