"""On the command line no message speaks Python."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

import clip_al.cli.options
from clip_al.cli.main import app
from clip_al.cli.wording import PARAMETERS, in_own_words, of_the_system
from clip_al.subset.selection import Selection
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import run

PYTHON = re.compile(
    r"`[a-z]+_[a-z_]+`|`[A-Za-z_]+\.[A-Za-z_]+`|\b[a-z_]+=['\"\w]|\[Errno|\bNone\b|\bndarray\b|"
    r"n_instances|errors=|Traceback|\bself\b|EmbeddingTable"
)


def flat(result: Result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.new("RGB", (8, 8)).save("photos/1.png")
    ids = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"]
    EmbeddingTable.from_array("photos.table", np.eye(4, 256), ids, model_id="mini@0")
    Path("labels.csv").write_text("id,label\n" + "".join(f"{i},{i[:3]}\n" for i in ids))
    Path("classes.txt").write_text("cat\ndog\n")
    Selection.from_indices([0], 4, scores={"sas": np.arange(4.0)}).save("subset.json")
    return tmp_path


# A command, and below it what the message holds.
COMMANDS = """
embed nowhere -o t
  IMAGES must be a folder of images; got 'nowhere', no such folder.
embed labels.csv -o t
  labels.csv must say where images are, in a column `path` or `filename`; got `id` ('cat/1.jpg')
embed photos -o classes.txt
  `--output` must be new, empty or a table of embeddings
embed photos -o t --dtype float8
  `--dtype` must be one of 'float32', 'float16'
embed photos -o t --batch-size 0
  `--batch-size` must be at least 1; got 0.
embed photos -o t --workers -1
  `--workers` must be at least 1; got -1.
embed photos -o t --model ViT-B-33
  `--model` must be 'mini', a model of open_clip,
embed photos -o t --model ViT-B-32
  `--pretrained` must name the weights of ViT-B-32
concepts none.table
  TABLE must be a table of embeddings; none.table is not there. Make one: clip-al embed FOLDER
concepts photos
  TABLE must be a table of embeddings; photos is a folder of other things. Make one: clip-al embed
concepts photos.table --vocabulary none.txt
  `--vocabulary` must be general, a text file
