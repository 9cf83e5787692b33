"""FiftyOne's JSON, written and read without FiftyOne."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clip_al.errors import InvalidInputError
from clip_al.integrations.annotations import EMPTY, OPEN, PreLabel
from clip_al.integrations.fiftyone_files import (
    SCHEMA,
    dataset_of,
    read_annotations,
    write_samples,
)

IDS = ["cat/1.png", "2.png", "3.png"]
FILES = [f"/photos/{name}" for name in IDS]
PRE = [PreLabel(("cat",), 0.75), None, PreLabel(("dog",))]


def told(found):
    return dict(zip(found.ids, found.names(), strict=True))


def classification(label):
    return {"_id": {"$oid": "6b0db60920720da2b7206717"}, "_cls": "Classification", "label": label}


def several(*labels):
    return {"_cls": "Classifications", "classifications": [classification(x) for x in labels]}


def written(path, samples):
    path.write_text(json.dumps({"name": "x", "media_type": "image", "samples": samples}))
    return path


def samples_of(**labels):
    return [{"filepath": f"/{name}", "tags": [], "ground_truth": x} for name, x in labels.items()]


# Out


def test_picks_become_samples_in_their_order(tmp_path):
    made = dataset_of(IDS, FILES, name="first", pre_labels=PRE, columns={"margin": [0.1, 0.2, 1]})
    write_samples(tmp_path / "first.json", made)
    held = json.loads((tmp_path / "first.json").read_text())
    assert held == made
    assert (held["name"], held["media_type"]) == ("first", "image")
    first, second, _ = held["samples"]
    assert first == {
        "filepath": "/photos/cat/1.png",
        "tags": ["to label"],
        "metadata": None,
        "clip_al_id": "cat/1.png",
        "clip_al_rank": 1,
        "ground_truth": None,
        "clip_al_prediction": {
            "_cls": "Classification",
            "tags": [],
            "label": "cat",
            "confidence": 0.75,
        },
        "clip_al_margin": 0.1,
    }
    assert second["clip_al_prediction"] is None
    fields = {*SCHEMA, "clip_al_prediction", "ground_truth", "clip_al_margin"}
    assert set(held["sample_fields"]) == fields
    assert set(first) | {"id"} == fields
    assert held["sample_fields"]["clip_al_margin"] == "fiftyone.core.fields.FloatField"


def test_several_labels_are_classifications():
    made = dataset_of(IDS[:1], FILES[:1], pre_labels=[PreLabel(("a", "b"))], multi_label=True)
    prediction = made["samples"][0]["clip_al_prediction"]
    assert [part["label"] for part in prediction["classifications"]] == ["a", "b"]
    assert made["sample_fields"]["ground_truth"].endswith("labels.Classifications)")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"pre_labels": PRE[:2]},
            r"`pre_labels` must have one entry for each of the 3 .*; got 2",
        ),
        (
            {"columns": {"a": [1]}},
            r"`clip_al_a` must have one entry for each of the 3 .*; got 1",
        ),
    ],
)
def test_lengths_must_fit(more, message):
    with pytest.raises(InvalidInputError, match=message):
        dataset_of(IDS, FILES, **more)


def test_a_file_is_not_overwritten(tmp_path):
    write_samples(tmp_path / "a.json", dataset_of(IDS, FILES))
    with pytest.raises(InvalidInputError, match=r"must be new; .*a\.json' is there"):
        write_samples(tmp_path / "a.json", {})
    write_samples(tmp_path / "a.json", {}, overwrite=True)
    assert (tmp_path / "a.json").read_text() == "{}"


# Back


def test_labels_come_back(tmp_path):
    samples = samples_of(a=classification("dog"), b=None, c=classification("cat"), d=several())
    found = read_annotations(written(tmp_path / "a.json", samples))
    assert told(found) == {"/a": ("dog",), "/c": ("cat",)}
    assert found.class_names == ("cat", "dog")
    assert found.reasons == {"/b": OPEN, "/d": EMPTY}


def test_what_was_written_is_read_by_the_id_of_the_table(tmp_path):
    made = dataset_of(IDS, FILES, pre_labels=PRE)
    write_samples(tmp_path / "first.json", made)
    assert read_annotations(tmp_path / "first.json").skipped == tuple(IDS)
    found = read_annotations(tmp_path / "first.json", field="clip_al_prediction")
    assert told(found) == {IDS[0]: ("cat",), IDS[2]: ("dog",)}


def test_a_folder_of_an_export_is_read(tmp_path):
    written(tmp_path / "samples.json", samples_of(a=classification("dog")))
    (tmp_path / "metadata.json").write_text("{}")
    assert told(read_annotations(tmp_path)) == {"/a": ("dog",)}


def test_text_and_several_labels(tmp_path):
    file = written(tmp_path / "a.json", samples_of(a="dog", b=several("cat", "dog"), c=["cat"]))
    with pytest.raises(InvalidInputError, match=r"that of '/b' is 'cat', 'dog'\. Keep one"):
        read_annotations(file)
    found = read_annotations(file, ["dog", "cat"], multi_label=True)
    np.testing.assert_array_equal(found.labels, [[1, 0], [1, 1], [0, 1]])


def test_tags_that_are_classes_are_labels(tmp_path):
    samples = [
        {"filepath": "/a", "tags": ["to label", "dog"]},
        {"filepath": "/b", "tags": ["to label"]},
        {"filepath": "/c", "tags": []},
    ]
    file = written(tmp_path / "a.json", samples)
    found = read_annotations(file, ["cat", "dog"], field="tags")
    assert told(found) == {"/a": ("dog",)}
    assert found.reasons == {"/b": OPEN, "/c": OPEN}
    assert found.aside == {"tag 'to label'": 2}
    with pytest.raises(InvalidInputError, match="Classes must be known where tags are labels"):
        read_annotations(file, field="tags")


def test_two_samples_of_one_image_may_differ(tmp_path):
    samples = samples_of(a="dog") + samples_of(a="cat")
    found = read_annotations(written(tmp_path / "a.json", samples))
    assert found.conflicting == {"/a": {"cat": 1, "dog": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"a\.json must be JSON; "),
        ("[]", r"a\.json must hold `samples`, a list of objects; it does not\. Write"),
        ('{"classes": null, "labels": {"1": "cat"}}', r"looks like an export as FiftyOneImageCla"),
        ('{"samples": [{"ground_truth": null}]}', r"must have a `filepath`; that of row 0 has No"),
        ('{"samples": [{"filepath": "/a", "x": 1}]}', r"'ground_truth' is not\. They have no labe"),
        (
            json.dumps({"samples": [{"filepath": "/", "clip_al_prediction": several("cat")}]}),
            r"'ground_truth' is not\. They have clip_al_prediction\. Name one",
        ),
        (
            '{"samples": [{"filepath": "/a", "ground_truth": {"_cls": "Detections"}}]}',
            r"must hold classes of whole images; that of '/a' is Detections",
        ),
        ('{"samples": [{"filepath": "/a", "ground_truth": 3}]}', r"that of '/a' is int"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InvalidInputError, match=message):
        read_annotations(tmp_path / "a.json")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInputError, match=r"none\.json must be a file; it is missing"):
        read_annotations(tmp_path / "none.json")
