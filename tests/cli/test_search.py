"""`clip-al search`."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clip_al.find.search import search
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run
from tests.reference import random_unit

COLOURS = {"red": (200, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 200)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of nine drawn images and its table by the small model."""
    folder = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (32, 32, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(
                folder / "photos" / name / f"{name}{i}.png"
            )
    assert run("embed", folder / "photos", "-o", folder / "t").exit_code == 0
    return folder


def test_by_words_as_the_function_finds_it(place, tmp_path, mini):
    result = run("search", place / "t", "red", "--not", "blue", "-n", 4, "-o", tmp_path / "f.csv")
    assert result.exit_code == 0, result.output
    table = EmbeddingTable.open(place / "t")
    found = search(table, "red", minus="blue", encoder=mini, n=4)
    written = pd.read_csv(tmp_path / "f.csv")
    assert written.columns.tolist() == ["rank", "index", "id", "path", "similarity"]
    assert written["index"].tolist() == found.indices.tolist()
    np.testing.assert_allclose(written["similarity"], found.similarity, atol=1e-4)
    assert "4 of 9 images" in flat(result)
    assert table.ids[found.indices[0]] in flat(result)
    assert "Wrote 4 rows to" in flat(result)


def no_model(*_, **__):
    raise AssertionError("a model was loaded")


@pytest.mark.parametrize("name", ["red/red1.png", "red1.png", "photos/red/red1.png"])
def test_by_an_image_of_the_table_without_a_model(place, name, monkeypatch):
    monkeypatch.setattr("clip_al.encode.encoder.LoadedClip", no_model)
    monkeypatch.chdir(place)
    result = run("search", "t", "--like", name, "-n", 2, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["images"] == 9
    first = said["found"][0]
    assert (first["rank"], first["id"]) == (1, "red/red1.png")
    assert first["similarity"] > 0.999
    assert first["path"].endswith("photos/red/red1.png")
    assert said["like"] == [name]


def test_an_image_that_is_not_in_the_table_is_encoded(place, tmp_path):
    (tmp_path / "new.png").write_bytes((place / "photos/green/green1.png").read_bytes())
    result = run("search", place / "t", "--like", tmp_path / "new.png", "-n", 3, "--json")
    first = json.loads(result.stdout)["found"][0]
    assert first["id"] == "green/green1.png"
    assert first["similarity"] > 0.999


def test_unlike_an_image(place):
    command = ("search", place / "t", "--like", "red0.png", "--like", "blue0.png")
    result = run(*command, "--unlike", "red1.png", "-n", 3, "--json")
    table = EmbeddingTable.open(place / "t")
    at = table.index_of(["red/red0.png", "blue/blue0.png", "red/red1.png"])
    expected = search(table, at[:2], minus=int(at[2]), n=3)
    assert [row["index"] for row in json.loads(result.stdout)["found"]] == expected.indices.tolist()


def test_within_a_selection_or_a_file(place, tmp_path):
    table = EmbeddingTable.open(place / "t")
    rows = table.index_of(["red/red2.png", "blue/blue0.png"])
    Selection.from_indices(rows, 9, ids=table.ids.tolist()).save(tmp_path / "s.json")
    (tmp_path / "s.txt").write_text("red/red2.png\nblue/blue0.png\n")
    for file in ("s.json", "s.txt"):
        result = run(
            "search", place / "t", "--like", "red0.png", "--within", tmp_path / file, "--json"
        )
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert [row["id"] for row in said["found"]] == ["red/red2.png", "blue/blue0.png"]
        assert said["images"] == 2
    Selection.from_indices([0], 2, ids=["x", "y"]).save(tmp_path / "other.json")
    result = run("search", place / "t", "--like", "red0.png", "--within", tmp_path / "other.json")
    assert result.exit_code == 2
    assert "`--within` must be a selection of images of the table" in flat(result)


def test_the_report_reads_what_was_found(place, tmp_path):
    found, page = tmp_path / "found.csv", tmp_path / "found.html"
    assert run("search", place / "t", "--like", "red0.png", "-n", 4, "-o", found).exit_code == 0
    result = run("report", found, "--table", place / "t", "--no-concepts", "-o", page)
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "4 of 9 images" in text
    assert "similarity" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "QUERY or `--like` must say what is sought; got neither"),
        (("--not", "red"), "QUERY or `--like` must say what is sought; got neither"),
        (("--like", "red9.png"), "`--like` must be an image of the table"),
        (("red", "--unlike", "red9.png"), "`--unlike` must be an image of the table"),
        (("  ",), "`texts` must hold at least one text and no empty one"),
        (("red", "-n", "0"), "`-n` must be at least 1; got 0"),
    ],
)
def test_what_is_refused(place, options, message):
    result = run("search", place / "t", *options)
    assert result.exit_code == 2
    assert message in flat(result)


def test_words_need_the_model_of_the_table(tmp_path):
    rows = random_unit(np.random.default_rng(0), 5, 8)
    EmbeddingTable.from_array(tmp_path / "t", rows, list("abcde"), model_id="dino-base")
    result = run("search", tmp_path / "t", "red")
    assert result.exit_code == 2
    said = flat(result)
    assert "has those of dino-base, which cannot be loaded" in said
    assert "`search --like` with an id" in said
    assert run("search", tmp_path / "t", "--like", "c", "-n", 1).exit_code == 0
    other = run("search", tmp_path / "t", "red", "--model", "mini")
    assert other.exit_code == 2
    assert "was made by dino-base, got mini@" in flat(other)
