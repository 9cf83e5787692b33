"""Alignment (SAS) and diversity (SDS) of each labelled image.

    image embeddings (n, d), labels (n,), class text embeddings (k, d)
        ──▶ SAS: how well an image agrees with its label, from image and text
        ──▶ SDS: how far it is from its neighbours of the same label, from images alone

Pure functions; an adapter, where one is given, is fitted already.
"""

from __future__ import annotations

import logging
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread, unit_block
from clip_al.arrays.checks import (
    check_choice,
    check_count,
    check_embeddings,
    check_host_embeddings,
    check_int,
    check_real,
    check_seed,
)
from clip_al.arrays.device import device_block, device_of, device_slices, for_torch, host
from clip_al.arrays.given import MOST_CLASSES
from clip_al.arrays.labels import encode_labels, group_by_class
from clip_al.arrays.types import Adapter, Device, Embeddings
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.score.neighbors import (
    adapted_images,
    adapted_texts,
    chosen_backend,
    distances_within,
    neighbour_count,
    unit_rows,
)
from clip_al.score.neighbors_approximate import indexed_distances, sampled_distances
from clip_al.score.scaling import SMALLEST_SPREAD
from clip_al.score.scaling import labels_in_use as _labels_in_use
from clip_al.score.scaling import standardize_scores as standardize_scores  # of `clip_al.scores`

log = logging.getLogger(__name__)

ALIGNMENTS = ("cosine", "contrastive")
CLIP_TEMPERATURE = 0.01
"""Of CLIP as published: its logit scale is 100 at the end of training."""
SMALLEST_TEMPERATURE = 1e-6  # that of float32 cosines: below it, rounding decides
CACHED_ROWS = 512  # of some hundred columns: what a core keeps at hand
DEFAULT_NEIGHBORS = 0.1
"""Share of the class that SDS looks at, as in the paper, where nothing else is asked for."""

COMPARED = 2000
"""With how many of its class an image is compared where SDS is approximated unasked."""


def neighbors_for_sds(n_neighbors: float | None, alpha: float | str) -> float | None:
    """Return among how many neighbours to measure SDS; None where it is not to be measured.

    SDS costs most of the time of a selection: left to itself (None), it is measured where it
    has a weight, with a tenth of the class, and nowhere else.

    Examples
    --------
    >>> neighbors_for_sds(None, 0.0), neighbors_for_sds(None, "ratio"), neighbors_for_sds(5, 0.0)
    (None, 0.1, 5)
    """
    if n_neighbors is None and alpha != 0:
        return DEFAULT_NEIGHBORS
    return n_neighbors


def check_exact_up_to(
    exact_up_to: object, n_neighbors: float | None, *, compared: int | None = COMPARED
) -> int | None:
    """Return up to which size SDS compares all pairs of a class; None is any size.

    "auto" is `compared`, and any size where `n_neighbors` is a count: to look one up in a larger
    class takes faiss.

    Examples
    --------
    >>> check_exact_up_to("auto", 0.1), check_exact_up_to("auto", 5), check_exact_up_to(None, 0.1)
    (2000, None, None)
    """
    if exact_up_to is None:
        return None
    if isinstance(exact_up_to, str) and exact_up_to == "auto":
        return None if isinstance(n_neighbors, numbers.Integral) else compared
    return check_int(exact_up_to, "exact_up_to", smallest=2)


