"""The commands, run in this process on a small folder of drawn images and the mini model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from clip_al.cli import app
from clip_al.embeddings import EmbeddingTable

N_IMAGES = 24
WORDS = "red\ngreen\nblue\nbright\ndark\nsky\ngrass\ncar\ndog\nship\nbird\ncat\nhorse, pony\n"


def draw_images(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(n):
        group = folder / f"group{i % 3}"
        group.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(group / f"{i:03d}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with images, a vocabulary and a table made by the command."""
    folder = tmp_path_factory.mktemp("cli")
    draw_images(folder / "images", N_IMAGES)
    (folder / "words.txt").write_text(WORDS)
    result = run("embed", folder / "images", "-o", folder / "table")
    assert result.exit_code == 0, result.output
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def flat(result: Result) -> str:
    """Undo the wrapping of lines."""
    return " ".join((result.stdout + result.stderr).split())


def vocabulary(place: Path) -> tuple[str, str, str, str]:
    return ("--vocabulary", str(place / "words.txt"), "-m", "4")


def test_embed_again_does_nothing_and_says_so(place: Path) -> None:
    before = (place / "table" / "embeddings.npy").stat().st_mtime_ns
    result = run("embed", place / "images", "-o", place / "table")
    assert result.exit_code == 0
    assert f"{N_IMAGES} images × 256, mini@" in flat(result)
    assert (place / "table" / "embeddings.npy").stat().st_mtime_ns == before


def test_concepts_lists_and_writes(place: Path, tmp_path: Path) -> None:
    result = run("concepts", place / "table", "-o", tmp_path / "all.csv", *vocabulary(place))
    assert result.exit_code == 0
    assert "Most frequent concepts" in result.stdout
    written = pd.read_csv(tmp_path / "all.csv")
    assert written["id"].tolist() == EmbeddingTable.open(place / "table").ids.tolist()
    assert all(len(row.split("; ")) == 4 for row in written["concepts"])


def test_diversity_of_all_and_of_some(place: Path, tmp_path: Path) -> None:
    everything = run("diversity", place / "table", *vocabulary(place))
    assert everything.exit_code == 0
    assert f"Diversity of {N_IMAGES} images" in everything.stdout
    (tmp_path / "two.txt").write_text("group0/000.png\ngroup1/001.png\n")
    two = run("diversity", place / "table", "--indices", tmp_path / "two.txt", *vocabulary(place))
    assert two.exit_code == 0, two.output
    assert "Diversity of 2 images" in two.stdout


def test_select_from_a_table_then_go_on(place: Path, tmp_path: Path) -> None:
    first, following = tmp_path / "first.csv", tmp_path / "next.csv"
    assert (
        run("select", place / "table", "--budget", 6, "-o", first, *vocabulary(place)).exit_code
        == 0
    )
    picked = pd.read_csv(first)
    assert picked["rank"].tolist() == list(range(1, 7))
    assert picked["index"].nunique() == 6
    ids = EmbeddingTable.open(place / "table").ids
    assert picked["id"].tolist() == ids[picked["index"]].tolist()
    assert all(Path(path).is_file() for path in picked["path"])
    assert "margin" not in picked

    probabilities = np.random.default_rng(1).dirichlet(np.ones(3), N_IMAGES)
    np.save(tmp_path / "p.npy", probabilities)
    result = run(
        "select", place / "table", "--budget", 5, "-o", following, "--labelled", first,
        "--probabilities", tmp_path / "p.npy", "--candidate-factor", 2, *vocabulary(place),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    later = pd.read_csv(following)
    assert not set(later["index"]) & set(picked["index"])
    top2 = np.sort(probabilities[later["index"]], axis=1)[:, -2:]
    np.testing.assert_allclose(later["margin"], top2[:, 1] - top2[:, 0])
    # The candidates are the ten least certain of the pool.
    margins = np.diff(np.sort(probabilities, axis=1)[:, -2:], axis=1)[:, 0]
    pool = np.setdiff1d(np.arange(N_IMAGES), picked["index"])
    assert set(later["index"]) <= set(pool[np.argsort(margins[pool])[:10]])

    frame = pd.DataFrame(probabilities, columns=list("abc")).assign(id=ids)
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "p.csv", index=False)
    again = tmp_path / "again.csv"
    result = run(
        "select", place / "table", "--budget", 5, "-o", again, "--labelled", first,
        "--probabilities", tmp_path / "p.csv", "--candidate-factor", 2, *vocabulary(place),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert pd.read_csv(again)["index"].tolist() == later["index"].tolist()


def test_select_from_a_folder_keeps_its_embeddings(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    result = run("select", place / "images", "--budget", 3, "-o", out, *vocabulary(place))
    assert result.exit_code == 0, result.output
    assert len(pd.read_csv(out)) == 3
    assert len(EmbeddingTable.open(tmp_path / "picks.embeddings")) == N_IMAGES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", 25], "`n_instances` must be in [1, 24], the size of the pool; got 25."),
        (["--budget", 0], "`n_instances` must be in [1, 24], the size of the pool; got 0."),
        (["--budget", 2, "-m", 14], "`m` must be in [1, 13]; got 14."),
        (["--budget", 2, "--vocabulary", "nothing"], "`name` must be one of 'general'"),
    ],
)
def test_select_refuses(place: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    out = tmp_path / "picks.csv"
    result = run("select", place / "table", "-o", out, *vocabulary(place), *arguments)
    assert result.exit_code == 2
    assert message in flat(result)
    assert not out.exists()


def test_existing_output_is_kept_without_force(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    out.write_text("mine")
    result = run("select", place / "table", "--budget", 2, "-o", out, *vocabulary(place))
    assert result.exit_code == 2
    assert "must not exist yet" in flat(result)
    assert out.read_text() == "mine"
    forced = run("select", place / "table", "--budget", 2, "-o", out, "--force", *vocabulary(place))
    assert forced.exit_code == 0
    assert len(pd.read_csv(out)) == 2


def test_a_folder_without_images(tmp_path: Path) -> None:
    result = run("embed", tmp_path, "-o", tmp_path / "table")
    assert result.exit_code == 2
    assert "at least one image" in flat(result)


def test_an_unreadable_image_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 3)
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    first = run("embed", tmp_path / "images", "-o", tmp_path / "table")
    assert first.exit_code == 2
    assert "broken.png" in flat(first)
    with pytest.warns(UserWarning, match="broken"):
        second = run("embed", tmp_path / "images", "-o", tmp_path / "table", "--skip-unreadable")
    assert second.exit_code == 0
    assert len(EmbeddingTable.open(tmp_path / "table")) == 3


def test_a_table_of_another_model_is_refused(place: Path, tmp_path: Path) -> None:
    Z = np.eye(5, 256)
    EmbeddingTable.from_array(tmp_path / "table", Z, list("abcde"), model_id="other@12345678")
    result = run("concepts", tmp_path / "table", "--model", "mini", *vocabulary(place))
    assert result.exit_code == 2
    assert "must be encoded by one model; got other@12345678 and mini@" in flat(result)


def test_an_interrupt_is_no_traceback(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 200)
    code = (
        "import signal, time\n"
        # A shell's background jobs, CI among them, are started with the signal ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from clip_al.models import LoadedClip as L\n"
        "encode = L.encode_pixels\n"
        "L.encode_pixels = lambda *a: (print('batch', flush=True), time.sleep(1), encode(*a))[2]\n"
        "from clip_al.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "embed", "images", "-o", "table", "--batch-size", "8"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
