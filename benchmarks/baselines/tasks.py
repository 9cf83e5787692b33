"""What a method may look at: a pool to label from, or labelled images to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from benchmarks.training.training_record import TrainingRecord

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabellingTask:
    """A pool without labels, what is labelled already, and the network trained on that.

    Parameters
    ----------
    emb_nd, labelled_emb_ld : ndarray of shape (n, d) and (l, d), float32
        CLIP embeddings of unit length; l may be 0.
    features_nf, labelled_features_lf : ndarray of shape (n, f) and (l, f), float32
        Last hidden layer of the network.
    prob_nk : ndarray of shape (n, k), float32
        Probabilities that the network gives.
    member_prob_enk : ndarray of shape (e, n, k), float32
        Probabilities that each member of an ensemble gives.
    seed : int
        What a method draws, it draws from this.
    """

    emb_nd: NDArray[np.float32]
    labelled_emb_ld: NDArray[np.float32]
    features_nf: NDArray[np.float32]
    labelled_features_lf: NDArray[np.float32]
    prob_nk: NDArray[np.float32]
    member_prob_enk: NDArray[np.float32]
    seed: int


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """Labelled images, of which some labels may be wrong.

    Parameters
    ----------
    emb_nd : ndarray of shape (n, d), float32
        CLIP embeddings of unit length.
    class_emb_kd : ndarray of shape (k, d), float32
        CLIP embeddings of the classes' names, of unit length.
    given_n : ndarray of shape (n,), int64
        Labels as they were given, in [0, k).
    seed : int
        What a method draws, it draws from this.
    train_proxy : callable
        Trains a network on all images and returns what it left behind; called once, and
        only for methods that need it.
    """

    emb_nd: NDArray[np.float32]
    class_emb_kd: NDArray[np.float32]
    given_n: NDArray[np.int64]
    seed: int
    train_proxy: Callable[[], TrainingRecord]

    @cached_property
    def record(self) -> TrainingRecord:
        """What the training of a network on all images left behind."""
        return self.train_proxy()


ToLabel = Callable[[LabellingTask, int], Indices]
ToTrain = Callable[[TrainingTask, int], Indices]


def highest(scores_n: NDArray[Any], n_wanted: int) -> Indices:
    """Return the places of the highest scores, highest first, ties by lowest index."""
    order: Indices = np.argsort(-scores_n, kind="stable")[:n_wanted].astype(np.int64)
    return order
