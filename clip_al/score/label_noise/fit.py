"""The likeliest confusion of classes for a sample of images; see `kernel`.

Trusts what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import map_blocks, one_blas_thread
from clip_al.score.label_noise.kernel import accumulate

N_BINS = 20
BLOCK = 1024  # rows that one core takes: fixed, so that sums do not depend on the cores
MAX_FULL = 64
"""Of more classes, which wrong label an image gets is left to what it looks like."""
FLOOR = -12.0  # log-probabilities below this are the softmax's guess, not the images'
LOOKS = {"chance": 0.08, "people": 0.31}
"""How far wrong labels follow the looks of an image (κ): little, or as people's do."""
PRIOR_RATE, SD_RATE = -3.0, 3.0  # logit of the share of wrong labels, nearly free
SD_CLASS = 1.0  # of a class's logit about that of all: few images leave it there
SD_SLOPE = 1.0
SD_BIAS = 0.5
PSEUDO = 2.0  # wrong labels of each class, spread over all others
WIDEST = (-9.0, 9.0)
WEIGHTS = (0.0, 50.0)  # of similarities in units of their own spread
SMALLEST_SPREAD = 1e-6
SLOPES = (0.0, 4.0)  # harder images are not labelled better


@dataclass(frozen=True)
class Fit:
    """A fitted model of labels.

    Parameters
    ----------
    weight_f : ndarray of shape (f,), float64
        Of each kind of class similarity.
    bias_k : ndarray of shape (k,), float64
    rate_bk : ndarray of shape (b, k), float64
        Probability of a wrong label by bin of hardness and true class.
    margin_b : ndarray of shape (b - 1,), float32
        Bounds between the bins, as margins of the logits, descending.
    excess_kk : ndarray of shape (k, k) or (0, 0), float64
    kappa : float
    log_likelihood : float
        With the prior.
    x : ndarray
        All parameters, where another fit may start.
    """

    weight_f: NDArray[np.float64]
    bias_k: NDArray[np.float64]
    rate_bk: NDArray[np.float64]
    margin_b: NDArray[np.float32]
    excess_kk: NDArray[np.float64]
    kappa: float
    log_likelihood: float
    x: NDArray[np.float64]

    def posteriors(
        self, logit_sk: NDArray[np.float32], y_s: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return P(true class | image, label), (s, k); the logits are overwritten."""
        look_sk = looks(log_softmax(logit_sk), self.kappa)
        bin_s = np.searchsorted(-self.margin_b, -margins(logit_sk)).astype(np.int64)
        posterior_sk = np.empty_like(logit_sk)
        counts = [np.zeros(self.rate_bk.shape) for _ in range(2)]
        moved = [np.zeros(self.excess_kk.shape) for _ in range(2)]
        accumulate(
            logit_sk, look_sk, y_s, bin_s, self.rate_bk, self.excess_kk, posterior_sk,
            *counts, *moved,
        )  # fmt: skip
        return posterior_sk


def logits(
    sim_fsk: NDArray[np.float32], weight_f: NDArray[Any], bias_k: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the weighted sum of class similarities, and the bias of each class."""
    out: NDArray[np.float32] = np.tensordot(weight_f.astype(np.float32), sim_fsk, axes=1)
    out += bias_k.astype(np.float32)
    return out


def log_softmax(logit_sk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-probabilities."""
    shifted_sk: NDArray[np.float32] = logit_sk - logit_sk.max(axis=1, keepdims=True)
    shifted_sk -= np.log(np.exp(shifted_sk).sum(axis=1, keepdims=True))
    return shifted_sk


def margins(logit_sk: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much the likeliest class leads: small is hard."""
    top_s2 = np.partition(logit_sk, -2, axis=1)[:, -2:]
    lead_s: NDArray[np.float32] = top_s2[:, 1] - top_s2[:, 0]
    return lead_s


def looks(log_prob_sk: NDArray[np.float32], kappa: float) -> NDArray[np.float32]:
    """Return class probabilities to the power of κ."""
    look_sk: NDArray[np.float32] = np.exp(
        np.float32(kappa) * np.maximum(log_prob_sk, np.float32(FLOOR))
    )
    return look_sk


class Likelihood:
    """The posterior density of all parameters, for one sample.

    Parameters
    ----------
    sim_fsk : ndarray of shape (f, s, k), float32
        Class similarities of several kinds.
    y_s : ndarray of shape (s,), int64
    kappa : float
        See `LOOKS`.
    """

    def __init__(self, sim_fsk: NDArray[np.float32], y_s: NDArray[np.int64], kappa: float) -> None:
        self.sim_fsk, self.y_s, self.kappa = sim_fsk, y_s, kappa
        self.f, self.s, self.k = sim_fsk.shape
        spread_f = sim_fsk.std(axis=2, dtype=float).mean(axis=1)
        self.scale_f = np.where(
            spread_f < SMALLEST_SPREAD, 0.0, 1 / np.maximum(spread_f, SMALLEST_SPREAD)
        )
        self.full = self.k <= MAX_FULL
        self.off_kk = ~np.eye(self.k, dtype=bool) if self.full else np.zeros((0, 0), dtype=bool)
        self.centre_b = (np.arange(N_BINS) + 0.5) / N_BINS - 0.5
        ends = np.cumsum([self.f, self.k, 1, self.k, 1, int(self.off_kk.sum())])
        self.parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def start(self) -> NDArray[np.float64]:
        """Return plain parameters: similarities weigh alike, some labels are wrong."""
        x = np.zeros(self.parts[-1].stop)
        x[self.parts[0]] = 1.0 / self.f
        x[self.parts[2]], x[self.parts[4]] = -1.0, 0.5
        return x

    def bounds(self) -> list[tuple[float, float]]:
        """Return the range of each parameter."""
        free = [WIDEST] * self.parts[-1].stop
        free[self.parts[0]] = [WEIGHTS] * self.f
        free[self.parts[2]] = [(-8.0, 5.0)]
        free[self.parts[4]] = [SLOPES]
        return free

    def look(self, x: NDArray[np.float64]) -> None:
        """Take hardness and looks of the images from these parameters, until the next call."""
        logit_sk = logits(self.sim_fsk, self.scale_f * x[self.parts[0]], x[self.parts[1]])
        margin_s = margins(logit_sk)
        inner = 1 - np.arange(1, N_BINS) / N_BINS
        self.margin_b = np.quantile(margin_s, inner).astype(np.float32)
        self.bin_s = np.searchsorted(-self.margin_b, -margin_s).astype(np.int64)
        self.look_sk = looks(log_softmax(logit_sk), self.kappa)

    def rates(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of a wrong label by bin and true class."""
        _, _, overall, class_k, slope, _ = (x[part] for part in self.parts)
        rate_bk: NDArray[np.float64] = 1 / (
            1 + np.exp(-(overall + class_k + slope * self.centre_b[:, None]))
        )
        return rate_bk

    def excess(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how much more often t is labelled j than looks alone would say."""
        excess_kk = np.zeros(self.off_kk.shape)
        excess_kk[self.off_kk] = np.exp(x[self.parts[5]])
        return excess_kk

    def cost(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the mean negative log-density and its slope."""
        weight, bias_k, overall, class_k, slope, theta = (x[part] for part in self.parts)
        rate_bk, excess_kk, weight_f = self.rates(x), self.excess(x), self.scale_f * weight

        def evaluate(rows: slice) -> tuple[Any, ...]:
            logit_bk = logits(self.sim_fsk[:, rows], weight_f, bias_k)
            posterior = np.empty_like(logit_bk)
            wrong, every = (np.zeros(rate_bk.shape) for _ in range(2))
            moved, expected = (np.zeros(excess_kk.shape) for _ in range(2))
            value = accumulate(
                logit_bk, self.look_sk[rows], self.y_s[rows], self.bin_s[rows], rate_bk,
                excess_kk, posterior, wrong, every, moved, expected,
            )  # fmt: skip
            # By Fisher's identity the slope is that of the complete data, averaged.
            pull_f = np.einsum("sk,fsk->f", logit_bk, self.sim_fsk[:, rows])
            gain_k = logit_bk.sum(axis=0, dtype=float)
            return value, self.scale_f * pull_f, gain_k, wrong, every, moved - expected

        sums = [sum(column) for column in zip(*map_blocks(evaluate, self.s, BLOCK), strict=True)]
        value, gain_f, gain_k, wrong_bk, all_bk, gain_kk = sums
        error_bk = wrong_bk - all_bk * rate_bk
        gain = np.concatenate(
            [
                gain_f,
                gain_k - bias_k / SD_BIAS**2,
                [error_bk.sum() - (overall[0] - PRIOR_RATE) / SD_RATE**2],
                error_bk.sum(axis=0) - class_k / SD_CLASS**2,
                [(error_bk.sum(axis=1) * self.centre_b).sum() - slope[0] / SD_SLOPE**2],
                np.zeros(len(theta)),
            ]
        )
        value -= (bias_k**2).sum() / SD_BIAS**2 / 2 + (class_k**2).sum() / SD_CLASS**2 / 2
        value -= ((overall[0] - PRIOR_RATE) / SD_RATE) ** 2 / 2 + (slope[0] / SD_SLOPE) ** 2 / 2
        if self.full:
            each = PSEUDO / (self.k - 1)
            share_kk = excess_kk / excess_kk.sum(axis=1, keepdims=True)
            value += each * np.log(share_kk[self.off_kk]).sum()
            gain[self.parts[5]] = (gain_kk + each - PSEUDO * share_kk)[self.off_kk]
        return -float(value) / self.s, -gain / self.s

    def maximize(self, x: NDArray[np.float64], *, rounds: int, steps: int) -> Fit:
        """Return the fit of the highest density found from a start."""
        from scipy.optimize import minimize

        with one_blas_thread():  # set once, not in each of some seventy evaluations
            for _ in range(rounds):
                self.look(x)
                found = minimize(
                    self.cost, x, jac=True, method="L-BFGS-B", bounds=self.bounds(),
                    options={"maxiter": steps},
                )  # fmt: skip
                x = found.x
        return Fit(
            self.scale_f * x[self.parts[0]], x[self.parts[1]], self.rates(x), self.margin_b,
            self.excess(x), self.kappa, -float(found.fun) * self.s, x,
        )  # fmt: skip
