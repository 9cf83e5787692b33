"""`clip-al export` and `clip-al import`: out to another tool, annotated there, and back."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

NAMES = ["digit 0", "digit 3", "digit 6"]
N, BUDGET = 36, 9
TOOLS = ("label-studio", "cvat", "fiftyone")


def done(*arguments):
    """Run a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Digits in folders of their class, a table, picks, predictions, suspects."""
    folder = tmp_path_factory.mktemp("made")
    digits = load_digits()
    rows = np.flatnonzero(np.isin(digits.target, [0, 3, 6]))[:N]
    lines = ["id,label"]
    for i, row in enumerate(rows):
        name = f"{i % 3}/ü {i:02d}.png"
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).resize((20, 16)).save(folder / "photos" / name)
        lines.append(f"{name},digit {digits.target[row]}")
    (folder / "truth.csv").write_text("\n".join(lines))
    wrong = "digit 3" if lines[5].endswith("0") else "digit 0"
    lines[5] = f"{lines[5].split(',')[0]},{wrong}"
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("\n".join(NAMES))
    table = folder / "t"
    done("embed", folder / "photos", "-o", table)
    done("select", table, "--budget", BUDGET, "-o", folder / "first.csv")
    done("predict", table, "--classes", folder / "classes.txt", "-o", folder / "all.csv")
    done("suspects", table, "--labels", folder / "labels.csv", "-n", 4, "-o", folder / "sus.csv")
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Be in a copy of it; the photos stay where the table found them."""
    for path in made.iterdir():
        if path.name != "photos":
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def truth(place):
    frame = pd.read_csv("truth.csv")
    return dict(zip(frame["id"], frame["label"], strict=True))


@pytest.fixture
def picked(place):
    return pd.read_csv("first.csv")["id"].tolist()


def labels(path="out.csv"):
    frame = pd.read_csv(path)
    assert list(frame.columns) == ["id", "label"]
    return dict(zip(frame["id"], frame["label"], strict=True))


# What each tool makes of a file of ours: it writes `given` for each image, several labels apart


def annotate_in_label_studio(given):
    tasks = json.loads(Path("out.json").read_text())
    for number, task in enumerate(tasks):
        names = given.get(task["data"]["image_id"])
        result = {"from_name": "choice", "to_name": "image", "type": "choices", "id": "x"}
        result["value"] = {"choices": names}
        annotation = {"id": 1, "was_cancelled": False, "ground_truth": False, "result": [result]}
        task |= {"id": number, "annotations": [annotation] if names else []}
    Path("back.json").write_text(json.dumps(tasks))
    return "back.json"


def annotate_in_cvat(given):
    tree = ElementTree.parse("out.xml")
    for image in tree.getroot().findall("image"):
        for tag in image.findall("tag"):
            image.remove(tag)
        for name in given.get(image.get("name")) or ():
            ElementTree.SubElement(image, "tag", label=name, source="manual")
    tree.write("annotations.xml", encoding="utf-8", xml_declaration=True)
    with zipfile.ZipFile("back.zip", "w") as archive:
        archive.write("annotations.xml")
    return "back.zip"


def annotate_in_fiftyone(given):
    held = json.loads(Path("out.json").read_text())
    for sample in held["samples"]:
        names = given.get(sample["clip_al_id"]) or []
        found = [
            {"_id": {"$oid": "6b0d"}, "_cls": "Classification", "tags": [], "label": name}
            for name in names
        ]
        several = {"_cls": "Classifications", "classifications": found}
        sample["ground_truth"] = (several if len(names) > 1 else found[0]) if names else None
    Path("back.json").write_text(json.dumps(held))
    return "back.json"


ANNOTATE = {
    "label-studio": annotate_in_label_studio,
    "cvat": annotate_in_cvat,
    "fiftyone": annotate_in_fiftyone,
}
every_tool = pytest.mark.parametrize("tool", TOOLS)


def export(tool, *more, picks="first.csv"):
    output = "out.xml" if tool == "cvat" else "out.json"
    return done("export", tool, picks, "--table", "t", "-o", output, *more)


def bring(tool, file, *more):
    return done("import", tool, file, "--table", "t", "-o", "out.csv", *more)


