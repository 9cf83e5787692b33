"""What each worker of `clip_al.integrations.ray` does with a batch: NumPy columns in and out.

Knows nothing of Ray, so everything here runs and is tested without it. Batches may be
read-only views of shared memory and are never modified.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from clip_al.arrays.blocks import unit_block
from clip_al.arrays.checks import check_embeddings
from clip_al.arrays.labels import encode_labels
from clip_al.arrays.types import Adapter
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles, ConceptStatistics, concept_directions
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.encode.encoder import ClipEncoder
from clip_al.errors import (
    InvalidInputError,
    SkippedImagesWarning,
    UnreadableImageError,
    describe_failures,
)
from clip_al.images.pixels import open_image
from clip_al.integrations.ray.threshold import Bounds, Extent, Keys, sort_keys
from clip_al.label.concept_sampling import UNCERTAINTIES
from clip_al.label.greedy import pick_diverse
from clip_al.score.alignment_diversity import (
    label_log_probabilities,
    sample_diversity_scores,
    semantic_alignment_scores,
)
from clip_al.score.label_noise.confusion import LabelConfusion
from clip_al.score.label_noise.symmetric import LabelNoise
from clip_al.score.scaling import credible_first

Batch: TypeAlias = "dict[str, NDArray[Any]]"
_SEED_STEP = 0x9E3779B97F4A7C15  # spreads small seeds over all 64 bits


def column(batch: Batch, name: str) -> NDArray[Any]:
    """Return a column; rows of lists, as Parquet has them, become one 2-D array."""
    if name not in batch:
        raise InvalidInputError(
            f"The dataset must have a column `{name}`; got {', '.join(map(repr, batch))}. Add "
            "it, or rename one with `Dataset.rename_columns`."
        )
    values = batch[name]
    if values.dtype == object and len(values) and isinstance(values[0], np.ndarray):
        if len({np.shape(row) for row in values}) > 1:
            raise InvalidInputError(
                f"The column `{name}` must hold rows of one length; got several. Encode all "
                "images with one model."
            )
        return np.stack(list(values))
    return values


def keep(batch: Batch, *names: str) -> Batch:
    """Return some columns alone."""
    return {name: column(batch, name) for name in names}


# Images


class ImageEncoder:
    """Adds the column `embedding`; lives in an actor, which loads the model once.

    Parameters
    ----------
    images : str
        The column of images: encoded bytes, paths, or arrays as `ClipEncoder` takes them.
    errors : {"raise", "skip"}
        Whether an unreadable image ends the run or is left out with a warning.
    encoder : dict
        Arguments of `ClipEncoder`.
    """

    def __init__(self, images: str, errors: str, encoder: dict[str, Any]) -> None:
        self.images = images
        self.errors = errors
        self.encoder = ClipEncoder(**encoder, n_workers=0, progress=False)

    def __call__(self, batch: Batch) -> Batch:
        """Encode one batch; the column of images is dropped."""
        ids, images = column(batch, "id"), list(column(batch, self.images))
        source = _Encoded(images) if isinstance(images[0], bytes) else images
        rows, failed = [], []
        for _, image_emb_bd, failures in self.encoder.iter_embeddings(source):
            rows.append(image_emb_bd)
            failed += failures
        named = [(str(ids[i]), reason) for i, reason in failed]
        if failed and self.errors == "raise":
            raise UnreadableImageError(
                named, 'Repair or leave them out, or pass errors="skip" to leave them out here.'
            )
        if failed:
            message = f"{describe_failures(named)} They are left out."
            warnings.warn(message, SkippedImagesWarning, stacklevel=2)
        left = np.delete(np.arange(len(ids)), [i for i, _ in failed])
        kept = {name: values[left] for name, values in batch.items() if name != self.images}
        return {**kept, "embedding": np.concatenate(rows)[left]}


class _Encoded:
    """Encoded images as a torch Dataset: decoded one at a time, when they are asked for."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Image.Image:
        return open_image(self.files[index])


# Concepts


def profile_batch(
    batch: Batch, *, vocabulary: ConceptVocabulary, m: int, statistics: ConceptStatistics | None
) -> Batch:
    """Add the columns `concepts` and `similarities`, (b, m)."""
    profiles = ConceptProfiles.from_embeddings(
        column(batch, "embedding"),
        vocabulary,
        m,
        similarity="cosine" if statistics is None else statistics.similarity,
        statistics=statistics,
    )
    return {**batch, "concepts": profiles.ids, "similarities": profiles.similarities}


