"""The command ``import fiftyone``: labels or tags of samples become labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

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
from clip_al.errors import InvalidInputError

if TYPE_CHECKING:
    from clip_al.integrations.annotations import Annotations

IMPORT_FIFTYONE_EXAMPLES = """
From what `dataset.write_json` wrote, or an export as FiftyOneDataset:
  clip-al import fiftyone labelled.json --table photos.table -o labels.csv
  clip-al import fiftyone labelled.json --table photos.table --field tags \\
      --classes classes.txt -o labels.csv --force --json

With --dataset NAME in place of the file, and fiftyone installed, from its database.
"""


def import_fiftyone(
    table: OfTable,
    output: Output,
    source: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Argument(
            metavar="[EXPORT]",
            help="What `write_json` of a dataset or a view wrote, or the folder of an export as "
            "FiftyOneDataset.",
        ),
    ] = None,
    dataset: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME", help="A dataset in FiftyOne's database, in place of EXPORT."),
    ] = None,
    field: Annotated[
        str,
        typer.Option(
            help="The field of the samples that has the labels; tags: those that are called like a "
            "class of --classes."
        ),
    ] = "ground_truth",
    classes: Classes = None,
    conflicts: Conflicts = "leave",
    multi_label: MultiLabel = False,
    labelled: Before = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Read the labels that samples got in FiftyOne into a file of labels.

    Samples without a label, those of one image that differ, images that are not in
    the table, and tags that are no class are counted and named. The file is one for
    --labelled of `select` and `predict`; for `suspects`, which needs a label of each
    image, pass all labels that there were before as --labelled here.
    """
    check_output(output, force)
    if (source is None) == (dataset is None):
        raise InvalidInputError(
            "One of EXPORT (a file) and `--dataset` (a dataset in FiftyOne's database) must be "
            f"given; got {'neither' if source is None else 'both'}. Pass one."
        )
    names = read_classes(classes)
    write_labels(
        _read(source, dataset, names, field, conflicts, multi_label),
        source or f"the dataset {dataset!r}",
        table,
        output,
        labelled=labelled,
        class_names=names,
        force=force,
        as_json=as_json,
    )


def _read(
    source: Path | None,
    name: str | None,
    class_names: list[str] | None,
    field: str,
    conflicts: str,
    multi_label: bool,
) -> Annotations:
    from clip_al.errors import missing_extra
    from clip_al.integrations import fiftyone_files

    if source is not None:
        return fiftyone_files.read_annotations(
            source, class_names, field=field, conflicts=conflicts, multi_label=multi_label
        )
    try:
        import fiftyone
    except ImportError as exc:
        raise missing_extra("`--dataset` needs fiftyone", "fiftyone", ", or pass a file") from exc
    from clip_al.integrations.fiftyone import read_annotations

    if not fiftyone.dataset_exists(name):
        there = ", ".join(map(repr, fiftyone.list_datasets()[:5])) or "none"
        raise InvalidInputError(
            f"`--dataset` must be one of FiftyOne's database; got {name!r}, where there are "
            f"{there}. Correct the name."
        )
    return read_annotations(
        fiftyone.load_dataset(name),
        class_names,
        label_field=field,
        conflicts=conflicts,
        multi_label=multi_label,
    )
