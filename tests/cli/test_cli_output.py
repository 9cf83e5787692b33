"""What the commands say to people and machines: help, completion, JSON, progress, safe files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer.main
from PIL import Image
from sklearn.datasets import load_digits

import clip_al
from clip_al import atomic
from clip_al.cli import main as cli
from clip_al.cli.demo import LABEL_FILES, TRAIN_FILES
from clip_al.cli.main import app
from clip_al.cli.options import print_json
from clip_al.encode.encoder import ClipEncoder
from clip_al.label.query_inputs import TARGETS
from clip_al.subset.selection import Selection
from clip_al.subset.selector import PRESETS
from clip_al.table.embedding_table import EmbeddingTable
from tests.command_line import run

GROUP = typer.main.get_command(app)
GROUPS = ("labels", "export", "import")
COMMANDS = {name: command for name, command in GROUP.commands.items() if name not in GROUPS}
COMMANDS |= {
    f"{group} {name}": one
    for group in GROUPS
    for name, one in GROUP.commands[group].commands.items()
}
N = 45
ONE = ("--budget", "2", "--vocabulary", "words.txt", "-m", "2")


def answer(*arguments: object) -> dict:
    """Run a command with --json; standard output must be one object and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.fixture(scope="module", autouse=True)
def encoded_once() -> Iterator[None]:
    """Every command encodes the vocabulary; here the first one does."""
    known: dict[object, np.ndarray] = {}
    encode = ClipEncoder.encode_texts

    def remember(
        self: ClipEncoder, texts: Sequence[str], *, templates: Sequence[str] | None = None
    ) -> np.ndarray:
        key = (self.model, tuple(texts), tuple(templates or ()))
        if key not in known:
            known[key] = encode(self, texts, templates=templates)
        return known[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClipEncoder, "encode_texts", remember)
        yield


def write_annotations(folder: Path, rows: list[list[str]]) -> None:
    """Write what other tools export of images and their labels."""
    tasks, images, samples = [], [], []
    for name, label in rows:
        region = {"type": "choices", "from_name": "choice", "value": {"choices": [label]}}
        data = {"image": name, "image_id": name}
        tasks.append({"data": data, "annotations": [{"result": [region]}]})
        images.append(f'<image name="{name}"><tag label="{label}" source="manual"/></image>')
        truth = {"_cls": "Classification", "label": label}
        samples.append({"filepath": name, "tags": [label], "ground_truth": truth})
    (folder / "export.json").write_text(json.dumps(tasks))
    (folder / "labelled.json").write_text(json.dumps({"samples": samples}))
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")
    with zipfile.ZipFile(folder / "task.zip", "w") as archive:
        archive.write(folder / "annotations.xml", "annotations.xml")


