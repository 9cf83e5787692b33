"""Exact nearest neighbours within a class.

    rows of one class, scaled to unit length
        ──▶ cosines of a block of rows with the class, a block for each core
        ──▶ mean distance to the k nearest, or the k nearest themselves

All cosines of a class never exist at once, and nothing is sorted: bisection brackets the
k-th largest of a row while the row is in the cache, a tenth of what its product costs.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from clip_al.arrays.blocks import Result, block_rows, map_blocks, one_blas_thread, unit_block
from clip_al.arrays.checks import check_choice, check_count, check_embeddings, check_int
from clip_al.arrays.device import device_of, is_on_device
from clip_al.arrays.given import MOST_CLASSES, array_of
from clip_al.arrays.labels import encode_labels, group_by_class
from clip_al.arrays.types import Adapter, Device, Embeddings
from clip_al.errors import InvalidInputError, InvalidTypeError, missing_extra

__all__ = ["mean_neighbour_distances", "neighbour_count", "neighbour_graph"]

BACKENDS = ("auto", "faiss", "torch", "numpy")
SMALLEST_SQUARE = 4e-6
"""Squared distances below this are rounding of a float32 cosine, and count as 0."""
CACHED_ROWS = 512  # enough that a product runs at full speed, few enough to share out
ITSELF = -2.0  # below every cosine: an image is not its own neighbour
LONGEST_OFF = 1e-2  # of the length of an adapted row from 1
SMALLEST_LENGTH = 1e-15  # below it the squares of float32 lose digits


def neighbour_count(n_neighbors: float, n_members: int, *, group: str = "the set") -> int:
    """Return how many neighbours `n_neighbors` asks for in a set of `n_members` images.

    What `n_neighbors` means here it means everywhere.

    Parameters
    ----------
    n_neighbors : int or float
        An int is a count, in [1, n_members - 1]. A float in (0, 1] is a fraction of the
        set, rounded to the nearest count (a half goes up), at least 1 and, since an image
        is not its own neighbour, at most ``n_members - 1``.
    n_members : int
        Size of the set.
    group : str
        What the set is called, for the message.

    Returns
    -------
    int
        In [1, n_members - 1]; 0 where the set has fewer than two images.

    Raises
    ------
    InvalidInputError
        Where a count is below 1 or not below `n_members`, or a fraction outside (0, 1].
    InvalidTypeError
        Where `n_neighbors` is no number.

    Examples
    --------
    >>> neighbour_count(10, 5000), neighbour_count(0.1, 5000), neighbour_count(0.1, 3)
    (10, 500, 1)
    """
    n_members = check_int(n_members, "n_members", smallest=0)
    if isinstance(n_neighbors, bool) or not isinstance(n_neighbors, numbers.Real):
        raise InvalidTypeError(
            f"`n_neighbors` must be a whole number or a fraction; got {n_neighbors!r}. Pass 10, or "
            "0.1 for 10 %."
        )
    if isinstance(n_neighbors, numbers.Integral):
        count = check_int(n_neighbors, "n_neighbors")
        if count >= n_members > 1:
            raise InvalidInputError(
                f"`n_neighbors` must be below the number of images of {group}, {n_members}; got "
                f"{count}. "
                "Lower it, or pass a fraction such as 0.1, which fits every class."
            )
        return count if n_members > 1 else 0
    if not 0.0 < n_neighbors <= 1.0:
        raise InvalidInputError(
            f"`n_neighbors`, as a fraction of the class, must be in (0, 1]; got {n_neighbors}. "
            "Pass an int for a count of neighbours."
        )
    return min(max(1, math.floor(float(n_neighbors) * n_members + 0.5)), max(0, n_members - 1))


def mean_neighbour_distances(
    Z: Embeddings, n_neighbors: float = 0.1, *, backend: str = "auto", device: Device = None
) -> NDArray[np.float32]:
    """Return the mean distance of each image to its k nearest others, within one set.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Embeddings of the set, any float type, not modified; rows are scaled to unit length.
    n_neighbors : int or float
        How many, or a fraction of the set; see `neighbour_count`.
    backend : {"auto", "numpy", "torch", "faiss"}
        All are exact. "auto" is "numpy" on the CPU, the fastest there, and "torch" elsewhere.
    device : str or torch.device, optional
        Where "torch" computes; the CPU by default.

    Returns
    -------
    ndarray of shape (n,), float32
        Euclidean distance of unit vectors, in [0, 2]; 0 for a set of one image.

    Raises
    ------
    InvalidInputError
        Where a count is not below n; where `Z` is empty, not 2-D, not finite or has a row of
        zeros; where the backend does not run on the device.
    MissingDependencyError
        Where the backend is "faiss" and faiss is not installed.

    Notes
    -----
    ``‖a − b‖² = 2 − 2 a·b`` for unit vectors, in float32: a distance r is exact to about
    ``1e-7 / r``, and one below 0.002 counts as 0, so identical images are at distance 0 on
    every backend. O(n² d) time; a float32 copy of the set and one block of cosines for
    each core as memory.

    Examples
    --------
    >>> Z = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    >>> mean_neighbour_distances(Z, n_neighbors=1).round(3)
    array([1.414, 0.   , 0.   ], dtype=float32)
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    backend, device = chosen_backend(backend, device, image_emb_nd)
    n = len(image_emb_nd)
    count = neighbour_count(n_neighbors, n)
    unit_nd = unit_rows(image_emb_nd, np.arange(n))
    return distances_within(unit_nd, count, backend=backend, device=device)


