"""Learning curves that people hand over: labels and accuracy, round by round. Imports `files`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clip_al.errors import InvalidInputError
from clip_al.handed_in.read import read_csv

COLUMNS = ("labels", "accuracy")


def read_rounds(rounds: Any) -> list[dict[str, Any]]:
    """Return learning curves, in the order in which their names come.

    Parameters
    ----------
    rounds : path, DataFrame, or what `pandas.DataFrame` takes
        With the columns ``labels`` (how many images had labels) and ``accuracy`` (of the model
        trained on them, in [0, 1] or percent), and for several curves ``name``.

    Returns
    -------
    list of dict
        ``name``, and ``labels`` and ``accuracy`` as lists, by rising number of labels.

    Raises
    ------
    InvalidInputError
        Where a column is missing, there is no row, or a cell is no number.
    """
    where = str(rounds) if isinstance(rounds, (str, os.PathLike)) else "`rounds`"
    table = read_csv(Path(rounds)) if isinstance(rounds, (str, os.PathLike)) else _frame(rounds)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing or table.empty:
        found = ", ".join(map(str, table.columns)) or "none"
        raise InvalidInputError(
            f"{where} must have the columns `labels` and `accuracy`, and rows; got the columns "
            f"{found} and {len(table)} rows. Write one row a round."
        )
    numbers = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce").astype(float)
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy()).all(axis=1))
    if bad.size:
        row = table.iloc[bad[0]]
        raise InvalidInputError(
            f"{where} must hold numbers in `labels` and `accuracy`; got {row['labels']!r} and "
            f"{row['accuracy']!r} in row {bad[0] + 1}. Correct that row."
        )
    names = table["name"].astype(str) if "name" in table.columns else ""
    numbers = numbers.assign(name=names).sort_values("labels", kind="stable")
    return [
        {
            "name": str(name),
            "labels": part["labels"].tolist(),
            "accuracy": part["accuracy"].tolist(),
        }
        for name, part in sorted(
            numbers.groupby("name", sort=False), key=lambda group: group[1].index.min()
        )
    ]


def _frame(rounds: Any) -> pd.DataFrame:
    try:
        return pd.DataFrame(rounds).reset_index(drop=True)
    except (TypeError, ValueError) as exc:
        raise InvalidInputError(
            f"`rounds` must be a table with the columns `labels` and `accuracy`; {exc}. Pass a "
            "DataFrame, a list of dicts, or the path of a CSV file."
        ) from exc
