"""Which images are near-copies of others.

rows ──▶ bit for bit equal ones are one ──▶ coordinates that bound cosines
──▶ all pairs, or those of lists in large pools ──▶ union over alike pairs ──▶ groups
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_host_embeddings, check_int, check_number, check_seed
from clip_al.arrays.copies import first_like
from clip_al.arrays.given import labels_of
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError
from clip_al.find.bounds import bounding_coordinates
from clip_al.find.copy_groups import NearDuplicates
from clip_al.find.cosines import pair_cosines
from clip_al.find.lists import Borders, choose_reach, join_all, join_near, make_lists
from clip_al.find.unions import Unions

EXACT_UP_TO = 100_000
SMALLEST_LISTS = 1_024
"""Images below which there are no lists, whatever `exact_up_to` is."""


def near_duplicates(
    Z: Embeddings,
    threshold: float = 0.95,
    *,
    splits: ArrayLike | None = None,
    exact_up_to: int = EXACT_UP_TO,
    random_state: int | None = 0,
) -> NearDuplicates:
    """Return groups of images that are near-copies of one another.

    Two images are alike where their cosine reaches the threshold. A group is what pairs of
    alike images link, so two of its images may be less alike than the threshold. Which threshold
    means what depends on the model: look at the first groups.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Embeddings of any float type and scale, not modified.
    threshold : float
        Cosine in (0, 1] from which on two images are alike.
    splits : array-like of shape (n,), optional
        What each image is in, as "train" and "test"; for `NearDuplicates.leaks`.
    exact_up_to : int
        Distinct images up to which all pairs are compared, the result exact. Beyond it pairs are
        missed; `NearDuplicates.recall` says which share is found.
    random_state : int, optional
        Of what is drawn in larger pools; None draws anew each time.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    InvalidInputError
        Where `Z` is empty, not 2-D, not finite or has a row of zeros, the threshold is not in
        (0, 1], or `splits` has not one entry an image.

    Notes
    -----
    Exact: O(n² r) time with r = min(d, 64) in place of d, since products of r coordinates bound
    the cosines, and only pairs whose bound reaches the threshold are computed, in float64.
    Beyond `exact_up_to`: O(n^1.5 r) for lists, and what is near their borders. Memory: n · r · 4
    bytes and some blocks; never all pairs. Exact copies cost nothing further. Groups do not depend
    on the number of cores.

    Examples
    --------
    >>> Z = np.array([[1.0, 0.0], [0.0, 1.0], [0.99, 0.1], [0.6, 0.8]])
    >>> found = near_duplicates(Z, 0.95)
    >>> found
    NearDuplicates(1 group of 2 among 4 images, cosine at least 0.95, exact)
    >>> found.representative, found.distinct
    (array([0, 1, 0, 3]), array([0, 1, 3]))
    """
    threshold = check_number(threshold, "threshold", above=0.0, high=1.0)
    exact_up_to = check_int(exact_up_to, "exact_up_to", smallest=0)
    rng = np.random.default_rng(check_seed(random_state))
    image_emb_nd = check_host_embeddings(Z, "Z")
    split_n = None if splits is None else _check_splits(splits, len(image_emb_nd))
    unions = Unions(image_emb_nd, threshold, first_like(image_emb_nd))
    rows = np.flatnonzero(unions.parent_n == np.arange(len(image_emb_nd)))
    coordinates_mr = bounding_coordinates(image_emb_nd, rows, rng)
    recall, n_checked = None, 0
    is_exact = len(rows) <= max(exact_up_to, SMALLEST_LISTS)
    if is_exact:
        join_all(coordinates_mr, unions, rows)
    else:
        borders = Borders(coordinates_mr, make_lists(coordinates_mr, rng))
        reach = choose_reach(borders, unions, rows, rng)
        join_near(borders, unions, rows, reach)
        recall, n_checked = reach.recall, reach.n_pairs
    root_n = unions.roots()
    return NearDuplicates(
        threshold, root_n, _to_roots(image_emb_nd, root_n), split_n, is_exact, recall, n_checked
    )


def _to_roots(image_emb_nd: NDArray[Any], root_n: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the cosine of each image with the first of its group."""
    sim_n = np.ones(len(root_n), dtype=np.float32)
    others = np.flatnonzero(root_n != np.arange(len(root_n)))
    sim_n[others] = np.clip(pair_cosines(image_emb_nd, others, root_n[others]), -1.0, 1.0)
    return sim_n


def _check_splits(splits: ArrayLike, n: int) -> NDArray[np.object_]:
    array = labels_of(splits, "splits")
    if array.shape != (n,):
        raise InvalidInputError(
            f"`splits` must have one entry for each of the {n} images; got shape {array.shape}. "
            "Pass the name of a split, as 'train', for each."
        )
    return np.array([str(name) for name in array.tolist()], dtype=object)
