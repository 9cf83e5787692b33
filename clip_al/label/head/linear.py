"""The linear head of `ClipClassifier`: its objective, its fit, and what held-out labels decide.

    logits = s · z·T + e R + b,    e = unit(z − μ)

Plain functions on arrays. Two such heads are fitted, one with the
class texts T and one without, each with the ridge that names held-out labels best; what the
sum of both weighs is decided by held-out labels, too. The sum is a head of the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit

Array = NDArray[Any]

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Of the ridge, as scikit-learn's C: larger is freer."""
DEFAULT_STRENGTH = {True: 10.0, False: 30.0}
"""With and without texts, where no class has two labels to choose by."""
SCALE_SPREAD = 3.0
"""Standard deviation of log s around its start: wrong texts must be able to switch it off."""
BIAS_RIDGE = 0.1
TEMPERING = 0.5  # of the temperature that strengths are compared at: a prior on its logarithm
TEMPERATURES = np.geomspace(0.05, 5.0, 25)
TEXT_WEIGHT, PLAIN_WEIGHT = 0.8, 0.3
"""Of the two heads before any label is held out; each has a prior of variance 1 around it."""
SMALLEST_WEIGHT = 0.05  # of a head that stands alone: with 0 all classes tie
GATE_NATS = 2.0
"""Texts must raise the held-out log-likelihood by this much to be used. Measured over 144
draws from three pools: right texts 2.5 to 109, permuted ones at most 1.0."""
EVIDENCE_NATS = 8.0
"""Labels that guessing would cost less than this, in all, cannot speak against the texts."""
CV_TOLERANCE = 1e-5  # of a fit that only decides which ridge is best
FINAL_TOLERANCE = 1e-7
CV_ROWS = 2_000
CV_SIZE = 500_000  # rows × classes: above it every second strength is tried
N_FOLDS = 5


class Head(NamedTuple):
    """Parameters of one head.

    Parameters
    ----------
    scale : float
        s; 0 without texts.
    weight_dk : ndarray of shape (d, k)
        R.
    bias_k : ndarray of shape (k,)
        b.
    """

    scale: float
    weight_dk: Array
    bias_k: Array


class Problem(NamedTuple):
    """What a head is fitted to.

    Parameters
    ----------
    feature_nd : ndarray of shape (n, d)
        e, float32 or float64; sums are taken in that type.
    cosine_nk : ndarray of shape (n, k) or None
        z·T; None fits a head without texts.
    target_nk : ndarray of shape (n, k)
        1 where the row is of the class, 0 elsewhere.
    weight_n : ndarray of shape (n,)
        Of the rows, at least 0.
    multi_label : bool
        A sigmoid for each class, in place of one softmax.
    log_scale : float
        Where the prior of log s is centred.
    bias : float
        Where the ridge pulls b to.
    """

    feature_nd: Array
    cosine_nk: Array | None
    target_nk: Array
    weight_n: Array
    multi_label: bool
    log_scale: float
    bias: float

    def take(self, rows: Array) -> Problem:
        """Return the problem of some rows."""
        return self._replace(
            feature_nd=self.feature_nd[rows],
            cosine_nk=None if self.cosine_nk is None else self.cosine_nk[rows],
            target_nk=self.target_nk[rows],
            weight_n=self.weight_n[rows],
        )


class Folds(NamedTuple):
    """Which rows are held out from which fits.

    Parameters
    ----------
    fold_n : ndarray of shape (n,), int64
        The fold of each row; -1 for rows that no choice is made by.
    n_held : int
        Folds [0, n_held) are held out, each in turn.
    """

    fold_n: NDArray[np.int64]
    n_held: int

    @property
    def held_n(self) -> NDArray[np.bool_]:
        """Which rows are ever held out."""
        return np.asarray((self.fold_n >= 0) & (self.fold_n < self.n_held))

    def split(self, fold: int) -> tuple[Array, Array]:
        """Return the rows that are trained on, and those held out."""
        return (
            np.flatnonzero((self.fold_n >= 0) & (self.fold_n != fold)),
            np.flatnonzero(self.fold_n == fold),
        )


class Choice(NamedTuple):
    """A fitted head, and what held-out labels said of it.

    Parameters
    ----------
    head : Head
    held_out_nk : ndarray of shape (n, k)
        Logits of each row by a head that did not see its label.
    strength : float
        The ridge that was chosen, as C.
    """

    head: Head
    held_out_nk: Array
    strength: float


def losses(logit_nk: Array, target_nk: Array, multi_label: bool) -> Array:
    """Return the negative log-likelihood of each row, in nats; shape (n,).

    Examples
    --------
    >>> losses(np.zeros((1, 2)), np.array([[1.0, 0.0]]), False).round(3)
    array([0.693])
    """
    if multi_label:
        signed_nk = np.where(target_nk > 0.5, logit_nk, -logit_nk)
        loss_n: Array = -log_expit(signed_nk).sum(axis=1)
        return loss_n
    logit_nk = logit_nk - logit_nk.max(axis=1, keepdims=True)
    loss_n = np.log(np.exp(logit_nk).sum(axis=1)) - (logit_nk * target_nk).sum(axis=1)
    return loss_n