def pre_labels(tool):
    """Return the pre-label of each image in what was exported, with its confidence."""
    if tool == "label-studio":
        tasks = json.loads(Path("out.json").read_text())
        return {
            task["data"]["image_id"]: (
                task["predictions"][0]["result"][0]["value"]["choices"][0],
                task["predictions"][0]["score"],
            )
            for task in tasks
        }
    if tool == "cvat":
        images = ElementTree.parse("out.xml").getroot().findall("image")
        return {
            image.get("name"): (
                image.find("tag").get("label"), float(image.findtext("tag/attribute"))
            )
            for image in images
        }  # fmt: skip
    samples = json.loads(Path("out.json").read_text())["samples"]
    given = {sample["clip_al_id"]: sample["clip_al_prediction"] for sample in samples}
    return {name: (label["label"], label["confidence"]) for name, label in given.items()}


@every_tool
def test_out_annotated_and_back_is_the_same_label(place, truth, picked, tool):
    export(tool, "--classes", "classes.txt")
    assert list(pre_labels(tool)) == picked
    file = ANNOTATE[tool]({name: [truth[name]] for name in picked})
    said = flat(bring(tool, file, "--classes", "classes.txt"))
    assert labels() == {name: truth[name] for name in picked}
    assert f"{BUDGET} labels (" in said
    assert "left out" not in said
    next_ = run(
        "select", "t", "--budget", 3, "--classes", "classes.txt", "--labelled", "out.csv",
        "-o", "next.csv",
    )  # fmt: skip
    assert next_.exit_code == 0, next_.output
    assert set(pd.read_csv("next.csv")["id"]).isdisjoint(picked)


@every_tool
def test_pre_labels_are_those_of_a_file_of_predictions(place, picked, tool):
    result = export(tool, "--predictions", "all.csv")
    all_images = pd.read_csv("all.csv").set_index("id")
    found = pre_labels(tool)
    assert {name: label for name, (label, _) in found.items()} == {
        name: all_images.loc[name, "label"] for name in picked
    }
    np.testing.assert_allclose(
        [sure for _, sure in found.values()], all_images.loc[picked, "confidence"], atol=1e-4
    )
    mean = all_images.loc[picked, "confidence"].mean()
    assert f"{BUDGET} with a pre-label (mean confidence {mean:.2f})" in flat(result)
    assert f"all.csv: {BUDGET} pre-labels by the column `id`" in flat(result)


@every_tool
def test_classes_alone_give_the_zero_shot_labels(place, picked, tool):
    export(tool, "--classes", "classes.txt")
    all_images = pd.read_csv("all.csv").set_index("id")
    found = pre_labels(tool)
    assert [label for label, _ in found.values()] == all_images.loc[picked, "label"].tolist()
    np.testing.assert_allclose(
        [sure for _, sure in found.values()], all_images.loc[picked, "confidence"], atol=1e-3
    )
    trained = export(tool, "--classes", "classes.txt", "--labelled", "truth.csv", "--force")
    assert f"{N} labels of 3 classes: head trained" in flat(trained)
    assert pre_labels(tool) != found


@every_tool
def test_several_labels_make_the_way(place, picked, tool):
    export(tool, "--classes", "classes.txt", "--no-pre-labels", "--multi-label")
    given = {picked[0]: ["digit 0", "digit 6"], picked[1]: ["digit 3"]}
    file = ANNOTATE[tool](given)
    refused = run("import", tool, file, "--table", "t", "-o", "out.csv")
    assert refused.exit_code == 2
    assert (
        f"that of {picked[0]!r} is 'digit 0', 'digit 6'. Keep one, or pass `--multi-label`"
        in flat(refused)
    )
    said = flat(bring(tool, file, "--multi-label"))
    assert labels() == {picked[0]: "digit 0;digit 6", picked[1]: "digit 3"}
    assert f"left out: {BUDGET - 2} open" in said


