"""Embed, profile, score, select and pick over a Ray Dataset, on one machine or a cluster.

    images ──embed──▶ embedding ──profile──▶ concepts, similarities ──pick──▶ ids to label
                          └─────score──▶ sas, sds, total ──select──▶ ids to train on

A row has the columns `id` (whole numbers or strings, each once) and, from one step to the
next, `embedding`, `label` (class numbers), `probabilities`, `concepts`, `similarities`,
`total`. Ties go to the lowest id, so neither blocks nor their order change a result; what
one machine gives on rows sorted by id is the reference.

Ray is imported on first use, never with this module. `batches` holds all that workers
run, `runs` all that is asked of Ray.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.adapt.resolve import is_fitted
from clip_al.arrays.checks import check_choice, check_int, check_n_instances, check_number
from clip_al.arrays.types import Adapter
from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profile_checks import SIMILARITIES
from clip_al.concepts.profiles import (
    WEIGHTINGS,
    ConceptProfiles,
    ConceptStatistics,
)
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.integrations.ray import batches
from clip_al.integrations.ray.runs import (
    check_columns,
    gather_rows,
    in_order,
    map_blocks_of,
    map_groups,
    measure_keys,
    our_errors,
    ray_data,
    threshold,
    with_our_errors,
)
from clip_al.integrations.ray.threshold import repeated_ids
from clip_al.label.concept_sampling import UNCERTAINTIES
from clip_al.label.query_inputs import count_labelled, target_vector
from clip_al.score.alignment_diversity import ALIGNMENTS, check_exact_up_to, neighbors_for_sds
from clip_al.score.class_vectors import unit_class_embeddings
from clip_al.score.label_noise.confusion import LabelConfusion
from clip_al.score.label_noise.estimate import NOISE_MODELS, estimate_label_noise
from clip_al.score.label_noise.symmetric import MAX_IMAGES, LabelNoise
from clip_al.subset.quotas import Rule, attribute_quotas, check_rule, class_attribute
from clip_al.subset.selection_checks import check_alpha, check_ratio

if TYPE_CHECKING:
    from ray.data import Dataset

SCALES = ("class", "none")


def embed(
    dataset: Dataset,
    model: str = "mini",
    pretrained: str | None = None,
    *,
    column: str = "image",
    errors: str = "raise",
    batch_size: int = 256,
    n_actors: int | tuple[int, int] = 1,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    **encoder: Any,
) -> Dataset:
    """Add the column `embedding`, of unit length, in actors that load the model once.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id` and `column`; lazy.
    model, pretrained
        As for `ClipEncoder`; every node must be able to load it.
    column : str
        Images: encoded bytes (`ray.data.read_binary_files`), paths that every node can read,
        or arrays (`ray.data.read_images`, which leaves photos as they lie; bytes and paths are
        turned upright). Left out of the result.
    errors : {"raise", "skip"}
        Whether an unreadable image ends the run, or is left out of the result and named in
        the worker's log.
    batch_size : int
        Images encoded at once; the last digits of an embedding depend on it.
    n_actors : int or (int, int)
        How many actors, or the fewest and the most.
    num_cpus, num_gpus : float, optional
        What each actor takes; an actor with a GPU computes on it.
    **encoder
        Further arguments of `ClipEncoder`, such as ``precision="fp16"``.

    Returns
    -------
    Dataset
        Lazy, with `embedding` (d,) float32 and all columns but `column`.

    Raises
    ------
    UnreadableImageError
        When the dataset runs, with ``errors="raise"``; it names the ids of its batch.
    InvalidInputError
        Where an argument is out of range; when the dataset runs, where a column is missing.
    MissingDependencyError
        Where Ray is not installed.

    Notes
    -----
    An actor that dies is started again and its batch encoded anew. Actors decode images one
    after another: give a fast GPU several actors (``num_gpus=0.25``).
    """
    data = ray_data()
    check_choice(errors, ("raise", "skip"), "errors")
    check_int(batch_size, "batch_size")
    low, high = n_actors if isinstance(n_actors, tuple) else (n_actors, n_actors)
    low = check_int(low, "n_actors")
    high = check_int(high, "n_actors", smallest=low)
    settings = {"model": model, "pretrained": pretrained, "batch_size": batch_size, **encoder}
    embedded = dataset.map_batches(
        batches.ImageEncoder,
        fn_constructor_args=(column, errors, settings),
        batch_size=batch_size,
        batch_format="numpy",
        compute=data.ActorPoolStrategy(min_size=low, max_size=high),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    return with_our_errors(embedded)


def concept_statistics(
    dataset: Dataset, vocabulary: ConceptVocabulary, similarity: str = SIMILARITIES[0]
) -> ConceptStatistics:
    """Measure what similarities are relative to, over all rows.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id` and `embedding`; runs.
    vocabulary : ConceptVocabulary
        With embeddings of the same model, (v, d).
    similarity : {"centred", "standardized"}
        What they are for, see `ConceptProfiles.from_embeddings`.

    Returns
    -------
    ConceptStatistics
        To rounding what ``ConceptStatistics.from_embeddings(Z, vocabulary, max_images=None)``
        gives; the same for every order of the blocks.

    Raises
    ------
    InvalidInputError
        Where there are fewer than two rows, a row is not finite or all zeros, widths differ,
        or a column is missing.

    Notes
    -----
    O(n d² + v d²) time over the blocks, one pass; 2 v numbers a block come back. On a large
    dataset a sample is as good (`Dataset.random_sample`): 5,000 rows leave a standard error of
    1.4 % of the spread.
    """
    check_columns(dataset, "id", "embedding")
    parts = map_blocks_of(
        dataset.select_columns(["id", "embedding"]),
        batches.similarity_moments,
        vocabulary=vocabulary,
        similarity=check_choice(similarity, SIMILARITIES[:2], "similarity"),
    )
    return batches.merge_moments(in_order(parts), similarity)


def profile(
    dataset: Dataset,
    vocabulary: ConceptVocabulary,
    m: int = 10,
    statistics: ConceptStatistics | None = None,
) -> Dataset:
    """Add the columns `concepts` and `similarities`: the m most similar concepts of each row.

    Parameters
    ----------
    dataset : Dataset
        With the column `embedding`; lazy.
    vocabulary : ConceptVocabulary
        With embeddings of the same model, (v, d).
    m : int
        Concepts per image, in [1, v].
    statistics : ConceptStatistics, optional
        What similarities are relative to, from `concept_statistics`; without them plain
        cosines are taken.

    Returns
    -------
    Dataset
        Lazy, with `concepts` (m,) int32 and `similarities` (m,) float32 beside all columns,
        as `ConceptProfiles.from_embeddings` gives with the same statistics.

    Raises
    ------
    InvalidInputError
        Where m is out of range; when the dataset runs, as `ConceptProfiles.from_embeddings`.
    """
    m = check_int(m, "m", largest=len(vocabulary))
    return map_blocks_of(
        dataset, batches.profile_batch, vocabulary=vocabulary, m=m, statistics=statistics
    )


def concept_counts(
    dataset: Dataset, vocabulary: ConceptVocabulary, *, weighting: str = "binary"
) -> ConceptCounts:
    """Count the concepts of all rows; the diversity of the dataset follows.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `concepts` and `similarities`, from `profile`; runs.
    vocabulary : ConceptVocabulary
        That of the profiles.
    weighting : {"binary", "softmax"}
        See `ConceptProfiles.weights`.

    Returns
    -------
    ConceptCounts
        `count_v` and `n` exactly those of `ConceptCounts.from_profiles`, `sum_v` to rounding.

    Notes
    -----
    Counts of blocks are added in the order of their lowest ids: O(n m) time, one pass, 2 v
    numbers a block come back.
    """
    check_choice(weighting, WEIGHTINGS, "weighting")
    names = ["id", "concepts", "similarities"]
    check_columns(dataset, *names)
    parts = in_order(
        map_blocks_of(
            dataset.select_columns(names),
            batches.concept_sums,
            vocabulary=vocabulary,
            weighting=weighting,
        )
    )
    counted = (ConceptCounts(p["sum"], p["count"], int(p["n"]), weighting) for p in parts)
    return reduce(add, counted, ConceptCounts.empty(len(vocabulary), weighting))


def score(
    dataset: Dataset,
    class_embeddings: ArrayLike,
    *,
    adapter: Adapter | None = None,
    alignment: str = "contrastive",
    noise_aware: bool = True,
    n_neighbors: float | None = None,
    exact_up_to: int | str | None = "auto",
    scale: str = "class",
    min_label_probability: float = 0.5,
    alpha: float = 0.3,
    noise: LabelNoise | None = None,
    noise_model: str = "confusion",
    random_state: int = 0,
) -> Dataset:
    """Score each labelled image as `ClipSelector` does.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `embedding` and `label` (class numbers); runs to estimate the
        noise, unless `noise` is passed.
    class_embeddings : array-like of shape (k, d)
        Text embeddings of the classes, of the model that encoded the images.
    adapter : DatasetAdapter, optional
        Fitted, on a sample for instance.
    alignment, noise_aware, n_neighbors
        As for `ClipSelector`: SDS is measured where `n_neighbors` is given or `alpha` is not 0.
        Where it is not, the embeddings are not shuffled.
    exact_up_to, min_label_probability
        As for `ClipSelector`.
    alpha : float
        Weight of SDS: the ratio that you will select, as scores know none.
    scale : {"class", "none"}
        Bring both scores to mean 0 and standard deviation 1 within each class, or not.
    noise : LabelNoise, optional
        In place of an estimate: what `label_noise` returned. One that was estimated elsewhere does
        not know which rows it was fitted to, and each of these has a part in its own score, by one
        in n_c.
    noise_model : {"confusion", "symmetric"}
        As for `ClipSelector`.
    random_state : int
        Chooses the images that the noise is estimated from, where there are more than 20,000:
        those of the lowest hash of the id, not those that `ClipSelector` would draw.

    Returns
    -------
    Dataset
        Lazy, with `id`, `label`, `sas`, `label_score` (log-odds that the label is right),
        `label_probability` (that it is right), `likeliest` (class), `sds` (where it is measured)
        and `total`, which `select` goes by. To rounding those of `ClipSelector` with
        ``text_weight=1`` and no or the same fitted adapter, up to 20,000 images or with the same
        `noise`, where no class is larger than `exact_up_to`.

    Raises
    ------
    InvalidInputError
        Where an argument is out of range or a column is missing; when the dataset runs, where
        a label is no class, a row not finite or all zeros, or a count of neighbours not
        below the size of a class.
    InvalidTypeError
        Where the adapter is not fitted, or is one a fold.

    Notes
    -----
    SAS is taken row by row, O(n k d). Then rows are grouped by class, because SDS and the
    scale look at a whole class, which one worker must hold: n_c (4 d + 40) bytes for n_c
    images, or n_c · 40 where SDS is not measured. SDS costs O(Σ n_c² d).
    """
    names = ("id", "embedding", "label")
    check_columns(dataset, *names)
    check_choice(alignment, ALIGNMENTS, "alignment")
    check_choice(scale, SCALES, "scale")
    check_choice(noise_model, NOISE_MODELS, "noise_model")
    weight = check_alpha(alpha)
    if isinstance(weight, str):
        raise InvalidInputError(
            f"`alpha` must be a number here, as scores know no ratio; got {alpha!r}. Pass the "
            "ratio that you will select."
        )
    n_neighbors = neighbors_for_sds(n_neighbors, weight)
    adapter = _check_adapter(adapter)
    rows = dataset.select_columns(list(names))
    text_emb_kd = np.asarray(class_embeddings)
    text_emb_kd = unit_class_embeddings(text_emb_kd, None, text_emb_kd)[0]
    if noise is None:
        noise = _estimate_noise(rows, text_emb_kd, adapter, noise_model, random_state)
    aligned = map_blocks_of(
        rows,
        batches.align_batch,
        class_emb_kd=text_emb_kd,
        adapter=adapter,
        alignment=alignment,
        noise=noise,
        noise_aware=noise_aware,
    )
    if n_neighbors is None:
        aligned = aligned.drop_columns(["embedding"])
    rate = partial(
        batches.rate_class,
        n_neighbors=n_neighbors,
        adapter=adapter,
        scale=scale,
        alpha=weight,
        noise_aware=noise_aware,
        min_label_probability=check_number(
            min_label_probability, "min_label_probability", low=0.0, high=1.0
        ),
        exact_up_to=check_exact_up_to(exact_up_to, n_neighbors),
    )
    return map_groups(aligned, "label", len(text_emb_kd), rate)


def label_noise(
    dataset: Dataset,
    class_embeddings: ArrayLike,
    *,
    adapter: Adapter | None = None,
    noise_model: str = "confusion",
    random_state: int = 0,
) -> LabelNoise:
    """Estimate how many labels are wrong, and which classes are labelled as which.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `embedding` and `label` (class numbers); runs.
    class_embeddings, adapter
        As for `score`.
    noise_model : {"confusion", "symmetric"}
        See `clip_al.estimate_label_noise`.
    random_state : int
        Chooses the images that are looked at, where there are more than 20,000: those of the
        lowest hash of the id.

    Returns
    -------
    LabelConfusion
        `str` of it is readable, and `confused_pairs` says what is worth a look. Pass it to `score`
        as `noise`, and nothing is estimated again. With ``noise_model="symmetric"`` its base
        class, `LabelNoise`.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        As for `score`.
    """
    names = ("id", "embedding", "label")
    check_columns(dataset, *names)
    check_choice(noise_model, NOISE_MODELS, "noise_model")
    text_emb_kd = np.asarray(class_embeddings)
    text_emb_kd = unit_class_embeddings(text_emb_kd, None, text_emb_kd)[0]
    rows = dataset.select_columns(list(names))
    return _estimate_noise(rows, text_emb_kd, _check_adapter(adapter), noise_model, random_state)


def select(
    dataset: Dataset,
    ratio: float,
    *,
    class_balance: Rule = "proportional",
    n_classes: int | None = None,
    column: str = "total",
) -> Dataset:
    """Choose the share of the rows with the highest scores, exactly and without a sort.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `column` and, for quotas, `label`; runs once, and what is
        needed of it, some 30 bytes a row, stays in the object store.
    ratio : float
        Share to choose, in (0, 1]; the number is rounded to the nearest, halves up.
    class_balance : {"none", "proportional", "equal"}, array-like or mapping
        Quotas per class, as for `SelectionOptimizer`.
    n_classes : int, optional
        How many classes there are; by default up to the highest that occurs.
    column : str
        The score; higher is chosen first, ties by lowest id.

    Returns
    -------
    Dataset
        The columns `id`, `column` and, with quotas, `label` of the chosen rows, in no order;
        already computed. The rows are exactly those that
        ``SelectionOptimizer(ratio, class_balance=…)`` chooses by the same scores.

    Raises
    ------
    InvalidInputError
        Where the ratio is out of range or selects nothing, a score is not finite, a quota
        exceeds its class, an id occurs twice at the threshold, or a column is missing.

    Notes
    -----
    A distributed threshold search (`threshold`): each pass counts the scores that are
    still open in 1,024 bins a class, then opens the bin that holds the threshold; the last
    100,000 are gathered. Some four passes over 30 bytes a row; nothing is sorted.
    """
    rule = check_rule(class_balance, "class_balance")
    names = ["id", column] if rule is None else ["id", column, "label"]
    check_columns(dataset, *names)
    settings: dict[str, Any] = {"score": column, "by_class": rule is not None}
    keys = partial(batches.score_keys, **settings, n_classes=n_classes)
    n_groups = 0 if n_classes is None else check_int(n_classes, "n_classes")
    keyed, extent = measure_keys(map_blocks_of(dataset.select_columns(names), keys), n_groups)
    n_wanted = check_ratio(ratio, int(extent.size_g.sum()))
    quota_g = np.array([n_wanted])
    if rule is not None:
        attribute = class_attribute(np.empty(0, np.int64), len(extent.size_g), None)
        quota_g = attribute_quotas(rule, attribute, n_wanted, extent.size_g, extent.size_g)
    bounds = threshold(keyed, extent, quota_g)
    with our_errors():
        chosen: Dataset = map_blocks_of(
            keyed, batches.chosen_rows, bounds=bounds, **settings
        ).materialize()
    if chosen.count() != n_wanted:
        raise repeated_ids()
    return chosen


def pick(
    dataset: Dataset,
    n_instances: int,
    vocabulary: ConceptVocabulary,
    *,
    candidate_factor: int = 2,
    uncertainty: str = "margin",
    weighting: str = "binary",
    target: str | ArrayLike = "uniform",
    labelled: ConceptCounts | ConceptProfiles | None = None,
    n_shards: int = 1,
    oversample: float = 2.0,
) -> NDArray[Any]:
    """Pick images that the model is unsure of and whose concepts differ.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `concepts`, `similarities` (from `profile`) and
        `probabilities` (k,); runs twice.
    n_instances : int
        How many to pick, in [1, n].
    vocabulary : ConceptVocabulary
        That of the profiles.
    candidate_factor, uncertainty, weighting, target
        As for `CBDMarginSampling`.
    labelled : ConceptCounts or ConceptProfiles, optional
        What is labelled already, profiled with the same statistics.
    n_shards : int
        1 picks among all candidates here, as one machine does. With more, candidates are
        dealt out by a hash of the id, each shard picks on a worker, and the picks of all are
        picked from here.
    oversample : float
        How many picks, at least 1, of all shards together, for each that is wanted.

    Returns
    -------
    ndarray of shape (n_instances,), int64 or object (str)
        Ids, best first, ties by certainty and then lowest id. With one shard, or where
        `oversample` is at least `candidate_factor`, those of `CBDMarginSampling.select`; the
        candidates are always the same as there.

    Raises
    ------
    InvalidInputError
        Where an argument is out of range, rows are no probabilities, or a column is missing.
    InvalidTypeError
        Where `labelled` is of another type.

    Notes
    -----
    The candidates are found by the threshold search of `select`, and then gathered: 8 m + 16
    bytes each. One greedy takes O(c m + b r (m + log c)) time for b picks of c candidates with
    r looks a pick, see `pick_diverse`; with shards that is spread over the workers but for a
    second round among b · `oversample`. docs/ray.md has the loss of diversity.

    References
    ----------
    Barbosa, Ene, Nguyen, Ward: "The Power of Randomization: Distributed Submodular
    Maximization on Massive Datasets", ICML 2015, Algorithm 1 (which keeps the better of the
    second round and the best shard; a shard's own picks are too few here).
    """
    names = ["id", "concepts", "similarities", "probabilities"]
    check_columns(dataset, *names)
    check_choice(uncertainty, UNCERTAINTIES, "uncertainty")
    check_choice(weighting, WEIGHTINGS, "weighting")
    factor = check_int(candidate_factor, "candidate_factor")
    n_shards = check_int(n_shards, "n_shards")
    oversample = check_number(oversample, "oversample", low=1.0)
    counts = _count_labelled(labelled, vocabulary, weighting)
    rows = dataset.select_columns(names)
    n_instances, candidates = _candidates(rows, n_instances, factor, uncertainty, n_shards)
    settings: dict[str, Any] = {
        "vocabulary": vocabulary,
        "weighting": weighting,
        "counts": counts,
        "target_v": _target(target, dataset, candidates, vocabulary, weighting),
    }
    if n_shards > 1:
        n_picks = int(np.ceil(oversample * n_instances))
        n_candidates = candidates.count()
        shard = partial(batches.pick_shard, n_picks=n_picks, n_candidates=n_candidates, **settings)
        candidates = map_groups(candidates, "shard", n_shards, shard)
    picked: NDArray[Any] = batches.pick_rows(gather_rows(candidates), n_instances, **settings)["id"]
    return picked


def _candidates(
    rows: Dataset, n_instances: int, factor: int, uncertainty: str, n_shards: int
) -> tuple[int, Dataset]:
    """Return how many to pick, checked, and the least certain rows, computed."""
    probabilities = rows.select_columns(["id", "probabilities"])
    keyed, extent = measure_keys(
        map_blocks_of(probabilities, batches.certainty_keys, uncertainty=uncertainty)
    )
    n = int(extent.size_g.sum())
    n_instances = check_n_instances(n_instances, n)
    n_candidates = min(n, factor * n_instances)
    found = map_blocks_of(
        rows,
        batches.candidate_rows,
        bounds=threshold(keyed, extent, [n_candidates]),
        uncertainty=uncertainty,
        n_shards=n_shards,
    )
    with our_errors():
        candidates = found.materialize()
    if candidates.count() != n_candidates:
        raise repeated_ids()
    return n_instances, candidates


def _estimate_noise(
    rows: Dataset,
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    noise_model: str,
    random_state: int,
) -> LabelNoise:
    """Estimate from all rows, or from a random sample that the ids alone decide."""
    seed = check_int(random_state, "random_state", smallest=0)
    keyed, extent = measure_keys(
        map_blocks_of(rows.select_columns(["id"]), batches.random_keys, seed=seed)
    )
    n_looked = min(int(extent.size_g.sum()), MAX_IMAGES)
    bounds = threshold(keyed, extent, [n_looked])
    looked_at = map_blocks_of(rows, batches.sampled_rows, bounds=bounds, seed=seed)
    sample = batches.sorted_by_id(gather_rows(looked_at))
    noise = estimate_label_noise(
        sample["embedding"], sample["label"], text_emb_kd,
        adapter=adapter, model=noise_model, random_state=seed,
    )  # fmt: skip
    if not isinstance(noise, LabelConfusion):
        return noise
    return batches.SampledConfusion(**vars(noise), bounds=bounds, seed=seed)


def _check_adapter(adapter: object) -> Adapter | None:
    if adapter is None or adapter is False:
        return None
    if isinstance(adapter, Adapter) and is_fitted(adapter):
        return adapter
    raise InvalidTypeError(
        "`adapter` must be None or a fitted DatasetAdapter; got "
        f"{type(adapter).__name__}. Fit one on a sample that fits one machine."
    )


def _empty_profiles(vocabulary: ConceptVocabulary) -> ConceptProfiles:
    ids_nm = np.empty((0, 1), dtype=np.int32)
    return ConceptProfiles(ids_nm, np.empty((0, 1), np.float32), vocabulary, None)


def _count_labelled(
    labelled: ConceptCounts | ConceptProfiles | None, vocabulary: ConceptVocabulary, weighting: str
) -> ConceptCounts:
    if not isinstance(labelled, ConceptCounts | ConceptProfiles | None):
        raise InvalidTypeError(
            "`labelled` must be ConceptCounts or ConceptProfiles; got "
            f"{type(labelled).__name__}. Profile it with the statistics of the dataset: "
            "`ConceptProfiles.from_embeddings(Z, vocabulary, m, statistics=statistics)`."
        )
    return count_labelled(labelled, _empty_profiles(vocabulary), weighting)


def _target(
    target: str | ArrayLike,
    dataset: Dataset,
    candidates: Dataset,
    vocabulary: ConceptVocabulary,
    weighting: str,
) -> NDArray[np.float64] | None:
    """Return the mean concept vector to steer towards, as `target_vector` does."""
    if isinstance(target, str) and target in ("pool", "uncertain"):
        rows = dataset if target == "pool" else candidates
        counts = concept_counts(rows, vocabulary, weighting=weighting)
        return counts.sum_v / counts.n
    empty = _empty_profiles(vocabulary)
    return target_vector(target, empty, empty, weighting)