def probabilities(logit_nk: Array, multi_label: bool) -> Array:
    """Return sigmoids, or the softmax of each row."""
    if multi_label:
        probability_nk: Array = expit(logit_nk)
        return probability_nk
    probability_nk = np.exp(logit_nk - logit_nk.max(axis=1, keepdims=True))
    probability_nk /= probability_nk.sum(axis=1, keepdims=True)
    return probability_nk


def objective(x: Array, problem: Problem, strength: float) -> tuple[float, Array]:
    """Return what a fit minimises, and its gradient.

    Parameters
    ----------
    x : ndarray of shape (d k + k [+ 1],)
        R by rows, b and, with texts, log s.
    problem : Problem
    strength : float
        C of the ridge.

    Notes
    -----
    Σ w_i loss_i + ‖R‖² / 2C + ρ ‖b − b₀‖² / 2 + (log s − log s₀)² / 2σ². O(n d k) time.
    """
    (d, k), texts = (problem.feature_nd.shape[1], problem.target_nk.shape[1]), problem.cosine_nk
    weight_dk, bias_k = x[: d * k].reshape(d, k), x[d * k : d * k + k]
    logit_nk = problem.feature_nd @ weight_dk.astype(problem.feature_nd.dtype) + bias_k
    scaled_nk = None if texts is None else np.exp(x[-1]) * texts
    if scaled_nk is not None:
        logit_nk += scaled_nk
    off_k = bias_k - problem.bias
    value = float(problem.weight_n @ losses(logit_nk, problem.target_nk, problem.multi_label))
    value += float(0.5 / strength * (weight_dk**2).sum() + 0.5 * BIAS_RIDGE * (off_k**2).sum())
    residual_nk = probabilities(logit_nk, problem.multi_label) - problem.target_nk
    residual_nk *= problem.weight_n[:, None]
    gradient = np.empty_like(x)
    slope_dk = problem.feature_nd.T @ residual_nk.astype(problem.feature_nd.dtype)
    gradient[: d * k] = (slope_dk + weight_dk / strength).ravel()
    gradient[d * k : d * k + k] = residual_nk.sum(axis=0) + BIAS_RIDGE * off_k
    if scaled_nk is not None:
        off = (x[-1] - problem.log_scale) / SCALE_SPREAD**2
        gradient[-1] = (residual_nk * scaled_nk).sum() + off
        value += 0.5 * off * (x[-1] - problem.log_scale)
    return value, gradient


def fit_head(
    problem: Problem, strength: float, start: Array | None = None, *, tolerance: float = 1e-8
) -> tuple[Head, Array]:
    """Minimise the objective; return the head, and its parameters to start another fit from."""
    (d, k), texts = (problem.feature_nd.shape[1], problem.target_nk.shape[1]), problem.cosine_nk
    if start is None:
        start = np.zeros(d * k + k + (texts is not None))
        start[d * k : d * k + k] = problem.bias
        if texts is not None:
            start[-1] = problem.log_scale
    options = {"maxiter": 200, "ftol": tolerance, "gtol": 1e-4}
    x: Array = minimize(
        objective, start, (problem, strength), jac=True, method="L-BFGS-B", options=options
    ).x
    scale = 0.0 if texts is None else float(np.exp(x[-1]))
    return Head(scale, x[: d * k].reshape(d, k), x[d * k : d * k + k]), x


def head_logits(head: Head, problem: Problem) -> Array:
    """Return the logits of a problem's own rows."""
    logit_nk: Array = problem.feature_nd @ head.weight_dk + head.bias_k
    if problem.cosine_nk is not None:
        logit_nk += head.scale * problem.cosine_nk
    return logit_nk


def choose_head(problem: Problem, folds: Folds) -> Choice:
    """Fit a head with the ridge that names held-out labels best.

    Parameters
    ----------
    problem : Problem
    folds : Folds

    Notes
    -----
    Log-losses are compared each at its best temperature: a weak ridge that orders classes
    well is not blamed for its confidence, which the caller sets right. Ridges weaker than
    two that did worse in a row are not tried. A row whose class no training row of its fold
    had does not choose; its held-out logits are those of the texts alone, or 0.
    """
    seen_n = seen_rows(problem, folds)
    texts = problem.cosine_nk is not None
    strengths: Sequence[float] = STRENGTHS
    if problem.target_nk.size > CV_SIZE:
        strengths = STRENGTHS[::2]
    if seen_n.sum() < N_FOLDS:
        strengths = (DEFAULT_STRENGTH[texts],)
    starts: dict[int, Array] = {}
    best = (np.inf, strengths[0], np.zeros(problem.target_nk.shape))
    n_worse = 0
    for strength in strengths:
        held_out_nk = np.zeros(problem.target_nk.shape)
        for fold in range(folds.n_held):
            rows, out = folds.split(fold)
            head, starts[fold] = fit_head(
                problem.take(rows), strength, starts.get(fold), tolerance=CV_TOLERANCE
            )
            held_out_nk[out] = head_logits(head, problem.take(out))
        loss = _tempered_loss(held_out_nk[seen_n], problem.take(np.flatnonzero(seen_n)))
        n_worse = 0 if loss < best[0] else n_worse + 1
        if loss < best[0]:
            best = (loss, strength, held_out_nk)
        if n_worse == 2:
            break
    _, strength, held_out_nk = best
    head, _ = fit_head(problem, strength, tolerance=FINAL_TOLERANCE)
    unseen_n = folds.held_n & ~seen_n
    held_out_nk[unseen_n] = 0.0
    if problem.cosine_nk is not None:
        held_out_nk[unseen_n] = head.scale * problem.cosine_nk[unseen_n]
    return Choice(head, held_out_nk, strength)


