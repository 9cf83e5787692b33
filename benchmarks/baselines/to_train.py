"""Every method that chooses labelled images to train on, by the name it has in the tables.

Each takes a task and how many images it may keep, and returns their indices. Directions:
where a paper ranks by difficulty the hardest are kept, as the paper does, wrong labels and
all; cleanlab keeps the most credible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.ccs import area_under_margin, ccs_indices
from benchmarks.baselines.cg_score import cg_scores
from benchmarks.baselines.cleanlab_pruning import label_quality
from benchmarks.baselines.d2 import d2_indices
from benchmarks.baselines.el2n import el2n_scores
from benchmarks.baselines.forgetting import forgetting_scores
from benchmarks.baselines.glister import glister_indices
from benchmarks.baselines.grand import grand_scores
from benchmarks.baselines.herding import herding_indices
from benchmarks.baselines.moderate import moderate_indices
from benchmarks.baselines.moso import moso_scores
from benchmarks.baselines.prototypes import prototype_distances
from benchmarks.baselines.tasks import Indices, ToTrain, TrainingTask, highest


def keep_random(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep any images, all alike."""
    return np.random.default_rng(task.seed).permutation(len(task.given_n))[:n_wanted]


def keep_herding(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep images whose mean feature matches their class's."""
    return herding_indices(task.record.features_nf, task.given_n, n_wanted)


def keep_moderate(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep images at a middling distance from the centre of their class."""
    return moderate_indices(task.record.features_nf, task.given_n, n_wanted)


def keep_far_from_prototypes(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images farthest from the centres of k-means."""
    return highest(_prototype_distances(task), n_wanted)


def keep_near_prototypes(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images closest to the centres of k-means."""
    return highest(-_prototype_distances(task), n_wanted)


def keep_forgotten(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images that the proxy forgot most often."""
    return highest(_forgetting(task), n_wanted)


def keep_el2n(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images with the largest error early in training."""
    return highest(el2n_scores(task.record.early_prob_rnk, task.given_n), n_wanted)


def keep_grand(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images with the longest gradient early in training."""
    record = task.record
    return highest(grand_scores(record.early_models, record.images, task.given_n), n_wanted)


def keep_moso(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images that moved the optimum most, along the proxy's training."""
    record = task.record
    return highest(moso_scores(record.checkpoints, record.images, task.given_n), n_wanted)


def keep_glister(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images whose gradients lower a held-out loss."""
    record = task.record
    return glister_indices(record.features_nf, record.prob_enk[-1], task.given_n, n_wanted)


def keep_complex(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images without which the labels would be simplest to fit."""
    return highest(cg_scores(task.emb_nd, task.given_n, task.seed), n_wanted)


def keep_d2(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep images that were forgotten, and far from each other."""
    return d2_indices(task.emb_nd, _forgetting(task), n_wanted)


def keep_ccs(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep equally many images of each range of margin, but not the hardest."""
    aum_n = area_under_margin(task.record.prob_enk, task.given_n)
    return ccs_indices(aum_n, n_wanted, task.seed)


def keep_credible(task: TrainingTask, n_wanted: int) -> Indices:
    """Keep the images whose labels cleanlab believes most."""
    return highest(label_quality(task.emb_nd, task.given_n, task.seed), n_wanted)


def _prototype_distances(task: TrainingTask) -> NDArray[np.float64]:
    return prototype_distances(task.emb_nd, len(task.class_emb_kd), task.seed)


def _forgetting(task: TrainingTask) -> NDArray[np.float64]:
    return forgetting_scores(task.record.prob_enk.argmax(axis=2) == task.given_n)


TO_TRAIN: dict[str, ToTrain] = {
    "random": keep_random,
    "Herding": keep_herding,
    "Moderate-DS": keep_moderate,
    "prototypes, hardest": keep_far_from_prototypes,
    "prototypes, easiest": keep_near_prototypes,
    "Forgetting": keep_forgotten,
    "EL2N": keep_el2n,
    "GraNd": keep_grand,
    "MoSo": keep_moso,
    "Glister": keep_glister,
    "CG-Score": keep_complex,
    "D2": keep_d2,
    "CCS": keep_ccs,
    "cleanlab pruning": keep_credible,
}
