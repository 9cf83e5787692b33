"""How each public callable is called with right values: one entry a name of `public_callables`.

A new public callable without an entry makes `test_fuzz` fail.
"""

from __future__ import annotations

from tests.fuzz import (
    of_concepts,
    of_diversity,
    of_files,
    of_find,
    of_images,
    of_labelling,
    of_results,
    of_scores,
    of_training,
)
from tests.fuzz.register import TARGETS

__all__ = ["TARGETS"]
MODULES = (
    of_images,
    of_concepts,
    of_diversity,
    of_files,
    of_find,
    of_labelling,
    of_scores,
    of_training,
    of_results,
)