@every_tool
def test_several_pre_labels_each_with_its_confidence(place, picked, tool):
    first, second, third = picked[:3]
    lines = [f"{first},digit 3;digit 0,0.75;0.5", f"{second},-,0.9", f"{third},digit 6,1"]
    Path("several.csv").write_text("\n".join(["id,label,confidence", *lines]))
    said = flat(export(tool, "--predictions", "several.csv", "--multi-label"))
    assert f"several.csv: 2 pre-labels by the column `id`, {BUDGET - 2} of the picks have none" in (
        said
    )
    if tool == "label-studio":
        prediction = json.loads(Path("out.json").read_text())[0]["predictions"][0]
        assert prediction["result"][0]["value"]["choices"] == ["digit 3", "digit 0"]
        assert prediction["score"] == 0.5  # of all: the lowest
    elif tool == "cvat":
        tags = ElementTree.parse("out.xml").getroot().find("image").findall("tag")
        found = [(tag.get("label"), float(tag.findtext("attribute"))) for tag in tags]
        assert found == [("digit 3", 0.75), ("digit 0", 0.5)]
    else:
        sample = json.loads(Path("out.json").read_text())["samples"][0]
        labels = sample["clip_al_prediction"]["classifications"]
        found = [(label["label"], label["confidence"]) for label in labels]
        assert found == [("digit 3", 0.75), ("digit 0", 0.5)]
    Path("odd.csv").write_text(f"id,label,confidence\n{picked[0]},digit 3;digit 0;digit 6,1;1\n")
    odd = ("--predictions", "odd.csv", "--multi-label")
    refused = run("export", tool, "first.csv", "--table", "t", "-o", "new.out", *odd)
    assert refused.exit_code == 2
    assert "must hold numbers in [0, 1], one, or one for each label; that of" in flat(refused)


@every_tool
def test_suspects_go_out_with_what_is_known_and_come_back_corrected(place, truth, tool):
    suspects = pd.read_csv("sus.csv")
    export(tool, "--predictions", "all.csv", picks="sus.csv")
    if tool == "label-studio":
        rows = [task["data"] for task in json.loads(Path("out.json").read_text())]
        prefix = ""
    elif tool == "fiftyone":
        rows = json.loads(Path("out.json").read_text())["samples"]
        prefix = "clip_al_"
    if tool != "cvat":
        for column in ("given", "likelier", "score"):
            assert [row[prefix + column] for row in rows] == suspects[column].tolist()
        assert not any(prefix + "decision" in row for row in rows)
    file = ANNOTATE[tool]({name: [truth[name]] for name in suspects["id"]})
    result = json.loads(bring(tool, file, "--labelled", "labels.csv", "--force", "--json").stdout)
    before = labels("labels.csv")
    changed = [name for name in suspects["id"] if before[name] != truth[name]]
    assert len(changed) == 1
    assert result["changed"] == 1
    assert (result["before"], result["labels"], result["rows"]) == (N, 4, N)
    assert labels() == {**before, **{name: truth[name] for name in suspects["id"]}} == truth
    done("suspects", "t", "--labels", "out.csv", "-n", 2)


@every_tool
def test_a_whole_selection_goes_out_too(place, tool):
    done("select", "t", "--ratio", 0.2, "--labels", "labels.csv", "-o", "subset.json")
    export(tool, "--predictions", "all.csv", picks="subset.json")
    table = EmbeddingTable.open("t")
    chosen = Selection.load("subset.json").indices
    assert list(pre_labels(tool)) == table.ids[chosen].tolist()


@every_tool
def test_what_is_not_in_the_table_is_named(place, truth, picked, tool):
    export(tool, "--no-pre-labels", "--classes", "classes.txt")
    file = ANNOTATE[tool]({name: [truth[name]] for name in picked})
    table = EmbeddingTable.open("t")
    keep = [i for i in range(N) if table.ids[i] not in picked[:2]]
    EmbeddingTable.from_array(
        "part", table.embeddings[keep], table.ids[keep].tolist(), model_id="mini@0"
    )
    result = done("import", tool, file, "--table", "part", "-o", "out.csv")
    assert f"left out: 2 that are not in the table ({picked[0]!r}, {picked[1]!r})" in flat(result)
    assert list(labels()) == picked[2:]
    EmbeddingTable.from_array("other", np.eye(2), ["x", "y"], model_id="mini@0")
    result = run("import", tool, file, "--table", "other", "-o", "more.csv")
    assert result.exit_code == 2
    assert "must name images of the table; none of its 9 does, the first is" in flat(result)
    assert not Path("more.csv").exists()


