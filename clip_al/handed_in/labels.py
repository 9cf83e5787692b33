"""Labels and groups that people hand over in files, and the files of what was chosen by them.

Rows of a file are matched to the images of a table by id; without ids, by position.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clip_al.arrays.labels import encode_labels
from clip_al.encode.table import EmbeddingTable
from clip_al.errors import InvalidInputError
from clip_al.handed_in.picks_and_probabilities import in_order, load_npy, read_csv
from clip_al.subset.selection import Selection
from clip_al.subset.selection_summaries import Suspect

FOLDERS = "folders"
"""In place of a file of labels: each image has the name of the folder that it is in."""


def read_labels(
    source: str | Path, table: EmbeddingTable, classes: str | Path | None = None
) -> tuple[NDArray[np.int64], list[str]]:
    """Read the label of each image of a table, and what the classes are called.

    Parameters
    ----------
    source : str or Path
        "folders": the name of the folder that each image is in. Otherwise a CSV file with
        the columns ``id`` and ``label``, or ``label`` alone in the table's order; a text
        file with one label a line; or .npy of shape (n,). Labels are names or numbers.
    table : EmbeddingTable
        Whose images they are of; a file with ids may name more.
    classes : str or Path, optional
        A text file, one name a line, class 0 first. Left out, the classes are the names
        that occur, sorted; numbers need it.

    Returns
    -------
    ndarray of shape (n,), int64
        Class numbers.
    list of str
        Class names.
    """
    given = _folder_names(table) if str(source) == FOLDERS else _read_column(source, table, "label")
    numbers = pd.to_numeric(pd.Series(given), errors="coerce")
    are_numbers = bool((numbers % 1 == 0).all())
    if classes is None and are_numbers:
        raise InvalidInputError(
            "`--classes` must name the classes where labels are numbers, as CLIP reads names; "
            f"got the label {given[0]!r} and no names. Pass a text file, one name a line, "
            "class 0 first."
        )
    names = sorted(set(given)) if classes is None else _read_names(classes)
    labels: Any = given
    # Classes may be called "0", "1" …: then the labels are their names.
    if are_numbers and not set(given) <= set(names):
        labels = numbers.to_numpy(dtype=np.int64)
    codes = encode_labels(
        labels, n_images=len(table), n_classes=len(names), class_names=names, name="--labels"
    )
    return codes, names


def read_groups(path: str | Path, table: EmbeddingTable) -> list[str]:
    """Read the group of each image of a table: as labels, with a column ``group``."""
    return _read_column(path, table, "group")


def _read_column(path: str | Path, table: EmbeddingTable, column: str) -> list[str]:
    """Return one text for each image of a table, in its order."""
    values: list[str]
    if Path(path).suffix == ".npy":
        array = load_npy(path)
        if array.ndim != 1 or array.dtype.kind not in "iuU":
            raise InvalidInputError(
                f"{path} must hold one name or whole number an image; got shape {array.shape} "
                f"and dtype {array.dtype}. Convert it, for instance with `astype(int)`."
            )
        values = array.astype(str).tolist()
    else:
        rows = read_csv(path)
        if column in rows.columns:
            if "id" in rows.columns:
                rows = in_order(rows, path, table, f"Give each a {column}.")
            values = rows[column].tolist()
        elif len(rows.columns) > 1:
            raise InvalidInputError(
                f"{path} must have a column `{column}`, or be one {column} a line; got the "
                f"columns {', '.join(map(str, rows.columns))}. Name the column `{column}`."
            )
        else:  # no header: the first line is like the others
            values = [str(rows.columns[0]), *rows.iloc[:, 0].tolist()]
    if len(values) != len(table):
        raise InvalidInputError(
            f"{path} must have one {column} for each of the {len(table)} images; got "
            f"{len(values)}. Call a header line `{column}`, and have a column `id` where the "
            "order is not the table's."
        )
    if "" in values:
        raise InvalidInputError(
            f"{path} must give each image a {column}; {table.ids[values.index('')]!r} has none. "
            "Fill it in, or make a table without the image."
        )
    return values


def _folder_names(table: EmbeddingTable) -> list[str]:
    folders = [os.path.split(os.path.dirname(path)) for path in table.paths]  # noqa: PTH120
    root = os.path.split(table.root)
    for index, folder in enumerate(folders):
        if folder == root or not folder[1]:
            raise InvalidInputError(
                f"With `--labels {FOLDERS}`, each image must be in a folder of its class below "
                f"{table.root}; {table.ids[index]!r} is not. Pass a file of labels."
            )
    return [name for _, name in folders]


def _read_names(path: str | Path) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as exc:
        raise InvalidInputError(f"{path} must be UTF-8 text; {exc}. Save it as UTF-8.") from exc
    names = [line.strip() for line in lines] or [""]
    if len(set(names)) != len(names) or not all(names):
        bad = next(name for i, name in enumerate(names) if not name or name in names[:i])
        raise InvalidInputError(
            f"{path} must name each class once, one a line; got "
            f"{f'{bad!r} more than once' if bad else 'an empty line'}. Correct it."
        )
    return names


def write_subset(
    path: str | Path,
    selection: Selection,
    *,
    paths: Sequence[str] | NDArray[Any],
    all_images: bool = False,
) -> None:
    """Write the chosen images to a CSV file, by position, one line an image.

    Parameters
    ----------
    path : str or Path
        Replaced where it exists.
    selection : Selection
        With ids.
    paths : sequence of str
        Of all images, by position.
    all_images : bool
        Write the others too, with a column ``selected`` and all that is known of each.
    """
    frame = selection.to_frame().rename(columns={"given": "label"})
    frame.insert(2, "path", list(paths))
    if not all_images:
        wanted = ["index", "id", "path", "label", "group", "sas", "sds", "total"]
        shown = [name for name in wanted if name in frame.columns]
        frame = frame.loc[frame["selected"], shown]
    frame.to_csv(path, index=False)


def suspect_frame(suspects: Sequence[Suspect]) -> pd.DataFrame:
    """Return suspects as a table: index, id, given and likelier label, score."""
    rows = [(s.index, s.id, s.given, s.likeliest, s.score) for s in suspects]
    return pd.DataFrame(rows, columns=["index", "id", "given", "likelier", "score"])
