"""Distances to near neighbours in classes too large to compare all pairs of.

A share of the class is estimated from a random part of it; a fixed count of neighbours, which
such a part would miss, is looked up in an inverted file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.device import device_of
from clip_al.arrays.types import Adapter, Device
from clip_al.errors import missing_extra
from clip_al.score.neighbors import (
    CACHED_ROWS,
    ITSELF,
    distances_from_cosines,
    mean_of_nearest,
    neighbour_count,
    on_all_cores,
    unit_rows,
    without_itself,
)

CHUNK = 16_384  # images that are gathered at a time
RECALL = 0.95
CHECKED = 256
"""Images on which the recall of an inverted file is measured."""
TRAINED = 64
"""Images for each list that an inverted file learns its lists from; faiss asks for 39 to 256."""


def sampled_distances(
    image_emb_nd: NDArray[Any],
    members: NDArray[np.int64],
    share: float,
    n_sampled: int,
    *,
    adapter: Adapter | None = None,
    device: Device = None,
    random_state: int | None = 0,
) -> NDArray[np.float32]:
    """Return the mean distance of images to the nearest share of their class, from a part of it.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, read in chunks.
    members : ndarray of shape (m,), int64
        The images of the class.
    share : float
        In (0, 1]: of the class, and so of the part.
    n_sampled : int
        How many images are drawn, in [2, m]; each image is compared with these.
    adapter : DatasetAdapter, optional
        Fitted; applied to images first.
    device : str or torch.device, optional
        Where products are computed; NumPy on the CPU by default.
    random_state : int, optional
        Draws the part; None draws another each time.

    Returns
    -------
    ndarray of shape (m,), float32
        In [0, 2]. The mean over ``share · n_sampled`` distances in place of ``share · m``.

    Notes
    -----
    O(m n_sampled d) time; the part and two chunks, float32, as memory.
    """
    m = len(members)
    drawn = np.sort(np.random.default_rng(random_state).choice(m, n_sampled, replace=False))
    sampled_rd = unit_rows(image_emb_nd, members[drawn], adapter=adapter)
    place_m = np.full(m, -1)
    place_m[drawn] = np.arange(n_sampled)
    count = neighbour_count(float(share), n_sampled)
    distance_m = np.empty(m, dtype=np.float32)
    device = device_of(image_emb_nd, device)
    measure = _measure_numpy if device is None else _measure_torch
    for start in range(0, m, CHUNK):
        chunk = slice(start, start + CHUNK)
        unit_cd = unit_rows(image_emb_nd, members[chunk], adapter=adapter)
        measure(unit_cd, sampled_rd, place_m[chunk], count, distance_m[chunk], device)
    return distance_m


def _measure_numpy(
    unit_cd: NDArray[np.float32],
    sampled_rd: NDArray[np.float32],
    place_c: NDArray[np.int64],
    count: int,
    distance_c: NDArray[np.float32],
    _: Any,
) -> None:
    def measure(rows: slice) -> None:
        sim_br = unit_cd[rows] @ sampled_rd.T
        own = np.flatnonzero(place_c[rows] >= 0)
        sim_br[own, place_c[rows][own]] = ITSELF
        mean_of_nearest(sim_br, count, distance_c[rows])

    for _ in on_all_cores(measure, len(unit_cd), min(CACHED_ROWS, block_rows(len(sampled_rd)))):
        pass


def _measure_torch(
    unit_cd: Any,
    sampled_rd: Any,
    place_c: NDArray[np.int64],
    count: int,
    distance_c: NDArray[np.float32],
    device: Device,
) -> None:
    import torch

    with torch.no_grad():
        sampled_dr = torch.as_tensor(sampled_rd, device=device).T
        step = 16 * block_rows(len(sampled_rd))
        for start in range(0, len(unit_cd), step):
            rows = slice(start, start + step)
            sim_br = torch.as_tensor(unit_cd[rows], device=device) @ sampled_dr
            own = np.flatnonzero(place_c[rows] >= 0)
            sim_br[own, place_c[rows][own]] = ITSELF
            top_bk = sim_br.topk(count, dim=1, sorted=False).values
            distance_c[rows] = distances_from_cosines(top_bk).mean(dim=1).cpu().numpy()


def indexed_distances(
    unit_md: NDArray[np.float32], count: int, *, random_state: int | None = 0
) -> tuple[NDArray[np.float32], float]:
    """Return the mean distance of images to their nearest, by an inverted file, and its recall.

    The file has about 4 √m lists. As many of them are probed as it takes to find 95 % of the
    neighbours of 256 images drawn at random; all, where it takes that.

    Parameters
    ----------
    unit_md : ndarray of shape (m, d), float32
        Unit rows.
    count : int
        How many neighbours, in [1, m - 1].
    random_state : int, optional
        Seed of the lists and of the images that recall is measured on.

    Returns
    -------
    distance_m : ndarray of shape (m,), float32
        In [0, 2]; too large where a neighbour was missed.
    recall : float
        Share of the true neighbours of the images drawn that were found.

    Raises
    ------
    MissingDependencyError
        Where faiss is not installed.

    References
    ----------
    Jégou, Douze, Schmid: "Product Quantization for Nearest Neighbor Search", TPAMI 2011,
    section IV (the inverted file; vectors are kept whole here).
    """
    faiss = _faiss()
    m, d = unit_md.shape
    rng = np.random.default_rng(random_state)
    n_lists = max(1, min(int(4 * np.sqrt(m)), m // 39))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, n_lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = int(rng.integers(2**31))
    learned = rng.choice(m, min(m, TRAINED * n_lists), replace=False)
    index.train(unit_md[np.sort(learned)])
    index.add(unit_md)
    checked = np.sort(rng.choice(m, min(m, CHECKED), replace=False))
    recall = _probe_enough(faiss, index, unit_md, checked, count)
    distance_m = np.empty(m, dtype=np.float32)
    for rows, cosines_bk in _search(index, unit_md, count):
        distance_m[rows] = distances_from_cosines(cosines_bk).mean(axis=1)
    return distance_m, recall


def _probe_enough(
    faiss: Any, index: Any, unit_md: NDArray[np.float32], checked: NDArray[np.int64], count: int
) -> float:
    """Probe twice as many lists until the recall is reached; return the recall."""
    _, true_ck = faiss.knn(unit_md[checked], unit_md, count + 1, metric=faiss.METRIC_INNER_PRODUCT)
    index.nprobe = 1
    while True:
        _, found_ck = index.search(unit_md[checked], count + 1)
        n_found = sum(len(np.intersect1d(a, b)) for a, b in zip(true_ck, found_ck, strict=True))
        recall = float(n_found / true_ck.size)
        # -1 stands for a neighbour that no list that was probed could give.
        if index.nprobe >= index.nlist or (recall >= RECALL and (found_ck >= 0).all()):
            return recall
        index.nprobe = min(2 * index.nprobe, index.nlist)


def _search(
    index: Any, unit_md: NDArray[np.float32], count: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    step = block_rows(count + 1)
    for start in range(0, len(unit_md), step):
        rows = slice(start, min(start + step, len(unit_md)))
        cosines_bk, columns_bk = index.search(unit_md[rows], count + 1)
        short = np.flatnonzero((columns_bk < 0).any(axis=1))
        if short.size:  # their lists hold too few: look in all
            n_probe, index.nprobe = index.nprobe, index.nlist
            found = index.search(unit_md[rows][short], count + 1)
            cosines_bk[short], columns_bk[short] = found
            index.nprobe = n_probe
        yield rows, without_itself(columns_bk, cosines_bk, rows)[1]


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as exc:
        raise missing_extra(
            "A count of neighbours in a large class needs faiss",
            "cpu",
            ", pass `n_neighbors` as a fraction, or leave `exact_up_to` out",
        ) from exc
    return faiss