@every_tool
def test_a_file_without_a_label_is_refused(place, tool):
    export(tool, "--no-pre-labels", "--classes", "classes.txt")
    result = run("import", tool, ANNOTATE[tool]({}), "--table", "t", "-o", "out.csv")
    assert result.exit_code == 2
    assert "must have a label of at least one image of the table; it has none: 9 open (" in flat(
        result
    )


@every_tool
def test_outputs_are_kept_without_force(place, tool):
    Path("out.json").write_text("mine")
    Path("out.xml").write_text("mine")
    output = "out.xml" if tool == "cvat" else "out.json"
    result = run("export", tool, "first.csv", "--table", "t", "-o", output)
    assert result.exit_code == 2
    assert "must not exist yet; it does" in flat(result)
    result = run("import", tool, "none.json", "--table", "t", "-o", output)
    assert result.exit_code == 2
    assert "must not exist yet; it does" in flat(result)
    result = run("import", tool, "none.json", "--table", "t", "-o", "new.csv")
    assert result.exit_code == 2
    assert "none.json must be a file; it is missing" in flat(result)
    assert Path(output).read_text() == "mine"


# What is left out, and said


def test_skipped_cancelled_and_disputed_tasks_are_counted(place, truth, picked):
    export("label-studio", "--classes", "classes.txt", "--config", "config.xml")
    annotate_in_label_studio({name: [truth[name]] for name in picked[:6]})
    tasks = json.loads(Path("back.json").read_text())
    tasks[0]["annotations"][0]["was_cancelled"] = True
    tasks[1]["annotations"][0]["result"] = []
    other = json.loads(json.dumps(tasks[2]["annotations"][0]))
    wrong = next(name for name in NAMES if name != truth[picked[2]])
    other["result"][0]["value"]["choices"] = [wrong]
    tasks[2]["annotations"].append(other)
    Path("back.json").write_text(json.dumps(tasks))
    said = flat(bring("label-studio", "back.json"))
    assert labels() == {name: truth[name] for name in picked[3:6]}
    assert f"left out: 3 open ({picked[6]!r}, {picked[7]!r}, {picked[8]!r})" in said
    assert f"left out: 1 skipped or cancelled ({picked[0]!r})" in said
    assert f"left out: 1 submitted without a label ({picked[1]!r})" in said
    assert f"left out: 1 on which annotators differ ({picked[2]!r}:" in said
    record = json.loads(bring("label-studio", "back.json", "--force", "--json").stdout)
    assert record["skipped"] == {
        "open": 3, "skipped or cancelled": 1, "submitted without a label": 1
    }  # fmt: skip
    assert record["conflicting"] == [{"id": picked[2], "votes": {wrong: 1, truth[picked[2]]: 1}}]
    tasks[2]["annotations"].append(other)
    Path("back.json").write_text(json.dumps(tasks))
    bring("label-studio", "back.json", "--force", "--conflicts", "majority")
    assert labels()[picked[2]] == wrong
    result = run(
        "import", "label-studio", "back.json", "--table", "t", "-o", "x.csv", "--conflicts", "raise"
    )
    assert result.exit_code == 2
    assert "pass `--conflicts leave` or `--conflicts majority`" in flat(result)


