"""Pre-labels in the format CVAT 1.1, and what its exports say."""

from __future__ import annotations

import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from clip_al.errors import InvalidInputError
from clip_al.integrations.annotations import OPEN, UNCHANGED, PreLabel
from clip_al.integrations.cvat import (
    read_annotations,
    size_of,
    task_labels,
    write_images,
    write_pre_labels,
    write_task_labels,
)

NAMES = ["cat", "dog", 'a "<b>" & co']
IMAGES = ["cat/1.png", "dog/2 ö.png", "3.png"]
PRE = [PreLabel(("cat",), 0.875), None, PreLabel((NAMES[2],))]


def told(found):
    return dict(zip(found.ids, found.names(), strict=True))


def exported(path, **tags):
    """Write an export as CVAT does: of each image its tags, as (label, source)."""
    lines = ["<annotations><version>1.1</version><meta><task><labels>"]
    lines += [f"<label><name>{name}</name><type>tag</type></label>" for name in ("cat", "dog")]
    lines.append("</labels></task><dumped>2026-01-01</dumped></meta>")
    for i, (name, given) in enumerate(tags.items()):
        lines.append(f'<image id="{i}" name="{name}" width="8" height="8">')
        lines += [f'<tag label="{label}" source="{source}"></tag>' for label, source in given]
        lines.append("</image>")
    path.write_text("\n".join([*lines, "</annotations>"]))
    return path


# Out


def test_images_and_pre_labels_are_written(tmp_path):
    file = tmp_path / "pre.xml"
    write_pre_labels(file, IMAGES, NAMES, pre_labels=PRE, sizes=[(8, 6), None, (4, 4)])
    root = ElementTree.parse(file).getroot()
    assert root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.iter("label")] == NAMES
    images = root.findall("image")
    assert [image.get("name") for image in images] == IMAGES
    assert images[0].attrib == {"id": "0", "name": IMAGES[0], "width": "8", "height": "6"}
    assert images[1].attrib == {"id": "1", "name": IMAGES[1]}
    assert [[tag.get("label") for tag in image] for image in images] == [["cat"], [], [NAMES[2]]]
    assert images[0].findtext("tag/attribute") == "0.8750"
    assert images[2].find("tag/attribute") is None


def test_labels_of_the_task(tmp_path):
    write_task_labels(tmp_path / "labels.json", NAMES)
    held = json.loads((tmp_path / "labels.json").read_text())
    assert held == task_labels(NAMES)
    assert [label["name"] for label in held] == NAMES
    assert {label["type"] for label in held} == {"tag"}
    assert [label["attributes"][0]["name"] for label in held] == ["confidence"] * 3


