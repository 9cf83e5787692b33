"""What is known of a head: its own predictions, and those of heads that did not see some labels."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from clip_al.errors import TextPriorWarning

N_FOLDS = 5
CV_ROWS = 1_000
"""With more labels, one fifth is held out, once: 200 labels and more are enough to calibrate by."""
N_SPLITS = 2
"""Times that the labels are cut in halves, to see what twice as many have brought."""


class Evidence(NamedTuple):
    """Predictions of the pool, and of labelled images by heads that did not see their labels.

    Parameters
    ----------
    prob_hk : ndarray of shape (h, k)
        Of labelled images, held out.
    code_h : ndarray of shape (h,), int64
        Their labels.
    prob_nk : ndarray of shape (n, k)
        Of images without a label, all or a random draw, by the head itself.
    prob_bk : ndarray of shape (b, k) or None
        Of the images that are labelled next, where they are known.
    of_halves : list of ndarray of shape (n,), int64
        Top classes of the n images by heads that saw a half of the labels.
    """

    prob_hk: NDArray[np.float64]
    code_h: NDArray[np.int64]
    prob_nk: NDArray[np.float64]
    prob_bk: NDArray[np.float64] | None
    of_halves: list[NDArray[np.int64]]


def gather(
    head: Any,
    labelled: tuple[Any, NDArray[np.int64]],
    image_emb_nd: Any,
    picks_emb_bd: Any | None,
    random_state: int | None,
) -> Evidence:
    """Predict, and fit heads to parts of the labels.

    Parameters
    ----------
    head : classifier
        Fitted; it is copied, not changed.
    labelled : tuple
        Embeddings (l, d), and positions (l,) in `head.classes_`.
    image_emb_nd : ndarray of shape (n, d)
        Images without a label.
    picks_emb_bd : ndarray of shape (b, d) or None
        Those that are labelled next.
    random_state : int or None
        Of the folds.
    """
    emb_ld, code_l = labelled
    rng = np.random.default_rng(random_state)
    few = len(code_l) <= CV_ROWS

    def fit(rows: NDArray[np.int64]) -> Any:
        part = clone(head)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TextPriorWarning)  # said of the head that saw all
            return part.fit(emb_ld[rows], head.classes_[code_l[rows]])

    fold_l = deal(code_l, N_FOLDS, rng)
    held, rows_held = [], []
    for fold in range(N_FOLDS if few else 1):
        out = np.flatnonzero(fold_l == fold)
        held.append(_probabilities(fit(np.flatnonzero(fold_l != fold)), emb_ld[out], head))
        rows_held.append(out)
    of_halves = []
    for _ in range(N_SPLITS if few else 1):
        half_l = deal(code_l, 2, rng)
        for half in (0, 1):
            part = fit(np.flatnonzero(half_l == half))
            of_halves.append(_probabilities(part, image_emb_nd, head).argmax(axis=1))
    return Evidence(
        np.concatenate(held),
        code_l[np.concatenate(rows_held)],
        _probabilities(head, image_emb_nd, head),
        None if picks_emb_bd is None else _probabilities(head, picks_emb_bd, head),
        of_halves,
    )


def deal(code_l: NDArray[np.int64], n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal the rows of each class out to folds, in random order; return the fold of each."""
    order = rng.permutation(len(code_l))
    order = order[np.argsort(code_l[order], kind="stable")]
    fold_l = np.empty(len(order), dtype=np.int64)
    fold_l[order] = np.arange(len(order)) % n_folds
    return fold_l


def _probabilities(part: Any, Z: Any, head: Any) -> NDArray[np.float64]:
    """Return what a head says, a column a class of the head that saw all labels."""
    prob_nj = np.asarray(part.predict_proba(Z), dtype=np.float64)
    if len(part.classes_) == len(head.classes_):
        return prob_nj
    prob_nk = np.zeros((len(prob_nj), len(head.classes_)))
    prob_nk[:, np.isin(head.classes_, part.classes_)] = prob_nj
    return prob_nk
