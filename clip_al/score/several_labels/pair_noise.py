"""Labels that are given and should not be, or missing and should be there: how likely each is.

features of image and label ──logistic─▶ f, the probability that the image shows it
shares of wrong labels ────────────────▶ α of those that show it not are labelled all the same,
                                         β of those that show it are not labelled

P(given) = (1 − β) f + α (1 − f)
P(wrong | given) = α (1 − f) / P(given),   P(wrong | missing) = β f / P(missing)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from clip_al.arrays.blocks import block_rows, map_blocks

PRIOR_ADDED, PRIOR_MISSING = -2.0, -3.0
"""Log-odds of a tenth of the labels wrongly given, and of 1 in 20 missing: what is expected."""
SD_SHARE = 0.3
"""Of what all labels have in common: labels alone tell it badly, see `PairNoise`."""
SD_LABEL = 0.5
"""Of a label's own share around it."""
SD_SLOPE = 0.3
SD_BIAS = 3.0
LARGEST_SHARE = 0.8
MOST_FITTED = 2_000_000
"""Images × labels that the fit looks at."""
SMALLEST = 1e-12


class PairNoise(NamedTuple):
    """How a label comes about, of k labels by m features.

    Parameters
    ----------
    centre_mk, spread_mk : ndarray of shape (m, k)
        By which features are brought to one scale.
    slope_mk : ndarray of shape (m, k)
    bias_k : ndarray of shape (k,)
    added_k, missing_k : ndarray of shape (k,)
        α and β.

    Notes
    -----
    Shares, slopes and biases are those of the highest posterior density. A wrong label and a
    label that the features cannot explain look alike, so that the shares are held near what is
    expected: left free, α fell to 0 on labels of which 5 to 15 % were wrong, and wrongly given
    labels came last.
    """

    centre_mk: NDArray[np.float64]
    spread_mk: NDArray[np.float64]
    slope_mk: NDArray[np.float64]
    bias_k: NDArray[np.float64]
    added_k: NDArray[np.float64]
    missing_k: NDArray[np.float64]

    def wrong(
        self, features: list[NDArray[np.float32]], given_nk: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the probability that each label is wrong: given or missing, (n, k) float32."""
        wrong_nk = np.empty(given_nk.shape, dtype=np.float32)

        def weigh(rows: slice) -> None:
            logit_bk = np.tile(self.bias_k, (len(given_nk[rows]), 1))
            parts = zip(features, self.centre_mk, self.spread_mk, self.slope_mk, strict=True)
            for feature_nk, centre_k, spread_k, slope_k in parts:
                logit_bk += slope_k * (feature_nk[rows] - centre_k) / spread_k
            shown_bk = expit(logit_bk)
            added_bk = self.added_k * (1.0 - shown_bk)
            missing_bk = self.missing_k * shown_bk
            wrong_nk[rows] = np.where(
                given_nk[rows],
                added_bk / np.maximum(added_bk + shown_bk - missing_bk, SMALLEST),
                missing_bk / np.maximum(missing_bk + 1.0 - shown_bk - added_bk, SMALLEST),
            )

        for _ in map_blocks(weigh, len(given_nk), block_rows(given_nk.shape[1], 32)):
            pass
        return wrong_nk


def fit_pair_noise(features: list[NDArray[np.float32]], given_nk: NDArray[np.bool_]) -> PairNoise:
    """Fit how labels come about.

    Parameters
    ----------
    features : list of m ndarrays of shape (n, k)
        Each high where an image shows the label; of no label by the image itself.
    given_nk : ndarray of shape (n, k), bool

    Notes
    -----
    Some hundred steps of O(s k m) for s = min(n, 2,000,000 / k) images, evenly over the order.
    """
    from scipy.optimize import minimize

    n, k = given_nk.shape
    rows = np.unique(np.linspace(0, n - 1, max(1, min(n, MOST_FITTED // k))).astype(np.int64))
    taken = [feature_nk[rows].astype(np.float64) for feature_nk in features]
    centre_mk = np.stack([feature_sk.mean(axis=0) for feature_sk in taken])
    spread_mk = np.stack([_spread(feature_sk) for feature_sk in taken])
    scaled = [
        (feature_sk - centre_k) / spread_k
        for feature_sk, centre_k, spread_k in zip(taken, centre_mk, spread_mk, strict=True)
    ]
    problem = _Problem(scaled, given_nk[rows])
    x = minimize(
        problem.cost, problem.start(), jac=True, method="L-BFGS-B", options={"maxiter": 300}
    ).x
    slope_mk, bias_k, added_k, missing_k = problem.settings(x)
    return PairNoise(centre_mk, spread_mk, slope_mk, bias_k, added_k, missing_k)


def _spread(feature_sk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return by what to divide each label's feature; one that is always the same says nothing."""
    spread_k: NDArray[np.float64] = feature_sk.std(axis=0)
    spread_k[spread_k < SMALLEST] = 1.0
    return spread_k


class _Problem:
    """The posterior density of slopes, biases and shares, and its slope.

    x holds slopes in common (m,), deviations of each label (m, k), biases (k,), log-odds of the
    shares, deviations of each label (2, k), and in common (2,).
    """

    def __init__(self, features: list[NDArray[np.float64]], given_sk: NDArray[np.bool_]) -> None:
        self.features, self.given_sk = features, given_sk
        self.m, (s, self.k) = len(features), given_sk.shape
        rate_k = np.clip(given_sk.mean(axis=0), 0.5 / s, 1.0 - 0.5 / s)
        self.prior_bias_k = logit(rate_k)
        # A share of wrong labels among those given, as a share of the images without the label.
        self.odds_k = np.minimum(rate_k / (1.0 - rate_k), 1.0)
        ends = np.cumsum([self.m, self.m * self.k, self.k, 2 * self.k, 2])
        self.parts = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.prior_shares = np.array([PRIOR_ADDED, PRIOR_MISSING])

    def start(self) -> NDArray[np.float64]:
        return np.concatenate(
            [
                np.ones(self.m),
                np.zeros(self.m * self.k),
                self.prior_bias_k,
                np.zeros(2 * self.k),
                self.prior_shares,
            ]
        )

    def settings(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Return slopes (m, k), biases, α and β (k,)."""
        common_m, own, bias_k, deviation, shares = (x[part] for part in self.parts)
        slope_mk = common_m[:, None] + own.reshape(self.m, self.k)
        share_2k = expit(shares[:, None] + deviation.reshape(2, self.k)) * LARGEST_SHARE
        return slope_mk, bias_k, share_2k[0] * self.odds_k, share_2k[1]

    def cost(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the negative log-density, and its slope."""
        slope_mk, bias_k, added_k, missing_k = self.settings(x)
        parts = zip(slope_mk, self.features, strict=True)
        logit_sk = bias_k + sum(slope_k * feature_sk for slope_k, feature_sk in parts)
        shown_sk = expit(logit_sk)
        given_sk = np.clip(
            (1.0 - missing_k) * shown_sk + added_k * (1.0 - shown_sk), SMALLEST, 1.0 - SMALLEST
        )
        right_sk = np.where(self.given_sk, given_sk, 1.0 - given_sk)
        pull_sk = np.where(self.given_sk, -1.0, 1.0) / right_sk
        pull_logit_sk = pull_sk * (1.0 - missing_k - added_k) * shown_sk * (1.0 - shown_sk)
        gain_mk = np.stack(
            [(pull_logit_sk * feature_sk).sum(axis=0) for feature_sk in self.features]
        )
        share_2k = np.stack([added_k / self.odds_k, missing_k])
        gain_2k = np.stack(
            [
                (pull_sk * (1.0 - shown_sk)).sum(axis=0) * self.odds_k,
                -(pull_sk * shown_sk).sum(axis=0),
            ]
        )
        gain_2k *= share_2k * (1.0 - share_2k / LARGEST_SHARE)
        gain = np.concatenate(
            [
                gain_mk.sum(axis=1),
                gain_mk.ravel(),
                pull_logit_sk.sum(axis=0),
                gain_2k.ravel(),
                gain_2k.sum(axis=1),
            ]
        )
        prior, prior_gain = self._prior(x)
        return float(-np.log(right_sk).sum() + prior), gain + prior_gain

    def _prior(self, x: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        _, own, bias, deviation, shares = self.parts
        off, weight = np.zeros_like(x), np.zeros_like(x)
        off[own], weight[own] = x[own], SD_SLOPE**-2
        off[bias], weight[bias] = x[bias] - self.prior_bias_k, SD_BIAS**-2
        off[deviation], weight[deviation] = x[deviation], SD_LABEL**-2
        off[shares], weight[shares] = x[shares] - self.prior_shares, SD_SHARE**-2
        return float(0.5 * (weight * off**2).sum()), weight * off
