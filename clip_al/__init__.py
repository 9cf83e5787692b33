"""clip_al: which images to label, and which to train on.

Public names load on first use, so that ``import clip_al`` is quick and pulls in none of
torch, open_clip, modAL, faiss or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ClipEncoder": "encoder",
    "EmbeddingTable": "embeddings",
    "ConceptVocabulary": "vocabulary",
    "ConceptProfiles": "concepts",
    "ConceptStatistics": "concepts",
    "ConceptCounts": "diversity",
    "ConceptGram": "diversity",
    "concept_diversity": "diversity",
    "geometric_diversity": "diversity",
    "spectral_diversity": "diversity",
    "margin": "uncertainty",
    "entropy": "uncertainty",
    "least_confidence": "uncertainty",
    "ensemble_variance": "uncertainty",
    "pick_by_geometric_diversity": "greedy",
    "CBDMarginSampling": "query",
    "CBDSampling": "query",
    "PickExplanation": "query",
    "SelectedSubsetSampler": "sampler",
    "ClipAlError": "errors",
    "InvalidInputError": "errors",
    "InvalidTypeError": "errors",
    "MissingDependencyError": "errors",
    "ModelMismatchError": "errors",
    "SkippedImagesWarning": "errors",
    "UnreadableImageError": "errors",
}

__all__ = [
    "CBDMarginSampling",
    "CBDSampling",
    "ClipAlError",
    "ClipEncoder",
    "ConceptCounts",
    "ConceptGram",
    "ConceptProfiles",
    "ConceptStatistics",
    "ConceptVocabulary",
    "EmbeddingTable",
    "InvalidInputError",
    "InvalidTypeError",
    "MissingDependencyError",
    "ModelMismatchError",
    "PickExplanation",
    "SelectedSubsetSampler",
    "SkippedImagesWarning",
    "UnreadableImageError",
    "concept_diversity",
    "ensemble_variance",
    "entropy",
    "geometric_diversity",
    "least_confidence",
    "margin",
    "pick_by_geometric_diversity",
    "spectral_diversity",
]

if TYPE_CHECKING:
    from clip_al.concepts import ConceptProfiles, ConceptStatistics
    from clip_al.diversity import (
        ConceptCounts,
        ConceptGram,
        concept_diversity,
        geometric_diversity,
        spectral_diversity,
    )
    from clip_al.embeddings import EmbeddingTable
    from clip_al.encoder import ClipEncoder
    from clip_al.errors import (
        ClipAlError,
        InvalidInputError,
        InvalidTypeError,
        MissingDependencyError,
        ModelMismatchError,
        SkippedImagesWarning,
        UnreadableImageError,
    )
    from clip_al.greedy import pick_by_geometric_diversity
    from clip_al.query import CBDMarginSampling, CBDSampling, PickExplanation
    from clip_al.sampler import SelectedSubsetSampler
    from clip_al.uncertainty import ensemble_variance, entropy, least_confidence, margin
    from clip_al.vocabulary import ConceptVocabulary


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clip_al' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"clip_al.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