concepts photos.table -m 0
  `-m` must be in [1,
diversity photos.table --indices none.csv
  none.csv must be a file; it is missing, beside it there are labels.csv.
select photos.table --budget 5 -o p.csv
  `--budget` must be in [1, 4], the size of the pool
select photos.table --budget 1 -o p.csv --labelled labels.csv
  `--labelled` must leave images
select photos.table --budget 1 -o p.csv --labelled none.csv
  none.csv must be a file;
select photos.table --budget 1 -o p.csv --probabilities none.npy
  none.npy must be a file;
select photos.table --budget 1 -o p.csv --probabilities labels.csv
  labels.csv must hold numb
select photos.table --budget 1 -o p.csv --classes none.txt
  none.txt must be a file;
select photos.table --ratio 0.5 -o p.csv --labels none.csv
  none.csv must be a file;
select photos.table --ratio 0.5 -o no/p.csv --labels labels.csv
  no/p.csv must be in a folder
suspects none.json
  none.json must be a file that `clip-al select --ratio` wrote as .json; it
suspects labels.csv
  labels.csv must be a file that `clip-al select --ratio` wrote as .json
suspects subset.json -n 9
  `-n` must be in [1, 4]; got 9. Change it.
report labels.csv
  SELECTION must be a .json that `select --ratio` wrote, or a .csv together
report labels.csv --table photos.table --map umap
  `--map` must be one of 'pca', 'tsne'
report labels.csv --table photos.table --rounds none.csv
  none.csv must be a file;
report labels.csv --table photos.table --rounds labels.csv
  must have the columns `labels`
labels apply labels.csv labels.csv -o c.csv
  must have a column `decision`, as `clip-al susp
demo -o labels.csv
  `--output` must be a folder; labels.csv is a file.
"""
CASES = [pair.split("\n  ") for pair in re.split(r"\n(?! )", COMMANDS.strip())]


@pytest.mark.parametrize(("command", "message"), CASES)
def test_messages_speak_of_options_and_files(here: Path, command: str, message: str) -> None:
    result = run(*command.split())
    said = flat(result)
    assert result.exit_code == 2, said
    assert message in said
    assert PYTHON.findall(said) == []
    assert said.count("Error:") == 1


def test_the_guard_fires() -> None:
    for text in ("`n_instances` must", "pass errors='skip'", "[Errno 2] No such", "got None."):
        assert PYTHON.findall(text) != []


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'again with errors="skip" (`--skip-unreadable`): nothing is encoded a second time. To '
            "repair them, do so and run again with overwrite=True (`--force`).",
            "again with `--skip-unreadable`: nothing is encoded a second time. To repair them, do "
            "so and run again with `--force`.",
        ),
        (
            "or pass overwrite=True to replace it.",
            "or pass `--force` to replace it.",
        ),
        (
            "into a folder and pass model='local-dir:FOLDER', or use 'mini', which ships with",
            "into a folder and pass `--model local-dir:FOLDER`, or use 'mini', which ships with",
        ),
        (
            "Run the same `EmbeddingTable.create` or `clip-al embed` again to finish it.",
            "Run the same `clip-al embed` again to finish it.",
        ),
    ],
)
def test_advice_in_python_becomes_an_option(message: str, words: str) -> None:
    assert in_own_words(message) == words


def test_every_option_that_a_message_may_name_is_there() -> None:
    import typer.main

    group = typer.main.get_command(app)
    commands = [*group.commands.values()]
    commands += [one for sub in commands for one in getattr(sub, "commands", {}).values()]
    options = {opt for one in commands for p in one.params for opt in p.opts}
    assert {name for name in PARAMETERS.values() if name.startswith("-")} <= options


def test_errors_of_the_system_name_the_option() -> None:
    error = FileNotFoundError(2, "No such file or directory", "x.csv")
    assert of_the_system(error, {"--labels": Path("x.csv"), "-m": 3}) == (
        "`--labels` must be usable; x.csv: No such file or directory. Check the path and its "
        "permissions."
    )
    assert of_the_system(OSError(28, "No space left on device"), {}) == (
        "No space left on device. Check the disk, and run the same command again."
    )


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), PermissionError(13, "x")]
)
def test_no_errno_reaches_the_terminal(
    here: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("clip_al.cli.concepts.open_table", fails)
    result = run("concepts", "photos.table")
    assert result.exit_code == 2
    assert PYTHON.findall(flat(result)) == []


def test_the_first_sign_of_life_comes_before_anything_heavy_is_loaded(here: Path) -> None:
    """What takes its time is loading torch and SciPy; the line must not wait for them."""
    code = (
        "import sys\n"
        "class First:\n"
        "    def write(self, text):\n"
        "        if text.strip():\n"
        "            heavy = {'torch', 'scipy', 'pandas', 'numba'}\n"
        "            known = sorted(heavy & set(sys.modules))\n"
        "            print(text.strip(), known, flush=True); sys.stderr = sys.__stderr__\n"
        "        return len(text)\n"
        "    def flush(self): pass\n"
        "    def isatty(self): return False\n"
        "sys.stderr = First()\n"
        "from clip_al.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "suspects", "none.table", "--labels", "labels.csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "clip-al suspects: starting []\n", done.stderr


def test_what_was_read_is_said_on_standard_error(here: Path) -> None:
    Path("some.csv").write_text("filename;label\ncat/1.jpg;cat\ncat/2.jpg;\n")
    Path("p.csv").write_text(
        "id;a;b;c\n"
        + "".join(
            f"{name};0,34;0,34;0,34\n"
            for name in ("dog/2.jpg", "dog/1.jpg", "cat/2.jpg", "cat/1.jpg")
        )
    )
    result = run(
        "select", "photos.table", "--budget", 2, "-o", "p.out", "--labelled", "some.csv",
        "--probabilities", "p.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    said = flat(result)
    assert "some.csv: 1 of 2 rows have a label, 1 stay in the pool, by the column `file" in said
    assert "p.csv: 4 rows of 3 classes by the column `id`; cells are separated by semicolon" in said
    assert result.stdout == "Wrote 2 of 4 images to p.out\n"
    assert clip_al.cli.options.err.stderr


def test_columns_of_a_file_are_no_options():
    message = "got the columns `name` ('1.jpg'), `labelled` ('cat'); the column `name` does not fit"
    assert in_own_words(message) == message
