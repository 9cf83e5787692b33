"""How often a head is right at each confidence, learned from labels that it did not see.

The labelled images are no random sample: they were picked because the head was unsure of them or
because their class is rare, so the share of them that a head gets right says little of the pool.
At the same confidence, though, picked and other images are about equally often right.
That relation is fitted here, and the pool's own confidences are put through it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta

Array = NDArray[np.float64]

PRIOR = np.array([0.0, 1.0])
"""Intercept and slope of a head whose confidence is right as it is."""
PRIOR_SPREAD = np.array([0.5, 0.3])
"""Standard deviations around it. Of five pairs tried all but the tightest did alike."""
EXTRA_LABELS = 50.0
"""The covariance of a fit to l labels is multiplied by 1 + 50 / l: few labels, picked to be
typical of their classes, say less of the pool than as many drawn at random."""
LEAST_ODDS = 1e-4
LEVEL = 0.95
SMALLEST_VARIANCE = 1e-12  # below it the beta distribution's own rounding is larger


class Calibration(NamedTuple):
    """Chance to be right = sigmoid(theta_0 + theta_1 · log-odds of the confidence).

    Parameters
    ----------
    theta : ndarray of shape (2,)
        Intercept and slope.
    covariance : ndarray of shape (2, 2)
        Of both.
    """

    theta: Array
    covariance: Array

    def chance(self, odds_n: Array) -> Array:
        """Return how likely the top class of images is right; shape (n,), in (0, 1)."""
        chance_n: Array = expit(self.theta[0] + self.theta[1] * odds_n)
        return chance_n

    def slope(self, weight_n: Array, odds_n: Array) -> Array:
        """Return the gradient of Σ weight · chance by theta, shape (2,)."""
        chance_n = self.chance(odds_n)
        inner_n = weight_n * chance_n * (1 - chance_n)
        return np.array([inner_n.sum(), inner_n @ odds_n])


def log_odds(confidence_n: Array) -> Array:
    """Return log c / (1 − c), within ±9.2.

    Examples
    --------
    >>> log_odds(np.array([0.5, 0.9])).round(2)
    array([0. , 2.2])
    """
    clipped_n = np.clip(confidence_n, LEAST_ODDS, 1 - LEAST_ODDS)
    odds_n: Array = np.log(clipped_n) - np.log1p(-clipped_n)
    return odds_n


def calibrate(odds_l: Array, right_l: NDArray[np.bool_]) -> Calibration:
    """Fit how often a head is right to the labels that it did not see.

    Parameters
    ----------
    odds_l : ndarray of shape (l,)
        Log-odds of the confidence.
    right_l : ndarray of shape (l,), bool

    Notes
    -----
    Logistic regression with a normal prior around "as confident as right", by Newton's method
    with steps of at most 1; O(l) a step. Weights that make the labelled images' confidences look
    like the pool's changed the error by no more than chance in the simulation; they are left out.
    """
    X_l2 = np.column_stack([np.ones(len(odds_l)), odds_l])
    ridge = np.diag(PRIOR_SPREAD**-2)
    theta = PRIOR.copy()
    for _ in range(100):
        chance_l = expit(X_l2 @ theta)
        slope = X_l2.T @ (chance_l - right_l) + ridge @ (theta - PRIOR)
        curvature = (X_l2 * (chance_l * (1 - chance_l))[:, None]).T @ X_l2 + ridge
        step = np.linalg.solve(curvature, slope)
        theta = theta - step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return Calibration(theta, np.linalg.inv(curvature) * (1 + EXTRA_LABELS / len(odds_l)))


def beta_interval(mean: float, variance: float) -> tuple[float, float]:
    """Return the 95 % interval of a share, by the beta distribution of this mean and variance.

    Examples
    --------
    >>> low, high = beta_interval(0.9, 0.03**2)
    >>> round(low, 3), round(high, 3)
    (0.834, 0.951)
    """
    if not 0 < mean < 1 or variance < SMALLEST_VARIANCE:
        return mean, mean
    size = max(mean * (1 - mean) / variance - 1, 1e-3)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = (float(beta.ppf(q, mean * size, (1 - mean) * size)) for q in tails)
    return min(low, mean), max(high, mean)  # near 0 and 1 the mean may be beyond
