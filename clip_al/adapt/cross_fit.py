"""Cross-fitting: adapters that never saw the label of the image they are used on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from clip_al.adapt.adapter import DatasetAdapter, fit_rows, forget_fit
from clip_al.adapt.training import check_inputs, class_order
from clip_al.arrays.checks import check_int
from clip_al.arrays.given import check_kind
from clip_al.arrays.labels import Names, encode_labels
from clip_al.arrays.types import Embeddings
from clip_al.errors import InvalidInputError


class CrossFitAdapter(BaseEstimator):
    """Fit one adapter a fold, each on the images of the other folds.

    An adapter learns wrong labels too; one that never saw an image's label can tell that
    the label is wrong.

    Parameters
    ----------
    adapter : DatasetAdapter, optional
        Settings of all of them, cloned; None is ``DatasetAdapter()``.
    n_splits : int
        Folds, at least 2. With 2, all the training together costs what one adapter on all
        images does, and with more n_splits − 1 times that.
    random_state : int, optional
        Seed of the folds.

    Attributes
    ----------
    fold_ : ndarray of shape (n,), int64
        The fold of each image: ``adapters_[fold_[i]]`` never saw the label of image i.
    adapters_ : list of DatasetAdapter
        One a fold.
    temperature_ : float
        The mean of theirs.

    Notes
    -----
    Folds hold the same share of each class, within one image. A class of one image is
    unseen by the adapter that scores it. The spaces of two adapters are not the same:
    compare an image with texts and images through one of them.

    Examples
    --------
    >>> y = np.arange(40) % 2
    >>> folds = CrossFitAdapter(DatasetAdapter(epochs=1)).fit(np.eye(2)[y], y, np.eye(2))
    >>> np.bincount(folds.fold_), len(folds.adapters_)
    (array([20, 20]), 2)
    """

    def __init__(
        self,
        adapter: DatasetAdapter | None = None,
        *,
        n_splits: int = 2,
        random_state: int | None = 0,
    ) -> None:
        self.adapter = adapter
        self.n_splits = n_splits
        self.random_state = random_state

    def fit(
        self,
        Z: Embeddings,
        y: ArrayLike,
        T: Embeddings,
        *,
        class_names: Names | None = None,
        fold: ArrayLike | None = None,
    ) -> CrossFitAdapter:
        """Fit an adapter for each fold; one that fails or is interrupted leaves none.

        Parameters
        ----------
        Z, y, T, class_names
            As for `DatasetAdapter.fit`.
        fold : array-like of shape (n,), optional
            A fold in [0, n_splits) for each image, all of them used; near duplicates, say,
            in one. Without it folds are drawn from `random_state`, class by class.

        Returns
        -------
        CrossFitAdapter
            Itself.
        """
        forget_fit(self)
        if self.adapter is not None:
            check_kind(self.adapter, DatasetAdapter, "adapter", "Or leave it out.")
        image_emb_nd, y_n, text_emb_kd = check_inputs(Z, y, T, class_names)
        fold_n = self._folds(y_n) if fold is None else self._check_fold(fold, len(y_n))
        adapters = []
        for f in range(self.n_splits):
            adapter = DatasetAdapter() if self.adapter is None else clone(self.adapter)
            seen = np.flatnonzero(fold_n != f)
            adapters.append(fit_rows(adapter, seen, image_emb_nd, y_n, text_emb_kd, class_names))
        self.fold_ = fold_n
        self.adapters_ = adapters
        self.temperature_ = float(np.mean([adapter.temperature_ for adapter in adapters]))
        return self

    def _folds(self, y_n: NDArray[np.int64]) -> NDArray[np.int64]:
        n_splits = check_int(self.n_splits, "n_splits", smallest=2, largest=max(2, len(y_n)))
        if self.random_state is not None:
            check_int(self.random_state, "random_state", smallest=0)
        order = class_order(np.random.default_rng(self.random_state), y_n)
        fold_n = np.empty(len(y_n), dtype=np.int64)
        fold_n[order] = np.arange(len(y_n)) % n_splits
        return fold_n

    def _check_fold(self, fold: ArrayLike, n: int) -> NDArray[np.int64]:
        n_splits = check_int(self.n_splits, "n_splits", smallest=2)
        fold_n = encode_labels(fold, n_images=n, n_classes=n_splits, name="fold")
        empty = np.flatnonzero(np.bincount(fold_n, minlength=n_splits) == 0)
        if empty.size:
            raise InvalidInputError(
                f"`fold` must use all of the {n_splits} folds; no image is in {empty[0]}. "
                "Lower `n_splits`, or number the folds from 0."
            )
        return fold_n.copy()