def semantic_alignment_scores(
    Z: Embeddings,
    y: ArrayLike,
    T: ArrayLike,
    *,
    alignment: str = "cosine",
    temperature: float | None = None,
    adapter: Adapter | None = None,
    device: Device = None,
) -> NDArray[np.float32]:
    """Return the Semantic Alignment Score (SAS) of each image with its label.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Image embeddings, any float type, not modified; read in blocks.
    y : array-like of shape (n,)
        Class numbers in [0, k); classes without images are fine.
    T : array-like of shape (k, d)
        Text embeddings of the classes, of the same model, not modified.
    alignment : {"cosine", "contrastive"}
        "cosine", the paper's: of the image and the text of its class. "contrastive": the
        log-softmax over all classes, which falls where another class fits better.
    temperature : float, optional
        By which "contrastive" divides cosines, at least 1e-6: that of the adapter by default, 0.01
        (CLIP's own) without one.
    adapter : DatasetAdapter, optional
        Fitted; applied to images and texts first.
    device : str or torch.device, optional
        Where images and classes are multiplied: where the embeddings are by default, and with
        NumPy on the CPU for an array.

    Returns
    -------
    ndarray of shape (n,), float32
        Higher is better aligned. "cosine": in [-1, 1]; "contrastive": in (-inf, 0], nats.

    Raises
    ------
    InvalidInputError
        Where lengths or widths differ, a label is no class, a row is not finite or all
        zeros, or the temperature is out of range.

    Notes
    -----
    "cosine" takes O(n d) time without an adapter, "contrastive" O(n k d); one pass and one
    block for each core as memory.

    References
    ----------
    "A CLIP-Powered Framework for Robust and Generalizable Data Selection", ICLR 2025, Eq. 1.

    Examples
    --------
    >>> Z, T = np.array([[1.0, 0.0], [0.6, 0.8]]), np.eye(2)
    >>> semantic_alignment_scores(Z, [0, 0], T)
    array([1. , 0.6], dtype=float32)
    >>> semantic_alignment_scores(Z, [0, 0], T, alignment="contrastive", temperature=0.1).round(2)
    array([-0.  , -2.13], dtype=float32)
    """
    check_choice(alignment, ALIGNMENTS, "alignment")
    if alignment == "contrastive":
        return label_log_probabilities(
            Z, y, T, temperature=temperature, adapter=adapter, device=device
        )[0]
    image_emb_nd, codes_n, text_emb_kd = _checked(Z, y, T, adapter)
    score_n = np.empty(len(codes_n), dtype=np.float32)
    place = device_of(image_emb_nd, device)
    if place is not None:
        _cosines_on(place, image_emb_nd, codes_n, text_emb_kd, adapter, score_n)
        return np.clip(score_n, -1.0, 1.0, out=score_n)

    def score(rows: slice) -> None:
        block, length_b = _adapted_block(image_emb_nd, rows, adapter)
        score_n[rows] = np.einsum("bd,bd->b", block, text_emb_kd[codes_n[rows]]) / length_b

    _for_each_block(score, image_emb_nd, adapter)
    # Rounding may leave [-1, 1] by a hair.
    return np.clip(score_n, -1.0, 1.0, out=score_n)


