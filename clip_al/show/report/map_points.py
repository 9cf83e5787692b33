"""The map of a pool as numbers for the page: where each image lies, and what it can be coloured by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.show.report.data import Shown, rounded
from clip_al.show.report.map import PoolMap


def describe_map(
    found: PoolMap, shown: Shown, labelled: NDArray[np.int64], method: str
) -> dict[str, Any]:
    """Return the places of the pool's sample, of the labelled and of the cards' images."""
    at = {int(index): i for i, index in enumerate(found.indices)}
    cards = [(card, at[i]) for card, i in enumerate(shown.indices.tolist()) if i in at]
    known = np.isin(found.indices, labelled)
    rest = found.in_sample & ~np.isin(found.indices, shown.indices) & ~known
    return {
        "method": method,
        "explained": found.explained,
        "pool": _places(found.xy[rest]),
        "labelled": _places(found.xy[known]),
        "cards": {
            **_places(found.xy[[place for _, place in cards]]),
            "card": [card for card, _ in cards],
        },
    }


def _places(xy: NDArray[np.float32]) -> dict[str, Any]:
    return {"x": rounded(xy[:, 0], 4), "y": rounded(xy[:, 1], 4)}