@pytest.fixture(scope="module")
def made(encoded_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make photographed digits, one class a folder, and what the examples read beside them."""
    folder = tmp_path_factory.mktemp("made")
    digits = load_digits()
    rows = np.flatnonzero(np.isin(digits.target, [0, 3, 6]))[:N]
    lines = ["id,label"]
    for i, row in enumerate(rows):
        name = f"digit {digits.target[row]}/{i:03d}.png"
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.round(digits.images[row] * (255 / 16)).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(folder / "photos" / name)
        lines.append(f"{name},{name.split('/')[0]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    (folder / "labelled.csv").write_text("\n".join(lines[:16]))
    several = [line + (";digit 0" if i % 4 == 1 else "") for i, line in enumerate(lines)]
    (folder / "several.csv").write_text("\n".join(several))
    (folder / "lists.csv").write_text("\n".join(several[:16]))
    (folder / "classes.txt").write_text("digit 0\ndigit 3\ndigit 6\n")
    split = [
        f"{line.split(',')[0]},{'test' if i % 5 else 'train'}" for i, line in enumerate(lines[1:])
    ]
    (folder / "splits.csv").write_text("\n".join(["id,split", *split]))
    decided = f"index,id,given,decision\n0,{lines[1]},right\n"
    (folder / "suspects.csv").write_text(decided)
    write_annotations(folder, [line.split(",") for line in lines[1:9]])
    (folder / "words.txt").write_text("round\nloop\nline\nzero\nthree\nsix\n")
    np.save(folder / "dino.npy", np.random.default_rng(1).normal(size=(N, 8)))
    files = [f"photos/{line.split(',')[0]}" for line in lines[1:]]
    (folder / "files.txt").write_text("\n".join(files))
    np.save(folder / "predictions.npy", np.random.default_rng(0).dirichlet(np.ones(3), N))
    table = folder / "photos.table"
    for command in (
        ("embed", folder / "photos", "-o", table),
        ("select", table, "--budget", 12, "-o", folder / "first.csv"),
        ("select", table, "--ratio", 0.3, "--labels", "folders", "-o", folder / "subset.json"),
        ("predict", table, "--classes", folder / "classes.txt", "-o", folder / "all.csv"),
    ):
        result = run(*command)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a copy of it; the photos stay where the table found them."""
    for path in made.iterdir():
        if path.name == "photos":
            (tmp_path / "photos").symlink_to(path)
        elif path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Help


def examples(text: str) -> list[list[str]]:
    """Return the commands of an epilog as lists of arguments."""
    lines = re.findall(r"^  (\S.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_ends_with_examples_to_copy(name: str) -> None:
    shown = run(*name.split(), "--help").stdout
    assert COMMANDS[name].epilog.strip("\n") in shown
    assert len(examples(COMMANDS[name].epilog)) >= 2
    assert "--json" in shown
    assert all(len(line) <= 84 for line in COMMANDS[name].epilog.splitlines())


def test_help_of_all_says_how_to_begin_and_what_the_exit_status_means() -> None:
    shown = run("--help").stdout
    day = [shown.index(f"clip-al {name} ") for name in ("embed", "report", "predict", "suspects")]
    assert day == sorted(day)
    assert day[-1] < shown.index("Usage:")
    assert "clip-al labels apply all.csv suspects.csv -o corrected.csv" in shown
    assert "0 done, 1 a mistake in clip_al itself, 2 bad input, 130 interrupted." in shown
    assert run("--version").stdout == f"clip-al {clip_al.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted({*COMMANDS} - {"demo", "train-demo"}), None])
def test_examples_run(place: Path, name: str | None) -> None:
    commands = examples(cli.START if name is None else COMMANDS[name].epilog)
    here = sorted(str(path) for path in place.glob("photos/*/*.png"))
    here = dict(zip(("photos/3.jpg", "photos/8.jpg"), here, strict=False))  # as the examples say
    n_run = 0
    if name is None:  # what the page saves
        shutil.copy("labelled.csv", "labels.csv")
    for program, *typed in commands:
        arguments = [here.get(argument, argument) for argument in typed]
        for option in {"-o", "--config", "--images", "--task-labels"} & {*arguments}:
            output = Path(arguments[arguments.index(option) + 1])
            for there in (output, output.with_suffix(".npz")):
                if there.is_file():
                    there.unlink()
        if program == "torchrun":  # `test_sharded_table` runs it
            arguments = arguments[arguments.index("clip-al") + 1 :]
        elif "ViT-B-32" in arguments:  # needs a model hub
            COMMANDS[arguments[0]].make_context(arguments[0], arguments[1:])
            continue
        if arguments[:2] == ["labels", "apply"]:  # what a person writes before
            pd.read_csv("suspects.csv").assign(decision="right").to_csv("suspects.csv", index=False)
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        n_run += 1
    assert n_run >= 2


def test_the_demos_examples_are_understood() -> None:
    for name in ("demo", "train-demo"):
        for _, command, *arguments in examples(COMMANDS[name].epilog):
            assert command == name
            COMMANDS[name].make_context(name, arguments)


def test_the_toy_is_called_one_on_stderr_and_at_the_head_of_the_page(place: Path) -> None:
    result = run("embed", "photos", "-o", "photos.table", "--json")
    assert "mini is a toy for trying out" in result.stderr
    assert "--model ViT-B-32 --pretrained laion2b_s34b_b79k" in result.stderr
    assert "toy" not in result.stdout
    run("report", "first.csv", "--table", "photos.table", "--no-concepts", "-o", "first.html")
    page = Path("first.html").read_text()
    head = page[: page.index("</header>")]
    assert "mini is a toy for trying out" in head
    other = ("--model-name", "other/model")
    assert run("embed", "--from", "photos.table/embeddings.npy", "-o", "o", *other).exit_code == 0
    Path("picks.csv").write_text("id\n0\n1\n")
    run("report", "picks.csv", "--table", "o", "--no-concepts", "-o", "other.html")
    assert "toy" not in Path("other.html").read_text().partition("</header>")[0]


# Completion


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clip-al for the shell to find, whatever is installed."""
    path = tmp_path_factory.mktemp("bin") / "clip-al"
    code = 'import sys; from clip_al.cli.main import main; sys.argv[0] = "clip-al"; main()'
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash to complete in")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("clip-al sel", ["select"]),
        ("clip-al select --preset ", ["default", "short", "paper"]),
        ("clip-al select --preset pa", ["paper"]),
        ("clip-al select --class-balance ", ["none", "proportional", "equal"]),
        ("clip-al embed --dtype float1", ["float16"]),
        ("clip-al suspects --js", ["--json"]),
        ("clip-al select --strategy ", ["coverage", "cbd"]),
        ("clip-al select --vocabulary wo", []),  # a file: bash's own completion goes on
    ],
)
def test_bash_completes(program: Path, line: str, offered: list[str]) -> None:
    words = line.split(" ")
    script = (
        'eval "$(_CLIP_AL_COMPLETE=source_bash clip-al)"\n'
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1}\n"
        '_clip_al_completion clip-al; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == offered


def test_what_is_completed_is_what_there_is() -> None:
    (preset,) = (p for p in COMMANDS["select"].params if p.name == "preset")
    ctx = COMMANDS["select"].make_context("select", ["x", "-o", "y"])
    assert [item.value for item in preset.shell_complete(ctx, "")] == list(PRESETS)
    (target,) = (p for p in COMMANDS["select"].params if p.name == "target")
    assert [item.value for item in target.shell_complete(ctx, "")] == list(TARGETS)


# JSON


def test_embed_in_json(place: Path) -> None:
    said = answer("embed", "photos", "-o", "again.table")
    table = EmbeddingTable.open("again.table")
    assert said == {
        "table": "again.table", "complete": True, "images": N, "width": 256,
        "model": table.model_id, "encoded": N, "changed": 0, "gone": 0, "repaired": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_concepts_in_json(place: Path) -> None:
    said = answer("concepts", "photos.table", "--show", 3, "-o", "concepts.csv")
    assert [said[key] for key in ("images", "m", "output")] == [N, 10, "concepts.csv"]
    written_rows = pd.read_csv("concepts.csv")
    assert len(written_rows) == N
    for row, line in zip(said["first"], written_rows.itertuples(), strict=False):
        assert (row["id"], "; ".join(row["concepts"])) == (line.id, line.concepts)
    listed = written_rows["concepts"].str.split("; ").explode().value_counts()
    assert len(said["frequent"]) == 3
    for row in said["frequent"]:
        assert row["images"] == listed[row["concept"]]
        assert row["share"] == row["images"] / N


def test_diversity_in_json(place: Path) -> None:
    said = answer("diversity", "photos.table", "--indices", "first.csv")
    shown = " ".join(run("diversity", "photos.table", "--indices", "first.csv").stdout.split())
    assert said["images"] == 12
    assert f"{said['cbd']:.4f}" in shown
    assert f"{said['concepts_seen']} of {said['vocabulary']:,}" in shown
    assert f"{said['geometric_diversity']:.2f}" in shown
    nothing = answer("diversity", "photos.table", "--indices", "first.csv", "--jitter", 0)
    assert nothing["jitter"] == 0


def test_picks_in_json(place: Path) -> None:
    said = answer(
        "select", "photos.table", "--budget", 5, "-o", "next.csv", "--labelled", "first.csv",
        "--probabilities", "predictions.npy", "--vocabulary", "words.txt", "-m", 2,
    )  # fmt: skip
    rows = pd.read_csv("next.csv")
    assert [said[key] for key in ("output", "images", "strategy")] == ["next.csv", N, "coverage"]
    picks = pd.DataFrame(said["picks"])
    for name in ("index", "id", "path"):
        assert picks[name].tolist() == rows[name].tolist()
    np.testing.assert_allclose(picks["margin"], rows["margin"])
    assert ["; ".join(pick) for pick in picks["concepts"]] == rows["concepts"].tolist()
    assert said["added_concepts"] == sum(map(len, picks["added_concepts"]))
    first = answer("select", "photos", *ONE, "-o", "folder.csv")  # says more, but elsewhere
    assert "margin" not in first["picks"][0]
    bare = answer("select", "photos.table", "--budget", 3, "-o", "bare.csv")
    assert set(bare) == {"strategy", "images", "picks", "expected", "output"}
    assert bare["expected"] is None  # without a head there is nothing to expect
    assert [set(pick) for pick in bare["picks"]] == [{"index", "id", "path"}] * 3


def test_a_subset_in_json(place: Path) -> None:
    said = answer(
        "select", "photos.table", "--ratio", 0.4, "--labels", "labels.csv", "-o", "new.json"
    )
    selection = Selection.load("new.json")
    assert said["fingerprint"] == selection.fingerprint
    assert (said["selected"], said["images"]) == (len(selection), N)
    assert said["settings"] == dict(selection.settings)
    assert said["groups"] is None
    report = selection.report().classes
    assert report is not None
    assert [row["after"] for row in said["classes"]] == report["after"].tolist()
    assert [row["id"] for row in said["suspects"]] == [s.id for s in selection.suspects(3)]


def test_suspects_in_json(place: Path) -> None:
    said = answer("suspects", "subset.json", "-n", 4, "-o", "worst.csv")
    rows = pd.read_csv("worst.csv")
    assert pd.DataFrame(said["suspects"])["id"].tolist() == rows["id"].tolist()
    np.testing.assert_allclose([row["score"] for row in said["suspects"]], rows["score"])
    bare = Selection.from_indices([0], 3, scores={"sas": np.arange(3.0)})
    bare.save("bare.json")
    said = answer("suspects", "bare.json")
    assert said["wrong_interval"] is said["confused_pairs"] is None
    assert said["wrong_fraction"] is said["output"] is said["suspects"][0]["id"] is None


def test_a_report_in_json(place: Path) -> None:
    said = answer("report", "subset.json", "-o", "subset.html")
    assert said["output"] == "subset.html"
    assert said["size_bytes"] == Path("subset.html").stat().st_size
    assert said["selected"] == len(Selection.load("subset.json"))


def test_the_demo_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_al.demo import label as demo
    from clip_al.demo import train as train_demo

    class Labelled:
        accuracy = pd.DataFrame(
            {"strategy": ["a", "a"], "n_labels": [20, 40], "seed": [0, 0], "accuracy": [0.5, 0.6]}
        )

    class Trained:
        suspects = pd.DataFrame({"what": ["estimate"], "n": [3], "precision": [1.0]})
        accuracy = pd.DataFrame(
            {"model": ["m"] * 2, "trained_on": ["all"] * 2, "seed": [0, 1], "accuracy": [0.4, 0.6]}
        )

    monkeypatch.setattr(demo, "encode_digits", lambda console: console.print("Encoding"))
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: Labelled())
    monkeypatch.setattr(train_demo, "run_train_demo", lambda *_, **__: Trained())
    said = answer("demo", "-o", tmp_path, "--seeds", 1)
    assert said["rounds"][1] == {"strategy": "a", "n_labels": 40, "mean": 0.6, "std": None}
    assert said["training"][0]["mean"] == 0.5
    assert said["suspects"] == [{"what": "estimate", "n": 3, "precision": 1.0}]
    assert answer("train-demo", "-o", tmp_path)["output"] == str(tmp_path)


def test_an_error_leaves_standard_output_empty(place: Path) -> None:
    result = run("suspects", "nothing.json", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "is missing" in result.stderr


def test_json_holds_what_json_can(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(
        {"a": np.float32(np.nan), "b": [np.int64(2), -np.inf], "c": "\udcff é", "d": Path("x")}
    )
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": None, "b": [2, None], "c": "\udcff é", "d": "x"}
    text.encode("ascii")


# Files


@pytest.mark.parametrize(
    "command",
    [
        ["concepts", "photos.table", "-o", "mine.csv"],
        ["select", "photos.table", *ONE, "-o", "mine.csv"],
        ["select", "photos.table", "--ratio", "0.3", "--labels", "folders", "-o", "mine.csv"],
        ["suspects", "subset.json", "-n", "3", "-o", "mine.csv"],
    ],
)
def test_nothing_is_replaced_unless_forced(place: Path, command: list[str]) -> None:
    Path("mine.csv").write_text("mine")
    before = set(place.iterdir())
    assert run(*command).exit_code == 2
    assert Path("mine.csv").read_text() == "mine"
    assert run(*command, "--force").exit_code == 0
    assert len(pd.read_csv("mine.csv")) > 0
    assert set(place.iterdir()) == before


@pytest.mark.parametrize("name", [*LABEL_FILES, *TRAIN_FILES])
def test_a_demo_replaces_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = run("demo", "-o", tmp_path)
    assert result.exit_code == 2
    assert "must not exist yet; it does. Choose another name, or pass --force." in " ".join(
        result.stderr.split()
    )
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("wanted", [ONE, ("--ratio", "0.3", "--labels", "folders")])
def test_an_interrupt_while_writing_leaves_the_old_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, wanted: Sequence[str]
) -> None:
    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "sync_file", interrupted)
    Path("picks.csv").write_text("old")
    before = set(place.iterdir())
    result = run("select", "photos.table", *wanted, "-o", "picks.csv", "--force")
    assert result.exit_code == 130
    assert Path("picks.csv").read_text() == "old"
    assert set(place.iterdir()) == before


# A terminal and a pipe


@pytest.mark.slow
def test_progress_is_on_a_terminal_and_on_standard_error_alone(place: Path, program: Path) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [program, "embed", "photos", "-o", "new.table", "--batch-size", "8"],
        stdout=subprocess.PIPE, stderr=follower, env={**os.environ, "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(follower)
        shown = b""
        try:
            while part := os.read(leader, 2**16):
                shown += part
        except OSError:  # the other end is closed
            pass
        assert process.stdout is not None
        said = process.stdout.read().decode()
    os.close(leader)
    assert process.returncode == 0
    assert b"Encoding images" in shown
    assert re.search(rb"\d/s", shown)  # a rate
    assert re.search(rb"\d:\d\d:\d\d", shown)  # what is left
    assert said.startswith("new.table: 45 images")
    assert "\x1b" not in said


def test_a_reader_that_stops_early_is_no_error(place: Path, program: Path) -> None:
    command = f"{shlex.quote(str(program))} suspects subset.json --json | true"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == ""
    assert "Error" not in done.stderr
    assert "Traceback" not in done.stderr