def neighbour_graph(
    Z: Embeddings,
    y: ArrayLike,
    n_classes: int,
    n_neighbors: float = 10,
    *,
    adapter: Adapter | None = None,
    backend: str = "auto",
    device: Device = None,
) -> Any:
    """Return the graph of each image's nearest neighbours of the same class.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Embeddings, any float type, not modified.
    y : array-like of shape (n,)
        Class numbers in [0, n_classes).
    n_classes : int
        How many classes there are; some may have no image.
    n_neighbors : int or float
        A count, of which a smaller class gives as many as it has others, or a fraction of
        the class; see `neighbour_count`.
    adapter : DatasetAdapter, optional
        Fitted; its `transform_images` is applied to each class first.
    backend, device
        As for `mean_neighbour_distances`.

    Returns
    -------
    scipy.sparse.csr_array of shape (n, n), float32
        Cosines in [-1, 1]; row i holds the neighbours of image i by ascending column, never
        i itself, so a class of one image has an empty row. Not symmetric. Ties, cosines
        within 1e-8 of each other, go to the lowest column ("faiss" takes any).

    Raises
    ------
    InvalidInputError
        Where labels are no classes or not as many as the images, and as for
        `mean_neighbour_distances`.

    Notes
    -----
    O(Σ n_c² d) time over classes of n_c images; O(n · neighbours) memory, and a float32 copy of one
    class at a time.

    Examples
    --------
    >>> Z = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, 1.0]])
    >>> neighbour_graph(Z, [0, 0, 0, 1], n_classes=2, n_neighbors=1).toarray().round(1)
    array([[0. , 0.6, 0. , 0. ],
           [0. , 0. , 0.8, 0. ],
           [0. , 0.8, 0. , 0. ],
           [0. , 0. , 0. , 0. ]], dtype=float32)
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    n = len(image_emb_nd)
    n_classes = check_count(n_classes, "n_classes", MOST_CLASSES)
    codes_n = encode_labels(y, n_images=n, n_classes=n_classes)
    backend, device = chosen_backend(backend, device, image_emb_nd)
    classes = group_by_class(codes_n, n_classes)
    if isinstance(n_neighbors, numbers.Integral) and not isinstance(n_neighbors, bool):
        most = check_int(n_neighbors, "n_neighbors")
        counts = [min(most, max(0, len(members) - 1)) for members in classes]
    else:
        counts = [neighbour_count(n_neighbors, len(members)) for members in classes]
    start_n = np.concatenate([[0], np.cumsum(np.array(counts, dtype=np.int64)[codes_n])])
    index_type = np.int32 if max(n, start_n[-1]) < 2**31 else np.int64
    columns, cosines = np.empty(start_n[-1], index_type), np.empty(start_n[-1], np.float32)
    for members, count in zip(classes, counts, strict=True):
        if not count:
            continue
        unit_md = unit_rows(image_emb_nd, members, adapter=adapter)
        for rows, columns_bk, cosines_bk in _nearest(unit_md, count, backend, device):
            slots_bk = start_n[members[rows], None] + np.arange(count)
            # Members ascend, and so do columns: places in the class to places in `Z`.
            columns[slots_bk] = members[columns_bk]
            cosines[slots_bk] = cosines_bk
    return sparse.csr_array((cosines, columns, start_n.astype(index_type)), shape=(n, n))


def chosen_backend(backend: str, device: Device, Z: Embeddings | None = None) -> tuple[str, Any]:
    """Return what "auto" stands for, and where; refuse a device that the backend cannot use."""
    check_choice(backend, BACKENDS, "backend")
    if backend in ("numpy", "faiss") and (is_on_device(Z) or str(device) not in ("None", "cpu")):
        raise InvalidInputError(
            f"`device` must be 'cpu', and embeddings an array, for the backend {backend!r}; got "
            f"{str(Z.device if is_on_device(Z) else device)!r}. Pass backend='torch'."
        )
    device = device_of(Z, device)
    if backend == "auto":
        backend = "numpy" if device is None else "torch"
    return backend, device


def unit_rows(
    image_emb_nd: NDArray[Any], members: NDArray[np.int64], *, adapter: Adapter | None = None
) -> Any:
    """Gather some images as float32 rows of length 1, to rounding; adapt them where asked.

    `unit_block` leaves alone what is within 1e-4 of length 1. Distances of near neighbours
    are the square root of such a difference, so here every row is divided.

    Returns
    -------
    ndarray or torch.Tensor of shape (m, d), float32
        A tensor where the embeddings are on a device.
    """
    if is_on_device(image_emb_nd):
        tensor_md = image_emb_nd.unit(members)
        return tensor_md if adapter is None else adapter.adapt(tensor_md)
    unit_md = np.empty((len(members), image_emb_nd.shape[1]), dtype=np.float32)

    def gather(rows: slice) -> None:
        block = unit_md[rows]
        with np.errstate(over="ignore"):
            block[:] = image_emb_nd[members[rows]]
            length_b = np.sqrt(np.einsum("bd,bd->b", block, block))
        odd = np.flatnonzero(~((length_b >= SMALLEST_LENGTH) & (length_b < np.inf)))
        for i in odd:  # out of the range of float32, or an error that names the row
            at = int(members[rows][i])
            block[i] = unit_block(image_emb_nd, slice(at, at + 1))
            length_b[i] = np.linalg.norm(block[i])
        block /= length_b[:, None]

    for _ in on_all_cores(gather, len(members), CACHED_ROWS):
        pass
    return unit_md if adapter is None else adapted_images(adapter, unit_md)


def adapted_images(adapter: Adapter, unit_bd: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what an adapter makes of images; anybody may have written it, so it is looked at.

    Raises
    ------
    InvalidInputError
        Where it gives anything but a unit row for each image: bisection between cosines of −1.1
        and 1.1 would write past the end of an array.
    """
    return _adapted(adapter, "transform_images", unit_bd)


