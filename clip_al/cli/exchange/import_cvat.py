"""The command ``import cvat``: the tags of an export become labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

IMPORT_CVAT_EXAMPLES = """
From an export "CVAT for images 1.1" of a task, job or project:
  clip-al import cvat task.zip --table photos.table -o labels.csv
  clip-al import cvat annotations.xml --table photos.table --unchanged accept \\
      -o labels.csv --force --json
"""


def import_cvat(
    source: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="The .zip of an export, or the XML in it.")
    ],
    table: OfTable,
    output: Output,
    classes: Classes = None,
    unchanged: Annotated[
        str,
        typer.Option(
            metavar="ask|accept|leave",
            help="Pre-labels that nobody changed: accept them, where somebody looked at all "
            "images; or leave them out. CVAT does not tell who looked: by default an error.",
            autocompletion=lambda: ["ask", "accept", "leave"],
        ),
    ] = "ask",
    conflicts: Conflicts = "leave",
    multi_label: MultiLabel = False,
    labelled: Before = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read the tags that images got in CVAT into a file of labels.

    Images without a tag, those that two tasks label differently, and those that are
    not in the table are counted and named, and so are boxes and other shapes, which
    are no labels of whole images. The file is one for --labelled of `select` and
    `predict`; for `suspects`, which needs a label of each image, pass all labels
    that there were before as --labelled here.
    """
    from clip_al.integrations.cvat import read_annotations

    check_output(output, force)
    names = read_classes(classes)
    found = read_annotations(
        source, names, conflicts=conflicts, multi_label=multi_label, unchanged=unchanged
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
