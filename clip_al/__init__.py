"""clip_al: which images to label, and which to train on.

Public names load on first use, so that ``import clip_al`` is quick and pulls in none of
torch, open_clip, modAL, faiss or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ClipEncoder": "encode.encoder",
    "EmbeddingTable": "encode.table",
    "DeviceEmbeddings": "arrays.device",
    "encode_shard": "encode.table_shards",
    "ConceptVocabulary": "concepts.vocabulary",
    "ConceptProfiles": "concepts.profiles",
    "ConceptStatistics": "concepts.profiles",
    "ConceptCounts": "concepts.diversity",
    "ConceptGram": "concepts.diversity",
    "concept_diversity": "concepts.diversity",
    "geometric_diversity": "concepts.diversity",
    "spectral_diversity": "concepts.diversity",
    "margin": "label.uncertainty",
    "entropy": "label.uncertainty",
    "least_confidence": "label.uncertainty",
    "ensemble_variance": "label.uncertainty",
    "pick_by_geometric_diversity": "label.greedy",
    "CBDMarginSampling": "label.concept_sampling",
    "CBDSampling": "label.concept_sampling",
    "PickExplanation": "label.concept_sampling",
    "mean_neighbour_distances": "score.neighbors",
    "neighbour_graph": "score.neighbors",
    "CrossFitAdapter": "adapt.cross_fit",
    "DatasetAdapter": "adapt.adapter",
    "class_prototypes": "score.alignment_diversity",
    "sample_diversity_scores": "score.alignment_diversity",
    "semantic_alignment_scores": "score.alignment_diversity",
    "standardize_scores": "score.alignment_diversity",
    "LabelNoise": "score.label_noise",
    "estimate_label_noise": "score.label_noise",
    "Selection": "subset.selection",
    "SelectionOptimizer": "subset.optimizer",
    "ClipSelector": "subset.selector",
    "AlignmentDiversitySampling": "label.alignment_sampling",
    "SelectedSubsetSampler": "samplers.sampler",
    "write_report": "show.report.write",
    "DistributedSelectedSubsetSampler": "samplers.distributed",
    "check_shards": "samplers.distributed",
    "ClipAlError": "errors",
    "InvalidInputError": "errors",
    "InvalidTypeError": "errors",
    "MissingDependencyError": "errors",
    "ModelMismatchError": "errors",
    "SkippedImagesWarning": "errors",
    "UnreadableImageError": "errors",
}

__all__ = [
    "AlignmentDiversitySampling",
    "CBDMarginSampling",
    "CBDSampling",
    "ClipAlError",
    "ClipEncoder",
    "ClipSelector",
    "ConceptCounts",
    "ConceptGram",
    "ConceptProfiles",
    "ConceptStatistics",
    "ConceptVocabulary",
    "CrossFitAdapter",
    "DatasetAdapter",
    "DeviceEmbeddings",
    "DistributedSelectedSubsetSampler",
    "EmbeddingTable",
    "InvalidInputError",
    "InvalidTypeError",
    "LabelNoise",
    "MissingDependencyError",
    "ModelMismatchError",
    "PickExplanation",
    "SelectedSubsetSampler",
    "Selection",
    "SelectionOptimizer",
    "SkippedImagesWarning",
    "UnreadableImageError",
    "check_shards",
    "class_prototypes",
    "concept_diversity",
    "encode_shard",
    "ensemble_variance",
    "entropy",
    "estimate_label_noise",
    "geometric_diversity",
    "least_confidence",
    "margin",
    "mean_neighbour_distances",
    "neighbour_graph",
    "pick_by_geometric_diversity",
    "sample_diversity_scores",
    "semantic_alignment_scores",
    "spectral_diversity",
    "standardize_scores",
    "write_report",
]

if TYPE_CHECKING:
    from clip_al.adapt.adapter import DatasetAdapter
    from clip_al.adapt.cross_fit import CrossFitAdapter
    from clip_al.arrays.device import DeviceEmbeddings
    from clip_al.concepts.diversity import (
        ConceptCounts,
        ConceptGram,
        concept_diversity,
        geometric_diversity,
        spectral_diversity,
    )
    from clip_al.concepts.profiles import ConceptProfiles, ConceptStatistics
    from clip_al.concepts.vocabulary import ConceptVocabulary
    from clip_al.encode.encoder import ClipEncoder
    from clip_al.encode.table import EmbeddingTable
    from clip_al.encode.table_shards import encode_shard
    from clip_al.errors import (
        ClipAlError,
        InvalidInputError,
        InvalidTypeError,
        MissingDependencyError,
        ModelMismatchError,
        SkippedImagesWarning,
        UnreadableImageError,
    )
    from clip_al.label.alignment_sampling import AlignmentDiversitySampling
    from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling, PickExplanation
    from clip_al.label.greedy import pick_by_geometric_diversity
    from clip_al.label.uncertainty import ensemble_variance, entropy, least_confidence, margin
    from clip_al.samplers.distributed import DistributedSelectedSubsetSampler, check_shards
    from clip_al.samplers.sampler import SelectedSubsetSampler
    from clip_al.score.alignment_diversity import (
        class_prototypes,
        sample_diversity_scores,
        semantic_alignment_scores,
        standardize_scores,
    )
    from clip_al.score.label_noise import LabelNoise, estimate_label_noise
    from clip_al.score.neighbors import mean_neighbour_distances, neighbour_graph
    from clip_al.show.report.write import write_report
    from clip_al.subset.optimizer import SelectionOptimizer
    from clip_al.subset.selection import Selection
    from clip_al.subset.selector import ClipSelector


def __getattr__(name: str) -> Any:
    if name == "plots":  # a room of its own: `clip_al.show.plots.image_grid`
        return importlib.import_module("clip_al.show.plots")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clip_al' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"clip_al.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
