"""Query by alignment and diversity: SAS and SDS for images that have no label yet.

For modAL's `ActiveLearner`, as the strategies of `concept_sampling`; the classes are the learner's
predictions or, before its first fit, CLIP's own.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from clip_al.arrays.blocks import one_blas_thread
from clip_al.arrays.checks import (
    check_choice,
    check_embeddings,
    check_host_embeddings,
    check_int,
    check_n_instances,
)
from clip_al.arrays.copies import first_rows
from clip_al.arrays.given import length_of
from clip_al.arrays.labels import encode_labels, group_by_class
from clip_al.arrays.types import Device, Embeddings
from clip_al.errors import ModelMismatchError
from clip_al.label.query_inputs import answer_of, pool_embeddings
from clip_al.score.alignment_diversity import (
    ALIGNMENTS,
    label_log_probabilities,
    semantic_alignment_scores,
)
from clip_al.score.neighbors import chosen_backend, distances_within, neighbour_count, unit_rows
from clip_al.score.scaling import SCALES, standardize_scores
from clip_al.subset.optimizer import SelectionOptimizer
from clip_al.subset.quotas import Rule, check_rule
from clip_al.subset.selection_checks import check_alpha

if TYPE_CHECKING:
    from clip_al.table.embedding_table import EmbeddingTable


class AlignmentDiversitySampling(BaseEstimator):
    """Pick images that show their (supposed) class well and are unlike the others of it.

    Parameters
    ----------
    class_embeddings : array-like of shape (k, d)
        Text embeddings of the classes, of the model that encoded the pool.
    class_names : sequence of str, optional
        Needed where the learner's classes are names: what the rows are called.
    alignment : {"contrastive", "cosine"}
        See `semantic_alignment_scores`.
    scale : {"class", "global", "none"}
        See `standardize_scores`.
    alpha : float or "ratio"
        Weight of SDS against SAS: a number, or the share of the pool that is asked for, as in
        the paper. With 0, SDS is not measured.
    n_neighbors : int or float
        Neighbours for SDS: a fraction of the supposed class, or a count, of which a smaller
        class gives as many as it has.
    class_balance : {"none", "proportional", "equal"}, array-like or mapping
        Quotas over the supposed classes, see `SelectionOptimizer`.
    temperature : float, optional
        Of the contrastive alignment; None is CLIP's own, 0.01.
    table : EmbeddingTable, optional
        With it, `X` holds row numbers of the table.
    device : str or torch.device, optional
        Where scores are computed: by default where the embeddings are, and with NumPy on the
        CPU for an array.

    Notes
    -----
    O(n k d) time for the alignment and O(Σ n_c² d) for the diversity, O(n) memory and one
    class of embeddings. What a query returns depends on its arguments and the settings. Of exact
    copies in the pool one is picked, the others where different images are too few.

    References
    ----------
    Yang et al.: "A CLIP-Powered Framework for Robust and Generalizable Data Selection",
    ICLR 2025, Eq. 1 and 2. The paper needs labels; supposing them is ours.

    Examples
    --------
    >>> T = np.eye(2)
    >>> Z = np.array([[1, 0.3], [1, 0.0], [0.6, 0.5], [0.0, 1.0]])
    >>> AlignmentDiversitySampling(T, alignment="cosine").select(Z, 2)
    array([1, 3])
    """

    def __init__(
        self,
        class_embeddings: Embeddings,
        *,
        class_names: Sequence[str] | None = None,
        alignment: str = "contrastive",
        scale: str = "class",
        alpha: float | str = "ratio",
        n_neighbors: float = 0.1,
        class_balance: Rule = "equal",
        temperature: float | None = None,
        table: EmbeddingTable | None = None,
        device: Device = None,
    ) -> None:
        self.class_embeddings = class_embeddings
        self.class_names = class_names
        self.alignment = alignment
        self.scale = scale
        self.alpha = alpha
        self.n_neighbors = n_neighbors
        self.class_balance = class_balance
        self.temperature = temperature
        self.table = table
        self.device = device

    def __call__(
        self, classifier: Any, X: Any, n_instances: int = 1, *, embeddings: Embeddings | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Answer modAL's query.

        Parameters
        ----------
        classifier : modAL learner or classifier
            Its `predict(X)` says which class each image is taken for, class numbers or
            names; before it is fitted, or with None, the most similar class embedding does.
        X : array-like of shape (n, ...)
            The pool: embeddings, or what the classifier takes where `embeddings=` is
            passed, or row numbers of the bound table.
        n_instances : int
            How many to pick, in [1, n].
        embeddings : array-like of shape (n, d), optional
            Of the pool.

        Returns
        -------
        indices : ndarray of shape (n_instances,), int64
            Positions in `X`, best first.
        metrics : ndarray of shape (n_instances,), float64
            The picks' total score, SAS + α SDS after scaling; high is chosen first.

        Raises
        ------
        InvalidInputError
            Where `n_instances` is out of range, lengths differ, a row is not finite or all
            zeros, a prediction is no class, or a setting is out of range.
        InvalidTypeError
            Where predictions are names and there are no `class_names`.
        ModelMismatchError
            Where pool and class embeddings are not of one width.
        """
        check_n_instances(n_instances, length_of(X, "X"))
        Z = pool_embeddings(X, embeddings, self.table)
        return self._pick(Z, n_instances, answer_of(classifier, "predict", X))

    def select(
        self, X: Any, n_instances: int = 1, *, y: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Pick without modAL.

        Parameters
        ----------
        X : array-like of shape (n, d) or row numbers of the bound table
            The pool.
        n_instances : int
            How many to pick, in [1, n].
        y : array-like of shape (n,), optional
            What each image is taken for; by default its most similar class embedding.

        Returns
        -------
        ndarray of shape (n_instances,), int64
            Positions in the pool, best first.

        Raises
        ------
        InvalidInputError, InvalidTypeError, ModelMismatchError
            As for the query.
        """
        return self._pick(pool_embeddings(X, None, self.table), n_instances, y)[0]

    def _pick(
        self, Z: Embeddings, n_instances: int, labels: ArrayLike | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        check_choice(self.alignment, ALIGNMENTS, "alignment")
        check_choice(self.scale, SCALES, "scale")
        check_rule(self.class_balance, "class_balance")
        alpha = check_alpha(self.alpha)
        image_emb_nd, text_emb_kd = self._embeddings(Z)
        n, n_classes = len(image_emb_nd), len(text_emb_kd)
        n_instances = check_n_instances(n_instances, n)
        codes_n = self._classes(labels, image_emb_nd, text_emb_kd)
        sas_n = semantic_alignment_scores(
            image_emb_nd,
            codes_n,
            text_emb_kd,
            alignment=self.alignment,
            temperature=self.temperature,
            device=self.device,
        )
        sds_n = None
        if alpha != 0:
            sds_n = _diversity(image_emb_nd, codes_n, n_classes, self.n_neighbors, self.device)
            sds_n = standardize_scores(sds_n, codes_n, self.scale)
        sas_n = standardize_scores(sas_n, codes_n, self.scale)
        return self._choose(image_emb_nd, sas_n, sds_n, codes_n, n_classes, n_instances)

    def _choose(
        self,
        image_emb_nd: NDArray[Any],
        sas_n: NDArray[Any],
        sds_n: NDArray[Any] | None,
        codes_n: NDArray[np.int64],
        n_classes: int,
        n_instances: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Choose by scores, best first: one of each image, and copies where that is too few."""
        is_first = first_rows(image_emb_nd)
        indices: list[NDArray[np.int64]] = []
        totals: list[NDArray[np.float64]] = []
        for rows in (np.flatnonzero(is_first), np.flatnonzero(~is_first)):
            n_wanted = min(n_instances - sum(len(part_b) for part_b in indices), len(rows))
            if not n_wanted:
                break
            selection = SelectionOptimizer(
                n_wanted / len(rows), alpha=self.alpha, class_balance=self.class_balance
            ).select(
                sas_n[rows],
                None if sds_n is None else sds_n[rows],
                codes_n[rows],
                n_classes=n_classes,
                class_names=self.class_names,
            )
            total_b = selection.scores["total"][selection.indices].astype(np.float64)
            best_first = np.argsort(-total_b, kind="stable")
            indices.append(rows[selection.indices[best_first]])
            totals.append(total_b[best_first])
        return np.concatenate(indices), np.concatenate(totals)

    def _embeddings(self, Z: Embeddings) -> tuple[NDArray[Any], NDArray[Any]]:
        given = self.class_embeddings
        text_emb_kd = check_host_embeddings(given, "class_embeddings")
        image_emb_nd = check_embeddings(Z, "X", finite=False)
        if image_emb_nd.shape[1] != text_emb_kd.shape[1]:
            raise ModelMismatchError(
                f"`X` must have {text_emb_kd.shape[1]} columns, as `class_embeddings`; got "
                f"{image_emb_nd.shape[1]}. Encode both with one model, or pass `embeddings=`."
            )
        return image_emb_nd, text_emb_kd

    def _classes(
        self, labels: ArrayLike | None, image_emb_nd: NDArray[Any], text_emb_kd: NDArray[Any]
    ) -> NDArray[np.int64]:
        """Return the number of the class that each image is taken for."""
        n, n_classes = len(image_emb_nd), len(text_emb_kd)
        if labels is None:
            any_n = np.zeros(n, dtype=np.int64)
            return label_log_probabilities(image_emb_nd, any_n, text_emb_kd, device=self.device)[1]
        return encode_labels(
            labels,
            n_images=n,
            n_classes=n_classes,
            class_names=self.class_names,
            name="what images are taken for",
        )


def _diversity(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    n_classes: int,
    n_neighbors: float,
    device: Device,
) -> NDArray[np.float32]:
    """Return the SDS, with fewer neighbours where a supposed class has too few images.

    `sample_diversity_scores` refuses those; but here nobody chose the classes.
    """
    score_n = np.empty(len(codes_n), dtype=np.float32)
    is_count = isinstance(n_neighbors, numbers.Integral) and not isinstance(n_neighbors, bool)
    most = check_int(n_neighbors, "n_neighbors") if is_count else 0
    backend, device = chosen_backend("auto", device, image_emb_nd)
    with one_blas_thread():
        for members in group_by_class(codes_n, n_classes):
            n = len(members)
            count = min(most, max(n - 1, 0)) if is_count else neighbour_count(n_neighbors, n)
            unit_md = unit_rows(image_emb_nd, members)
            score_n[members] = distances_within(unit_md, count, backend=backend, device=device)
    return score_n
