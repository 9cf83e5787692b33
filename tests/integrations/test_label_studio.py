"""Tasks in the format that Label Studio imports, and what its exports say."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.datasets import load_digits

from clip_al import CBDMarginSampling, ConceptProfiles, ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.integrations.annotations import PreLabel
from clip_al.integrations.label_studio import (
    Annotations,
    labeling_config,
    make_tasks,
    read_annotations,
    write_tasks,
)
from tests.reference import random_probabilities

NAMES = ["cat", "dog", 'a "<script>" & co']
IDS = [f"{i}.jpg" for i in range(60)]
URLS = [f"/data/local-files/?d=photos/{name}" for name in IDS]


def answer(*choices, **fields):
    """Return an annotation as an export holds it."""
    value = {"choices": list(choices)}
    region = {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}
    other = {"from_name": "comment", "to_name": "image", "type": "textarea", "value": {"text": "?"}}
    return {
        "id": 7,
        "completed_by": 1,
        "result": [{"id": "x", **region}, other] if choices else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "lead_time": 3.2,
        **fields,
    }


def exported(**answers):
    """Return a JSON export: one task for each image, with its annotations."""
    return [
        {"id": i, "data": {"image": "u", "image_id": name, "rank": i}, "annotations": given}
        for i, (name, given) in enumerate(answers.items(), start=1)
    ]


def told(found):
    return dict(zip(found.ids, found.labels.tolist(), strict=True))


# Out


def test_tasks_are_the_picks_of_the_array_call_in_their_order(Z, vocabulary, probabilities):
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary, 6)
    strategy = CBDMarginSampling()
    picks = strategy.select(profiles=profiles, n_instances=8, probabilities=probabilities)
    names = ["ant", "bee", "cat", "dog"]
    tasks = make_tasks(
        picks,
        IDS,
        URLS,
        class_names=names,
        probabilities=probabilities,
        explanations=strategy.explain(picks, profiles=profiles),
    )
    assert [task["data"]["image_id"] for task in tasks] == [IDS[i] for i in picks]
    assert [task["data"]["image"] for task in tasks] == [URLS[i] for i in picks]
    assert [task["data"]["rank"] for task in tasks] == list(range(1, 9))
    for pick, told, task in zip(
        picks, strategy.explain(picks, profiles=profiles), tasks, strict=True
    ):
        assert task["meta"]["concepts"] == list(told.concepts) == profiles.words(pick)
        assert task["meta"]["added"] == list(told.added)
        (prediction,) = task["predictions"]
        (region,) = prediction["result"]
        assert region["value"]["choices"] == [names[probabilities[pick].argmax()]]
        assert prediction["score"] == pytest.approx(probabilities[pick].max())


def test_real_images_get_zero_shot_labels(mini, tmp_path):
    from scipy.special import softmax

    images = (load_digits().images[:40] * 15.9).astype(np.uint8)
    Z = mini.encode_images(list(images))
    T = mini.encode_texts(NAMES)
    likely = softmax(100 * Z @ T.T, axis=1)
    vocabulary = ConceptVocabulary.from_names(["line", "circle", "dot"]).encode(mini)
    picks = CBDMarginSampling(vocabulary, m=2).select(Z, 5, probabilities=likely)
    tasks = make_tasks(picks, IDS[:40], URLS[:40], class_names=NAMES, probabilities=likely)
    write_tasks(tmp_path / "tasks.json", tasks)
    assert json.loads((tmp_path / "tasks.json").read_text()) == tasks
    shown = [task["predictions"][0]["result"][0]["value"]["choices"][0] for task in tasks]
    assert shown == [NAMES[i] for i in (Z @ T.T)[picks].argmax(axis=1)]


def test_tasks_need_no_model():
    assert make_tasks([3], IDS, URLS) == [
        {"data": {"image": URLS[3], "image_id": "3.jpg", "rank": 1}, "meta": {"rank": 1}}
    ]


def test_a_file_is_not_overwritten(tmp_path):
    file = tmp_path / "tasks.json"
    write_tasks(file, make_tasks([1], IDS, URLS))
    with pytest.raises(InvalidInputError, match=r"must be new; .*tasks.json' is there"):
        write_tasks(file, [])
    assert len(json.loads(file.read_text())) == 1
    write_tasks(file, [], overwrite=True)
    assert json.loads(file.read_text()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["tasks.json"]


def test_class_names_stay_text_in_the_configuration():
    view = ElementTree.fromstring(labeling_config(NAMES))
    assert [choice.get("value") for choice in view.iter("Choice")] == NAMES
    assert view.find("Image").attrib == {"name": "image", "value": "$image"}
    assert view.find("Choices").attrib == {"name": "choice", "toName": "image", "choice": "single"}


def test_names_that_are_no_text_survive_the_file(tmp_path):
    name = b"caf\xe9\n.jpg".decode("utf-8", "surrogateescape")
    write_tasks(tmp_path / "t.json", make_tasks([0], [name], ["u"]))
    assert json.loads((tmp_path / "t.json").read_text())[0]["data"]["image_id"] == name


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"indices": [60]}, InvalidInputError, r"must be in \[0, 59\]"),
        ({"indices": [1, 1]}, InvalidInputError, "must name each image once"),
        ({"urls": URLS[:9]}, InvalidInputError, "one row for each of the 60 ids, .*; got 9, 60"),
        ({"explanations": []}, InvalidInputError, "for each of the 2 picks; got 60, 60 and 0"),
        ({"class_names": ["cat"]}, InvalidInputError, "each of the 4 columns .*; got 1"),
        ({"class_names": "cats"}, InvalidTypeError, "must be a sequence of strings"),
        ({"probabilities": np.ones((60, 2))}, InvalidInputError, "each row must sum to 1"),
        ({"probabilities": np.eye(2)}, InvalidInputError, "for each of the 60 ids, .*; got 60, 2"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities, changes, error, message):
    arguments = {"indices": [4, 2], "ids": IDS, "urls": URLS, "probabilities": probabilities}
    with pytest.raises(error, match=message):
        make_tasks(**{**arguments, "class_names": list("abcd"), **changes})


# Back


def test_annotations_come_back_as_ids_and_labels():
    tasks = exported(**{"3.jpg": [answer("dog")], "1.jpg": [answer(NAMES[2])]})
    found = read_annotations(tasks, NAMES)
    assert found.ids == ("3.jpg", "1.jpg")
    assert found.labels.tolist() == [1, 2]
    assert found.labels.dtype == np.int64
    assert found.skipped == ()
    assert found.conflicting == {}
    assert found.aside == {"answer of 'comment'": 2}


def test_skipped_and_cancelled_images_stay_unlabelled():
    tasks = exported(
        open=[],
        cancelled=[answer("dog", was_cancelled=True)],
        skipped=[answer("dog", skipped=True)],
        blank=[answer()],
        second=[answer("dog", was_cancelled=True), answer("cat")],
        half=[answer(), answer("dog")],
    )
    found = read_annotations(tasks, NAMES)
    assert told(found) == {"second": 0, "half": 1}
    assert found.skipped == ("open", "cancelled", "skipped", "blank")


def conflict():
    return exported(
        agreed=[answer("dog"), answer("dog")],
        most=[answer("cat"), answer("dog"), answer("dog")],
        tied=[answer("cat"), answer("dog")],
        spread=[answer("cat"), answer("cat"), answer("dog"), answer(NAMES[2])],
        known=[answer("cat"), answer("cat"), answer("dog", ground_truth=True)],
    )


def test_images_that_annotators_disagree_on_are_left_and_listed():
    found = read_annotations(conflict(), NAMES)
    assert told(found) == {"agreed": 1, "known": 1}
    assert list(found.conflicting) == ["most", "tied", "spread"]
    assert found.conflicting["most"] == {"cat": 1, "dog": 2}


def test_or_more_than_half_decide():
    found = read_annotations(conflict(), NAMES, conflicts="majority")
    assert told(found) == {"agreed": 1, "most": 1, "known": 1}
    assert list(found.conflicting) == ["tied", "spread"]


def test_or_they_are_an_error():
    with pytest.raises(InvalidInputError, match=r"3 images got several .* 'most': \{'cat': 1, 'd"):
        read_annotations(conflict(), NAMES, conflicts="raise")
    with pytest.raises(InvalidInputError, match="must be one of 'leave', 'majority', 'raise'"):
        read_annotations(conflict(), NAMES, conflicts="last")


def test_an_image_in_two_tasks_is_one_image():
    tasks = (
        exported(a=[answer("cat")])
        + exported(a=[answer("dog")], b=[])
        + exported(b=[answer("dog")])
    )
    found = read_annotations(tasks, NAMES)
    assert told(found) == {"b": 1}
    assert found.conflicting == {"a": {"cat": 1, "dog": 1}}


@pytest.mark.parametrize("chosen", ["dog", ["dog"], {"choices": ["dog"]}, [{"choices": ["dog"]}]])
def test_json_min_is_read_in_every_form(chosen):
    rows = [
        {"image": "u", "image_id": "a", "id": 1, "choice": chosen, "annotator": 1},
        {"image": "u", "image_id": "b", "id": 2, "annotator": {}},
        {"image": "u", "image_id": "c", "id": 3, "choice": "cat", "annotator": 1},
        {"image": "u", "image_id": "c", "id": 3, "choice": "dog", "annotator": 2},
    ]
    found = read_annotations(rows, NAMES)
    assert told(found) == {"a": 1}
    assert found.skipped == ("b",)
    assert found.conflicting == {"c": {"cat": 1, "dog": 1}}


def renamed(name, tasks):
    for task in tasks:
        for annotation in task["annotations"]:
            for region in annotation["result"]:
                if region["type"] == "choices":
                    region["from_name"] = name
    return tasks


def test_the_only_control_is_read_whatever_it_is_called():
    tasks = renamed("animal", exported(a=[answer("dog")], b=[answer("cat")]))
    assert told(read_annotations(tasks, NAMES)) == {"a": 1, "b": 0}
    assert told(read_annotations(tasks, NAMES, control="animal")) == {"a": 1, "b": 0}
    rows = [
        {"image": "u", "image_id": "a", "id": 1, "animal": "dog", "annotator": 1},
        {"image": "u", "image_id": "b", "id": 2, "animal": {"choices": ["cat"]}, "annotator": 1},
    ]
    assert told(read_annotations(rows, NAMES)) == {"a": 1, "b": 0}


def test_of_several_controls_one_must_be_named():
    tasks = renamed("animal", exported(a=[answer("dog")])) + renamed(
        "quality", exported(b=[answer("cat")])
    )
    with pytest.raises(InvalidInputError, match="the export has those of 'animal', 'quality'"):
        read_annotations(tasks, NAMES)
    with pytest.raises(InvalidInputError, match="must be of a control called 'kind'"):
        read_annotations(tasks, NAMES, control="kind")
    found = read_annotations(tasks, NAMES, control="animal")
    assert (told(found), found.skipped) == ({"a": 1}, ("b",))


def test_pre_labels_of_a_file_and_any_name_of_the_control():
    pre_labels = [PreLabel(("dog", "cat"), 0.25), None]
    tasks = make_tasks(
        [3, 1], IDS, URLS, pre_labels=pre_labels, control="animal", columns={"score": [0.5, 0.1]}
    )
    (prediction,) = tasks[0]["predictions"]
    (region,) = prediction["result"]
    assert (region["from_name"], region["value"]) == ("animal", {"choices": ["dog", "cat"]})
    assert prediction["score"] == 0.25
    assert "predictions" not in tasks[1]
    assert [task["data"]["score"] for task in tasks] == [0.5, 0.1]
    assert tasks[0]["data"]["image_id"] == "3.jpg"
    view = ElementTree.fromstring(labeling_config(NAMES, control="animal", multi_label=True))
    assert view.find("Choices").attrib["name"] == "animal"
    assert view.find("Choices").attrib["choice"] == "multiple"
    with pytest.raises(InvalidInputError, match="`pre_labels` must have one entry for each of the"):
        make_tasks([3], IDS, URLS, pre_labels=pre_labels)
    with pytest.raises(InvalidInputError, match="`score` must have one entry for each of the 2"):
        make_tasks([3, 1], IDS, URLS, columns={"score": [0.5]})


def test_several_choices_are_several_labels():
    tasks = exported(a=[answer("cat", "dog")], b=[answer("dog")], c=[answer()])
    found = read_annotations(tasks, NAMES, multi_label=True)
    np.testing.assert_array_equal(found.labels, [[True, True, False], [False, True, False]])
    rows = [{"image": "u", "image_id": "a", "choice": {"choices": ["cat", "dog"]}, "annotator": 1}]
    assert read_annotations(rows, NAMES, multi_label=True).names() == [("cat", "dog")]


def test_without_names_the_choices_that_occur_are_the_classes():
    found = read_annotations(exported(a=[answer("owl")], b=[answer("bat")]), None)
    assert found.class_names == ("bat", "owl")
    assert found.names() == [("owl",), ("bat",)]


def test_why_an_image_has_no_label_is_told():
    tasks = exported(
        open=[], gone=[answer("cat", was_cancelled=True)], no=[answer()], done=[answer("cat")]
    )
    assert read_annotations(tasks, NAMES).reasons == {
        "open": "open", "gone": "skipped or cancelled", "no": "submitted without a label"
    }  # fmt: skip


def test_an_id_of_two_images_is_refused():
    tasks = exported(a=[answer("cat")]) + exported(a=[answer("dog")])
    tasks[1]["data"]["image"] = "another"
    with pytest.raises(InvalidInputError, match="'a' shows 'u' and 'another'"):
        read_annotations(tasks, NAMES)


def test_a_file_is_read_and_its_labels_go_into_the_labelled_set(tmp_path):
    from clip_al import EmbeddingTable

    file = tmp_path / "export.json"
    file.write_text(json.dumps(exported(c=[answer("dog")], a=[answer("cat")])))
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(3), ["a", "b", "c"], model_id="toy")
    found = read_annotations(file, NAMES)
    np.testing.assert_array_equal(table[table.index_of(found.ids)], np.eye(3)[[2, 0]])
    assert isinstance(found, Annotations)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (exported(a=[answer("cow")]), r"one of the classes cat, .*; that of 'a' is 'cow'\. Corr"),
        (exported(a=[answer("cat", "dog")]), "that of 'a' is 'cat', 'dog'"),
        ([{"id": 1, "data": {"image": "u"}, "annotations": []}], "must have an `image_id`"),
        ([{"id": 1, "choice": "cat"}], "must have an `image_id`"),
        (["a"], "must have an `image_id`"),
        ([{"data": {"image": "u", "image_id": None}}], "must have an `image_id`"),
        ([{"data": {"image": "u", "image_id": "a"}, "annotations": [7]}], "that of 'a' has 7 in"),
        (exported(a=[answer(3)]), "Choices must be names of classes; that of 'a' is 3"),
        ([{"image": "u", "image_id": "a", "choice": 3}], "that of 'a' is 3"),
    ],
)
def test_what_is_no_such_export_is_refused(tasks, message):
    with pytest.raises(InvalidInputError, match=message):
        read_annotations(tasks, NAMES)


def test_a_file_that_is_no_json_is_refused(tmp_path):
    file = tmp_path / "export.csv"
    file.write_text("id,choice\n1,cat\n")
    with pytest.raises(InvalidInputError, match=r"export.csv must be a JSON export; .* Export as"):
        read_annotations(file, NAMES)


# Against the package of Label Studio's own makers


@pytest.fixture
def sdk():
    return pytest.importorskip(
        "label_studio_sdk", reason="label-studio-sdk is not installed (it needs an older numpy)"
    )


@pytest.fixture
def interface(sdk):
    from label_studio_sdk.label_interface import LabelInterface

    return LabelInterface(labeling_config(NAMES))


def test_their_package_takes_configuration_and_tasks(interface):
    from label_studio_sdk.label_interface.objects import TaskValue
    from label_studio_sdk.types.import_api_request import ImportApiRequest

    interface.validate()
    likely = random_probabilities(np.random.default_rng(0), 60, 3)
    tasks = make_tasks(range(20), IDS, URLS, class_names=NAMES, probabilities=likely)
    for task in tasks:
        ImportApiRequest.model_validate({**task, "predictions": None})
        assert (
            TaskValue.model_validate(task).predictions[0].score == task["predictions"][0]["score"]
        )
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
    several = labeling_config(NAMES, control="animal", multi_label=True)
    pre_labels = [PreLabel(("cat", "dog"), 0.5)]
    (task,) = make_tasks([0], IDS, URLS, pre_labels=pre_labels, control="animal")
    other = type(interface)(several)
    assert other.validate_prediction(task["predictions"][0], return_errors=True) == []
    tasks[0]["predictions"][0]["result"][0]["value"]["choices"] = ["cow"]  # it does look
    assert interface.validate_prediction(tasks[0]["predictions"][0], return_errors=True) != []


def test_what_their_converter_exports_is_read_alike(sdk, tmp_path):
    from label_studio_sdk.converter import Converter

    tasks = conflict() + exported(open=[], gone=[answer("cat", was_cancelled=True)], no=[answer()])
    tasks = [task for task in tasks if task["data"]["image_id"] != "known"]  # not in JSON-MIN
    raw = tmp_path / "tasks.json"
    raw.write_text(json.dumps(tasks))
    converter = Converter(labeling_config(NAMES), str(tmp_path))
    converter.convert_to_json(str(raw), str(tmp_path / "json"), is_dir=False)
    converter.convert_to_json_min(str(raw), str(tmp_path / "min"), is_dir=False)
    whole = read_annotations(tmp_path / "json" / "result.json", NAMES)
    short = read_annotations(tmp_path / "min" / "result.json", NAMES)
    assert told(whole) == told(short) == {"agreed": 1}
    assert whole.conflicting == short.conflicting
    assert whole.skipped == ("open", "gone", "no")
    assert short.skipped == ("open", "no")  # JSON-MIN leaves cancelled tasks out
