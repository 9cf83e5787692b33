"""Labels drawn by chance alone: how many, and how likely each one is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread
from clip_al.arrays.checks import check_int, check_number
from clip_al.arrays.device import host
from clip_al.arrays.given import array_of
from clip_al.arrays.types import Adapter
from clip_al.errors import InvalidInputError
from clip_al.score.neighbors import unit_rows

MAX_IMAGES = 20_000
"""More images than this change the two numbers by less than their own error."""
MAX_COSINES = 2**24
"""Of images and classes, 64 MiB: fewer images where there are more than 800 classes."""
MIN_IMAGES = 1_000
TEMPERATURES = (1e-3, 1.0)  # CLIP's own is 0.01, an adapter starts at 0.07
UNIFORM_LOGITS = (-9.0, 4.0)  # a uniform share of 0.01 % to 98 %


@dataclass(frozen=True)
class LabelNoise:
    """What the labels of a dataset look like to CLIP.

    Parameters
    ----------
    temperature : float
        At which the softmax over the class similarities fits the labels that are right.
    uniform_share : float
        Share of labels in [0, 1) that look drawn at random from all classes.
    n_classes : int
    """

    temperature: float
    uniform_share: float
    n_classes: int

    def __post_init__(self) -> None:
        check_number(self.temperature, "temperature", above=0.0)
        check_number(self.uniform_share, "uniform_share", low=0.0, below=1.0)
        check_int(self.n_classes, "n_classes")

    @property
    def wrong_fraction(self) -> float:
        """Estimated share of wrong labels: a random label is right once in n_classes."""
        return float(self.uniform_share * (1 - 1 / self.n_classes))

    def label_probability(self, log_prob_n: NDArray[Any]) -> NDArray[np.float32]:
        """Return the probability that each label comes from the image, not from chance.

        Parameters
        ----------
        log_prob_n : ndarray of shape (n,)
            Log-softmax of the class similarities at `temperature`, at the given label.

        Returns
        -------
        ndarray of shape (n,), float32
            In [0, 1]; all ones where no label looks random.
        """
        right_n, likelihood_n = self._log_likelihoods(log_prob_n)
        probability_n: NDArray[np.float32] = np.exp(right_n - likelihood_n).astype(np.float32)
        return probability_n

    def label_log_likelihood(self, log_prob_n: NDArray[Any]) -> NDArray[np.float32]:
        """Return the log-likelihood of each label, from the image or from chance.

        Parameters
        ----------
        log_prob_n : ndarray of shape (n,)
            As for `label_probability`.

        Returns
        -------
        ndarray of shape (n,), float32
            ``log((1 − ε) p + ε / k)``, in the order of `log_prob_n`; where labels look
            random it cannot fall below log(ε / k), so that a few labels that are wrong
            beyond doubt do not set the spread of all.
        """
        return self._log_likelihoods(log_prob_n)[1].astype(np.float32)

    def _log_likelihoods(
        self, log_prob_n: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return log((1 − ε) p), and the logarithm of its sum with ε / k."""
        log_n = array_of(log_prob_n, "log_prob_n", np.float64)
        if not (log_n <= 1e-3).all():  # nor where one is NaN
            raise InvalidInputError(
                "`log_prob_n` must hold logarithms of probabilities, at most 0; got "
                f"{log_n.max():g}. Pass what `label_log_probabilities` returns."
            )
        right_n = np.log1p(-self.uniform_share) + log_n
        if self.uniform_share == 0:
            return right_n, right_n
        return right_n, np.logaddexp(right_n, np.log(self.uniform_share / self.n_classes))


