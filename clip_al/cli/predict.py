"""The command ``predict``: a label for every image of a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from clip_al.atomic import write_frame
from clip_al.cli.expected import expect, expected_record, print_expected
from clip_al.cli.head import TrainedHead, train_head
from clip_al.cli.options import (
    Force,
    Json,
    Model,
    MultiLabel,
    Pretrained,
    TablePath,
    check_output,
    open_table,
    out,
    print_json,
    say,
    warn_of_gone,
)
from clip_al.file_names import text_column
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from clip_al.table.embedding_table import EmbeddingTable

PREDICT_EXAMPLES = """
By the names of the classes alone, and with labels, however few:
  clip-al predict photos.table --classes classes.txt -o all.csv
  clip-al predict photos.table --classes classes.txt --labelled labelled.csv \\
      -o all.csv --json
Several labels an image, or none:
  clip-al predict photos.table --classes classes.txt --labelled lists.csv \\
      --multi-label -o all.csv
"""
LOW = 0.5
"""A label that is less likely than not is counted as unsure."""


def predict(
    table_path: TablePath,
    classes: Annotated[Path, typer.Option(help="Names of the classes, one a line.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="CSV file, one line an image of the table.")
    ],
    labelled: Annotated[
        Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10 too
        typer.Option(
            help="Labels of some images: CSV with `id` and `label`, where no label is a blank."
        ),
    ] = None,
    multi_label: MultiLabel = False,
    random_state: Annotated[int, typer.Option(min=0, help="Seed.")] = 0,
    model: Model = None,
    pretrained: Pretrained = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Label all images of a table: zero-shot, or by a head trained on the labels that there are.

    The file has the columns id, path, label, confidence and source. Images that have a
    label keep it (source is given); the others get the likeliest class (source is
    predicted). The confidence is the head's probability of the label in the file: a low
    one of a given label speaks against that label. From 20 labels on, the accuracy to
    expect is shown, and what 50 more labels promise.

    With --multi-label an image gets every class that is likelier than not, as `cat;dog`,
    with the confidence of each as `0.93;0.71`; or `-`, with how sure it is that none
    applies.
    """
    check_output(output, force)
    table = open_table(table_path)
    warn_of_gone(table, "are labelled all the same")
    head = train_head(table, classes, labelled, model, pretrained, random_state, multi_label)
    if multi_label:
        from clip_al.cli.predict_several import predict_several

        predict_several(head, table, output, force, as_json)
        return
    labels = _label(head, table)
    write_frame(output, _frame(head, table, labels), overwrite=force)
    found = expect(head, table, np.flatnonzero(~labels.given_n), random_state)
    result = {**_summary(head, labels), **expected_record(found)}
    if as_json:
        print_json({**result, "output": output})
        return
    shown = Table("class", "images", "of them given", title="Labels")
    for row in result["counts"]:
        shown.add_row(escape(row["class"]), f"{row['images']:,}", f"{row['given']:,}")
    out.print(shown)
    say(
        f"Wrote {len(table):,} rows to {output}; {result['unsure']:,} of the predicted labels have "
        f"a confidence below {LOW:.0%}: likelier wrong than right."
    )
    print_expected(found, as_json)


@dataclass(frozen=True)
class _Labels:
    """Of each image the class, how likely it is, and whether people gave it."""

    code_n: NDArray[np.int64]
    confidence_n: NDArray[np.float64]
    given_n: NDArray[np.bool_]


def _label(head: TrainedHead, table: EmbeddingTable) -> _Labels:
    """Keep the labels that there are, and predict the others."""
    code_n, given_n = np.empty(len(table), np.int64), np.zeros(len(table), bool)
    confidence_n = np.empty(len(table))
    if head.known.codes is not None:
        given_n[head.known.rows] = True
        code_n[head.known.rows] = head.known.codes
    with progress_bar(True, f"Predicting {len(table):,} images", None):
        for rows, prob_bk in head.blocks(table):
            code_b = np.where(given_n[rows], code_n[rows], prob_bk.argmax(axis=1))
            code_n[rows] = code_b
            confidence_n[rows] = prob_bk[np.arange(len(prob_bk)), code_b]
    return _Labels(code_n, confidence_n, given_n)


def _frame(head: TrainedHead, table: EmbeddingTable, labels: _Labels) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "id": text_column(table.ids),
            "path": text_column(table.paths),
            "label": np.array(head.names, dtype=object)[labels.code_n],
            "confidence": labels.confidence_n.round(4),
            "source": np.where(labels.given_n, "given", "predicted"),
        }
    )


def _summary(head: TrainedHead, labels: _Labels) -> dict[str, Any]:
    k, given_n = len(head.names), labels.given_n
    images_k = np.bincount(labels.code_n, minlength=k)
    given_k = np.bincount(labels.code_n[given_n], minlength=k)
    counts = zip(head.names, images_k, given_k, strict=True)
    return {
        "images": len(given_n),
        "labels": head.n_labels,
        "counts": [{"class": name, "images": n, "given": g} for name, n, g in counts],
        "unsure": int((labels.confidence_n[~given_n] < LOW).sum()),
        "mean_confidence": labels.confidence_n.mean(),
    }
