"""cleanlab's Datalab: CLIP embeddings and class probabilities out, its issues back in.

    ClipSelector ──class_probabilities──▶ audit ──▶ Datalab ──issue_scores──▶ scores of a Selection
                                                            ──unflagged─────▶ images worth keeping

cleanlab is imported on first use.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from clip_al.arrays.blocks import block_rows
from clip_al.arrays.checks import check_embeddings
from clip_al.arrays.types import Embeddings, as_array
from clip_al.errors import InvalidInputError, missing_extra
from clip_al.score.labelled_images import class_vectors_by_fold
from clip_al.score.neighbors import unit_rows
from clip_al.subset.selector import ClipSelector

if TYPE_CHECKING:
    from cleanlab import Datalab

ISSUES = ("label", "outlier", "near_duplicate")
SAME_SCORE = 4
"""Decimals of the score of a label to which two are told apart; it is computed in float32."""


def class_probabilities(selector: ClipSelector, Z: Embeddings) -> NDArray[np.float32]:
    """Return the probability of each class for each image, by what a selector has fitted.

    Parameters
    ----------
    selector : ClipSelector
        Fitted.
    Z : array-like or EmbeddingTable of shape (n, d)
        The images that it was fitted on, in the same order; not modified.

    Returns
    -------
    ndarray of shape (n, k), float32
        In [0, 1], rows sum to 1: the softmax of the similarities to the selector's class
        vectors at its temperature. At the given label its logarithm is the selection's score
        ``label_score`` with ``noise_model="symmetric"``; with ``adapter="cross-fit"`` nearly so,
        as the halves share one mean temperature.

    Raises
    ------
    NotFittedError
        Before the selector's first fit.
    InvalidInputError
        Where `Z` has another shape, or a row is not finite or all zeros.

    Notes
    -----
    O(n k d) time; the result takes 4 n k bytes. Below a text weight of 1 an image is part of
    its own class's mean, by one in n_c: cleanlab asks for probabilities of a model that did
    not see the image, which a text weight of 1 without an adapter are exactly.
    """
    check_is_fitted(selector, "selection_")
    text_emb_kd, labels = selector.class_embeddings_, selector.selection_.labels
    n, width = selector.selection_.n_images, text_emb_kd.shape[1]
    image_emb_nd = check_embeddings(Z, "Z", width=width)
    if len(image_emb_nd) != n:
        raise InvalidInputError(
            f"`Z` must be the {n} images that the selector was fitted on; got "
            f"{len(image_emb_nd)}. Pass the same, in the same order."
        )
    probability_nk = np.empty((n, len(text_emb_kd)), dtype=np.float32)
    codes_n: Any = labels  # a fitted selector has them
    folds = class_vectors_by_fold(
        image_emb_nd, codes_n, text_emb_kd, selector.adapter_, selector.text_weight_
    )
    for scored, adapter, class_emb_kd in folds:
        class_emb_kd = class_emb_kd / np.float32(selector.label_noise_.temperature)
        step, places = block_rows(4 * max(class_emb_kd.shape)), np.arange(n)[scored]
        for start in range(0, len(places), step):
            rows = places[start : start + step]
            unit_bd = unit_rows(image_emb_nd, rows, adapter=adapter)
            probability_nk[rows] = softmax(unit_bd @ class_emb_kd.T, axis=1)
    return probability_nk


def audit(
    selector: ClipSelector,
    Z: Embeddings,
    *,
    issue_types: Mapping[str, Mapping[str, Any]] | None = None,
) -> Datalab:
    """Let Datalab look for issues in what a selector was fitted on.

    Parameters
    ----------
    selector, Z
        As for `class_probabilities`.
    issue_types : mapping, optional
        As for ``Datalab.find_issues``; label issues, outliers and near duplicates by default.

    Returns
    -------
    Datalab
        Its classes have the selector's names and numbers, and its column ``id`` the ids.

    Raises
    ------
    InvalidInputError
        Also where Datalab could not make a check: it reports that on the screen alone.
    MissingDependencyError
        Where cleanlab or its extra is not installed.

    Notes
    -----
    Its time and memory are Datalab's, most of it for the neighbours; embeddings of another type
    are copied to float32.
    """
    try:
        from cleanlab import Datalab
        from datasets import ClassLabel, Dataset, Features, Value
    except ImportError as exc:
        raise missing_extra(
            "clip_al.integrations.datalab needs cleanlab with Datalab", "cleanlab"
        ) from exc
    probability_nk = class_probabilities(selector, Z)
    known = selector.selection_
    names = known.class_names or [str(number) for number in range(probability_nk.shape[1])]
    ids = [str(i) for i in range(known.n_images)] if known.ids is None else known.ids.tolist()
    # Classes as ClassLabel: Datalab sorts others by name and counts those that occur.
    data = Dataset.from_dict(
        {"id": ids, "label": known.labels},
        Features({"id": Value("string"), "label": ClassLabel(names=list(names))}),
    )
    lab = Datalab(data, label_name="label", verbosity=0)
    wanted = {name: {} for name in ISSUES} if issue_types is None else dict(issue_types)
    image_emb_nd = np.asarray(as_array(Z), dtype=np.float32)
    lab.find_issues(pred_probs=probability_nk, features=image_emb_nd, issue_types=wanted)
    _check_found(lab, wanted)
    return lab


def issue_scores(lab: Datalab) -> dict[str, NDArray[np.float64]]:
    """Return Datalab's scores of every image, as `Selection` and `SelectionOptimizer` take them.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        ``cleanlab_label``, ``cleanlab_outlier``, …, one for each kind of issue that was looked
        for; in [0, 1], low is bad.
    """
    found = lab.get_issue_summary()["issue_type"]
    return {
        f"cleanlab_{name}": lab.issues[f"{name}_score"].to_numpy(dtype=np.float64, copy=True)
        for name in found
    }


def unflagged(lab: Datalab, issues: Collection[str] = ISSUES) -> NDArray[np.bool_]:
    """Return which images have none of some issues; of near duplicates, one is kept.

    Parameters
    ----------
    lab : Datalab
        After `audit`, or after its own `find_issues`.
    issues : collection of str
        Kinds of issues; each must have been looked for.

    Returns
    -------
    ndarray of shape (n,), bool
        Of images that are near duplicates of each other, directly or by way of others, the one
        without another of the issues stays; of several the one with the highest label score to
        four decimals, then the lowest index.

    Raises
    ------
    InvalidInputError
        Where an issue was not looked for.
    """
    _check_found(lab, issues)
    flagged_n = np.zeros(len(lab.issues), dtype=bool)
    for name in set(issues) - {"near_duplicate"}:
        flagged_n |= lab.issues[f"is_{name}_issue"].to_numpy(dtype=bool)
    if "near_duplicate" not in issues:
        return ~flagged_n
    score_n = issue_scores(lab).get("cleanlab_label", np.zeros(len(flagged_n)))
    # Products of equal rows differ in their last bits, by where the rows stand in memory.
    best_first = np.lexsort((-np.round(score_n, SAME_SCORE), flagged_n))
    _, first = np.unique(_duplicate_groups(lab)[best_first], return_index=True)
    kept_n = np.zeros(len(flagged_n), dtype=bool)
    kept_n[best_first[first]] = True
    return kept_n & ~flagged_n


def _duplicate_groups(lab: Datalab) -> NDArray[np.int32]:
    """Return a group number for each image, its own where it has no near duplicate, (n,)."""
    sets = lab.get_info("near_duplicate")["near_duplicate_sets"]
    start_n = np.concatenate([[0], np.cumsum([len(others) for others in sets])])
    other = np.concatenate(sets).astype(np.int64)
    shape = (len(sets), len(sets))
    graph = sparse.csr_array((np.ones(len(other), dtype=np.int8), other, start_n), shape)
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return groups


def _check_found(lab: Datalab, issues: Collection[str]) -> None:
    found = lab.get_issue_summary()["issue_type"].tolist()
    missing = [name for name in issues if name not in found]
    if missing:
        raise InvalidInputError(
            f"Datalab must have looked for {', '.join(map(repr, issues))}; it has no result for "
            f"{missing[0]!r}. Add it to `issue_types`, and look at what Datalab printed: near "
            "duplicates and outliers need more images than neighbours (`k`, 10 by default)."
        )