def fit_symmetric_noise(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    class_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    random_state: int | None,
) -> LabelNoise:
    """Return the share of labels drawn by chance, and the temperature that fits the others.

    Parameters
    ----------
    image_emb_nd : ndarray of shape (n, d)
        Any float type, not modified.
    codes_n : ndarray of shape (n,), int64
        Class numbers in [0, k).
    class_emb_kd : ndarray of shape (k, d), float32
        Unit rows, as the adapter maps them.
    adapter, random_state
        See `estimate_label_noise`.

    Notes
    -----
    Each label is taken for a draw from a mixture: with probability 1 − ε from the softmax over
    the class similarities at temperature τ, with probability ε from all classes alike. τ in
    [0.001, 1] and ε are those of the highest likelihood. A temperature fitted without ε would
    be pulled up by every wrong label until nothing looked wrong.

    O(s k d) time for s = min(n, 20,000) images, fewer with more than 800 classes, then some
    thirty evaluations of O(s k).
    """
    n, n_classes = len(codes_n), len(class_emb_kd)
    n_looked = min(n, MAX_IMAGES, max(MIN_IMAGES, MAX_COSINES // n_classes))
    rows = np.arange(n)
    if n_looked < n:
        rows = np.sort(np.random.default_rng(random_state).choice(n, n_looked, replace=False))
    difference_sk = host(unit_rows(image_emb_nd, rows, adapter=adapter)) @ class_emb_kd.T
    difference_sk -= np.take_along_axis(difference_sk, codes_n[rows][:, None], axis=1)
    return _likeliest(difference_sk)


def _likeliest(difference_sk: NDArray[np.float32]) -> LabelNoise:
    """Return τ and ε of the highest likelihood.

    Parameters
    ----------
    difference_sk : ndarray of shape (s, k), float32
        Similarity of each image to each class less that to its given class.
    """
    from scipy.optimize import minimize

    n_classes = difference_sk.shape[1]

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the mean negative log-likelihood, and its slope in log τ and logit ε."""
        temperature, uniform = np.exp(parameters[0]), 1 / (1 + np.exp(-parameters[1]))
        right_s, pull_s = _softmax_at_label(difference_sk, temperature)
        mixture_s = (1 - uniform) * right_s + uniform / n_classes
        slope_s = np.stack(
            [
                (1 - uniform) * right_s * pull_s / temperature,
                uniform * (1 - uniform) * (1 / n_classes - right_s),
            ]
        )
        return float(-np.log(mixture_s).mean()), -(slope_s / mixture_s).mean(axis=1)

    # The likelihood has a second, poor optimum where everything is noise; two starts
    # on either side of CLIP's own temperature find the better one.
    bounds = [tuple(np.log(TEMPERATURES)), UNIFORM_LOGITS]
    starts = [(np.log(temperature), -2.0) for temperature in (0.01, 0.07)]
    with one_blas_thread():
        found = [minimize(cost, x, jac=True, method="L-BFGS-B", bounds=bounds) for x in starts]
    best = min(found, key=lambda result: float(result.fun)).x
    return LabelNoise(float(np.exp(best[0])), float(1 / (1 + np.exp(-best[1]))), n_classes)


def _softmax_at_label(
    difference_sk: NDArray[np.float32], temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the softmax at the given label, and the mean difference under the softmax."""
    s, k = difference_sk.shape
    right_s, pull_s = np.empty(s), np.empty(s)
    inverse = np.float32(1 / temperature)

    def evaluate(rows: slice) -> None:
        # exp overflows to infinity for an image far from its label: probability 0, no pull.
        with np.errstate(over="ignore", invalid="ignore"):
            weight_bk = np.exp(difference_sk[rows] * inverse)
            sum_b = weight_bk.sum(axis=1, dtype=np.float64)
            weight_bk *= difference_sk[rows]
            mean_b = weight_bk.sum(axis=1, dtype=np.float64) / sum_b
        right_s[rows] = 1 / sum_b
        pull_s[rows] = np.where(np.isfinite(mean_b), mean_b, 0.0)

    for _ in map_blocks(evaluate, s, block_rows(4 * k)):
        pass
    return right_s, pull_s