def seen_rows(problem: Problem, folds: Folds) -> NDArray[np.bool_]:
    """Say which rows are held out from a fit that saw others of their class."""
    if problem.multi_label:
        return folds.held_n
    seen_n = np.zeros(len(folds.fold_n), dtype=bool)
    for fold in range(folds.n_held):
        rows, out = folds.split(fold)
        known_k = (problem.target_nk[rows] > 0).any(axis=0)
        seen_n[out] = (problem.target_nk[out] @ known_k) > 0
    return seen_n


def _tempered_loss(logit_nk: Array, problem: Problem) -> float:
    """Return the log-loss at the best temperature, with a prior on the temperature."""
    if not len(logit_nk):
        return 0.0
    target_nk, weight_n = problem.target_nk, problem.weight_n
    return min(
        float(weight_n @ losses(factor * logit_nk, target_nk, problem.multi_label))
        + TEMPERING * float(np.log(factor)) ** 2
        for factor in TEMPERATURES
    )


def weigh_heads(
    held_out: Sequence[Array], problem: Problem, prior: Sequence[float], smallest: float = 0.0
) -> tuple[Array, float]:
    """Return the weights of heads in a sum of logits, and the loss that they minimise.

    Parameters
    ----------
    held_out : sequence of h ndarrays of shape (n, k)
        Logits by heads that did not see the labels.
    problem : Problem
        Of the same rows.
    prior : sequence of h floats
        Weights in the absence of rows; variance 1.
    smallest : float
        The least that a weight may be.

    Returns
    -------
    weight_h : ndarray of shape (h,)
    loss : float
        In nats, summed over rows, with the prior's share.
    """
    logit_hnk, prior_h = np.stack(held_out), np.asarray(prior, dtype=np.float64)

    def loss_and_slope(weight_h: Array) -> tuple[float, Array]:
        logit_nk = np.tensordot(weight_h, logit_hnk, 1)
        loss_n = losses(logit_nk, problem.target_nk, problem.multi_label)
        residual_nk = probabilities(logit_nk, problem.multi_label) - problem.target_nk
        slope_h = np.tensordot(logit_hnk, problem.weight_n[:, None] * residual_nk, 2)
        off_h = weight_h - prior_h
        return float(problem.weight_n @ loss_n + 0.5 * off_h @ off_h), slope_h + off_h

    bounds = [(smallest, None)] * len(prior_h)
    found = minimize(loss_and_slope, prior_h, jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x, float(found.fun)


def texts_tell(cosine_nk: Array, problem: Problem) -> bool:
    """Say whether the texts alone name labels better than chance does, by 2 nats.

    With several labels an image, chance is the rate of each label. Also true of so few labels
    that nothing could.
    """
    scaled_nk = np.exp(problem.log_scale) * cosine_nk
    if problem.multi_label:
        if cosine_nk.size * np.log(2) < EVIDENCE_NATS:
            return True
        total = problem.weight_n.sum() + 1.0
        rate_k = (problem.weight_n @ problem.target_nk + 0.5) / total
        rates_nk = np.tile(np.log(rate_k / (1.0 - rate_k)), (len(cosine_nk), 1))
        off_nk = scaled_nk - scaled_nk.mean(axis=0)
        by_rate = weigh_heads([rates_nk], problem, [1.0])[1]
        return by_rate - weigh_heads([rates_nk, off_nk], problem, [1.0, 0.0])[1] >= GATE_NATS
    chance = float(problem.weight_n.sum() * np.log(cosine_nk.shape[1]))
    if chance < EVIDENCE_NATS:
        return True
    return chance - weigh_heads([scaled_nk], problem, [0.0])[1] >= GATE_NATS


def draw_folds(code_n: NDArray[np.int64], n_classes: int, random_state: int | None) -> Folds:
    """Deal the rows of each class out to five folds.

    Of many rows 2,000 take part, and one fold is held out, as for many rows × classes.
    """
    rng = np.random.default_rng(random_state)
    order = rng.permutation(len(code_n))[:CV_ROWS]
    order = order[np.argsort(code_n[order], kind="stable")]
    fold_n = np.full(len(code_n), -1, dtype=np.int64)
    fold_n[order] = np.arange(len(order)) % N_FOLDS
    many = len(code_n) > CV_ROWS or len(order) * n_classes > CV_SIZE
    return Folds(fold_n, 1 if many else min(N_FOLDS, len(order)))
