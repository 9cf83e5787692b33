"""`UncertaintyCoverageSampling` over a Ray Dataset: weights, then candidates, then one machine.

    probabilities ──sums of blocks──▶ weight of each row ──lowest keys──▶ candidates ──▶ picks

Rows are drawn by their weight and the hash of their id, so neither blocks nor their order
change a pick. What workers run is here, too; it knows nothing of Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import (
    check_choice,
    check_embeddings,
    check_int,
    check_n_instances,
    check_number,
    check_probability_shape,
)
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError
from clip_al.integrations.ray import batches
from clip_al.integrations.ray.batches import Batch, column
from clip_al.integrations.ray.runs import (
    check_columns,
    gather_rows,
    in_order,
    map_blocks_of,
    measure_keys,
    our_errors,
    threshold,
)
from clip_al.integrations.ray.threshold import Bounds, repeated_ids
from clip_al.label.coverage.kernel import EXACT_UP_TO, Space, measure
from clip_al.label.coverage.pick import CANDIDATES_A_PICK, N_CANDIDATES, RADIUS
from clip_al.label.coverage.pick import pick_by_coverage as pick_locally
from clip_al.label.coverage.weights import balanced_doubt, probability_sums
from clip_al.label.coverage_sampling import labelled_cover
from clip_al.label.uncertainty import LABEL_DOUBTS

if TYPE_CHECKING:
    from ray.data import Dataset


def pick_by_coverage(
    dataset: Dataset,
    n_instances: int,
    *,
    labelled: Embeddings | None = None,
    probabilities: str | None = "probabilities",
    multi_label: bool = False,
    label_doubt: str = "mean",
    radius: float = RADIUS,
    random_state: int = 0,
) -> NDArray[Any]:
    """Pick images that the model is unsure of and that stand for many others like them.

    Parameters
    ----------
    dataset : Dataset
        With the columns `id`, `embedding` and `probabilities` (k,); runs three times.
    n_instances : int
        How many to pick, in [1, n].
    labelled : array-like of shape (l, d), optional
        Embeddings of what is labelled already, here.
    probabilities : str or None
        The column of probabilities; None for a first batch, in which every image counts the
        same. Class texts are not used: pick from a sample on one machine.
    multi_label, label_doubt, radius
        As for `UncertaintyCoverageSampling`.
    random_state : int
        Of the draw from datasets of more than 10,000 rows.

    Returns
    -------
    ndarray of shape (n_instances,), int64 or object (str)
        Ids, best first. Up to 10,000 rows (6 a pick, where that is more) the picks of
        `UncertaintyCoverageSampling.select` on rows sorted by id, to rounding of the weights;
        above, those among as many candidates.

    Raises
    ------
    InvalidInputError
        Where an argument is out of range, rows are no probabilities, or a column is missing.

    Notes
    -----
    Candidates are drawn with a probability of half an even share and half one by weight, by
    the threshold search of `select`; each counts by its weight over that probability, which
    is without bias. 4 d + 24 bytes a candidate are gathered, and of 4,000 more rows, drawn
    evenly, centre and radius are measured. Then one machine picks, as `pick_by_coverage` of
    `clip_al.label.coverage` does.

    References
    ----------
    Duffield, Lund, Thorup: "Priority Sampling for Estimation of Arbitrary Subset Sums",
    Journal of the ACM 2007, section 2: the draw and its estimate.
    """
    names = ["id", "embedding", *([] if probabilities is None else [probabilities])]
    check_columns(dataset, *names)
    check_choice(label_doubt, LABEL_DOUBTS, "label_doubt")
    seed = check_int(random_state, "random_state", smallest=0)
    reach = check_number(radius, "radius", above=0.0)
    known_ld = _check_labelled(labelled)
    rows = dataset.select_columns(names)
    weighed, n_classes = _weigh(rows, probabilities, multi_label, label_doubt)
    n, total = _totals(weighed)
    n_instances = check_n_instances(n_instances, n)
    n_drawn = max(N_CANDIDATES, CANDIDATES_A_PICK * n_instances)
    space = None
    if n <= n_drawn:
        drawn, weight_c = _gather_all(rows, weighed)
    else:
        drawn, weight_c = _draw(rows, weighed, n_drawn, total / n, seed)
        space = _measure_evenly(rows, reach, seed)
    n_labelled = 0 if known_ld is None else len(known_ld)
    settings: dict[str, Any] = {}
    if probabilities is not None:
        settings["weights"] = weight_c
        settings["strata"] = drawn["likeliest"]
        settings["labelled_cover"] = labelled_cover(n_labelled, n_classes)
    elif space is not None:
        settings["weights"] = weight_c
    picks = pick_locally(
        drawn["embedding"], n_instances,
        labelled=known_ld, radius=reach, random_state=seed, space=space, **settings,
    )  # fmt: skip
    picked: NDArray[Any] = drawn["id"][picks.indices]
    return picked


def _check_labelled(labelled: Embeddings | None) -> NDArray[Any] | None:
    if labelled is None or len(np.shape(labelled)) == 0 or not len(labelled):  # type: ignore[arg-type]
        return None
    return check_embeddings(labelled, "labelled", finite=False)


def _weigh(
    rows: Dataset, probabilities: str | None, multi_label: bool, label_doubt: str
) -> tuple[Dataset, int]:
    """Return id, weight and likeliest class of each row, computed, and how many classes."""
    if probabilities is None:
        weighed = map_blocks_of(rows.select_columns(["id"]), even_weights)
        n_classes = 1
    else:
        answers = rows.select_columns(["id", probabilities])
        parts = in_order(map_blocks_of(answers, sums_of_block, probabilities=probabilities))
        if not parts:
            raise InvalidInputError("The dataset must hold at least one row; got none. Pass some.")
        widths = sorted({len(part["sum"]) for part in parts})
        if len(widths) > 1:
            raise InvalidInputError(
                f"`{probabilities}` must have one column a class in every row; got {widths[0]} and "
                f"{widths[1]}. Predict all rows by one model."
            )
        sum_k = np.sum([part["sum"] for part in parts], axis=0)
        n_classes = len(sum_k)
        weighed = map_blocks_of(
            answers,
            weights_of_block,
            probabilities=probabilities,
            mean_k=sum_k / sum(int(part["n"]) for part in parts),
            multi_label=multi_label,
            label_doubt=label_doubt,
        )
    with our_errors():
        return weighed.materialize(), n_classes


def _totals(weighed: Dataset) -> tuple[int, float]:
    """Return how many rows there are, and the sum of their weights."""
    parts = in_order(map_blocks_of(weighed, totals_of_block))
    if not parts:
        raise InvalidInputError("The dataset must hold at least one row; got none. Pass some.")
    return sum(int(part["n"]) for part in parts), float(sum(part["total"] for part in parts))


def _gather_all(rows: Dataset, weighed: Dataset) -> tuple[Batch, NDArray[np.float64]]:
    """Return all rows, sorted by id, and their weights."""
    found = batches.sorted_by_id(gather_rows(weighed))
    images = batches.sorted_by_id(gather_rows(rows.select_columns(["id", "embedding"])))
    _refuse_repeated(images["id"])
    return {**found, "embedding": images["embedding"]}, found["weight"]


def _draw(
    rows: Dataset, weighed: Dataset, n_drawn: int, mean_weight: float, seed: int
) -> tuple[Batch, NDArray[np.float64]]:
    """Return candidates, sorted by id, and what each counts."""
    settings = {"mean_weight": mean_weight, "seed": seed}
    keyed, extent = measure_keys(map_blocks_of(weighed, priority_keys, **settings))
    # One more than is wanted: its key is the threshold that the estimate divides by.
    bounds = threshold(keyed, extent, [n_drawn + 1])
    taken = batches.sorted_by_id(
        gather_rows(map_blocks_of(weighed, drawn_rows, bounds=bounds, **settings))
    )
    _refuse_repeated(taken["id"])
    last = int(np.argmax(taken["value"]))
    share_c = np.delete(taken["share"], last)
    chance_c = np.minimum(1.0, share_c * taken["value"][last])
    kept = {name: np.delete(values, last, axis=0) for name, values in taken.items()}
    kept["embedding"] = _embeddings_of(rows, kept["id"])
    return kept, kept["weight"] / chance_c


def _measure_evenly(rows: Dataset, radius: float, seed: int) -> Space:
    """Return centre and radius of the dataset, by rows that the hash of the id draws."""
    images = rows.select_columns(["id", "embedding"])
    keyed, extent = measure_keys(
        map_blocks_of(images.select_columns(["id"]), batches.random_keys, seed=seed + 1)
    )
    bounds = threshold(keyed, extent, [min(EXACT_UP_TO, int(extent.size_g.sum()))])
    sample = gather_rows(map_blocks_of(images, batches.sampled_rows, bounds=bounds, seed=seed + 1))
    emb_sd = batches.sorted_by_id(sample)["embedding"]
    return measure(emb_sd, radius, np.random.default_rng(seed))


def _embeddings_of(rows: Dataset, ids: NDArray[Any]) -> NDArray[Any]:
    """Return the embeddings of some rows, in the order of `ids`, ascending."""
    images = rows.select_columns(["id", "embedding"])
    found = batches.sorted_by_id(gather_rows(map_blocks_of(images, rows_of_ids, ids=ids)))
    _refuse_repeated(found["id"])
    embeddings: NDArray[Any] = found["embedding"]
    return embeddings


def _refuse_repeated(ids: NDArray[Any]) -> None:
    if (ids[1:] == ids[:-1]).any():
        raise repeated_ids()


# What workers run


def sums_of_block(batch: Batch, *, probabilities: str) -> Batch:
    """Return number and sums of the probabilities of a block."""
    array = check_probability_shape(column(batch, probabilities))
    return {
        "first": np.array([min(column(batch, "id").tolist())]),
        "n": np.array([len(array)]),
        "sum": probability_sums(array)[None],
    }


def weights_of_block(
    batch: Batch,
    *,
    probabilities: str,
    mean_k: NDArray[np.float64],
    multi_label: bool,
    label_doubt: str,
) -> Batch:
    """Return id, weight and likeliest class of each row."""
    array = check_probability_shape(column(batch, probabilities))
    settings: dict[str, Any] = {"multi_label": multi_label, "label_doubt": label_doubt}
    weight_n = balanced_doubt(array, mean_k, **settings)
    return {
        "id": column(batch, "id"),
        "weight": weight_n,
        "likeliest": array.argmax(axis=1).astype(np.int32),
    }


def even_weights(batch: Batch) -> Batch:
    """Return ids, each with the weight 1."""
    ids = column(batch, "id")
    return {
        "id": ids,
        "weight": np.ones(len(ids)),
        "likeliest": np.zeros(len(ids), np.int32),
    }


def totals_of_block(batch: Batch) -> Batch:
    """Return number and sum of the weights of a block."""
    return {
        "first": np.array([min(column(batch, "id").tolist())]),
        "n": np.array([len(batch["weight"])]),
        "total": np.array([batch["weight"].sum()]),
    }


def priority_keys(batch: Batch, *, mean_weight: float, seed: int) -> Batch:
    """Return keys of which the lowest are a draw, half even and half by weight.

    A uniform number, the hash of the id, over the row's share.
    """
    ids = column(batch, "id")
    uniform_n = ((batches.hash_ids(ids, seed) >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
    share_n = _shares(batch, mean_weight)
    return {"id": ids, "value": uniform_n / share_n, "group": np.zeros(len(ids), dtype=np.int64)}


def drawn_rows(batch: Batch, *, bounds: Bounds, mean_weight: float, seed: int) -> Batch:
    """Return the rows that were drawn, with their shares and keys."""
    keys = priority_keys(batch, mean_weight=mean_weight, seed=seed)
    rows = np.flatnonzero(bounds.is_taken(batches.keys_of(keys)))
    kept = {name: column(batch, name)[rows] for name in batch}
    return {**kept, "share": _shares(batch, mean_weight)[rows], "value": keys["value"][rows]}


def _shares(batch: Batch, mean_weight: float) -> NDArray[np.float64]:
    weight_n = column(batch, "weight")
    shares: NDArray[np.float64] = (
        1.0 + weight_n / mean_weight if mean_weight else 1.0 + 0 * weight_n
    )
    return shares


def rows_of_ids(batch: Batch, *, ids: NDArray[Any]) -> Batch:
    """Return the rows of a block whose ids are asked for."""
    own = column(batch, "id")
    rows = np.flatnonzero(np.isin(own, ids))
    return {name: column(batch, name)[rows] for name in batch}