def test_images_go_into_an_archive_under_their_ids(tmp_path):
    files = []
    for i in range(3):
        files.append(tmp_path / f"{i}.png")
        Image.new("RGB", (4 + i, 3)).save(files[-1])
    write_images(tmp_path / "images.zip", IMAGES, files)
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.namelist() == IMAGES
        assert archive.read(IMAGES[1]) == files[1].read_bytes()
    assert [size_of(file) for file in files] == [(4, 3), (5, 3), (6, 3)]
    with pytest.raises(InvalidInputError, match=r"none\.png must be a file that can be read; No"):
        write_images(tmp_path / "more.zip", ["a.png"], [tmp_path / "none.png"])
    assert not (tmp_path / "more.zip").exists()
    with pytest.raises(InvalidInputError, match=r"'\.\./a\.png' leads out of it"):
        write_images(tmp_path / "more.zip", ["../a.png"], files[:1])
    with pytest.raises(InvalidInputError, match=r"one entry for each of the 1 names; got 3"):
        write_images(tmp_path / "more.zip", ["a.png"], files)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidInputError, match=r"text\.png must be an image that can be read"):
        size_of(tmp_path / "text.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["a", "a", "b"]}, r"must name each image once; 'a' is there more than once"),
        ({"names": ["a", "b", "c\udce9"]}, r"letters that XML can hold; 'c\\udce9' is not"),
        ({"names": ["a", "b", "c\x01"]}, r"letters that XML can hold"),
        ({"pre_labels": PRE[:2]}, r"one entry for each of the 3 images; got 2 and 3"),
        ({"sizes": []}, r"one entry for each of the 3 images; got 3 and 0"),
        ({"class_names": ["cat"]}, r"one of the classes cat; that of '3\.png' is 'a \"<b>\" & co'"),
        ({"class_names": ["cat", "cat"]}, r"each class once"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    right = {"names": IMAGES, "class_names": NAMES, "pre_labels": PRE}
    with pytest.raises(InvalidInputError, match=message):
        write_pre_labels(tmp_path / "pre.xml", **{**right, **changes})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_overwritten(tmp_path):
    for write in (
        lambda **more: write_pre_labels(tmp_path / "x", IMAGES, NAMES, **more),
        lambda **more: write_task_labels(tmp_path / "x", NAMES, **more),
        lambda **more: write_images(tmp_path / "x", [], [], **more),
    ):
        (tmp_path / "x").write_text("mine")
        with pytest.raises(InvalidInputError, match=r"must be new; .*x' is there"):
            write()
        assert (tmp_path / "x").read_text() == "mine"
        write(overwrite=True)
        assert (tmp_path / "x").read_bytes() != b"mine"


# Back


def test_what_people_tagged_comes_back(tmp_path):
    file = exported(tmp_path / "a.xml", a=[("dog", "manual")], b=[], c=[("cat", "manual")])
    found = read_annotations(file)
    assert told(found) == {"a": ("dog",), "c": ("cat",)}
    assert found.class_names == ("cat", "dog")
    assert found.reasons == {"b": OPEN}
    again = read_annotations(file, ["dog", "cat", "hen"])
    assert again.labels.tolist() == [0, 1]


def test_an_archive_is_read_as_the_file_in_it(tmp_path):
    exported(tmp_path / "annotations.xml", a=[("dog", "manual")])
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(tmp_path / "annotations.xml", "annotations.xml")
        archive.writestr("images/a.png", b"")
    assert told(read_annotations(tmp_path / "task.zip")) == {"a": ("dog",)}


def test_pre_labels_that_nobody_changed_must_be_decided_on(tmp_path):
    file = exported(
        tmp_path / "a.xml",
        changed=[("dog", "manual")],
        b=[("cat", "file")],
        c=[("cat", "auto")],
        both=[("cat", "file"), ("dog", "manual")],
    )
    with pytest.raises(InvalidInputError, match=r"2 images of .*a\.xml have tags that were .* 'b'"):
        read_annotations(file, multi_label=True)
    found = read_annotations(file, multi_label=True, unchanged="accept")
    assert told(found) == {
        "changed": ("dog",), "b": ("cat",), "c": ("cat",), "both": ("cat", "dog"),
    }  # fmt: skip
    found = read_annotations(file, multi_label=True, unchanged="leave")
    assert told(found) == {"changed": ("dog",), "both": ("cat", "dog")}
    assert found.reasons == {"b": UNCHANGED, "c": UNCHANGED}
    with pytest.raises(InvalidInputError, match="must be one of 'ask', 'accept', 'leave'"):
        read_annotations(file, unchanged="drop")


def test_what_was_written_comes_back_as_it_was(tmp_path):
    write_pre_labels(tmp_path / "pre.xml", IMAGES, NAMES, pre_labels=PRE)
    found = read_annotations(tmp_path / "pre.xml", unchanged="accept")
    assert told(found) == {IMAGES[0]: ("cat",), IMAGES[2]: (NAMES[2],)}
    assert found.skipped == (IMAGES[1],)
    assert found.class_names == tuple(NAMES)


def test_two_tags_are_two_labels_or_an_error(tmp_path):
    file = exported(tmp_path / "a.xml", a=[("dog", "manual"), ("cat", "manual")])
    with pytest.raises(InvalidInputError, match=r"a\.xml must choose one .* 'a' is 'dog', 'cat'"):
        read_annotations(file)
    found = read_annotations(file, multi_label=True)
    np.testing.assert_array_equal(found.labels, [[True, True]])


def test_an_image_in_two_tasks_of_a_project_may_differ(tmp_path):
    text = exported(tmp_path / "a.xml", a=[("dog", "manual")], b=[("cat", "manual")]).read_text()
    (tmp_path / "a.xml").write_text(text.replace('name="b"', 'name="a" subset="x"'))
    assert read_annotations(tmp_path / "a.xml").conflicting == {"a": {"cat": 1, "dog": 1}}


def test_shapes_are_counted_and_no_labels(tmp_path):
    text = exported(tmp_path / "a.xml", a=[("dog", "manual")], b=[]).read_text()
    box = '<box label="cat" xtl="1" ytl="1" xbr="2" ybr="2"></box>'
    text = text.replace('height="8">', f'height="8">{box}')
    (tmp_path / "a.xml").write_text(text)
    found = read_annotations(tmp_path / "a.xml")
    assert told(found) == {"a": ("dog",)}
    assert found.skipped == ("b",)
    assert found.aside == {"box": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", r"x must be XML, or a zip archive that holds it; .* Export as CVAT for images 1\.1"),
        ("<a></a>", r"x must be XML with the root `annotations`; its root is `a`"),
        ("<annotations><image id='4'/></annotations>", r"the one with id '4' has none"),
        ("<annotations><image name='a'><tag/></image></annotations>", r"one of 'a' has none"),
        ("<annotations><track id='0'></track></annotations>", r"x must be of images; it has tra"),
        ("<annotations><image", r"x must be XML"),
    ],
)
def test_what_is_no_such_export_is_refused(tmp_path, text, message):
    (tmp_path / "x").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_annotations(tmp_path / "x")


def test_archives_without_one_xml_and_files_that_are_not_there(tmp_path):
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as archive:
        archive.writestr("annotations/instances.json", "{}")
    with pytest.raises(InvalidInputError, match=r"coco\.zip must hold one \.xml.*it has 0 \(it ho"):
        read_annotations(tmp_path / "coco.zip")
    with pytest.raises(InvalidInputError, match=r"none\.zip must be a file; it is missing"):
        read_annotations(tmp_path / "none.zip")


# Against readers of CVAT's format that others wrote


@pytest.fixture
def folder(tmp_path):
    """Write images, as an export with images has them, and pre-labels beside them."""
    for name in IMAGES:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / name)
    sizes = [size_of(tmp_path / "images" / name) for name in IMAGES]
    write_pre_labels(tmp_path / "annotations.xml", IMAGES, NAMES, pre_labels=PRE, sizes=sizes)
    return tmp_path


