"""What people take away in files: picks, subsets, suspects, near-copies, what a search found.

Each is written whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.atomic import write_frame
from clip_al.file_names import text_column
from clip_al.find.copy_groups import NearDuplicates
from clip_al.find.search import Found
from clip_al.handed_in.tables import TextTable
from clip_al.label.explain import PickExplanation
from clip_al.score.several_labels.suspects import LabelSuspect
from clip_al.subset.selection import Selection
from clip_al.subset.selection_summaries import Suspect


def write_picks(
    path: str | Path,
    explanations: Sequence[PickExplanation],
    *,
    ids: Sequence[str] | NDArray[Any],
    paths: Sequence[str] | NDArray[Any] | None = None,
    metric: NDArray[np.float64] | None = None,
    metric_name: str = "margin",
    concepts: bool = True,
    overwrite: bool = False,
) -> None:
    """Write picks to a CSV file, best first, one line an image.

    Parameters
    ----------
    path : str or Path
        Put in place at once, when complete.
    explanations : sequence of PickExplanation
        The picks in order.
    ids, paths : sequence of str
        Of all images, by position.
    metric : ndarray of shape (n_picks,), optional
        A number for each pick, in the same order.
    metric_name : str
        Its column.
    concepts : bool
        Write what the picks show; a file without these columns is explained where it is read.
    overwrite : bool
        Replace a file that is there.
    """
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(explanations) + 1),
            "index": [pick.index for pick in explanations],
            "id": text_column(ids[pick.index] for pick in explanations),
        }
    )
    if paths is not None:
        frame["path"] = text_column(paths[pick.index] for pick in explanations)
    if metric is not None:
        frame[metric_name] = metric
    if concepts:
        frame["concepts"] = ["; ".join(pick.concepts) for pick in explanations]
        frame["added_concepts"] = ["; ".join(pick.added) for pick in explanations]
    write_frame(path, frame, overwrite=overwrite)


def write_subset(
    path: str | Path,
    selection: Selection,
    *,
    paths: Sequence[str] | NDArray[Any],
    all_images: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the chosen images to a CSV file, by position, one line an image.

    Parameters
    ----------
    path : str or Path
        Put in place at once, when complete.
    selection : Selection
        With ids.
    paths : sequence of str
        Of all images, by position.
    all_images : bool
        Write the others too, with a column ``selected`` and all that is known of each.
    overwrite : bool
        Replace a file that is there.
    """
    frame = selection.to_frame().rename(columns={"given": "label"})
    frame.insert(2, "path", text_column(paths))
    if not all_images:
        wanted = ["index", "id", "path", "label", "group", "sas", "sds", "total"]
        shown = [name for name in wanted if name in frame.columns]
        frame = frame.loc[frame["selected"], shown]
    write_frame(path, frame, overwrite=overwrite)


def suspect_frame(
    suspects: Sequence[Suspect], paths: Sequence[str] | NDArray[Any] | None = None
) -> pd.DataFrame:
    """Return suspects as a table: index, id, path where known, given, likelier, score."""
    rows = [(s.index, s.given, s.likeliest, s.score) for s in suspects]
    frame = pd.DataFrame(rows, columns=["index", "given", "likelier", "score"])
    frame.insert(1, "id", text_column(s.id for s in suspects))
    if paths is not None:
        frame.insert(2, "path", text_column(paths[suspect.index] for suspect in suspects))
    return frame


def write_suspects(
    path: str | Path,
    suspects: Sequence[Suspect],
    *,
    paths: Sequence[str] | NDArray[Any] | None = None,
    truth: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write suspects to a CSV file, worst first.

    Parameters
    ----------
    path : str or Path
        Put in place at once, when complete.
    suspects : sequence of Suspect
    paths : sequence of str, optional
        Of all images, by position.
    truth : sequence of str, optional
        The right labels, where they are known; else there is an empty column ``decision``, for
        `apply_decisions`.
    overwrite : bool
        Replace a file that is there.
    """
    frame = suspect_frame(suspects, paths)
    if truth is not None:
        frame["truth"] = list(truth)
    else:
        frame["decision"] = ""
    write_frame(path, frame, overwrite=overwrite)


def label_suspect_frame(
    suspects: Sequence[LabelSuspect], paths: Sequence[str] | NDArray[Any] | None = None
) -> pd.DataFrame:
    """Return suspects among several labels as a table: index, id, path where known, label,
    suspected (given or missing), probability.
    """
    rows = [
        (s.index, s.label, "given" if s.is_given else "missing", round(s.probability, 4))
        for s in suspects
    ]
    frame = pd.DataFrame(rows, columns=["index", "label", "suspected", "probability"])
    frame.insert(1, "id", text_column(s.id for s in suspects))
    if paths is not None:
        frame.insert(2, "path", text_column(paths[suspect.index] for suspect in suspects))
    return frame


def write_label_suspects(
    path: str | Path,
    suspects: Sequence[LabelSuspect],
    *,
    paths: Sequence[str] | NDArray[Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write suspects among several labels to a CSV file, worst first, a line a label.

    With an empty column ``decision``, for `apply_pair_decisions`.
    """
    frame = label_suspect_frame(suspects, paths)
    frame["decision"] = ""
    write_frame(path, frame, overwrite=overwrite)


def write_copies(
    path: str | Path,
    copies: NearDuplicates,
    *,
    ids: Sequence[str] | NDArray[Any],
    paths: Sequence[str] | NDArray[Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write groups of near-copies to a CSV file, group by group, one line an image.

    Parameters
    ----------
    path : str or Path
        Put in place at once, when complete.
    copies : NearDuplicates
    ids, paths : sequence of str
        Of all images, by position.
    overwrite : bool
        Replace a file that is there.
    """
    frame = copies.to_frame(ids, paths)
    frame["similarity"] = frame["similarity"].round(6)
    write_frame(path, frame, overwrite=overwrite)


def write_found(
    path: str | Path,
    found: Found,
    *,
    ids: Sequence[str] | NDArray[Any],
    paths: Sequence[str] | NDArray[Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write what a search found to a CSV file, most similar first; see `write_copies`.

    The report reads it as it reads picks.
    """
    frame = found.to_frame(ids, paths)
    frame["similarity"] = frame["similarity"].round(6)
    write_frame(path, frame, overwrite=overwrite)


def write_corrected(path: str | Path, table: TextTable, *, overwrite: bool = False) -> None:
    """Write a file of labels after its correction: UTF-8, comma separated."""
    write_frame(path, table.frame(), overwrite=overwrite)
