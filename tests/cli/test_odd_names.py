"""File names as file systems have them go through every command and every file."""

import csv
import json
import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from clip_al import EmbeddingTable, Selection
from clip_al.cli.main import app

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names there are bytes")
ODD = [
    os.fsdecode(b"caf\xe9.png"),
    "lone\rreturn.png",
    'quo"te, comma.png',
    "ümläut.png",
    "new\nline.png",
]


def run(*arguments, code=0):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, (done.output, done.exception)
    return done


def ids_in(file):
    with open(file, encoding="utf-8", errors="surrogateescape", newline="") as opened:  # noqa: PTH123
        return {line["id"] for line in csv.DictReader(opened)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    home = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    for i, name in enumerate([*ODD, *(f"{i}.png" for i in range(9))]):
        file = home / "photos" / ("cat" if i % 2 else "dog") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    run("embed", home / "photos", "-o", home / "t")
    return home / "t"


def test_the_table_has_them(table):
    ids = EmbeddingTable.open(table).ids
    assert {name.split("/")[1] for name in ids} >= set(ODD)
    run("check", table)
    assert "14 images" in run("embed", table.parent / "photos", "-o", table).stdout


def test_picks(table, tmp_path):
    picked = json.loads(
        run("select", table, "--budget", 14, "-o", tmp_path / "p.csv", "--json").stdout
    )
    ids = EmbeddingTable.open(table).ids
    assert {pick["id"] for pick in picked["picks"]} == set(ids)
    assert ids_in(tmp_path / "p.csv") == set(ids)
    run("select", table, "--budget", 14, "-o", tmp_path / "q.csv")
    run("report", tmp_path / "p.csv", "--table", table, "-o", tmp_path / "p.html", "--no-concepts")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    run("predict", table, "--classes", tmp_path / "classes.txt", "-o", tmp_path / "all.csv")
    assert ids_in(tmp_path / "all.csv") == set(ids)
    assert b"caf" in (tmp_path / "p.html").read_bytes()


def test_subsets_and_suspects(table, tmp_path):
    labels = ("--labels", "folders")
    ids = EmbeddingTable.open(table).ids
    run("select", table, "--ratio", 0.9, *labels, "-o", tmp_path / "s.csv", "--all")
    assert ids_in(tmp_path / "s.csv") == set(ids)
    run("select", table, "--ratio", 0.9, *labels, "-o", tmp_path / "s.json")
    selection = Selection.load(tmp_path / "s.json")
    assert selection.ids.tolist() == ids.tolist()
    run("suspects", table, *labels, "-n", 14)
    run("suspects", table, *labels, "-n", 14, "-o", tmp_path / "w.csv")
    assert ids_in(tmp_path / "w.csv") <= set(ids)
    run("report", tmp_path / "s.json", "--table", table, "-o", tmp_path / "s.html", "--no-concepts")
    selection.to_csv(tmp_path / "x.csv")
    pytest.importorskip("pyarrow")
    selection.to_parquet(tmp_path / "x.parquet")
    found = pd.read_parquet(tmp_path / "x.parquet")["id"].tolist()
    # Parquet holds Unicode alone.
    assert found == [name.replace("\udce9", "\\xe9") for name in ids]


def test_concepts_and_diversity(table, tmp_path):
    (tmp_path / "words.txt").write_text("dog\ncat\ngrass\nsky\n")
    words = ("--vocabulary", tmp_path / "words.txt", "-m", 2)
    run("concepts", table, "--show", 14, *words)
    run("diversity", table, *words)


# --- a table follows its folder, and so do the commands --------------------------------------


def test_a_selection_outlives_growth_and_gone_images_are_not_picked(tmp_path):
    photos = tmp_path / "photos"
    rng = np.random.default_rng(0)

    def add(n):
        for i in n:
            file = photos / ("cat" if i % 2 else "dog") / f"{i * 7 % 30:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)

    add(range(12))
    table, subset = tmp_path / "t", tmp_path / "s.json"
    said = run("embed", photos, "-o", table).stdout
    assert said.count("\n") == 1
    run("select", table, "--ratio", 0.5, "--labels", "folders", "-o", subset)
    add(range(12, 16))
    place = int(Selection.load(subset).indices[0])  # one that the report shows
    gone = EmbeddingTable.open(table).ids[place]
    (photos / gone).unlink()
    said = run("embed", photos, "-o", table).stdout
    assert said.splitlines()[1] == (
        "4 new, 1 gone from the folder (their rows stay; `select --budget` leaves them out)"
    )
    changes = json.loads(run("embed", photos, "-o", table, "--json").stdout)
    assert (changes["images"], changes["encoded"], changes["gone"]) == (16, 0, 1)
    options = ("--no-concepts", "--skip-unreadable", "-o")
    with pytest.warns(match=gone):
        run("report", subset, "--table", table, *options, tmp_path / "s.html")
    picks = json.loads(
        run("select", table, "--budget", 15, "-o", tmp_path / "p.csv", "--json").stdout
    )
    assert sorted(pick["index"] for pick in picks["picks"]) == [i for i in range(16) if i != place]
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.warns(match="1 of the 16 images are gone.*labelled all the same"):
        run("predict", table, "--classes", tmp_path / "classes.txt", "-o", tmp_path / "all.csv")
    with pytest.warns(match="1 of the 16 images are gone"):
        run("select", table, "--ratio", 0.5, "--labels", "folders", "-o", tmp_path / "u.json")


def test_a_selection_of_other_images_is_refused_by_name(tmp_path):
    table = EmbeddingTable.from_array(tmp_path / "t", np.eye(4), list("abcd"), model_id="toy")
    selection = Selection.from_indices([0], 3, ids=["a", "x", "c"])
    selection.save(tmp_path / "s.json")
    done = run(
        "report", tmp_path / "s.json", "--table", table.directory, "--no-concepts",
        "-o", tmp_path / "s.html", code=2,
    )  # fmt: skip
    assert "image 1 is 'b' in the table and 'x' in the selection" in " ".join(done.output.split())


def test_a_table_that_names_its_model_by_the_models_id(tmp_path, mini):
    Z = mini.encode_images(np.random.default_rng(0).integers(0, 256, (12, 9, 9), dtype=np.uint8))
    EmbeddingTable.from_array(tmp_path / "t", Z, model_id=mini.model_id)
    assert "@" in mini.model_id
    (tmp_path / "words.txt").write_text("dog\ncat\ngrass\nsky\n")
    run("concepts", tmp_path / "t", "--show", 1, "--vocabulary", tmp_path / "words.txt", "-m", 2)
