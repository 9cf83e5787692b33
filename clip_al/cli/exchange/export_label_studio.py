"""The command ``export label-studio``: picks as tasks to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional
from urllib.parse import quote

import typer

from clip_al.cli.exchange.outgoing import (
    ForClasses,
    ForHead,
    MultiLabel,
    NoPreLabels,
    OfTable,
    Outgoing,
    Picks,
    Predictions,
    read_outgoing,
)
from clip_al.cli.options import Force, Json, check_output, print_json, say
from clip_al.errors import InvalidInputError

EXPORT_LABEL_STUDIO_EXAMPLES = """
Picks with pre-labels, zero-shot, or by what `predict` wrote:
  clip-al export label-studio first.csv --table photos.table --classes classes.txt \\
      -o tasks.json --config config.xml
  clip-al export label-studio first.csv --table photos.table \\
      --predictions all.csv --control animal -o tasks.json --json
"""
LOCAL = "/data/local-files/?d="


def export_label_studio(
    picks: Picks,
    table: OfTable,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The tasks, a JSON file for Import.")
    ],
    config: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(help="Write the labeling configuration here too, an XML file."),
    ] = None,
    control: Annotated[
        str, typer.Option(help="The name of the Choices in the labeling configuration.")
    ] = "choice",
    url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="URL",
            help="Where Label Studio finds an image, with {id} or {path} in it, as in "
            "https://host/photos/{id} or s3://bucket/photos/{id}; by default among its local "
            "files, below the folder of the table.",
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
    """Write picks as tasks of Label Studio, best first, with pre-labels and their confidence.

    Other columns of PICKS, such as the score of a suspect and the label it was
    given, are columns of the Data Manager. `clip-al import label-studio` reads
    what was annotated.
    """
    from clip_al.atomic import replacing
    from clip_al.integrations.label_studio import labeling_config, make_tasks, write_tasks

    check_output(output, force)
    check_output(config, force)
    made = read_outgoing(
        picks,
        table,
        classes=classes,
        predictions=predictions,
        labelled=labelled,
        pre_labels=not no_pre_labels,
        multi_label=multi_label,
    )
    names = None if config is None else made.names_for("--config")
    tasks = make_tasks(
        range(len(made.ids)),
        made.ids,
        [_url(made, i, url) for i in range(len(made.ids))],
        explanations=made.explanations,
        pre_labels=made.pre_labels,
        control=control,
        columns=made.columns,
    )
    write_tasks(output, tasks, overwrite=force)
    if config is not None and names is not None:
        with replacing(config, overwrite=force) as file:
            file.write(labeling_config(names, control=control, multi_label=multi_label))
    if as_json:
        print_json({**made.record(), "output": output, "config": config})
        return
    made.say("tasks", output)
    if config is not None:
        say(f"Wrote the labeling configuration to {config}")
    if url is None and any(task["data"]["image"].startswith(LOCAL) for task in tasks):
        say(
            "Label Studio finds the images where it is started with\n"
            "  LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true\n"
            f"  LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={made.table.root}\n"
            "and that folder is a storage of the project (Settings, Cloud Storage, Local files)."
        )


def _url(made: Outgoing, i: int, template: str | None) -> str:
    """Return where Label Studio finds the i-th pick."""
    name, path = made.ids[i], made.paths[i]
    if template is not None:
        if "{id}" not in template and "{path}" not in template:
            raise InvalidInputError(
                f"`--url` must have {{id}} or {{path}} in it; got {template!r}. Put it where the "
                "name of the image belongs."
            )
        as_url = quote if template.partition("://")[0] in ("http", "https", template) else str
        return template.replace("{id}", as_url(name)).replace("{path}", as_url(path))
    below = Path(os.path.relpath(path, made.table.root)) if path else None
    if below is None or below.parts[0] == "..":
        where = f"is at {path!r}" if path else "has no path in the table"
        raise InvalidInputError(
            f"Each image must be a file below the folder of the table, {made.table.root}; {name!r} "
            f"{where}. Say where Label Studio finds it by `--url`."
        )
    return LOCAL + quote(below.as_posix())
