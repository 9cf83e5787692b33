"""The command ``import label-studio``: what was annotated becomes labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from clip_al.cli.exchange.incoming import (
    Before,
    Classes,
    Conflicts,
    MultiLabel,
    OfTable,
    Output,
    read_classes,
    write_labels,
)
from clip_al.cli.options import Force, Json, check_output

IMPORT_LABEL_STUDIO_EXAMPLES = """
From an export as JSON or JSON-MIN, then what to label next:
  clip-al import label-studio export.json --table photos.table -o labels.csv
  clip-al import label-studio export.json --table photos.table \\
      --classes classes.txt --conflicts majority -o labels.csv --force --json
"""


def import_label_studio(
    source: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="An export as JSON or JSON-MIN.")
    ],
    table: OfTable,
    output: Output,
    classes: Classes = None,
    control: Annotated[
        Optional[str],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(
            help="The name of the Choices; needed where the project has several, and for JSON-MIN "
            "without --classes where it is not `choice`."
        ),
    ] = None,
    conflicts: Conflicts = "leave",
    multi_label: MultiLabel = False,
    labelled: Before = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read what was annotated in Label Studio into a file of labels.

    Tasks that are open, skipped or cancelled, or were submitted without a choice,
    annotators who differ, and images that are not in the table are counted and
    named. The file is one for --labelled of `select` and `predict`; for `suspects`,
    which needs a label of each image, pass all labels that there were before as
    --labelled here.
    """
    from clip_al.integrations.label_studio import read_annotations

    check_output(output, force)
    names = read_classes(classes)
    found = read_annotations(
        source, names, conflicts=conflicts, control=control, multi_label=multi_label
    )
    write_labels(
        found,
        source,
        table,
        output,
        labelled=labelled,
        class_names=names,
        force=force,
        as_json=as_json,
    )