def test_datumaro_reads_the_same_labels(folder):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    from datumaro.components.annotation import AnnotationType

    dataset = datumaro.Dataset.import_from(str(folder), "cvat")
    classes = dataset.categories()[AnnotationType.label]
    found = {
        item.id: {classes[label.label].name: dict(label.attributes) for label in item.annotations}
        for item in dataset
    }
    assert found == {
        "cat/1": {"cat": {"confidence": "0.8750"}}, "dog/2 ö": {}, "3": {NAMES[2]: {}}
    }  # fmt: skip
    assert [label.name for label in classes] == NAMES


def test_what_datumaro_writes_is_read_alike(folder, tmp_path_factory):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    written = tmp_path_factory.mktemp("datumaro")
    datumaro.Dataset.import_from(str(folder), "cvat").export(str(written), "cvat", save_media=True)
    (file,) = written.glob("*.xml")
    found = read_annotations(file)
    assert told(found) == {IMAGES[0]: ("cat",), IMAGES[2]: (NAMES[2],)}
    assert found.skipped == (IMAGES[1],)


def test_fiftyone_reads_the_same_labels(folder):
    utils = pytest.importorskip("fiftyone.utils.cvat", reason="fiftyone is not installed")
    _, _, images = utils.load_cvat_image_annotations(str(folder / "annotations.xml"))
    assert {image.name: [tag.label for tag in image.tags or []] for image in images} == {
        IMAGES[0]: ["cat"], IMAGES[1]: [], IMAGES[2]: [NAMES[2]]
    }  # fmt: skip


def test_the_sdk_of_cvat_takes_the_labels_of_the_task():
    models = pytest.importorskip("cvat_sdk.models", reason="cvat-sdk is not installed")
    for label in task_labels(NAMES):
        attributes = [models.AttributeRequest(**about) for about in label["attributes"]]
        made = models.PatchedLabelRequest(
            name=label["name"], type=label["type"], attributes=attributes
        )
        assert made.to_dict()["name"] == label["name"]
        assert made.to_dict()["type"] == "tag"
