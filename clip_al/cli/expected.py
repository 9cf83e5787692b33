"""What ``select --classes`` and ``predict`` say of a head: accuracy to expect, go on or stop."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.cli.options import err, say
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    from clip_al.cli.head import TrainedHead
    from clip_al.label.expected.outlook import ExpectedAccuracy
    from clip_al.table.embedding_table import EmbeddingTable


def expect(
    head: TrainedHead | None,
    table: EmbeddingTable,
    unlabelled: NDArray[np.int64],
    random_state: int,
    **options: Any,
) -> ExpectedAccuracy | None:
    """Return what to expect of a head; None where nothing can be said, with the reason on stderr.

    Parameters
    ----------
    head : TrainedHead or None
        None is a model of their own, whose labels are not known.
    table : EmbeddingTable
    unlabelled : ndarray of int64
        Rows that the head labels.
    random_state : int
    **options
        Of `expected_accuracy`.
    """
    from clip_al.label.expected.estimate import LEAST_LABELS, expected_accuracy, is_enough

    codes = None if head is None else head.known.codes
    if head is None or codes is None or not len(codes):
        return None  # zero-shot, as was said
    if head.multi_label:
        err.print(
            "Accuracy to expect is left out: with several labels an image, right and wrong are of "
            "each label by itself. Keep some labelled images aside, and compare.",
            highlight=False,
            soft_wrap=True,
        )
        return None
    if not is_enough(np.bincount(codes)):
        err.print(
            f"No accuracy to expect yet: it takes {LEAST_LABELS} labels, two of each of two "
            "classes.",
            highlight=False,
            soft_wrap=True,
        )
        return None
    if not len(unlabelled):
        return None
    with progress_bar(True, f"Holding out some of {len(codes):,} labels", None):
        return expected_accuracy(
            head.classifier,
            table,
            head.known.rows,
            codes,
            unlabelled=unlabelled,
            class_names=head.names,
            random_state=random_state,
            **options,
        )


def print_expected(found: ExpectedAccuracy | None, as_json: bool) -> None:
    """Print it in plain words, unless it is part of what is printed as JSON."""
    if found is not None and not as_json:
        for line in found.lines():
            say(line)


def expected_record(found: ExpectedAccuracy | None) -> dict[str, Any]:
    """Return it for JSON, under the key `expected`; null where nothing can be said."""
    if found is None:
        return {"expected": None}
    record = dataclasses.asdict(found)
    record["classes"] = [
        {
            "class": outlook.label,
            "labels": outlook.n_labels,
            "expected_images": outlook.n_expected,
            "recall": outlook.recall,
            "lacks_labels": outlook.lacks_labels,
        }
        for outlook in found.classes
    ]
    return {"expected": record}
