"""`embed --from`: embeddings that there are, of models that read words and of others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from clip_al.encode.encoder import ClipEncoder
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

N = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make embeddings of a model without words, 384 wide, and of photos that are there."""
    folder = tmp_path_factory.mktemp("from")
    rng = np.random.default_rng(0)
    ids = [f"a/{i:02d}.png" for i in range(N)]
    (folder / "photos" / "a").mkdir(parents=True)
    for name in ids:
        pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
    np.save(folder / "dino.npy", rng.normal(size=(N, 384)).astype(np.float32))
    (folder / "ids.txt").write_text("\n".join(ids))
    (folder / "classes.txt").write_text("cat\ndog\n")
    labels = [f"{name},{'cat' if i % 2 else 'dog'}" for i, name in enumerate(ids)]
    (folder / "labels.csv").write_text("\n".join(["id,label", *labels]))
    result = run(
        "embed", folder / "photos", "--from", folder / "dino.npy", "--ids", folder / "ids.txt",
        "-o", folder / "t", "--model-name", "dinov2_vits14",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert f"{folder / 't'}: {N} images × 384, dinov2_vits14" in flat(result)
    assert f"ids from {folder / 'ids.txt'}, {N} of them files in" in flat(result)
    assert "40 rows were scaled to unit length" in flat(result)
    return folder


def test_what_needs_no_words_works(place: Path, tmp_path: Path) -> None:
    picks = tmp_path / "picks.csv"
    assert run("select", place / "t", "--budget", 6, "-o", picks).exit_code == 0
    expected = UncertaintyCoverageSampling().select(EmbeddingTable.open(place / "t"), 6)
    assert pd.read_csv(picks)["index"].tolist() == expected.tolist()
    np.save(tmp_path / "p.npy", np.random.default_rng(1).dirichlet(np.ones(3), N))
    result = run(
        "select", place / "t", "--budget", 6, "-o", tmp_path / "next.csv", "--labelled", picks,
        "--probabilities", tmp_path / "p.npy",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    page = tmp_path / "page.html"
    result = run("report", picks, "--table", place / "t", "--no-concepts", "-o", page)
    assert result.exit_code == 0, result.output
    assert page.stat().st_size > 10_000
    assert run("check", place / "t").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("concepts", "t"),
        ("diversity", "t"),
        ("select", "t", "--budget", 5, "--strategy", "cbd", "-o", "x.csv"),
        ("select", "t", "--budget", 5, "--classes", "classes.txt", "-o", "x.csv"),
        ("predict", "t", "--classes", "classes.txt", "-o", "x.csv"),
        ("suspects", "t", "--labels", "labels.csv"),
    ],
    ids=lambda command: " ".join(map(str, command[:1])),
)
@pytest.mark.parametrize("name", ["dinov2_vits14", ""])
def test_what_needs_words_says_what_is_missing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple, name: str
) -> None:
    monkeypatch.chdir(place)
    if not name:
        named = ("embed", "--from", "dino.npy", "--ids", "ids.txt", "-o", "unnamed", "--force")
        assert run(*named).exit_code == 0
        command = (command[0], "unnamed", *command[2:])
    result = run(*command)
    assert result.exit_code == 2
    said = flat(result)
    assert "Words are encoded by the model that made the images' embeddings; the table" in said
    whose = f"has those of {name}, which cannot be loaded" if name else "names none."
    assert whose in said
    assert "Without words work `select --budget`" in said
    assert not Path("x.csv").exists()


def test_embeddings_of_a_clip_are_named_by_it(place: Path, tmp_path: Path) -> None:
    encoder = ClipEncoder("mini", progress=False)
    paths = sorted((place / "photos" / "a").iterdir())
    np.savez(tmp_path / "e.npz", e=encoder.encode_images(paths), ids=[p.name for p in paths])
    result = run(
        "embed", "--from", tmp_path / "e.npz", "-o", tmp_path / "t", "--model", "mini", "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["model"] == encoder.model_id
    assert (told["images"], told["width"], told["complete"]) == (N, 256, True)
    result = run("concepts", tmp_path / "t", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == N


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "IMAGES, a folder, or `--from`, a file of embeddings, must be given; got neither."),
        (("--from", "dino.npy", "--model", "mini"), "have 256 columns; those of dino.npy have 384"),
        (
            ("--from", "dino.npy", "--model", "mini", "--model-name", "x"),
            "One of `--model` (a CLIP, which reads words) and `--model-name`",
        ),
        (
            ("--from", "dino.npy", "--workers", 2),
            "`--workers` must come with images that are encoded; got it with `--from`.",
        ),
        (("photos", "--ids", "ids.txt"), "`--ids` must come with `--from`; got it with images."),
        (("--from", "dino.npy", "--column", "a"), "`--column` names a part of a file;"),
        (("--from", "dino.npy", "--pretrained", "a"), "`--pretrained` must come with `--model`"),
    ],
)
def test_what_does_not_go_together_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: tuple, message: str
) -> None:
    monkeypatch.chdir(place)
    result = run("embed", *options, "-o", "new")
    assert result.exit_code == 2
    assert message in flat(result)
    assert not Path("new").exists()