def adapted_texts(adapter: Adapter, unit_kd: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what an adapter makes of texts, looked at as in `adapted_images`."""
    return _adapted(adapter, "transform_texts", unit_kd)


def _adapted(adapter: Adapter, method: str, unit_nd: NDArray[np.float32]) -> NDArray[np.float32]:
    transform, n = getattr(adapter, method, None), len(unit_nd)
    if transform is None:
        raise InvalidTypeError(
            f"`adapter` must have `{method}`, as a fitted DatasetAdapter; got a "
            f"{type(adapter).__name__}. Pass one, or leave `adapter` out."
        )
    adapted = array_of(transform(unit_nd), f"adapter.{method}(...)", np.float32)
    if adapted.ndim == 2 and len(adapted) == n:
        length_n = np.sqrt(np.einsum("nd,nd->n", adapted, adapted))
        if (np.abs(length_n - 1.0) < LONGEST_OFF).all():  # false where one is NaN
            return adapted
    raise InvalidInputError(
        f"`adapter.{method}` must return one row of unit length for each of the {n} rows; got "
        f"shape {adapted.shape}, or rows of another length. Divide each row by its length."
    )


def on_all_cores(
    function: Callable[[slice], Result], n: int, rows_per_block: int
) -> Iterator[Result]:
    """Map a function over blocks; without threads where a small class is one block."""
    if n > rows_per_block:
        yield from map_blocks(function, n, rows_per_block)
    elif n:
        with one_blas_thread():
            result = function(slice(0, n))
        yield result


def distances_within(
    unit_nd: Any, count: int, *, backend: str, device: Device
) -> NDArray[np.float32]:
    """Return the mean distance of unit rows to their `count` nearest others; trusts its input."""
    n = len(unit_nd)
    distance_n = np.zeros(n, dtype=np.float32)
    if count == 0:
        return distance_n
    if backend == "torch":
        for rows, sim_bn in _cosines_torch(unit_nd, device):
            top_bk = sim_bn.topk(count, dim=1, sorted=False).values
            distance_n[rows] = distances_from_cosines(top_bk).mean(dim=1).cpu().numpy()
    elif backend == "faiss":
        for rows, _, cosines_bk in _nearest_faiss(unit_nd, count):
            distance_n[rows] = distances_from_cosines(cosines_bk).mean(axis=1)
    else:

        def measure(rows: slice) -> None:
            mean_of_nearest(_cosines(unit_nd, rows), count, distance_n[rows])

        for _ in on_all_cores(measure, n, min(CACHED_ROWS, block_rows(n))):
            pass
    return distance_n


def distances_from_cosines(cosines: Any) -> Any:
    """Return Euclidean distances of unit vectors, of an array or a tensor of cosines."""
    square = 2.0 - 2.0 * cosines
    square[square < SMALLEST_SQUARE] = 0.0
    return square**0.5


Nearest = Iterator[tuple[slice, NDArray[Any], NDArray[np.float32]]]


def _nearest(unit_nd: Any, count: int, backend: str, device: Device) -> Nearest:
    """Yield rows, the columns of their nearest (b, count), ascending, and the cosines."""
    if backend == "torch":
        yield from _nearest_torch(unit_nd, count, device)
    elif backend == "faiss":
        yield from _nearest_faiss(unit_nd, count)
    else:

        def search(rows: slice) -> tuple[slice, NDArray[Any], NDArray[np.float32]]:
            sim_bn = _cosines(unit_nd, rows)
            columns_bk = np.empty((len(sim_bn), count), dtype=np.int64)
            cosines_bk = np.empty((len(sim_bn), count), dtype=np.float32)
            _write_nearest(sim_bn, columns_bk, cosines_bk)
            return rows, columns_bk, cosines_bk

        n = len(unit_nd)
        yield from on_all_cores(search, n, min(CACHED_ROWS, block_rows(n)))


def _cosines(unit_nd: NDArray[np.float32], rows: slice) -> NDArray[np.float32]:
    sim_bn: NDArray[np.float32] = unit_nd[rows] @ unit_nd.T
    places = np.arange(len(sim_bn))
    sim_bn[places, rows.start + places] = ITSELF
    return sim_bn


FAST = {"nnan", "ninf", "nsz", "reassoc", "contract"}  # lets sums be vector instructions


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _bracket(row, k):  # type: ignore[no-untyped-def]
    """Return low < high, no more than 1e-8 or a rounding apart, around the k-th largest entry.

    At least k entries reach low; fewer than k, or just k, reach high, and are counted.
    """
    low, high, n_high = np.float32(-1.1), np.float32(1.1), 0
    for _ in range(28):  # 2.2 / 2²⁸ < 1e-8
        middle = np.float32(0.5) * (low + high)
        n = 0
        for start in range(0, len(row), 4096):  # float32 counts them fast, and exactly
            part, n_part = row[start : start + 4096], np.float32(0.0)
            for j in range(len(part)):
                n_part += np.float32(1.0) if part[j] >= middle else np.float32(0.0)
            n += int(n_part)
        if n > k:
            low = middle
        else:
            high, n_high = middle, n
            if n == k:
                break
    return low, high, n_high


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _distance(cosine):  # type: ignore[no-untyped-def]
    square = np.float32(2.0) - np.float32(2.0) * cosine
    return np.sqrt(square) if square >= np.float32(SMALLEST_SQUARE) else np.float32(0.0)


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def mean_of_nearest(sim_bn, k, mean_b):  # type: ignore[no-untyped-def]
    """Write the mean distance over the k largest cosines of each row, without finding them."""
    for i in range(len(sim_bn)):
        row = sim_bn[i]
        low, high, n_high = _bracket(row, k)
        total = np.float64(0.0)
        for start in range(0, len(row), 4096):
            part, sum_part = row[start : start + 4096], np.float32(0.0)
            for j in range(len(part)):
                distance = _distance(part[j])
                sum_part += distance if part[j] >= high else np.float32(0.0)
            total += sum_part
        mean_b[i] = (total + (k - n_high) * _distance(low)) / k


@numba.njit(nogil=True, cache=True)
def _write_nearest(sim_bn, columns_bk, cosines_bk):  # type: ignore[no-untyped-def]
    """Write columns, ascending, and cosines of the k largest of each row, ties by column."""
    k = columns_bk.shape[1]
    for i in range(len(sim_bn)):
        row = sim_bn[i]
        low, high, n_high = _bracket(row, k)
        n_tied, found = k - n_high, 0
        for j in range(len(row)):
            if row[j] >= low:
                if row[j] < high:
                    if n_tied == 0:
                        continue
                    n_tied -= 1
                columns_bk[i, found] = j
                cosines_bk[i, found] = row[j]
                found += 1


def _cosines_torch(unit_nd: Any, device: Device) -> Iterator[tuple[slice, Any]]:
    import torch

    n = len(unit_nd)
    on_device_nd = torch.as_tensor(unit_nd, device=device or "cpu")
    # A GPU is kept busy by larger blocks than a core's cache.
    step = block_rows(n) * (1 if on_device_nd.device.type == "cpu" else 16)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        with torch.no_grad():
            sim_bn = on_device_nd[rows] @ on_device_nd.T
            sim_bn.diagonal(start).fill_(ITSELF)
            yield rows, sim_bn


def _nearest_torch(unit_nd: Any, count: int, device: Device) -> Nearest:
    for rows, sim_bn in _cosines_torch(unit_nd, device):
        bound_b1 = sim_bn.topk(count, dim=1).values[:, -1:]
        kept_bn, tied_bn = sim_bn > bound_b1, sim_bn == bound_b1
        n_tied_b1 = count - kept_bn.sum(dim=1, keepdim=True)
        kept_bn |= tied_bn & (tied_bn.cumsum(dim=1) <= n_tied_b1)
        columns_bk = kept_bn.nonzero()[:, 1].view(-1, count)
        yield rows, columns_bk.cpu().numpy(), sim_bn.gather(1, columns_bk).cpu().numpy()


def _nearest_faiss(unit_nd: NDArray[np.float32], count: int) -> Nearest:
    try:
        import faiss
    except ImportError as exc:
        raise missing_extra(
            "The backend 'faiss' needs faiss", "cpu", ", or pass backend='numpy'"
        ) from exc
    step = block_rows(count + 1)
    for start in range(0, len(unit_nd), step):
        rows = slice(start, min(start + step, len(unit_nd)))
        cosines, columns = faiss.knn(
            unit_nd[rows], unit_nd, count + 1, metric=faiss.METRIC_INNER_PRODUCT
        )
        columns_bk, cosines_bk = without_itself(columns, cosines, rows)
        order = np.argsort(columns_bk, axis=1)
        yield (
            rows,
            np.take_along_axis(columns_bk, order, axis=1),
            np.take_along_axis(cosines_bk, order, axis=1),
        )


def without_itself(
    columns: NDArray[Any], cosines: NDArray[np.float32], rows: slice
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Leave each row's own column out of one neighbour too many.

    Where duplicates took its place, the last is left out.
    """
    is_itself = columns == np.arange(rows.start, rows.stop)[:, None]
    is_itself[~is_itself.any(axis=1), -1] = True
    width = columns.shape[1] - 1
    return columns[~is_itself].reshape(-1, width), cosines[~is_itself].reshape(-1, width)
