"""``predict --multi-label``: every label of every image of a table, with its confidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from clip_al.atomic import write_frame
from clip_al.cli.expected import expect, expected_record
from clip_al.cli.head import TrainedHead
from clip_al.cli.options import out, print_json, say
from clip_al.errors import InvalidInputError
from clip_al.file_names import text_column
from clip_al.handed_in.several_labels import NONE, SEPARATORS
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.table.embedding_table import EmbeddingTable

SHOWN = 0.5
UNSURE = (0.25, 0.75)
"""A label between these is likelier than not one way, and not by much."""


def predict_several(
    head: TrainedHead, table: EmbeddingTable, output: Path, force: bool, as_json: bool
) -> None:
    """Write the labels of all images: those that were given, and the likely ones of the others."""
    separator = _separator(head.names)
    given_n = np.zeros(len(table), dtype=bool)
    shown_nk = np.zeros((len(table), len(head.names)), dtype=bool)
    if head.known.codes is not None:
        given_n[head.known.rows] = True
        shown_nk[head.known.rows] = head.known.codes
    labels, confidences, n_unsure = [], [], 0
    with progress_bar(True, f"Predicting {len(table):,} images", None):
        for rows, prob_bk in head.blocks(table):
            shown_nk[rows] = np.where(given_n[rows, None], shown_nk[rows], prob_bk > SHOWN)
            unsure_b = ((prob_bk > UNSURE[0]) & (prob_bk < UNSURE[1])).any(axis=1)
            n_unsure += int((unsure_b & ~given_n[rows]).sum())
            for shown_k, prob_k in zip(shown_nk[rows], prob_bk, strict=True):
                label, confidence = _cells(head.names, shown_k, prob_k, separator)
                labels.append(label)
                confidences.append(confidence)
    write_frame(output, _frame(table, labels, confidences, given_n), overwrite=force)
    expect(head, table, np.flatnonzero(~given_n), 0)  # says why there is none
    result = _summary(head, shown_nk, given_n, n_unsure)
    if as_json:
        print_json({**result, **expected_record(None), "output": output})
        return
    printed = Table("label", "images", "of them given", title="Labels")
    for row in result["counts"]:
        printed.add_row(escape(row["class"]), f"{row['images']:,}", f"{row['given']:,}")
    out.print(printed)
    say(
        f"Wrote {len(table):,} rows to {output}; {result['without']:,} images have none of the "
        f"labels, and {n_unsure:,} of the predicted a label of which it is not sure "
        f"({UNSURE[0]:.0%} to {UNSURE[1]:.0%})."
    )


def _separator(names: list[str]) -> str:
    """Return what no name holds."""
    free = [one for one in SEPARATORS if not any(one in name for name in names)]
    if not free:
        raise InvalidInputError(
            f"Names of classes must leave one of {' and '.join(map(repr, SEPARATORS))} free, to "
            "stand between the labels of an image; both occur in `--classes`. Rename a class."
        )
    return free[0]


def _cells(
    names: list[str], shown_k: NDArray[np.bool_], prob_k: NDArray[Any], separator: str
) -> tuple[str, str]:
    """Return the labels of an image, the likeliest first, and the confidence of each."""
    chosen = np.flatnonzero(shown_k)
    if not chosen.size:
        return NONE, f"{np.prod(1.0 - prob_k):.4f}"
    chosen = chosen[np.argsort(-prob_k[chosen], kind="stable")]
    return (
        separator.join(names[j] for j in chosen),
        separator.join(f"{prob_k[j]:.4f}" for j in chosen),
    )


def _frame(
    table: EmbeddingTable, labels: list[str], confidences: list[str], given_n: NDArray[np.bool_]
) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            "id": text_column(table.ids),
            "path": text_column(table.paths),
            "label": np.array(labels, dtype=object),
            "confidence": np.array(confidences, dtype=object),
            "source": np.where(given_n, "given", "predicted"),
        }
    )


def _summary(
    head: TrainedHead, shown_nk: NDArray[np.bool_], given_n: NDArray[np.bool_], n_unsure: int
) -> dict[str, Any]:
    images_k, given_k = shown_nk.sum(axis=0), shown_nk[given_n].sum(axis=0)
    counts = zip(head.names, images_k, given_k, strict=True)
    return {
        "images": len(given_n),
        "labelled_images": head.n_labels,
        "counts": [{"class": name, "images": n, "given": g} for name, n, g in counts],
        "without": int((~shown_nk.any(axis=1)).sum()),
        "unsure": n_unsure,
    }
