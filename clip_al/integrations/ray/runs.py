"""How `clip_al.integrations.ray` asks Ray to run something.

Ray is imported on first use, never with this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.errors import (
    ClipAlError,
    InvalidInputError,
    InvalidTypeError,
    missing_extra,
)
from clip_al.integrations.ray import batches
from clip_al.integrations.ray.threshold import FEW, Bounds, Extent, find_bounds

if TYPE_CHECKING:
    from ray.data import Dataset

MAX_PARTITIONS = 200


def ray_data() -> Any:
    """Return the module `ray.data`."""
    try:
        import ray.data
    except ImportError as exc:
        raise missing_extra(
            "clip_al.integrations.ray needs Ray Data", "ray", ", on every node of the cluster"
        ) from exc
    return ray.data


def map_blocks_of(dataset: Dataset, function: Callable[..., Any], **settings: Any) -> Dataset:
    """Apply a function to each block; its settings go to the object store once."""
    ray_data()
    mapped = dataset.map_batches(
        partial(function, **settings), batch_size=None, batch_format="numpy"
    )
    return with_our_errors(mapped)


def map_groups(dataset: Dataset, key: str, n_groups: int, function: Callable[..., Any]) -> Dataset:
    """Apply a function to the rows of each value of a column."""
    # Of Ray 2.60's shuffles: "shuffle_v2" fails where a block before it and a partition after it
    # are empty; "hash_shuffle" keeps rows in actors; this one is made of tasks, which run again.
    dataset.context.shuffle_strategy = "sort_shuffle_pull_based"
    grouped = dataset.groupby(key, num_partitions=min(n_groups, MAX_PARTITIONS))
    return with_our_errors(grouped.map_groups(function, batch_format="numpy"))


def with_our_errors(dataset: Dataset) -> Dataset:
    """Let what a worker raises arrive as the error that it is.

    A dataset shares its context, and so this, with what it was made from; Ray's default stays.
    """
    dataset.context.raise_original_map_exception = True
    return dataset


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise an error of ours without the traceback of the worker around it."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as exc:
        if isinstance(exc.cause, ClipAlError):
            raise exc.cause from None
        raise


def check_columns(dataset: Dataset, *names: str) -> None:
    """Look for columns before anything runs; a lazy dataset runs one block for it."""
    ray_data()
    if not hasattr(dataset, "map_batches"):
        raise InvalidTypeError(
            f"`dataset` must be a Ray Dataset; got {type(dataset).__name__}. Make one with "
            "`ray.data.read_parquet`, for instance."
        )
    with our_errors():
        present: Sequence[str] = dataset.columns() or []
    missing = [name for name in names if name not in present]
    if missing:
        raise InvalidInputError(
            f"The dataset must have the columns {', '.join(map(repr, names))}; got "
            f"{', '.join(map(repr, present)) or 'none'}. Rename them with "
            "`Dataset.rename_columns`, or run the step before."
        )


def blocks(dataset: Any) -> Iterator[dict[str, NDArray[Any]]]:
    """Run a dataset and yield its blocks as they come."""
    with our_errors():
        yield from dataset.iter_batches(batch_size=None, batch_format="numpy")


def gather_rows(dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Return all rows here, in no order."""
    parts = [block for block in blocks(dataset) if len(block["id"])]
    columns = [{name: batches.column(part, name) for name in part} for part in parts]
    return {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}


def in_order(dataset: Dataset) -> list[dict[str, Any]]:
    """Return partial results, one a block, in the order of the blocks' lowest ids."""
    rows: list[dict[str, Any]] = []
    for block in blocks(dataset):
        rows += [{name: block[name][i] for name in block} for i in range(len(block["first"]))]
    return sorted(rows, key=lambda row: row["first"])


def measure_keys(keyed: Dataset, n_groups: int = 0) -> tuple[Dataset, Extent]:
    """Compute and keep the keys; return them with sizes and ranges of (at least) the groups."""
    with our_errors():
        keyed = keyed.materialize()
    parts = [
        (
            block["group"],
            Extent(block["size"], block["low"], block["high"], int(block["n_words"].max())),
        )
        for block in blocks(map_blocks_of(keyed, batches.extent_of))
        if len(block["group"])
    ]
    if not parts:
        raise InvalidInputError("The dataset must hold at least one row; got none. Pass some.")
    return keyed, Extent.merged(parts, n_groups)


def threshold(keyed: Dataset, extent: Extent, quota_g: ArrayLike) -> Bounds:
    """Find what `find_bounds` finds, over keys that are computed already."""

    def count(bounds: Bounds) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for block in blocks(map_blocks_of(keyed, batches.counts_of, bounds=bounds)):
            yield block["cell"], block["count"]

    def gather(bounds: Bounds) -> Any:
        return batches.keys_of(gather_rows(map_blocks_of(keyed, batches.open_keys, bounds=bounds)))

    return find_bounds(extent, quota_g, count, gather, few=FEW)
