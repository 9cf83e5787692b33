"""What the images of a class are aligned with: its text, its mean image, or a mix of both.

CLIP's texts and images lie apart from each other, and it knows
some words badly; the mean image knows no words, but needs images whose labels are right.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks
from clip_al.arrays.checks import check_host_embeddings, check_real
from clip_al.arrays.device import host
from clip_al.arrays.labels import group_by_class
from clip_al.arrays.types import ChecksModel, Embeddings, TextEncoder, as_array
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.score.neighbors import unit_rows

MAX_HELD = 20_000
"""More images than this do not change which weight is best, but for near ties."""
TEXT_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)
SHORTEST = 1e-6  # a sum of unit vectors below this has cancelled out


def unit_class_embeddings(
    T: Embeddings, source: TextEncoder | str | None, Z: Embeddings
) -> tuple[NDArray[np.float32], str]:
    """Return the text embeddings of classes as unit rows, and the model's id where known.

    Parameters
    ----------
    T : array-like or EmbeddingTable of shape (k, d)
        One row a class, k ≥ 2; not modified.
    source : ClipEncoder, str or None
        The encoder, or the id of the model, that made them; None is not known.
    Z : array-like or EmbeddingTable of shape (n, d)
        The images that they are for.

    Returns
    -------
    text_emb_kd : ndarray of shape (k, d), float32
    model_id : str
        That of the table of images, or of the source; empty where neither is known.

    Raises
    ------
    InvalidInputError
        Where a row is not finite or all zeros, or there is one class alone.
    ModelMismatchError
        Where images and classes were encoded by two models.
    """
    if source is not None and isinstance(Z, ChecksModel):
        Z.check_model(source)
    text_emb_kd = check_host_embeddings(T, "class_embeddings")
    width = np.shape(as_array(Z))[-1]
    if text_emb_kd.shape[1] != width:
        raise ModelMismatchError(
            f"Class embeddings must have {width} columns, as `Z`; got {text_emb_kd.shape[1]}. "
            "Encode both with one model."
        )
    zero = np.flatnonzero(~text_emb_kd.any(axis=1))
    if zero.size or len(text_emb_kd) < 2:
        what = f"row {zero[0]} is all zeros" if zero.size else "there is one alone"
        raise InvalidInputError(
            f"Each of at least two classes must have an embedding; {what}. Encode the names of "
            "all classes, in their order."
        )
    model = getattr(Z, "model_id", None) or getattr(source, "model_id", source)
    return unit_rows(text_emb_kd, np.arange(len(text_emb_kd))), model or ""


def check_text_weight(weight: object) -> float | str:
    """Return a weight in [0, 1] as a float, or "auto"."""
    if isinstance(weight, str) and weight == "auto":
        return weight
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real | str):
        raise InvalidTypeError(
            f"`text_weight` must be a number or 'auto'; got {weight!r}. Pass 0.5, for instance."
        )
    if isinstance(weight, str) or not 0 <= check_real(weight, "text_weight") <= 1:
        raise InvalidInputError(
            f"`text_weight` must be in [0, 1] or 'auto'; got {weight!r}. Choose one."
        )
    return float(weight)


def blend_class_vectors(
    text_emb_kd: NDArray[np.float32], mean_emb_kd: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Mix class texts and mean images.

    Parameters
    ----------
    text_emb_kd : ndarray of shape (k, d), float32
        Unit rows; not modified.
    mean_emb_kd : ndarray of shape (k, d), float32
        Unit rows, or zeros for a class without images, as `class_prototypes` returns them;
        not modified.
    weight : float
        Of the text, in [0, 1].

    Returns
    -------
    ndarray of shape (k, d), float32
        Unit rows. The text alone for a class without images, and where both cancel out.

    Examples
    --------
    >>> blend_class_vectors(np.eye(2), np.array([[0.0, 1.0], [0.0, 0.0]]), 0.5).round(3)
    array([[0.707, 0.707],
           [0.   , 1.   ]], dtype=float32)
    """
    mixed_kd = (weight * text_emb_kd + (1 - weight) * mean_emb_kd).astype(np.float32)
    textual_k = ~mean_emb_kd.any(axis=1) | (np.linalg.norm(mixed_kd, axis=1) < SHORTEST)
    mixed_kd[textual_k] = text_emb_kd[textual_k]
    unit_kd: NDArray[np.float32] = unit_rows(mixed_kd, np.arange(len(mixed_kd)))
    return unit_kd


