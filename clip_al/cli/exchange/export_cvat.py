"""The command ``export cvat``: picks and their pre-labels for a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from clip_al.cli.exchange.outgoing import (
    ForClasses,
    ForHead,
    MultiLabel,
    NoPreLabels,
    OfTable,
    Picks,
    Predictions,
    read_outgoing,
)
from clip_al.cli.options import Force, Json, check_output, print_json, say

EXPORT_CVAT_EXAMPLES = """
Pre-labels, the images under the names that they go by, and the labels of the task:
  clip-al export cvat first.csv --table photos.table --classes classes.txt \\
      -o pre-labels.xml --images first.zip --task-labels task-labels.json
  clip-al export cvat first.csv --table photos.table --predictions all.csv \\
      -o pre-labels.xml --force --json
"""


def export_cvat(
    picks: Picks,
    table: OfTable,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Pre-labels, XML in the format CVAT 1.1.")
    ],
    images: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(
            metavar="FILE.zip", help="Write the images here too, by their ids: data of a task."
        ),
    ] = None,
    task_labels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE.json", help="Write the labels of the task here too: tags, as Raw."
        ),
    ] = None,
    classes: ForClasses = None,
    predictions: Predictions = None,
    labelled: ForHead = None,
    no_pre_labels: NoPreLabels = False,
    multi_label: MultiLabel = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write picks for CVAT: tags as pre-labels, each with its confidence as an attribute.

    CVAT finds images by their names, so the data of the task must be what
    --images writes, or files whose paths are the ids of the table. It shows
    them by name, not by rank. `clip-al import cvat` reads what was annotated.
    """
    from clip_al.integrations import cvat

    for path in (output, images, task_labels):
        check_output(path, force)
    made = read_outgoing(
        picks,
        table,
        classes=classes,
        predictions=predictions,
        labelled=labelled,
        pre_labels=not no_pre_labels,
        multi_label=multi_label,
    )
    names = made.names_for("export cvat")
    made.check_files()
    cvat.write_pre_labels(
        output,
        made.ids,
        names,
        pre_labels=made.pre_labels,
        sizes=[cvat.size_of(path) for path in made.paths],
        overwrite=force,
    )
    if images is not None:
        cvat.write_images(images, made.ids, made.paths, overwrite=force)
    if task_labels is not None:
        cvat.write_task_labels(task_labels, names, overwrite=force)
    if as_json:
        more = {"archive": images, "task_labels": task_labels}
        print_json({**made.record(), "output": output, **more})
        return
    made.say("images", output)
    if images is not None and task_labels is not None:
        say(
            f"Wrote {images} and {task_labels}. Next, with `pip install cvat-cli`:\n"
            f"  cvat-cli --server-host HOST task create {output.stem} --labels {task_labels} \\\n"
            f'      --annotation_path {output} --annotation_format "CVAT 1.1" local {images}'
        )
    elif images is not None or task_labels is not None:
        say(f"Wrote {images or task_labels}")
