"""Learning curves that people hand over: labels and accuracy, round by round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from clip_al.atomic import as_path
from clip_al.errors import InvalidInputError
from clip_al.handed_in.tables import numbers_of, read_table

COLUMNS = ("labels", "accuracy")


def read_rounds(rounds: Any) -> pd.DataFrame:
    """Return learning curves as one table, whatever they are handed over as.

    Parameters
    ----------
    rounds : path, DataFrame, mapping, or what `pandas.DataFrame` takes
        With the columns ``labels`` (how many images had labels) and ``accuracy`` (of the model
        trained on them, in [0, 1]), and for several curves ``name``; or each curve's labels
        and accuracies under its name: ``{"CBD": ([20, 40], [0.6, 0.7])}``. Not modified.

    Returns
    -------
    DataFrame
        ``name`` (text, empty where there is none), ``labels`` and ``accuracy`` (float), in the
        order of the rows. Several rows of one name and number of labels are repetitions.

    Raises
    ------
    InvalidInputError
        Where a column is missing, there is no row, a number is not finite, or an accuracy
        outside [0, 1].
    """
    where, table = _table(rounds)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing or table.empty:
        found = ", ".join(map(str, table.columns)) or "none"
        raise InvalidInputError(
            f"{where} must have the columns `labels` and `accuracy`, and rows; got the columns "
            f"{found} and {len(table)} rows. Write one row a round."
        )
    numbers = table[list(COLUMNS)].apply(lambda column: numbers_of(column.to_numpy(object)))
    fit = np.isfinite(numbers.to_numpy()).all(axis=1) & numbers["accuracy"].between(0, 1)
    bad = np.flatnonzero(~fit)
    if bad.size:
        row = table.iloc[bad[0]]
        raise InvalidInputError(
            f"{where} must hold finite numbers in `labels`, and in `accuracy` numbers in [0, 1]; "
            f"got {row['labels']} and {row['accuracy']} in row {bad[0] + 1}. Correct that row; "
            "divide per cents by 100."
        )
    names = table["name"].astype(str) if "name" in table.columns else ""
    curves: pd.DataFrame = numbers.assign(name=names)[["name", *COLUMNS]]
    return curves


def mean_curves(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return name, labels (rising) and mean accuracies of each curve that `read_rounds` read.

    In the order in which their names come.
    """
    curves = []
    for name, part in frame.groupby("name", sort=False):
        mean = part.groupby("labels")["accuracy"].mean()
        curves.append({"name": str(name), "labels": mean.index.tolist(), "accuracy": mean.tolist()})
    return curves


def _table(rounds: Any) -> tuple[str, pd.DataFrame]:
    """Return what to call the rounds in a message, and their rows as they were given."""
    if isinstance(rounds, (str, os.PathLike)):
        file = as_path(rounds, "rounds")
        return str(file), read_table(file).frame()
    try:
        if isinstance(rounds, Mapping) and not set(COLUMNS) & set(rounds):
            return "`rounds`", _by_name(rounds)
        return "`rounds`", pd.DataFrame(rounds).reset_index(drop=True)
    except (TypeError, ValueError) as exc:
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(
            f"`rounds` must be a table with the columns `labels` and `accuracy`; {exc}. Pass a "
            "DataFrame, a list of dicts, (labels, accuracies) by name, or the path of a CSV file."
        ) from exc


def _by_name(curves: Mapping[str, Any]) -> pd.DataFrame:
    parts = []
    for name, (labels, accuracies) in curves.items():
        if len(labels) != len(accuracies):
            raise InvalidInputError(
                f"`rounds[{name!r}]` must be as many labels as accuracies; got {len(labels)} and "
                f"{len(accuracies)}. Pass one accuracy a round."
            )
        columns = {"name": str(name), "labels": list(labels), "accuracy": list(accuracies)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
