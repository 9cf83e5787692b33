"""Embed, profile, score, select and pick over a Ray Dataset: `steps` has them and says how.

What workers run is in `batches`, what is asked of Ray in `runs`, the distributed top-k in
`threshold`; `coverage` is the default strategy.
"""

from clip_al.integrations.ray.coverage import pick_by_coverage
from clip_al.integrations.ray.steps import (
    concept_counts,
    concept_statistics,
    embed,
    label_noise,
    pick,
    profile,
    score,
    select,
)

__all__ = [
    "concept_counts",
    "concept_statistics",
    "embed",
    "label_noise",
    "pick",
    "pick_by_coverage",
    "profile",
    "score",
    "select",
]
