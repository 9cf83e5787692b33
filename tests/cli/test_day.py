"""A day with the command line, as typed: from a folder to labels to what to train on; then again.

The first time words and images are encoded, the second time nothing is, and everything that was
written is written the same.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.encode.clip_models import LoadedClip
from tests.command_line import flat, run

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
N, N_COPIES = 120, 4
MORNING = """
clip-al embed photos -o photos.table
clip-al report photos.table -o photos.html
clip-al duplicates photos.table -o copies.csv
clip-al search photos.table "a red truck at night" -n 20
clip-al search photos.table --like photos/3.jpg
clip-al select photos.table --budget 50 --classes names.txt -o first.csv
clip-al report first.csv --table photos.table --classes names.txt -o first.html
"""
# Here the page saves labels.csv; tests/show/test_report_marks.py has the keys in a browser.
AFTERNOON = """
clip-al select photos.table --budget 50 --classes names.txt --labelled labels.csv -o next.csv
clip-al predict photos.table --classes names.txt --labelled labels.csv -o labelled.csv
clip-al select photos.table --labels labelled.csv --ratio 0.5 -o subset.json
"""
TABLE, OPTION = "photos.table", "-o"


@pytest.fixture
def truth(tmp_path, monkeypatch):
    """Write photographed digits, a few of them twice, and the names; return what each shows."""
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    source = [*range(N - N_COPIES), *range(N_COPIES)]
    Path("photos").mkdir()
    for i, row in enumerate(source):
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).convert("RGB").save(f"photos/{i}.jpg")
    Path("names.txt").write_text("\n".join(NAMES) + "\n")
    return {f"{i}.jpg": NAMES[digits.target[row]] for i, row in enumerate(source)}


@pytest.fixture
def encoded(monkeypatch):
    """Count texts and images that go through the towers of a model, whoever asks."""
    counts = {"texts": 0, "images": 0}
    towers = {"texts": "encode_tokens", "images": "encode_pixels"}
    for what, name in towers.items():
        tower = getattr(LoadedClip, name)

        def counting(self, batch, what=what, tower=tower):
            counts[what] += len(batch)
            return tower(self, batch)

        monkeypatch.setattr(LoadedClip, name, counting)
    return counts


def typed(block):
    return [shlex.split(line)[1:] for line in block.split("\n") if line]


def done(arguments):
    result = run(*arguments)
    assert result.exit_code == 0, f"{shlex.join(arguments)}: {flat(result)}"
    return result.stdout


def again(arguments):
    """Return a command that may replace its file; a table is followed, not made anew."""
    writes = OPTION in arguments and arguments[0] != "embed"
    return [*arguments, "--force"] if writes else arguments


def written():
    return {
        path.name: path.read_bytes()
        for path in sorted(Path().iterdir())
        if path.is_file() and path.name != "labels.csv"
    }


def label(truth, picks, path):
    """Save what the page saves: the id and the class of each image that it showed."""
    ids = pd.read_csv(picks)["id"]
    pd.DataFrame({"id": ids, "label": ids.map(truth)}).to_csv(path, index=False)


@pytest.mark.slow
def test_the_day_as_typed_and_nothing_is_encoded_twice(truth, encoded):
    said = [done(command) for command in typed(MORNING)]
    label(truth, "first.csv", "labels.csv")
    said += [done(command) for command in typed(AFTERNOON)]
    assert encoded["images"] == N
    assert encoded["texts"] > len(NAMES)

    # What came of it.
    picked = [set(pd.read_csv(name)["id"]) for name in ("first.csv", "next.csv")]
    assert [len(ids) for ids in picked] == [50, 50]
    assert not picked[0] & picked[1]
    copies = pd.read_csv("copies.csv").groupby("group")["id"].agg(set).tolist()
    assert all(any({f"{i}.jpg", f"{N - N_COPIES + i}.jpg"} <= c for c in copies) for i in range(4))
    told = " ".join(" ".join(said).split())
    assert "Expected accuracy: " in told
    assert "50 more labels promise " in told
    labelled = pd.read_csv("labelled.csv")
    right = labelled["label"] == labelled["id"].map(truth)
    assert len(labelled) == N
    assert right.mean() > 0.9
    assert json.loads(Path("subset.json").read_text())["n_images"] == N

    # The same commands once more.
    before, first_time = written(), dict(encoded)
    repeated = [done(again(command)) for command in typed(MORNING + AFTERNOON)]
    assert encoded == first_time
    assert repeated[1:] == said[1:]  # embed tells of what is new
    after = written()
    assert list(after) == list(before)
    assert [name for name in before if before[name] != after[name]] == []


@pytest.mark.slow
def test_a_new_photo_and_a_new_word_alone_are_encoded(truth, encoded):
    """The count of the test above can fail: it sees what is not there yet."""
    for command in typed(MORNING)[:2]:
        done(command)
    first_time = dict(encoded)
    Image.new("RGB", (32, 32), "red").save("photos/new.jpg")
    for command in (*typed(MORNING)[:2], ["search", TABLE, "a tower"]):
        done(again(command))
    assert encoded == {"images": first_time["images"] + 1, "texts": first_time["texts"] + 1}
