"""Embed, profile, score, select and pick over a Ray Dataset: `steps` has them and says how.

What workers run is in `batches`, what is asked of Ray in `runs`, the distributed top-k in
`threshold`.
"""

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
    "profile",
    "score",
    "select",
]