def best_text_weight(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    *,
    random_state: int | None = 0,
) -> float:
    """Return the largest weight of text against mean image that none beats by more than chance.

    Mean images come from one half of each class; the labels of the other half decide, or of
    20,000 of them. Of the weights, the one that names most of these labels is compared with each
    other one, over the images that one of both names alone. What lowers the weight of texts must
    be better by more than the 5 % of a sign test: texts know nothing of wrong labels, and mean
    images do.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, not modified; read in blocks.
    codes_n : ndarray of shape (n,), int64
        Class numbers in [0, k).
    text_emb_kd : ndarray of shape (k, d), float32
        Unit rows.
    random_state : int, optional
        Of the halves.

    Returns
    -------
    float
        One of `TEXT_WEIGHTS`. 1 where no class has two images, or labels are no better than
        random to any weight.

    Notes
    -----
    O(n d + h k d) time for h images that decide; as memory a float32 copy of those, of half a
    class at a time, and a block for each core.

    Examples
    --------
    >>> y, T = np.arange(20) % 2, np.eye(2, dtype=np.float32)
    >>> best_text_weight(np.eye(2)[y], y, T), best_text_weight(np.eye(2)[1 - y], y, T)
    (1.0, 0.25)
    """
    rng = np.random.default_rng(random_state)
    mean_emb_kd = np.zeros(text_emb_kd.shape, dtype=np.float32)
    held_n = np.zeros(len(codes_n), dtype=bool)
    for number, members in enumerate(group_by_class(codes_n, len(text_emb_kd))):
        held, seen = np.split(rng.permutation(members), [len(members) // 2])
        held_n[held] = True
        if len(held):
            mean_emb_kd[number] = host(unit_rows(image_emb_nd, np.sort(seen)).mean(axis=0))
    if not held_n.any():
        return 1.0
    length_k = np.linalg.norm(mean_emb_kd, axis=1)
    length_k[length_k < SHORTEST] = np.inf  # no direction: a row of zeros
    mean_emb_kd /= length_k[:, None]
    blends = [blend_class_vectors(text_emb_kd, mean_emb_kd, weight) for weight in TEXT_WEIGHTS]

    held = np.flatnonzero(held_n)
    if len(held) > MAX_HELD:
        held = np.sort(rng.choice(held, MAX_HELD, replace=False))
    unit_hd, label_h = host(unit_rows(image_emb_nd, held)), codes_n[held]

    def alone(rows: slice) -> NDArray[np.int64]:
        """Return for each pair of weights how many labels the first names and the second not."""
        block, label_b = unit_hd[rows], label_h[rows]
        hit_wb = np.stack([(block @ blend.T).argmax(axis=1) == label_b for blend in blends])
        return hit_wb.astype(np.int64) @ (~hit_wb).astype(np.int64).T

    rows_per_block = block_rows(4 * max(text_emb_kd.shape))
    alone_ww = np.sum(list(map_blocks(alone, len(held), rows_per_block)), axis=0)
    return TEXT_WEIGHTS[_first_not_beaten(alone_ww)]


def _first_not_beaten(alone_ww: NDArray[np.int64]) -> int:
    """Return the first of some guesses that the best does not beat by a one-sided sign test."""
    from scipy.stats import binom

    best = int((alone_ww - alone_ww.T).sum(axis=1).argmax())
    won_w, lost_w = alone_ww[best], alone_ww[:, best]
    chance_w = binom.sf(won_w - 1, won_w + lost_w, 0.5)
    return int(np.argmax(chance_w >= BY_CHANCE))


BY_CHANCE = 0.05
"""Level of the test by which a weight with less text must be better."""
