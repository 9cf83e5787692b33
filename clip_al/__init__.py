"""clip_al: which images to label, and which to train on.

What is public is `clip_al.NAME` of the names below, the modules `clip_al.plots`,
`clip_al.uncertainty`, `clip_al.diversity`, `clip_al.scores`, `clip_al.neighbors`,
`clip_al.files` and `clip_al.errors` with what they document, `clip_al.integrations.X` for each
host X, and the command `clip-al`. Nothing else is: inner modules may move between two releases.

====================  ====================================================================
images to embeddings  `ClipEncoder`, `EmbeddingTable`, `encode_shard`, `DeviceEmbeddings`
concepts              `ConceptVocabulary`, `ConceptProfiles`, `ConceptStatistics`
diversity             `concept_diversity`, `ConceptCounts`, `geometric_diversity`
near-copies, search   `near_duplicates`, `NearDuplicates`, `Leak`, `search`, `Found`
classifier            `ClipClassifier`, `expected_accuracy`, `ExpectedAccuracy`
what to label         `UncertaintyCoverageSampling`, `CBDMarginSampling`, `CBDSampling`,
                      `AlignmentDiversitySampling`,
                      `pick_by_geometric_diversity`, `PickExplanation`
what to train on      `ClipSelector`, `SelectionOptimizer`, `DatasetAdapter`,
                      `CrossFitAdapter`, `estimate_label_noise`, `LabelConfusion`,
                      `LabelNoise`, `check_agreement`, `Agreement`
several labels        `multi_label_suspects`, `MultiLabelSuspects`, `LabelSuspect`
what was chosen       `Selection`, `Suspect`, `SelectionReport`, `Comparison`, `write_report`
training              `SelectedSubsetSampler`, `DistributedSelectedSubsetSampler`
errors                `ClipAlError`, the base of all in `clip_al.errors`
====================  ====================================================================

Public names load on first use, so that ``import clip_al`` is quick and pulls in none of
torch, open_clip, modAL, faiss or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "ClipEncoder": "encode.encoder",
    "EmbeddingTable": "table.embedding_table",
    "encode_shard": "table.shards",
    "DeviceEmbeddings": "arrays.device",
    "ConceptVocabulary": "concepts.vocabulary",
    "ConceptProfiles": "concepts.profiles",
    "ConceptStatistics": "concepts.profiles",
    "ConceptCounts": "concepts.diversity",
    "concept_diversity": "concepts.diversity",
    "geometric_diversity": "concepts.diversity",
    "near_duplicates": "find.near_duplicates",
    "NearDuplicates": "find.copy_groups",
    "Leak": "find.copy_groups",
    "search": "find.search",
    "Found": "find.search",
    "ClipClassifier": "label.head.classifier",
    "expected_accuracy": "label.expected.estimate",
    "ExpectedAccuracy": "label.expected.outlook",
    "UncertaintyCoverageSampling": "label.coverage_sampling",
    "CBDMarginSampling": "label.concept_sampling",
    "CBDSampling": "label.concept_sampling",
    "PickExplanation": "label.explain",
    "AlignmentDiversitySampling": "label.alignment_sampling",
    "pick_by_geometric_diversity": "label.greedy",
    "Agreement": "score.agreement",
    "check_agreement": "score.agreement",
    "LabelConfusion": "score.label_noise.confusion",
    "LabelNoise": "score.label_noise.symmetric",
    "estimate_label_noise": "score.label_noise.estimate",
    "multi_label_suspects": "score.several_labels.suspects",
    "MultiLabelSuspects": "score.several_labels.suspects",
    "LabelSuspect": "score.several_labels.suspects",
    "DatasetAdapter": "adapt.adapter",
    "CrossFitAdapter": "adapt.cross_fit",
    "ClipSelector": "subset.selector",
    "SelectionOptimizer": "subset.optimizer",
    "Selection": "subset.selection",
    "Suspect": "subset.selection_summaries",
    "SelectionReport": "subset.selection_summaries",
    "Comparison": "subset.selection_summaries",
    "SelectedSubsetSampler": "samplers.sampler",
    "DistributedSelectedSubsetSampler": "samplers.distributed",
    "write_report": "show.report.write",
    "ClipAlError": "errors",
}
"""Name -> the module that it is in."""

_MODULES = {
    "diversity": "concepts.diversity",
    "errors": "errors",
    "files": "handed_in.read",
    "neighbors": "score.neighbors",
    "plots": "show.plots",
    "scores": "score.alignment_diversity",
    "uncertainty": "label.uncertainty",
}
"""Public name of a module -> the module."""

__all__ = [
    "Agreement",
    "AlignmentDiversitySampling",
    "CBDMarginSampling",
    "CBDSampling",
    "ClipAlError",
    "ClipClassifier",
    "ClipEncoder",
    "ClipSelector",
    "Comparison",
    "ConceptCounts",
    "ConceptProfiles",
    "ConceptStatistics",
    "ConceptVocabulary",
    "CrossFitAdapter",
    "DatasetAdapter",
    "DeviceEmbeddings",
    "DistributedSelectedSubsetSampler",
    "EmbeddingTable",
    "ExpectedAccuracy",
    "Found",
    "LabelConfusion",
    "LabelNoise",
    "LabelSuspect",
    "Leak",
    "MultiLabelSuspects",
    "NearDuplicates",
    "PickExplanation",
    "SelectedSubsetSampler",
    "Selection",
    "SelectionOptimizer",
    "SelectionReport",
    "Suspect",
    "UncertaintyCoverageSampling",
    "check_agreement",
    "concept_diversity",
    "diversity",
    "encode_shard",
    "errors",
    "estimate_label_noise",
    "expected_accuracy",
    "files",
    "geometric_diversity",
    "multi_label_suspects",
    "near_duplicates",
    "neighbors",
    "pick_by_geometric_diversity",
    "plots",
    "scores",
    "search",
    "uncertainty",
    "write_report",
]

if TYPE_CHECKING:
    from clip_al import errors
    from clip_al.adapt.adapter import DatasetAdapter
    from clip_al.adapt.cross_fit import CrossFitAdapter
    from clip_al.arrays.device import DeviceEmbeddings
    from clip_al.concepts import diversity
    from clip_al.concepts.diversity import ConceptCounts, concept_diversity, geometric_diversity
    from clip_al.concepts.profiles import ConceptProfiles, ConceptStatistics
    from clip_al.concepts.vocabulary import ConceptVocabulary
    from clip_al.encode.encoder import ClipEncoder
    from clip_al.errors import ClipAlError
    from clip_al.find.copy_groups import Leak, NearDuplicates
    from clip_al.find.near_duplicates import near_duplicates
    from clip_al.find.search import Found, search
    from clip_al.handed_in import read as files
    from clip_al.label import uncertainty
    from clip_al.label.alignment_sampling import AlignmentDiversitySampling
    from clip_al.label.concept_sampling import CBDMarginSampling, CBDSampling
    from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
    from clip_al.label.expected.estimate import expected_accuracy
    from clip_al.label.expected.outlook import ExpectedAccuracy
    from clip_al.label.explain import PickExplanation
    from clip_al.label.greedy import pick_by_geometric_diversity
    from clip_al.label.head.classifier import ClipClassifier
    from clip_al.samplers.distributed import DistributedSelectedSubsetSampler
    from clip_al.samplers.sampler import SelectedSubsetSampler
    from clip_al.score import alignment_diversity as scores
    from clip_al.score import neighbors
    from clip_al.score.agreement import Agreement, check_agreement
    from clip_al.score.label_noise.confusion import LabelConfusion
    from clip_al.score.label_noise.estimate import estimate_label_noise
    from clip_al.score.label_noise.symmetric import LabelNoise
    from clip_al.score.several_labels.suspects import (
        LabelSuspect,
        MultiLabelSuspects,
        multi_label_suspects,
    )
    from clip_al.show import plots
    from clip_al.show.report.write import write_report
    from clip_al.subset.optimizer import SelectionOptimizer
    from clip_al.subset.selection import Selection
    from clip_al.subset.selection_summaries import Comparison, SelectionReport, Suspect
    from clip_al.subset.selector import ClipSelector
    from clip_al.table.embedding_table import EmbeddingTable
    from clip_al.table.shards import encode_shard


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(f"clip_al.{_MODULES[name]}")
    elif name in _PUBLIC:
        value = getattr(importlib.import_module(f"clip_al.{_PUBLIC[name]}"), name)
    else:
        raise AttributeError(f"module 'clip_al' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