def similarity_moments(batch: Batch, *, vocabulary: ConceptVocabulary, similarity: str) -> Batch:
    """Return number, mean and sum of squared deviations of each concept's product."""
    text_emb_vd = vocabulary.embeddings
    Z = check_embeddings(column(batch, "embedding"), "embedding", finite=False)
    if text_emb_vd is None or Z.shape[1] != text_emb_vd.shape[1]:
        width = "none" if text_emb_vd is None else text_emb_vd.shape[1]
        raise InvalidInputError(
            f"The vocabulary must have embeddings of the images' width, {Z.shape[1]}; got "
            f"{width}. Encode both with one model."
        )
    image_emb_nd = unit_block(Z, slice(None))
    text_emb_vd = concept_directions(text_emb_vd, similarity).astype(np.float64)
    covariance_dd = np.atleast_2d(np.cov(image_emb_nd, rowvar=False, bias=True))
    variance_v = np.einsum("vd,vd->v", text_emb_vd @ covariance_dd, text_emb_vd)
    return {
        "first": _first(batch),
        "n": np.array([len(Z)]),
        "mean": (text_emb_vd @ image_emb_nd.mean(axis=0, dtype=np.float64))[None],
        "scatter": (len(Z) * np.maximum(variance_v, 0.0))[None],
    }


def merge_moments(parts: Sequence[Mapping[str, Any]], similarity: str) -> ConceptStatistics:
    """Merge the moments of blocks, in order.

    References
    ----------
    Chan, Golub, LeVeque: "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", COMPSTAT 1982, Eq. 2.1.
    """
    n, mean_v, scatter_v = 0, np.zeros(1), np.zeros(1)
    for part in parts:
        total = n + int(part["n"])
        apart_v = part["mean"] - mean_v
        mean_v = mean_v + apart_v * (part["n"] / total)
        scatter_v = scatter_v + part["scatter"] + apart_v**2 * (n * part["n"] / total)
        n = total
    if n < 2 and similarity == "standardized":
        raise InvalidInputError(
            f"Standardising needs a dataset of at least 2 images; got {n}. Pass more."
        )
    return ConceptStatistics(mean_v, np.sqrt(scatter_v / n), n, similarity)


def concept_sums(batch: Batch, *, vocabulary: ConceptVocabulary, weighting: str) -> Batch:
    """Return the `ConceptCounts` of a batch as columns."""
    counts = ConceptCounts.from_profiles(profiles_of(batch, vocabulary), weighting=weighting)
    return {
        "first": _first(batch),
        "n": np.array([counts.n]),
        "sum": counts.sum_v[None],
        "count": counts.count_v[None],
    }


def profiles_of(batch: Batch, vocabulary: ConceptVocabulary) -> ConceptProfiles:
    """Return the columns `concepts` and `similarities` as profiles."""
    ids_nm = column(batch, "concepts").astype(np.int32, copy=False)
    if ids_nm.ndim != 2 or (
        ids_nm.size and not 0 <= ids_nm.min() <= ids_nm.max() < len(vocabulary)
    ):
        raise InvalidInputError(
            "The column `concepts` must hold positions in the vocabulary of "
            f"{len(vocabulary)} concepts; got others. Profile with the same vocabulary."
        )
    similarity_nm = column(batch, "similarities").astype(np.float32, copy=False)
    return ConceptProfiles(ids_nm, similarity_nm, vocabulary, None)


def _first(batch: Batch) -> NDArray[Any]:
    """Return the lowest id of a batch: partial sums are added in its order."""
    return np.array([min(column(batch, "id").tolist())])


# Scores


@dataclass(frozen=True)
class SampledConfusion(LabelConfusion):
    """A confusion of labels that knows which rows of the dataset it was fitted to.

    Parameters
    ----------
    bounds : Bounds
        Of the hashes of the ids in the sample.
    seed : int
        Of the hashes.
    """

    bounds: Bounds | None = field(default=None, compare=False, repr=False)
    seed: int = 0

    def seen(self, batch: Batch) -> NDArray[np.bool_]:
        """Return which rows are of the sample, so that none votes for its own label."""
        if self.bounds is None:
            return np.zeros(len(column(batch, "id")), dtype=bool)
        taken_n: NDArray[np.bool_] = self.bounds.is_taken(
            keys_of(random_keys(batch, seed=self.seed))
        )
        return taken_n