def label_log_probabilities(
    Z: Embeddings,
    y: ArrayLike,
    T: ArrayLike,
    *,
    temperature: float | None = None,
    adapter: Adapter | None = None,
    device: Device = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the log-probability of each image's label, and the likeliest class, in one pass.

    Parameters
    ----------
    Z, y, T, temperature, adapter, device
        As for `semantic_alignment_scores`.

    Returns
    -------
    log_prob_n : ndarray of shape (n,), float32
        ``log softmax(cosines / temperature)`` at the label, in (-inf, 0].
    likeliest_n : ndarray of shape (n,), int64
        The class of the largest cosine, ties by lowest number.

    Raises
    ------
    InvalidInputError
        As for `semantic_alignment_scores`.

    Notes
    -----
    O(n k d) time; one block of cosines for each core as memory.

    Examples
    --------
    >>> log_prob_n, likeliest_n = label_log_probabilities(np.eye(2), [0, 0], np.eye(2))
    >>> log_prob_n.round(1), likeliest_n
    (array([   0., -100.], dtype=float32), array([0, 1]))
    """
    image_emb_nd, codes_n, text_emb_kd = _checked(Z, y, T, adapter)
    scale = np.float32(1.0 / _temperature(temperature, adapter))
    log_prob_n = np.empty(len(codes_n), dtype=np.float32)
    likeliest_n = np.empty(len(codes_n), dtype=np.int64)
    place = device_of(image_emb_nd, device)
    if place is not None:
        _label_scores_on(
            place, image_emb_nd, codes_n, text_emb_kd, scale, adapter, log_prob_n, likeliest_n
        )
        return log_prob_n, likeliest_n
    text_emb_dk = np.ascontiguousarray(text_emb_kd.T)

    def score(rows: slice) -> None:
        block, length_b = _adapted_block(image_emb_nd, rows, adapter)
        logit_bk = block @ text_emb_dk
        places = np.arange(len(block))
        best_b = logit_bk.argmax(axis=1)
        # The largest is taken off before scaling: nothing overflows, and it stays exactly 0.
        logit_bk -= logit_bk[places, best_b][:, None]
        logit_bk *= (scale / length_b)[:, None]
        at_label_b = logit_bk[places, codes_n[rows]]
        log_prob_n[rows] = at_label_b - np.log(np.exp(logit_bk, out=logit_bk).sum(axis=1))
        likeliest_n[rows] = best_b

    _for_each_block(score, image_emb_nd, adapter, width=text_emb_kd.shape[0])
    return log_prob_n, likeliest_n


def sample_diversity_scores(
    Z: Embeddings,
    y: ArrayLike,
    n_neighbors: float = 0.1,
    *,
    adapter: Adapter | None = None,
    backend: str = "auto",
    device: Device = None,
    exact_up_to: int | None = None,
    random_state: int | None = 0,
) -> NDArray[np.float32]:
    """Return the Sample Diversity Score (SDS): mean distance to the nearest of the class.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Image embeddings, any float type, not modified.
    y : array-like of shape (n,)
        Class numbers, whole and at least 0.
    n_neighbors : int or float
        How many neighbours, below the size of every class of two images or more, or a
        fraction of the class, which fits every class; see `neighbour_count`.
    adapter : DatasetAdapter, optional
        Fitted; its `transform_images` is applied to each class first.
    backend, device
        As for `mean_neighbour_distances`.
    exact_up_to : int, optional
        Classes of more images are approximated, in time linear in their size: for a fraction,
        an image is compared with this many of its class, drawn at random; for a count, faiss
        looks it up in an inverted file, at a recall of 0.95 or more, which is logged. None
        compares all pairs.
    random_state : int, optional
        Of the approximation.

    Returns
    -------
    ndarray of shape (n,), float32
        Mean Euclidean distance of unit vectors, the image itself left out, in [0, 2];
        higher is less replaceable. 0 for the only image of a class.

    Raises
    ------
    InvalidInputError
        Where a count is not below the size of a class (the message names it), lengths
        differ, or a row is not finite or all zeros.

    Notes
    -----
    Exact to float32: see `mean_neighbour_distances`. O(Σ n_c² d) time over classes of n_c
    images; a float32 copy of one class at a time and one block of cosines for each core
    as memory. With `exact_up_to` r, O(n r d) time for a fraction, and no copy of a class.

    References
    ----------
    "A CLIP-Powered Framework for Robust and Generalizable Data Selection", ICLR 2025, Eq. 2.

    Examples
    --------
    >>> Z = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> sample_diversity_scores(Z, [0, 0, 0, 1], n_neighbors=1).round(3)
    array([1.414, 0.   , 0.   , 0.   ], dtype=float32)
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    backend, device = chosen_backend(backend, device, image_emb_nd)
    labels, codes_n = _labels_in_use(y, len(image_emb_nd))
    classes = group_by_class(codes_n, len(labels))
    if exact_up_to is not None:
        check_int(exact_up_to, "exact_up_to", smallest=2)
    random_state = check_seed(random_state)
    counts = [
        neighbour_count(n_neighbors, len(members), group=f"class {label}")
        for label, members in zip(labels, classes, strict=True)
    ]
    score_n = np.empty(len(image_emb_nd), dtype=np.float32)
    with one_blas_thread():
        for label, members, count in zip(labels, classes, counts, strict=True):
            if exact_up_to is None or len(members) <= exact_up_to:
                unit_md = unit_rows(image_emb_nd, members, adapter=adapter)
                score_n[members] = distances_within(unit_md, count, backend=backend, device=device)
            elif isinstance(n_neighbors, numbers.Integral):
                unit_md = host(unit_rows(image_emb_nd, members, adapter=adapter))
                score_n[members], recall = indexed_distances(
                    unit_md, count, random_state=random_state
                )
                log.info("class %s: %d images, recall %.3f", label, len(members), recall)
            else:
                score_n[members] = sampled_distances(
                    image_emb_nd, members, n_neighbors, exact_up_to, adapter=adapter, device=device,
                    random_state=random_state,
                )  # fmt: skip
    return score_n


def class_prototypes(
    Z: Embeddings, y: ArrayLike, n_classes: int, *, adapter: Adapter | None = None
) -> NDArray[np.float32]:
    """Return the mean direction of the images of each class.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Image embeddings, any float type, not modified.
    y : array-like of shape (n,)
        Class numbers in [0, n_classes).
    n_classes : int
        How many classes there are.
    adapter : DatasetAdapter, optional
        Fitted; its `transform_images` is applied to each class first.

    Returns
    -------
    ndarray of shape (n_classes, d), float32
        Mean of the unit (adapted) embeddings, scaled to unit length. A row of zeros for a
        class without images, and for one whose images cancel out.

    Raises
    ------
    InvalidInputError
        Where labels are no classes or not as many as the images, or a row is not finite or
        all zeros.

    Notes
    -----
    O(n d) time; a float32 copy of one class at a time.

    Examples
    --------
    >>> class_prototypes([[3.0, 4.0], [3.0, -4.0], [0.0, 2.0]], [0, 0, 2], n_classes=3)
    array([[1., 0.],
           [0., 0.],
           [0., 1.]], dtype=float32)
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    n_classes = check_count(n_classes, "n_classes", MOST_CLASSES)
    codes_n = encode_labels(y, n_images=len(image_emb_nd), n_classes=n_classes)
    prototype_kd = np.zeros((n_classes, image_emb_nd.shape[1]), dtype=np.float32)
    with one_blas_thread():
        for number, members in enumerate(group_by_class(codes_n, n_classes)):
            if not len(members):
                continue
            unit_md = unit_rows(image_emb_nd, members, adapter=adapter)
            mean_d = host(unit_md.mean(axis=0, dtype=float))
            length = np.linalg.norm(mean_d)
            if length > SMALLEST_SPREAD:
                prototype_kd[number] = mean_d / length
    return prototype_kd


def _checked(
    Z: Embeddings, y: ArrayLike, T: ArrayLike, adapter: Adapter | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32]]:
    """Return embeddings as they came, labels as numbers, and (adapted) unit class texts."""
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    text_emb_kd = check_host_embeddings(T, "T", width=image_emb_nd.shape[1])
    zero = np.flatnonzero(~text_emb_kd.any(axis=1))
    if zero.size:
        raise InvalidInputError(
            f"Every class must have a text embedding; row {zero[0]} of `T` is all zeros. "
            "Encode its name."
        )
    codes_n = encode_labels(y, n_images=len(image_emb_nd), n_classes=len(text_emb_kd))
    unit_kd = unit_rows(text_emb_kd, np.arange(len(text_emb_kd)))
    return image_emb_nd, codes_n, unit_kd if adapter is None else adapted_texts(adapter, unit_kd)


def _temperature(temperature: object, adapter: Adapter | None) -> float:
    if temperature is None:
        temperature = getattr(adapter, "temperature_", CLIP_TEMPERATURE)
    if isinstance(temperature, bool) or not isinstance(temperature, numbers.Real):
        raise InvalidTypeError(
            f"`temperature` must be a number; got {temperature!r}. Pass 0.01, for instance."
        )
    value = check_real(temperature, "temperature")
    if not SMALLEST_TEMPERATURE <= value < np.inf:
        raise InvalidInputError(
            f"`temperature` must be at least {SMALLEST_TEMPERATURE} and finite; got {value}. "
            "Pass 0.01, for instance."
        )
    return value


def _adapted_block(
    image_emb_nd: NDArray[Any], rows: slice, adapter: Adapter | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return some rows, and their lengths, which are 1 to a rounding or to 1e-4."""
    block = unit_block(image_emb_nd, rows)
    if adapter is not None:
        block = adapted_images(adapter, block)
    return block, np.sqrt(np.einsum("bd,bd->b", block, block))


def _for_each_block(
    function: Callable[[slice], object],
    image_emb_nd: NDArray[Any],
    adapter: Adapter | None,
    *,
    width: int = 1,
) -> None:
    """Call a function with slices of the rows, on all cores."""
    n, d = image_emb_nd.shape
    if adapter is None:
        for _ in map_blocks(function, n, min(CACHED_ROWS, block_rows(width))):
            pass
        return
    step = block_rows(max(d, width))  # an adapter has all cores to itself, and likes large blocks
    for start in range(0, n, step):
        function(slice(start, min(start + step, n)))


def _cosines_on(
    device: Device,
    image_emb_nd: Any,
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    score_n: NDArray[np.float32],
) -> None:
    """Write the cosine of each image and its class by torch."""
    import torch

    with torch.no_grad():
        class_kd = torch.as_tensor(text_emb_kd, device=device)
        code_n = torch.tensor(for_torch(codes_n), device=device)
        for rows in device_slices(*image_emb_nd.shape):
            block = _device_block(image_emb_nd, rows, device, adapter)
            score_n[rows] = (block * class_kd[code_n[rows]]).sum(dim=1).cpu().numpy()


def _label_scores_on(
    device: Device,
    image_emb_nd: Any,
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    scale: np.float32,
    adapter: Adapter | None,
    log_prob_n: NDArray[np.float32],
    likeliest_n: NDArray[np.int64],
) -> None:
    """Write the log-probability of each label and the likeliest class by torch."""
    import torch

    with torch.no_grad():
        class_dk = torch.as_tensor(text_emb_kd, device=device).T
        code_n1 = torch.tensor(for_torch(codes_n), device=device)[:, None]
        for rows in device_slices(len(image_emb_nd), max(text_emb_kd.shape)):
            cosine_bk = _device_block(image_emb_nd, rows, device, adapter) @ class_dk
            log_prob_bk = torch.log_softmax(cosine_bk * float(scale), dim=1)
            log_prob_n[rows] = log_prob_bk.gather(1, code_n1[rows])[:, 0].cpu().numpy()
            likeliest_n[rows] = cosine_bk.argmax(dim=1).cpu().numpy()


def _device_block(image_emb_nd: Any, rows: slice, device: Device, adapter: Adapter | None) -> Any:
    block = device_block(image_emb_nd, rows, device)
    return block if adapter is None else adapter.adapt(block)
