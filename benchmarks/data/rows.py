"""Rows of length 1, as CLIP's embeddings are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Scale rows to unit length; no row is zero."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
