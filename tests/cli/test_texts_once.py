"""Every command that needs words, twice: the second time no text is encoded, no model loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from clip_al.encode.clip_models import LoadedClip
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import KeptTextsWarning
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import flat, run

NAMES = ["zero", "one", "two"]
N = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table of digits by the mini model, with words, names and labels."""
    folder = tmp_path_factory.mktemp("once")
    digits = load_digits()
    rows = np.flatnonzero(digits.target < len(NAMES))[:N]
    images = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    ids = [f"{i:02d}.png" for i in range(N)]
    encoder = ClipEncoder("mini", progress=False)
    EmbeddingTable.create(folder / "t", images, encoder, ids=ids)
    (folder / "words.txt").write_text("\n".join(f"word {i}, thing {i}" for i in range(12)))
    (folder / "names.txt").write_text("\n".join(NAMES))
    labels = [f"{ids[i]},{NAMES[digits.target[row]]}" for i, row in enumerate(rows)]
    (folder / "labels.csv").write_text("\n".join(["id,label", *labels]))
    (folder / "some.csv").write_text("\n".join(["id,label", *labels[:20]]))
    return folder


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count texts that are encoded and models that are loaded."""
    counts = {"texts": 0, "models": 0}
    encode, load = ClipEncoder.encode_texts, LoadedClip.__init__

    def encode_texts(self: ClipEncoder, texts: list[str], **more: object) -> np.ndarray:
        counts["texts"] += len(texts)
        return encode(self, texts, **more)

    def init(self: LoadedClip, *given: object) -> None:
        counts["models"] += 1
        load(self, *given)

    monkeypatch.setattr(ClipEncoder, "encode_texts", encode_texts)
    monkeypatch.setattr(LoadedClip, "__init__", init)
    return counts


WORDS = ("--vocabulary", "words.txt", "-m", "3")
COMMANDS = {
    "concepts": ("concepts", "t", *WORDS, "--json"),
    "diversity": ("diversity", "t", *WORDS, "--json"),
    "select --vocabulary": ("select", "t", "--budget", 5, "-o", "a.csv", *WORDS, "--json"),
    "select --strategy cbd": (
        *("select", "t", "--budget", 5, "-o", "b.csv", "--strategy", "cbd"), *WORDS, "--json",
    ),
    "select --classes": (
        "select", "t", "--budget", 5, "-o", "c.csv", "--classes", "names.txt", "--json",
    ),
    "select --labelled": (
        *("select", "t", "--budget", 5, "-o", "d.csv", "--classes", "names.txt"),
        *("--labelled", "some.csv", "--json"),
    ),
    "predict": ("predict", "t", "--classes", "names.txt", "-o", "e.csv", "--json"),
    "suspects": ("suspects", "t", "--labels", "labels.csv", "--json"),
    "select --ratio": (
        *("select", "t", "--ratio", 0.5, "--labels", "labels.csv"), "-o", "f.json", "--json",
    ),
    "report": ("report", "picks.csv", "--table", "t", "-o", "g.html", *WORDS, "--json"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_the_second_time_no_text_is_encoded(
    place: Path, done: dict[str, int], monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...]
) -> None:
    monkeypatch.chdir(place)
    Path("picks.csv").write_text("id\n03.png\n07.png\n")
    for path in Path("t").glob("texts-*"):
        path.unlink()
    extra = () if "--json" not in command or "-o" not in command else ("--force",)
    first = run(*command, *extra)
    assert first.exit_code == 0, first.output
    assert done["texts"] > 0
    assert done["models"] > 0
    done.update(texts=0, models=0)
    second = run(*command, *extra)
    assert second.exit_code == 0, second.output
    assert done == {"texts": 0, "models": 0}
    assert second.stdout == first.stdout
    named = run(*command, *extra, "--model", "mini")
    assert named.exit_code == 0, named.output
    assert done == {"texts": 0, "models": 0}


def test_commands_share_what_was_encoded(
    place: Path, done: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for path in Path("t").glob("texts-*"):
        path.unlink()
    assert run(*COMMANDS["concepts"]).exit_code == 0
    n_texts = done["texts"]
    assert n_texts == 24
    assert run(*COMMANDS["diversity"]).exit_code == 0
    assert done["texts"] == n_texts


def test_a_damaged_file_is_said_and_encoded_anew(
    place: Path, done: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    first = run(*COMMANDS["concepts"])
    for path in Path("t").glob("texts-*"):
        path.write_bytes(b"other things")
    done.update(texts=0)
    with pytest.warns(KeptTextsWarning, match=r"texts-\w+\.npz must be a file that `clip-al`"):
        again = run(*COMMANDS["concepts"])
    assert again.stdout == first.stdout
    assert done["texts"] == 24


@pytest.mark.slow
def test_the_second_time_neither_torch_nor_open_clip_is_imported(place: Path) -> None:
    command = [str(part) for part in COMMANDS["concepts"]]
    assert run(command[0], place / "t", "--vocabulary", place / "words.txt").exit_code == 0
    code = (
        "import sys\n"
        "from clip_al.cli.main import app\n"
        "app(standalone_mode=False)\n"
        "assert not {'torch', 'open_clip'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=place, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"vocabulary": 12' in done.stdout


def test_another_model_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    Z = np.eye(5, 256)
    EmbeddingTable.from_array("other", Z, list("abcde"), model_id="mini@12345678", overwrite=True)
    result = run("concepts", "other", *WORDS)
    assert result.exit_code == 2
    assert "was made by mini@12345678, got mini@" in flat(result)
