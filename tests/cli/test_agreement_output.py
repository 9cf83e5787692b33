"""What the commands say where labels, names and images do not agree."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from clip_al.errors import LabelAgreementWarning
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

WORDS = ("zero", "one", "two", "three")
NAMES = [f"the digit {word}" for word in WORDS]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a table of 160 digits whose file names are in random order, and files of labels."""
    folder = tmp_path_factory.mktemp("agreement")
    digits = load_digits(n_class=4)
    rows = np.random.default_rng(0).permutation(len(digits.target))[:160]
    (folder / "images").mkdir()
    for place, row in enumerate(rows.tolist()):
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        image = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
        image.save(folder / "images" / f"{place:03d}.png")
    result = run("embed", folder / "images", "-o", folder / "table")
    assert result.exit_code == 0, result.output
    ids = EmbeddingTable.open(folder / "table").ids.tolist()
    right = np.array(NAMES)[digits.target[rows]]
    orders = {"right": right, "moved": np.roll(right, 1)}
    orders["shuffled"] = np.random.default_rng(1).permutation(right)
    swap = {NAMES[1]: NAMES[2], NAMES[2]: NAMES[1]}
    orders["swapped"] = np.array([swap.get(name, name) for name in right.tolist()])
    for name, labels in orders.items():
        pd.DataFrame({"id": ids, "label": labels}).to_csv(folder / f"{name}.csv", index=False)
    return folder


def select(place, tmp_path, labels, *more):
    with pytest.warns(LabelAgreementWarning):
        return run(
            "select", place / "table", "--ratio", 0.5, "--labels", place / f"{labels}.csv",
            "-o", tmp_path / "subset.json", *more,
        )  # fmt: skip


def test_right_labels_have_a_share_and_no_warning(place, tmp_path, recwarn):
    result = run(
        "select", place / "table", "--ratio", 0.5, "--labels", place / "right.csv",
        "-o", tmp_path / "subset.json",
    )  # fmt: skip
    assert re.search("No sign of more than .* wrong labels|of the labels look wrong", flat(result))
    assert not [w for w in recwarn if w.category is LabelAgreementWarning]
    # No row in which the likelier class is the given one.
    shown = [line.split("│") for line in result.stdout.splitlines() if "the digit" in line]
    assert not [cells for cells in shown if len(cells) > 5 and cells[3] == cells[4]]


@pytest.mark.parametrize("labels", ["shuffled", "moved"])
def test_labels_of_other_images_have_no_share(place, tmp_path, labels):
    result = select(place, tmp_path, labels)
    assert result.exit_code == 0, result.output
    assert "How many labels are wrong cannot be told: see the warning." in flat(result)
    assert "look wrong" not in flat(result)
    again = run("suspects", tmp_path / "subset.json", "-n", 3)
    assert "How many labels are wrong cannot be told. Check first: Labels and images" in flat(again)
    assert "0.0%" not in flat(again)


def test_names_in_another_order_are_said_beside_the_share(place):
    with pytest.warns(LabelAgreementWarning, match=r"classes 0 \('the digit one'\) and 2"):
        result = run("suspects", place / "table", "--labels", place / "swapped.csv", "-n", 3)
    assert ", but see the warning." in flat(result)


def test_classes_in_another_order_than_the_numbers(place, tmp_path):
    labels = pd.read_csv(place / "right.csv")
    labels["label"] = [NAMES.index(name) for name in labels["label"]]
    labels.to_csv(tmp_path / "numbers.csv", index=False)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES[::-1]))
    with pytest.warns(LabelAgreementWarning, match="names fit if they are taken in reverse order"):
        run(
            "suspects", place / "table", "--labels", tmp_path / "numbers.csv",
            "--classes", tmp_path / "classes.txt", "-n", 3,
        )  # fmt: skip


def test_json_has_no_share_and_the_reason(place, tmp_path):
    said = json.loads(select(place, tmp_path, "moved", "--json").stdout)
    assert said["wrong_fraction"] is None
    assert "The labels fit if all move up by one row" in said["disagreement"]


def test_the_report_says_it(place, tmp_path):
    select(place, tmp_path, "shuffled")
    result = run("report", tmp_path / "subset.json", "-o", tmp_path / "report.html")
    assert result.exit_code == 0, result.output
    html = (tmp_path / "report.html").read_text()
    assert "<strong>Check first:</strong> Labels and images agree hardly better" in html
    assert "of all labels look wrong" not in html