def align_batch(
    batch: Batch,
    *,
    class_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    alignment: str,
    noise: LabelNoise,
    noise_aware: bool,
) -> Batch:
    """Score each image against its label, row by row; ids, labels and embeddings stay."""
    Z, y = column(batch, "embedding"), column(batch, "label")
    log_prob_n, likeliest_n = label_log_probabilities(
        Z, y, class_emb_kd, temperature=noise.temperature, adapter=adapter
    )
    score_n, right_n = log_prob_n, noise.label_probability(log_prob_n)
    if isinstance(noise, LabelConfusion):
        seen_n = (
            noise.seen(batch) if isinstance(noise, SampledConfusion) else np.zeros(len(y), bool)
        )
        right_n, score_n, likeliest_n = noise.score(Z, y, seen=seen_n)
    sas_n = log_prob_n
    if alignment == "cosine":
        sas_n = semantic_alignment_scores(Z, y, class_emb_kd, adapter=adapter)
    elif noise_aware:
        sas_n = noise.label_log_likelihood(log_prob_n)
    return {
        **keep(batch, "id", "label", "embedding"),
        "sas": sas_n,
        "label_score": score_n,
        "label_probability": right_n,
        "likeliest": likeliest_n,
    }


def rate_class(
    group: Batch,
    *,
    n_neighbors: float | None,
    adapter: Adapter | None,
    scale: str,
    alpha: float,
    noise_aware: bool,
    min_label_probability: float,
    exact_up_to: int | None,
) -> Batch:
    """Add SDS, where it is measured, and the total of one class, which becomes sorted by id."""
    group = sorted_by_id(group)
    y = group["label"]
    rated = {name: values for name, values in group.items() if name != "embedding"}
    if n_neighbors is not None:
        rated["sds"] = sample_diversity_scores(
            group["embedding"], y, n_neighbors, adapter=adapter, exact_up_to=exact_up_to
        )
    total_n, sds_n = credible_first(
        group["sas"],
        rated.get("sds"),
        group["label_probability"],
        y,
        scale=scale,
        noise_aware=noise_aware,
        min_label_probability=min_label_probability,
        largest_alpha=alpha,
    )
    if sds_n is not None:
        total_n += alpha * sds_n
    return {**rated, "total": total_n}


def sorted_by_id(batch: Batch) -> Batch:
    """Return a batch in ascending order of id, so that its order before leaves no trace."""
    batch = {name: column(batch, name) for name in batch}
    order = np.argsort(column(batch, "id"), kind="stable")
    return {name: values[order] for name, values in batch.items()}


# Keys: what the distributed threshold search compares


def score_keys(batch: Batch, *, score: str, by_class: bool, n_classes: int | None) -> Batch:
    """Return id, value and group of each row; the value is low where the score is high."""
    score_n = column(batch, score)
    if score_n.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"The column `{score}` must hold numbers; got {score_n.dtype}. Pass a score."
        )
    keys = _ungrouped(batch, -score_n.astype(np.float64))
    if not by_class:
        return keys
    label_n = column(batch, "label")
    if n_classes is None and label_n.dtype.kind in "iu":
        n_classes = max(0, int(label_n.max(initial=0))) + 1
    group_n = encode_labels(label_n, n_images=len(label_n), n_classes=n_classes or 1, name="label")
    return {**keys, "group": group_n}


def certainty_keys(batch: Batch, *, uncertainty: str) -> Batch:
    """Return id and certainty of each row, all of one group."""
    value_n = UNCERTAINTIES[uncertainty](column(batch, "probabilities"))
    return _ungrouped(batch, value_n)


def random_keys(batch: Batch, *, seed: int) -> Batch:
    """Return id and a hash of it, all of one group: the lowest hashes are a random sample."""
    return _ungrouped(batch, hash_ids(column(batch, "id"), seed))


def _ungrouped(batch: Batch, value_n: NDArray[Any]) -> Batch:
    group_n = np.zeros(len(value_n), dtype=np.int64)
    return {"id": column(batch, "id"), "value": value_n, "group": group_n}


