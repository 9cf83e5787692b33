"""The command ``export fiftyone``: picks as a dataset, in a file or in FiftyOne's database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

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

EXPORT_FIFTYONE_EXAMPLES = """
A file that FiftyOne loads, by `fiftyone.Dataset.from_json`:
  clip-al export fiftyone first.csv --table photos.table --classes classes.txt \\
      -o first.json
  clip-al export fiftyone first.csv --table photos.table --predictions all.csv \\
      -o first.json --force --json

With --dataset NAME in place of -o, and fiftyone installed, into its database.
"""


def export_fiftyone(
    picks: Picks,
    table: OfTable,
    output: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(
            "--output", "-o", help="A JSON file for `Dataset.from_json`; needs no fiftyone."
        ),
    ] = None,
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME",
            help="A dataset in FiftyOne's database: its samples, found by filepath, get fields and "
            "a tag; where there is none of this name, it is made of the picks.",
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
    """Write picks for FiftyOne: tagged, ranked, with pre-labels and their confidence.

    Samples get the tag `to label`, the fields clip_al_rank and clip_al_id, those
    columns of PICKS that are more than names, the pre-label as clip_al_prediction, and an
    empty `ground_truth`, which `clip-al import fiftyone` reads.
    """
    from clip_al.integrations.fiftyone_files import dataset_of, write_samples

    if (output is None) == (dataset is None):
        raise InvalidInputError(
            "One of `--output` (a file) and `--dataset` (a dataset in FiftyOne's database) must be "
            f"given; got {'neither' if output is None else 'both'}. Pass one."
        )
    check_output(output, force)
    made = read_outgoing(
        picks,
        table,
        classes=classes,
        predictions=predictions,
        labelled=labelled,
        pre_labels=not no_pre_labels,
        multi_label=multi_label,
    )
    made.check_files()
    name = dataset or (output or picks).stem
    columns = dict(made.columns)
    samples = dataset_of(
        made.ids,
        made.paths,
        name=name,
        pre_labels=made.pre_labels,
        columns=columns,
        multi_label=multi_label,
    )
    if output is not None:
        write_samples(output, samples, overwrite=force)
    else:
        _into_database(made, samples, name, multi_label, force)
    if as_json:
        print_json({**made.record(), "output": output, "dataset": name})
        return
    if output is not None:
        made.say("samples", output)
        say(
            "Next, in Python:\n"
            f'  fiftyone.Dataset.from_json("{output}", name="{name}", persistent=True)'
        )
    else:
        made.say("samples", Path(f"the dataset {name!r}"))


def _into_database(
    made: Outgoing, samples: dict[str, Any], name: str, multi_label: bool, force: bool
) -> None:
    """Add the picks to a dataset that is there, or make one of them."""
    from clip_al.errors import missing_extra
    from clip_al.integrations.fiftyone import add_picks, add_pre_labels
    from clip_al.integrations.fiftyone_files import PREDICTION

    try:
        import fiftyone
    except ImportError as exc:
        raise missing_extra("`--dataset` needs fiftyone", "fiftyone", ", or pass `-o`") from exc
    if not fiftyone.dataset_exists(name):
        fiftyone.Dataset.from_dict(samples, name=name, persistent=True)
        return
    dataset = fiftyone.load_dataset(name)
    if made.pre_labels is not None and dataset.has_field(PREDICTION) and not force:
        raise InvalidInputError(
            f"The field {PREDICTION!r} of the dataset {name!r} must be new; it is there. Pass "
            "`--force` to replace it."
        )
    columns = {"id": made.ids, **made.columns}
    add_picks(
        dataset,
        range(len(made.ids)),
        made.paths,
        columns=columns,
        explanations=None,
        overwrite=force,
    )
    if made.pre_labels is not None:
        add_pre_labels(
            dataset, made.paths, made.pre_labels, multi_label=multi_label, overwrite=force
        )
