"""Names of files that are no UTF-8, as pandas, Parquet and pages can hold them.

Python keeps the bytes of such a name as lone surrogates (``os.fsdecode``). CSV files, standard
output and tables of ours give the bytes back; JSON has ``\\udce9``; Parquet and HTML, which
hold Unicode alone, have the byte as ``\\xe9``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def text_column(values: Iterable[Any]) -> pd.Series:
    """Return texts as a column; of Python objects where pandas' own type cannot hold them."""
    import pandas as pd

    held = values if isinstance(values, np.ndarray) else list(values)
    try:
        return pd.Series(held)
    except UnicodeEncodeError:
        return pd.Series(held, dtype=object)


def shown_name(name: str) -> str:
    """Return a name in Unicode alone.

    Examples
    --------
    >>> shown_name("caf\\udce9.png") == "caf" + chr(92) + "xe9.png"
    True
    """
    if _is_unicode(name):
        return name
    content = name.encode("utf-8", "surrogateescape")
    return content.decode("utf-8", "backslashreplace")


def shown_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts are Unicode alone."""
    odd = {
        name: [shown_name(cell) if isinstance(cell, str) else cell for cell in frame[name]]
        for name in frame.columns
        if frame[name].dtype == object
    }
    return frame.assign(**odd) if odd else frame


def _is_unicode(value: Any) -> bool:
    if not isinstance(value, str) or value.isascii():
        return True
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