def hash_ids(ids: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each id, the same on every machine."""
    hashed = pd.util.hash_array(ids, categorize=False)
    with np.errstate(over="ignore"):
        salted = hashed + np.uint64((seed * _SEED_STEP) % 2**64)
    return pd.util.hash_array(salted)


def keys_of(batch: Batch) -> Keys:
    """Return the keys of what the functions above return."""
    return sort_keys(batch["value"], batch["id"]), batch["group"]


def extent_of(batch: Batch) -> Batch:
    """Return sizes and ranges of the groups of one block, as columns."""
    keys = keys_of(batch)
    n_groups = int(keys[1].max(initial=-1)) + 1
    extent = Extent.of(keys, n_groups)
    return {
        "group": np.arange(n_groups),
        "size": extent.size_g,
        "low": extent.low_g,
        "high": extent.high_g,
        "n_words": np.full(n_groups, extent.n_words),
    }


def counts_of(batch: Batch, *, bounds: Bounds) -> Batch:
    """Return the counts of open rows in bins, as columns."""
    cell_c, count_c = bounds.counts(keys_of(batch))
    return {"cell": cell_c, "count": count_c}


def open_keys(batch: Batch, *, bounds: Bounds) -> Batch:
    """Return the rows that are open."""
    rows = np.flatnonzero(bounds.is_open(keys_of(batch)))
    return {name: values[rows] for name, values in batch.items()}


def sampled_rows(batch: Batch, *, bounds: Bounds, seed: int) -> Batch:
    """Return the rows whose hash is below the threshold."""
    rows = np.flatnonzero(bounds.is_taken(keys_of(random_keys(batch, seed=seed))))
    return {name: column(batch, name)[rows] for name in batch}


def chosen_rows(batch: Batch, *, bounds: Bounds, score: str, by_class: bool) -> Batch:
    """Return id, score and label of the rows, as `score_keys` made them, that are chosen."""
    rows = np.flatnonzero(bounds.is_taken(keys_of(batch)))
    chosen = {"id": batch["id"][rows], score: -batch["value"][rows]}
    return {**chosen, "label": batch["group"][rows]} if by_class else chosen


# Picking


def candidate_rows(batch: Batch, *, bounds: Bounds, uncertainty: str, n_shards: int) -> Batch:
    """Return id, certainty, concepts and shard of the rows among the candidates."""
    keys = certainty_keys(batch, uncertainty=uncertainty)
    rows = np.flatnonzero(bounds.is_taken(keys_of(keys)))
    ids = keys["id"][rows]
    shard_c = np.zeros(0, dtype=np.int64)
    if len(rows):
        shard_c = (hash_ids(ids, 0) % np.uint64(n_shards)).astype(np.int64)
    return {
        "id": ids,
        "value": keys["value"][rows],
        "concepts": column(batch, "concepts")[rows],
        "similarities": column(batch, "similarities")[rows],
        "shard": shard_c,
    }


def pick_shard(
    batch: Batch,
    *,
    n_picks: int,
    n_candidates: int,
    vocabulary: ConceptVocabulary,
    weighting: str,
    counts: ConceptCounts,
    target_v: NDArray[np.float64] | None,
) -> Batch:
    """Return the picks of one shard of the candidates, best first.

    Parameters
    ----------
    n_picks, n_candidates : int
        Of all shards together; this one picks its proportional share, rounded up. What is
        labelled already counts by the same share.
    """
    share = len(batch["id"]) / n_candidates
    own = min(len(batch["id"]), math.ceil(n_picks * share))
    part = ConceptCounts(
        counts.sum_v * share, counts.count_v, round(counts.n * share), counts.weighting
    )
    return pick_rows(
        batch, own, vocabulary=vocabulary, weighting=weighting, counts=part, target_v=target_v
    )


def pick_rows(
    batch: Batch,
    n_picks: int,
    *,
    vocabulary: ConceptVocabulary,
    weighting: str,
    counts: ConceptCounts,
    target_v: NDArray[np.float64] | None,
) -> Batch:
    """Return the rows that the greedy picks, best first, whatever their order before."""
    batch = {name: column(batch, name) for name in batch}
    keys = sort_keys(batch["value"], batch["id"])
    order = np.lexsort(keys.T[::-1])  # least certain first, ties by lowest id
    batch = {name: values[order] for name, values in batch.items()}
    profiles = profiles_of(batch, vocabulary)
    picks, _ = pick_diverse(
        profiles.ids,
        profiles.weights(weighting),
        n_picks,
        sum_v=counts.sum_v,
        n_chosen=counts.n,
        target_v=target_v,
    )
    return {name: values[picks] for name, values in batch.items()}