def test_any_name_of_the_control(place, truth, picked):
    export("label-studio", "--classes", "classes.txt", "--control", "animal", "--config", "c.xml")
    assert ElementTree.parse("c.xml").find("Choices").get("name") == "animal"
    tasks = json.loads(Path("out.json").read_text())
    assert tasks[0]["predictions"][0]["result"][0]["from_name"] == "animal"
    rows = [  # JSON-MIN, as that of a project whose control is called so
        {**task["data"], "id": i, "animal": truth[task["data"]["image_id"]], "annotator": 1}
        for i, task in enumerate(tasks)
    ]
    Path("min.json").write_text(json.dumps(rows))
    bring("label-studio", "min.json", "--control", "animal")
    assert labels() == {name: truth[name] for name in picked}
    bring("label-studio", "min.json", "--classes", "classes.txt", "--force")
    assert labels() == {name: truth[name] for name in picked}
    result = run(
        "import", "label-studio", "min.json", "--table", "t", "-o", "x.csv", "--control", "kind",
        "--classes", "classes.txt",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "must be of a control called 'kind'; the export has those of 'animal'. Pass `--con" in (
        flat(result)
    )


def test_pre_labels_that_nobody_changed_in_cvat(place, truth, picked):
    export("cvat", "--predictions", "all.csv")
    tree = ElementTree.parse("out.xml")
    first = tree.getroot().find("image/tag")
    first.set("label", truth[picked[0]])
    first.set("source", "manual")
    tree.write("back.xml", encoding="utf-8")
    result = run("import", "cvat", "back.xml", "--table", "t", "-o", "out.csv")
    assert result.exit_code == 2
    assert "8 images of back.xml have tags that were imported" in flat(result)
    assert "Pass `--unchanged accept` where all images were looked at" in flat(result)
    said = flat(bring("cvat", "back.xml", "--unchanged", "leave"))
    assert labels() == {picked[0]: truth[picked[0]]}
    assert "left out: 8 pre-label that nobody changed (" in said
    bring("cvat", "back.xml", "--unchanged", "accept", "--force")
    assert list(labels()) == picked


def test_images_and_labels_of_a_task_of_cvat(place, picked):
    more = ("--images", "images.zip", "--task-labels", "task.json", "--predictions", "all.csv")
    said = flat(export("cvat", *more))
    with zipfile.ZipFile("images.zip") as archive:
        assert archive.namelist() == picked
        path = EmbeddingTable.open("t").paths[EmbeddingTable.open("t").index_of(picked[:1])[0]]
        assert archive.read(picked[0]) == Path(path).read_bytes()
    assert {label["name"] for label in json.loads(Path("task.json").read_text())} <= set(NAMES)
    image = ElementTree.parse("out.xml").getroot().find("image")
    assert (image.get("width"), image.get("height")) == ("20", "16")
    assert "--labels task.json" in said
    assert '--annotation_path out.xml --annotation_format "CVAT 1.1" local images.zip' in said


def test_tags_of_fiftyone_are_labels(place, truth, picked):
    export("fiftyone", "--classes", "classes.txt")
    held = json.loads(Path("out.json").read_text())
    for sample in held["samples"][:4]:
        sample["tags"].append(truth[sample["clip_al_id"]])
    Path("back.json").write_text(json.dumps(held))
    said = flat(bring("fiftyone", "back.json", "--field", "tags", "--classes", "classes.txt"))
    assert labels() == {name: truth[name] for name in picked[:4]}
    assert "left out: 9 × tag 'to label', no label of a whole image" in said
    result = run("import", "fiftyone", "back.json", "--table", "t", "-o", "x.csv", "--field", "no")
    assert result.exit_code == 2
    assert "`--field` must be one of the samples of back.json; 'no' is not. They have clip" in flat(
        result
    )


def test_where_label_studio_finds_the_images(place, made, picked):
    said = flat(export("label-studio"))
    urls = [task["data"]["image"] for task in json.loads(Path("out.json").read_text())]
    assert urls[0].startswith("/data/local-files/?d=")
    assert "%C3%BC%20" in urls[0]
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={made / 'photos'}" in said
    export("label-studio", "--url", "https://host/p/{id}", "--force")
    urls = [task["data"]["image"] for task in json.loads(Path("out.json").read_text())]
    assert urls[0].startswith("https://host/p/")
    assert "%C3%BC%20" in urls[0]
    EmbeddingTable.from_array("a", np.eye(2), ["x", "y"], model_id="m")
    Path("x.txt").write_text("x\n")
    result = run("export", "label-studio", "x.txt", "--table", "a", "-o", "x.json")
    assert result.exit_code == 2
    assert "'x' has no path in the table. Say where Label Studio finds it by `--url`" in flat(
        result
    )


def test_images_elsewhere_are_named_by_their_address(place):
    EmbeddingTable.from_array("s", np.eye(2), ["a b.png", "y"], model_id="m")
    Path("x.txt").write_text("a b.png\n")
    for template, address in (
        ("s3://bucket/photos/{id}", "s3://bucket/photos/a b.png"),  # a key, as it is
        ("https://host/{id}?x=1", "https://host/a%20b.png?x=1"),
        ("/data/upload/{id}", "/data/upload/a%20b.png"),
    ):
        more = ("--table", "s", "-o", "x.json", "--url", template, "--force")
        done("export", "label-studio", "x.txt", *more)
        (task,) = json.loads(Path("x.json").read_text())
        assert task["data"]["image"] == address


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label-studio", "first.csv", "--config", "c.xml"], "`--config` must come with the names"),
        (["cvat", "first.csv"], "must come with the names of the classes; got none"),
        (["label-studio", "none.csv"], "none.csv must be a file; it is missing"),
        (["label-studio", "classes.txt"], "classes.txt must have a column that names images"),
        (["label-studio", "first.csv", "--url", "http://x/"], "`--url` must have {id} or {path}"),
        (
            ["fiftyone", "first.csv", "--labelled", "truth.csv"],
            "`--labelled` must come with `--classes`, and without `--predictions`",
        ),
        (
            ["fiftyone", "first.csv", "--multi-label", "--classes", "classes.txt"],
            "Pre-labels of several classes must come from a file",
        ),
        (["fiftyone", "first.csv", "--predictions", "first.csv"], "must have a column `label`"),
        (
            ["fiftyone", "first.csv", "--predictions", "odd.csv"],
            "`confidence` of odd.csv must hold numbers in [0, 1], one, or one for each label",
        ),
        (
            ["cvat", "first.csv", "--predictions", "all.csv", "--classes", "two.txt"],
            "Each label of all.csv must be one of the classes digit 0, digit 3;",
        ),
        (["cvat", "x.txt", "--classes", "two.txt", "--table", "parts"], "Picks must be whole imag"),
        (
            ["cvat", "y.txt", "--no-pre-labels", "--classes", "two.txt", "--table", "parts"],
            "Each pick must have an image file here; 1 of 1 have none, the first is 'y'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(place, arguments, message):
    pd.read_csv("all.csv").assign(confidence=1.5).to_csv("odd.csv", index=False)
    Path("two.txt").write_text("digit 0\ndigit 3\n")
    Path("x.txt").write_text("x.jpg#xywh=1,2,3,4\n")
    Path("y.txt").write_text("y\n")
    EmbeddingTable.from_array("parts", np.eye(2), ["x.jpg#xywh=1,2,3,4", "y"], model_id="m")
    table = [] if "--table" in arguments else ["--table", "t"]
    result = run("export", *arguments, *table, "-o", "new.out")
    assert result.exit_code == 2, result.output
    assert message in flat(result)
    assert not Path("new.out").exists()
    assert not Path("c.xml").exists()


def test_a_file_or_a_dataset_of_fiftyone(place):
    result = run("export", "fiftyone", "first.csv", "--table", "t")
    assert "One of `--output` (a file) and `--dataset`" in flat(result)
    result = run("import", "fiftyone", "--table", "t", "-o", "x.csv")
    assert "One of EXPORT (a file) and `--dataset`" in flat(result)


def test_picks_that_are_gone_are_refused(place, tmp_path):
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (8, 8), 80 * i).save(folder / f"{i}.png")
    done("embed", folder, "-o", "few.table")
    (folder / "1.png").unlink()
    done("embed", folder, "-o", "few.table")
    Path("all.txt").write_text("0.png\n1.png\n")
    result = run("export", "label-studio", "all.txt", "--table", "few.table", "-o", "x.json")
    assert result.exit_code == 2
    assert "1 of 2 are gone from" in flat(result)
    assert "the first is '1.png'" in flat(result)


def test_labels_of_before_are_kept_where_nobody_labelled_anew(place, truth, picked):
    export("fiftyone", "--no-pre-labels", "--classes", "classes.txt")
    annotate_in_fiftyone({name: [truth[name]] for name in picked[:3]})
    before = {picked[0]: truth[picked[0]], picked[5]: "digit 0"}
    lines = [f"{name},{label}" for name, label in before.items()]
    Path("before.csv").write_text("\n".join(["id,label", *lines]))
    said = flat(bring("fiftyone", "back.json", "--labelled", "before.csv"))
    assert labels() == {**before, **{name: truth[name] for name in picked[:3]}}
    assert "of before.csv: 2 labels, of which 0 changed and 1 were given again" in said
    Path("ids.csv").write_text(f"id\n{picked[0]}\n")
    result = run(
        "import", "fiftyone", "back.json", "--table", "t", "-o", "x.csv", "--labelled", "ids.csv"
    )
    assert result.exit_code == 2
    assert "ids.csv must have a column `label`" in flat(result)
