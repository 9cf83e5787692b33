"""Every score of a labelled image that a selector goes by, in one adapted space.

    adapter ──▶ class vectors ──▶ label noise ──▶ SAS, probability that the label is right,
                                                  likeliest class
            ──▶ SDS

Trusts what it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.device import subset
from clip_al.arrays.types import Adapter, FoldAdapters
from clip_al.score.alignment_diversity import (
    class_prototypes,
    label_log_probabilities,
    sample_diversity_scores,
    semantic_alignment_scores,
)
from clip_al.score.class_vectors import blend_class_vectors
from clip_al.score.label_noise.confusion import LabelConfusion, mean_confusion
from clip_al.score.label_noise.estimate import fit_label_noise
from clip_al.score.label_noise.symmetric import LabelNoise


@dataclass(frozen=True)
class ImageScores:
    """What each of n images scores, before SAS and SDS are brought to one scale.

    Parameters
    ----------
    sas_n : ndarray of shape (n,), float32
        Alignment; higher is chosen first.
    sds_n : ndarray of shape (n,), float32, or None
        Diversity, where it was measured; higher is chosen first.
    log_prob_n : ndarray of shape (n,), float32
        Log-probability of the given label by the image alone, in (-inf, 0].
    label_score_n : ndarray of shape (n,), float32
        How credible the label is, lowest the likeliest wrong: the log-odds that it is right, or
        with the symmetric model `log_prob_n`.
    likeliest_n : ndarray of shape (n,), int64
        The likeliest true class, or with the symmetric model the most similar one.
    right_n : ndarray of shape (n,), float32
        Probability in [0, 1] that the label is right.
    noise : LabelNoise
        Of all images; with several adapters, the mean of theirs.
    """

    sas_n: NDArray[np.float32]
    sds_n: NDArray[np.float32] | None
    log_prob_n: NDArray[np.float32]
    label_score_n: NDArray[np.float32]
    likeliest_n: NDArray[np.int64]
    right_n: NDArray[np.float32]
    noise: LabelNoise


def score_images(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | FoldAdapters | None,
    *,
    alignment: str,
    noise_aware: bool,
    text_weight: float,
    n_neighbors: float | None,
    noise_model: str = "confusion",
    device: str | None = None,
    exact_up_to: int | None = None,
    random_state: int | None = 0,
) -> ImageScores:
    """Score every image; with a cross-fitted adapter, each by the one that never saw it.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, not modified.
    codes_n : ndarray of shape (n,), int64
        Class numbers in [0, k).
    text_emb_kd : ndarray of shape (k, d), float32
        Unit rows.
    adapter : DatasetAdapter, CrossFitAdapter or None
        Fitted.
    alignment : {"contrastive", "cosine"}
        "contrastive" at the temperature that `estimate_label_noise` finds.
    noise_aware : bool
        Whether "contrastive" is the log-likelihood of the label, from the image or from
        chance (`LabelNoise.label_log_likelihood`), and not from the image alone.
    text_weight : float
        See `blend_class_vectors`. Mean images are those of images that the adapter saw.
    n_neighbors : int, float or None
        See `sample_diversity_scores`; None does not measure SDS.
    noise_model : {"confusion", "symmetric"}
        See `estimate_label_noise`. The confusion is fitted to the texts, and to images that the
        adapter did not see where it is cross-fitted.
    device, exact_up_to
        See `sample_diversity_scores`.
    random_state : int, optional
        See `estimate_label_noise`.

    Notes
    -----
    Time as for `sample_diversity_scores`, where SDS is measured, plus O(n k d). A cross-fitted
    adapter takes a copy of the embeddings of one fold at a time and, below a text weight of 1,
    of all others.
    """
    n = len(codes_n)
    sas_n, log_prob_n, score_n, right_n = (np.empty(n, dtype=np.float32) for _ in range(4))
    likeliest_n = np.empty(n, dtype=np.int64)
    noises, sizes = [], []
    for scored, one, class_emb_kd in class_vectors_by_fold(
        image_emb_nd, codes_n, text_emb_kd, adapter, text_weight
    ):
        Z, y = subset(image_emb_nd, scored), codes_n[scored]
        space = None if one is None else _Space(one, class_emb_kd)
        texts_kd = text_emb_kd if one is None else one.transform_texts(text_emb_kd)
        noise = fit_label_noise(Z, y, class_emb_kd, texts_kd, space, noise_model, random_state)
        log_prob_n[scored], likeliest_n[scored] = label_log_probabilities(
            Z, y, class_emb_kd, temperature=noise.temperature, adapter=space, device=device
        )
        if alignment == "contrastive" and noise_aware:
            sas_n[scored] = noise.label_log_likelihood(log_prob_n[scored])
        elif alignment == "contrastive":
            sas_n[scored] = log_prob_n[scored]
        else:
            sas_n[scored] = semantic_alignment_scores(
                Z, y, class_emb_kd, adapter=space, device=device
            )
        if isinstance(noise, LabelConfusion):
            found = noise.score(Z, y)
            right_n[scored], score_n[scored] = found.right_n, found.odds_n
            likeliest_n[scored] = found.likeliest_n
        else:
            right_n[scored] = noise.label_probability(log_prob_n[scored])
            score_n[scored] = log_prob_n[scored]
        noises.append(noise)
        sizes.append(len(y))
    sds_n = None
    if n_neighbors is not None:
        sds_n = sample_diversity_scores(
            image_emb_nd,
            codes_n,
            n_neighbors,
            adapter=distance_space(adapter),
            device=device,
            exact_up_to=exact_up_to,
            random_state=random_state,
        )
    return ImageScores(
        sas_n, sds_n, log_prob_n, score_n, likeliest_n, right_n, _mean_noise(noises, sizes)
    )


def class_vectors_by_fold(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | FoldAdapters | None,
    text_weight: float,
) -> Iterator[tuple[Any, Adapter | None, NDArray[np.float32]]]:
    """Yield which images to score, by which adapter, and the class vectors in its space.

    Mean images are those of the images that the adapter saw.
    """
    for scored, seen, one in _folds(adapter):
        class_emb_kd = text_emb_kd if one is None else one.transform_texts(text_emb_kd)
        if text_weight < 1:
            mean_emb_kd = class_prototypes(
                subset(image_emb_nd, seen), codes_n[seen], len(text_emb_kd), adapter=one
            )
            class_emb_kd = blend_class_vectors(class_emb_kd, mean_emb_kd, text_weight)
        yield scored, one, class_emb_kd


def distance_space(adapter: Adapter | FoldAdapters | None) -> Adapter | None:
    """Return the adapter that images are compared in: none where there are several.

    Two adapters do not map into one space, and neighbours may be of both folds.
    """
    return None if isinstance(adapter, FoldAdapters) else adapter


class _Space:
    """Stands in for an adapter in the score functions, for class vectors adapted already."""

    def __init__(self, adapter: Adapter, class_emb_kd: NDArray[np.float32]) -> None:
        self.transform_images, self.adapt = adapter.transform_images, adapter.adapt
        self.class_emb_kd = class_emb_kd

    def transform_texts(self, _: Any) -> NDArray[np.float32]:
        return self.class_emb_kd


def _folds(
    adapter: Adapter | FoldAdapters | None,
) -> list[tuple[Any, Any, Adapter | None]]:
    """Return which images to score, which ones were seen, and by which adapter."""
    if not isinstance(adapter, FoldAdapters):
        return [(slice(None), slice(None), adapter)]
    return [
        (np.flatnonzero(adapter.fold_ == fold), np.flatnonzero(adapter.fold_ != fold), one)
        for fold, one in enumerate(adapter.adapters_)
    ]


def _mean_noise(noises: Sequence[LabelNoise], sizes: Sequence[int]) -> LabelNoise:
    confusions = [noise for noise in noises if isinstance(noise, LabelConfusion)]
    if confusions:
        return mean_confusion(confusions, sizes)
    return LabelNoise(
        float(np.mean([noise.temperature for noise in noises])),
        float(np.mean([noise.uniform_share for noise in noises])),
        noises[0].n_classes,
    )
