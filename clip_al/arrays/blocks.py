"""Reading large arrays in blocks, on all cores."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from clip_al.errors import InvalidInputError, not_finite

Result = TypeVar("Result")

BLOCK_BYTES = 32 * 2**20
"""Size of the blocks in which large arrays are read, about what a CPU cache can feed."""


def block_rows(n_columns: int, itemsize: int = 4) -> int:
    """Return how many rows of `n_columns` items fill one block, at least 1.

    Examples
    --------
    >>> block_rows(1024)
    8192
    """
    return max(1, BLOCK_BYTES // max(1, n_columns * itemsize))


def unit_block(image_emb_nd: NDArray[Any], rows: slice) -> NDArray[np.float32]:
    """Return some rows as unit-length float32; no copy where they already are.

    NaN and infinity are found here, in the pass that every row goes through anyway.
    """
    with np.errstate(over="ignore"):
        block = np.asarray(image_emb_nd[rows], dtype=np.float32)
    length_n = np.sqrt(np.einsum("nd,nd->n", block, block))
    if length_n.min() == 0.0 or not np.isfinite(length_n).all():
        return _unit_block_of_any_scale(image_emb_nd, rows)
    if np.abs(length_n - 1.0).max() > 1e-4:
        block = block / length_n[:, None]
    return block


def _unit_block_of_any_scale(image_emb_nd: NDArray[Any], rows: slice) -> NDArray[np.float32]:
    """Do the same where squares leave the range of float32; refuse rows of zeros."""
    block = np.asarray(image_emb_nd[rows], dtype=np.float64)
    largest_n = np.abs(block).max(axis=1)
    bad = np.flatnonzero(~np.isfinite(largest_n))
    if bad.size:
        raise not_finite("Z", [_position(rows, row) for row in bad])
    if largest_n.min() == 0.0:
        row = _position(rows, np.argmin(largest_n))
        raise InvalidInputError(
            f"Every embedding must have a direction; row {row} is all zeros. Encode it again."
        )
    block = block / largest_n[:, None]
    unit: NDArray[np.float32] = (block / np.linalg.norm(block, axis=1)[:, None]).astype(np.float32)
    return unit


def _position(rows: slice, index: int | np.integer[Any]) -> int:
    """Return which row of the array is the index-th of a slice."""
    return int((rows.start or 0) + index * (rows.step or 1))


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """Find the libraries' thread pools once; looking takes milliseconds."""
    import scipy.linalg  # noqa: F401  has a BLAS of its own, which must be there to be found

    return ThreadpoolController()


_inside = threading.local()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS on the calling thread; inside another such block, change nothing.

    Setting the number of threads costs milliseconds, so a function of several steps sets it
    once around them.
    """
    if getattr(_inside, "entered", False):
        yield
        return
    _inside.entered = True
    try:
        with _thread_pools().limit(limits=1, user_api="blas"):
            yield
    finally:
        _inside.entered = False


def map_blocks(
    function: Callable[[slice], Result], n: int, rows_per_block: int
) -> Iterator[Result]:
    """Apply `function` to slices of range(n) on all cores; yield the results in order.

    OMP_NUM_THREADS, where it is set, bounds the threads, as it does those of BLAS.

    Each call has BLAS to itself on one thread: a block then stays in that core's cache
    from the product to what is made of it, and results do not depend on the core count.
    """
    with one_blas_thread(), ThreadPoolExecutor(_n_threads()) as pool:
        yield from pool.map(
            function, (slice(i, min(i + rows_per_block, n)) for i in range(0, n, rows_per_block))
        )


def _n_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    else:
        n_cores = os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(n_cores, int(allowed)) if allowed.isdecimal() and int(allowed) else n_cores
