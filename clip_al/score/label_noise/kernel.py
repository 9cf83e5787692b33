"""Likelihood of labels under a confusion of classes, and its slope. Imports nothing of ours.

class logits of an image ──softmax──▶ p_t, the probability of each true class t
hardness of the image    ──logistic─▶ r_t, the probability that its label is wrong
classes that it resembles ─────────▶ q_tj ∝ e_tj v_j, which wrong label j it gets

P(label = y) = p_y (1 − r_y) + Σ_(t ≠ y) p_t r_t q_ty,   v_j = (p_j of an earlier fit)^κ
"""

from __future__ import annotations

import numba
import numpy as np

SMALLEST = 1e-30
NEGLIGIBLE = 1e-7  # of a posterior probability


FAST = {"nnan", "ninf", "nsz", "reassoc", "contract"}


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def accumulate(  # type: ignore[no-untyped-def]
    logit_sk, look_sk, y_s, bin_s, rate_bk, excess_kk, posterior_sk,
    wrong_bk, all_bk, moved_kk, expected_kk,
):  # fmt: skip
    """Write posteriors of the true class, add expected counts, and return what is summed.

    Parameters
    ----------
    logit_sk : ndarray of shape (s, k), float32
        Class logits; overwritten by p − posterior, minus the slope of the cost.
    look_sk : ndarray of shape (s, k), float32
        v: class probabilities of an earlier fit to the power of κ.
    y_s, bin_s : ndarray of shape (s,), int64
        Given label and bin of hardness.
    rate_bk : ndarray of shape (b, k), float64
        Probability of a wrong label by bin and true class.
    excess_kk : ndarray of shape (k, k) or (0, 0), float64
        How much more often t is labelled j than looks alone would say, 0 on the diagonal;
        empty where looks alone say it, which takes O(k) an image in place of O(k²).
    posterior_sk : ndarray of shape (s, k), float32
        Written.
    wrong_bk, all_bk : ndarray of shape (b, k), float64
        Expected wrong labels and images by bin and true class; added to.
    moved_kk, expected_kk : ndarray of shape (k, k) or (0, 0), float64
        Expected and predicted images of t labelled j; added to.

    Returns
    -------
    float
        Log-likelihood.
    """
    s, k = logit_sk.shape
    full = len(excess_kk) > 0
    value = 0.0
    p, norm = np.empty(k), np.empty(k)
    for i in range(s):
        y, b = y_s[i], bin_s[i]
        largest = logit_sk[i, 0]
        for t in range(1, k):
            largest = max(largest, logit_sk[i, t])
        total, all_v = 0.0, 0.0
        for t in range(k):
            p[t] = np.exp(np.float32(logit_sk[i, t] - largest))
            total += p[t]
            all_v += look_sk[i, t]
        likelihood = 0.0
        for t in range(k):
            p[t] /= total
            if full:
                norm[t] = 0.0
                for j in range(k):
                    norm[t] += excess_kk[t, j] * look_sk[i, j]
                from_t = excess_kk[t, y]
            else:
                norm[t] = all_v - look_sk[i, t]
                from_t = 1.0
            norm[t] = max(norm[t], 1e-300)
            joint = p[t] * (1 - rate_bk[b, t])
            if t != y:
                joint = p[t] * rate_bk[b, t] * from_t * look_sk[i, y] / norm[t]
            posterior_sk[i, t] = joint
            likelihood += joint
        likelihood += SMALLEST
        value += np.log(likelihood)
        for t in range(k):
            posterior = posterior_sk[i, t] / likelihood
            posterior_sk[i, t] = posterior
            logit_sk[i, t] = posterior - p[t]
            all_bk[b, t] += posterior
            if t != y:
                wrong_bk[b, t] += posterior
                if full and posterior > NEGLIGIBLE:
                    moved_kk[t, y] += posterior
                    share = posterior / norm[t]
                    for j in range(k):
                        expected_kk[t, j] += share * excess_kk[t, j] * look_sk[i, j]
    return value
