"""Tests of `clip_al.arrays.blocks`."""

from __future__ import annotations

import os
import re
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from clip_al.arrays import blocks
from clip_al.errors import InvalidInputError
from tests.reference import contents, random_unit


@pytest.mark.parametrize(
    ("n_columns", "itemsize", "rows"),
    [(1024, 4, 8192), (1024, 8, 4096), (0, 4, 2**25), (2**25, 4, 1), (2**23, 4, 1)],
)
def test_a_block_holds_block_bytes_and_at_least_one_row(n_columns, itemsize, rows):
    assert blocks.block_rows(n_columns, itemsize) == (rows if n_columns else blocks.BLOCK_BYTES)


def test_unit_rows_of_float32_are_not_copied(rng):
    Z = random_unit(rng, 10, 6)
    block = blocks.unit_block(Z, slice(2, 7))
    assert np.shares_memory(block, Z)
    assert block.tobytes() == Z[2:7].tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_rows_of_any_float_come_back_as_unit_float32(rng, dtype):
    Z = (3 * random_unit(rng, 10, 6)).astype(dtype)
    before = contents(Z)
    block = blocks.unit_block(Z, slice(2, 7))
    expected = Z[2:7].astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert block.dtype == np.float32
    assert np.abs(block - expected).max() < 1e-6
    assert contents(Z) == before


def test_a_row_of_zeros_is_named_by_its_place_in_the_whole(rng):
    Z = random_unit(rng, 10, 6)
    Z[7] = 0
    message = "Every embedding must have a direction; row 7 is all zeros. Encode it again."
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        blocks.unit_block(Z, slice(5, 10))


def test_a_row_of_zeros_is_named_in_a_slice_from_the_start(rng):
    Z = random_unit(rng, 10, 6)
    Z[1] = 0
    with pytest.raises(InvalidInputError, match="row 1 is all zeros"):
        blocks.unit_block(Z, slice(None, 5))


def test_tiny_rows_have_a_direction(rng):
    Z = random_unit(rng, 4, 6)
    assert np.abs(blocks.unit_block(Z * np.float32(1e-30), slice(0, 4)) - Z).max() < 1e-6


def test_huge_rows_have_a_direction(rng):
    Z = random_unit(rng, 4, 6, np.float64)
    assert np.abs(blocks.unit_block(Z * 1e30, slice(0, 4)) - Z).max() < 1e-6


@pytest.mark.parametrize(("n", "rows"), [(10, 3), (9, 3), (2, 5), (1, 1)])
def test_blocks_cover_the_range_once_and_in_order(n, rows):
    seen = [i for part in blocks.map_blocks(lambda s: range(n)[s], n, rows) for i in part]
    assert seen == list(range(n))


def test_results_are_in_order_though_the_first_ends_last(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    second_ran = threading.Event()

    def wait(rows):
        if rows.start == 0:
            second_ran.wait(10 if len(os.sched_getaffinity(0)) > 1 else 0)
        else:
            second_ran.set()
        return rows.start

    assert list(blocks.map_blocks(wait, 4, 2)) == [0, 2]


def test_each_block_has_one_blas_thread_and_the_limit_is_lifted_after():
    def blas_threads(_=None):
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = blas_threads()
    inside = list(blocks.map_blocks(blas_threads, 2, 1))
    assert inside == [[1] * len(before)] * 2
    assert blas_threads() == before


@pytest.mark.parametrize("cores", [{0}, set(range(7))])
def test_as_many_threads_as_cores_that_may_be_used(monkeypatch, cores):
    asked = []

    class Pool(blocks.ThreadPoolExecutor):
        def __init__(self, n):
            asked.append(n)
            super().__init__(n)

    monkeypatch.setattr(blocks, "ThreadPoolExecutor", Pool)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert list(blocks.map_blocks(lambda rows: rows.stop, 5, 2)) == [2, 4, 5]
    assert asked == [len(cores)]


def test_cores_are_counted_where_affinity_is_unknown(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert list(blocks.map_blocks(lambda rows: rows.stop, 5, 2)) == [2, 4, 5]


def test_an_error_in_a_block_reaches_the_caller():
    def fail(rows):
        raise InvalidInputError(f"block at {rows.start}")

    with pytest.raises(InvalidInputError, match="block at 0"):
        list(blocks.map_blocks(fail, 4, 2))


@pytest.mark.parametrize(
    ("allowed", "expected"), [("1", 1), ("0", None), ("", None), ("two", None), ("1000000", None)]
)
def test_threads_are_no_more_than_is_allowed(monkeypatch, allowed, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = blocks._n_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert blocks._n_threads() == (expected or cores)
