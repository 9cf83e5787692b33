"""The command ``labels apply``: what was decided about suspects goes into the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from clip_al.cli.options import Force, Json, check_output, print_json, say

LABELS_EXAMPLES = """
Examples:
  clip-al suspects photos.table --labels labels.csv -o suspects.csv --force
  clip-al labels apply labels.csv suspects.csv -o corrected.csv
"""
APPLY_EXAMPLES = """
Examples:
  clip-al labels apply labels.csv suspects.csv -o corrected.csv
  clip-al labels apply labels.csv suspects.csv -o corrected.csv --force --json
"""


def apply(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="The labels: CSV or Parquet, as for --labels.")
    ],
    suspects: Annotated[
        Path,
        typer.Argument(
            metavar="SUSPECTS", help="What `suspects -o` wrote, with `decision` filled in."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The corrected labels, a CSV file.")
    ],
    classes: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(
            help="Names of the classes: where labels are numbers, or a new class was decided on."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Put what was decided about suspects into the labels.

    The column `decision` of SUSPECTS holds, for each image: the right class;
    `likelier`, the class in that column; `right` or `ok`, the label stays;
    `wrong`, the right class is not known and the label is emptied, so that
    `--labelled` counts the image as not labelled; or nothing, not decided yet,
    and the label stays. A class called `ok` is written `class:ok`. All other
    rows and columns of LABELS stay as they are.

    Of suspects that `suspects --multi-label` wrote, `wrong` takes a given label
    away and adds a missing one; LABELS keeps its form.
    """
    from clip_al.handed_in.decisions import apply_decisions
    from clip_al.handed_in.pair_decisions import apply_pair_decisions, are_pairs
    from clip_al.handed_in.write import write_corrected

    check_output(output, force)
    change = apply_pair_decisions if are_pairs(suspects) else apply_decisions
    done = change(labels, suspects, classes=classes)
    write_corrected(output, done.table, overwrite=force)
    if as_json:
        counts = {name: getattr(done, name) for name in ("changed", "kept", "emptied", "undecided")}
        print_json({"rows": len(done.table), **counts, "output": output})
        return
    say(f"Wrote {output}: {done.how}")
