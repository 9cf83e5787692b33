"""Every method of others that picks images to label, by the name that tables give it."""

from __future__ import annotations

from benchmarks.baselines.badge import pick_by_badge
from benchmarks.baselines.facility_location import pick_facilities
from benchmarks.baselines.k_center import pick_k_centers
from benchmarks.baselines.random_images import pick_at_random
from benchmarks.baselines.tasks import Indices, LabellingTask, ToLabel
from benchmarks.baselines.typiclust import pick_typical
from benchmarks.baselines.uncertainty import (
    pick_by_entropy,
    pick_by_gini,
    pick_by_least_confidence,
    pick_by_margin,
    pick_by_variance,
)
from clip_al import pick_by_geometric_diversity
from clip_al.arrays.checks import check_n_instances


def _checked(pick: ToLabel) -> ToLabel:
    """Refuse a budget that the pool cannot fill, so that no method returns fewer."""

    def checked(task: LabellingTask, n_wanted: int) -> Indices:
        return pick(task, check_n_instances(n_wanted, len(task.emb_nd), "n_wanted"))

    return checked


def _k_center(task: LabellingTask, n_wanted: int) -> Indices:
    return pick_k_centers(
        task.features_nf, n_wanted, centers_lf=task.labelled_features_lf, seed=task.seed
    )


def _typiclust(task: LabellingTask, n_wanted: int) -> Indices:
    return pick_typical(task.emb_nd, n_wanted, labelled_emb_ld=task.labelled_emb_ld, seed=task.seed)


def _greedy_gd(task: LabellingTask, n_wanted: int) -> Indices:
    """Pick the set of largest ``log det (Z Zᵀ + 0.001 I)``; what is labelled does not count.

    References
    ----------
    Aghababaeyan, Abdellatif, Briand, Ramesh, Bagherzadeh: "Black-Box Testing of Deep Neural
    Networks through Test Case Diversity", IEEE TSE 2023 (the measure); Chen, Zhang,
    Zhou: "Fast Greedy MAP Inference for Determinantal Point Process to Improve
    Recommendation Diversity", NeurIPS 2018 (the greedy step).
    """
    return pick_by_geometric_diversity(task.emb_nd, n_wanted)


TO_LABEL: dict[str, ToLabel] = {
    name: _checked(pick)
    for name, pick in {
        "random": lambda task, b: pick_at_random(len(task.emb_nd), b, task.seed),
        "margin": lambda task, b: pick_by_margin(task.prob_nk, b),
        "entropy": lambda task, b: pick_by_entropy(task.prob_nk, b),
        "least confidence": lambda task, b: pick_by_least_confidence(task.prob_nk, b),
        "DeepGini": lambda task, b: pick_by_gini(task.prob_nk, b),
        "ensemble variance": lambda task, b: pick_by_variance(task.member_prob_enk, b),
        "k-center": _k_center,
        "BADGE": lambda task, b: pick_by_badge(task.prob_nk, task.features_nf, b, task.seed),
        "TypiClust": _typiclust,
        "greedy GD": _greedy_gd,
        "facility location": lambda task, b: pick_facilities(
            task.emb_nd, b, labelled_emb_ld=task.labelled_emb_ld
        ),
    }.items()
}
"""The picks are distinct, best first, and exactly as many as asked."""
