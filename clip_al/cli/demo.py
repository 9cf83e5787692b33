"""The commands ``demo`` and ``train-demo``: both paths on real images, offline.

`clip_al.cli.main` puts them among its commands.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from clip_al.cli.options import Force, Json, check_output, err, out, print_json
from clip_al.errors import InvalidInputError

LABEL_FILES = ("selection.csv", "learning_curves.png", "chosen_images.png")
TRAIN_FILES = ("suspects.csv", "suspects.png", "subset.json", "subset.npz", "report.html")
DEMO_EXAMPLES = """
Examples:
  clip-al demo
  clip-al demo --seeds 1 -o try --force
"""
TRAIN_DEMO_EXAMPLES = """
Examples:
  clip-al train-demo
  clip-al train-demo --seeds 1 -o try --json
"""
DemoFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder for files.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repetitions, for the spread.")]


def demo(
    output: DemoFolder = Path("clip-al-demo"),
    seeds: Seeds = 5,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Run both paths on 1,797 real digits, offline, in about a minute: label, then train."""
    from clip_al.demo.label import encode_digits, run_demo
    from clip_al.demo.train import run_train_demo

    _check_files(output, (*LABEL_FILES, *TRAIN_FILES), force)
    console = err if as_json else out
    digits = encode_digits(console)
    labelled = run_demo(output, n_seeds=seeds, console=console, digits=digits)
    console.print()
    trained = run_train_demo(output, n_seeds=seeds, console=console, digits=digits)
    if as_json:
        rounds = _means(labelled.accuracy, ["strategy", "n_labels"])
        print_json({"rounds": rounds, **_trained(trained), "output": output})


def train_demo(
    output: DemoFolder = Path("clip-al-demo"),
    seeds: Seeds = 5,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Flip a fifth of the digits' labels, find the wrong ones, train on what is chosen."""
    from clip_al.demo.train import run_train_demo

    _check_files(output, TRAIN_FILES, force)
    trained = run_train_demo(output, n_seeds=seeds, console=err if as_json else out)
    if as_json:
        print_json({**_trained(trained), "output": output})


def _check_files(folder: Path, names: Iterable[str], force: bool) -> None:
    """Raise where a file would be replaced that is there."""
    if folder.exists() and not folder.is_dir():
        raise InvalidInputError(f"`--output` must be a folder; {folder} is a file. Name another.")
    if folder.is_dir():
        for name in names:
            check_output(folder / name, force)


def _trained(result: Any) -> dict[str, Any]:
    return {
        "suspects": result.suspects.astype(object).to_dict("records"),
        "training": _means(result.accuracy, ["model", "trained_on"]),
    }


def _means(accuracy: Any, by: list[str]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over the seeds; that of one seed is null."""
    table = accuracy.groupby(by, sort=False)["accuracy"].agg(["mean", "std"]).reset_index()
    records: list[dict[str, Any]] = table.astype(object).to_dict("records")
    return records
