"""Heads of others on CLIP embeddings, from a few labels: what `ClipClassifier` stands beside.

Each takes unit embeddings, labels and unit class texts, and returns the logits of test
images. Written from the papers, not from their code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

Array = NDArray[Any]
N_STEPS = 300


def logistic_regression(
    train_nd: Array, code_n: NDArray[np.int64], test_md: Array, n_classes: int, c: float = 30.0
) -> Array:
    """Return logits of scikit-learn's logistic regression; -inf for classes without labels."""
    model = LogisticRegression(C=c, max_iter=2_000).fit(train_nd, code_n)
    return _spread(model, test_md, n_classes)


def tuned_logistic_regression(
    train_nd: Array, code_n: NDArray[np.int64], test_md: Array, n_classes: int
) -> Array:
    """Do the same with C by cross-validated log-loss; C = 30 where a class has one label."""
    counts = np.bincount(code_n)
    folds = int(min(5, counts[counts > 0].min()))
    if folds < 2:
        return logistic_regression(train_nd, code_n, test_md, n_classes)
    strengths = (0.3, 3.0, 30.0, 100.0)
    model = LogisticRegressionCV(
        Cs=strengths, cv=folds, scoring="neg_log_loss", max_iter=2_000
    ).fit(train_nd, code_n)
    return _spread(model, test_md, n_classes)


def _spread(model: Any, test_md: Array, n_classes: int) -> Array:
    logit_mk = np.full((len(test_md), n_classes), -np.inf)
    logit_mk[:, model.classes_] = model.predict_log_proba(test_md)
    return logit_mk


def lp_plus_plus(
    train_nd: Array, code_n: NDArray[np.int64], text_emb_kd: Array, test_md: Array
) -> Array:
    """Return logits z·(w_k + α_k t_k): visual prototypes and a blend of text for each class.

    Block coordinate descent with steps from Lipschitz constants, 300 of them, and no
    validation; w starts from the sums of classes, α from 250 times the mean cosine of images
    and texts.

    References
    ----------
    Y. Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024,
    Eqs. 4 and 11 to 13.
    """
    n, k = len(train_nd), len(text_emb_kd)
    target_nk = np.eye(k)[code_n]
    cosine_nk = train_nd @ text_emb_kd.T
    weight_kd = target_nk.T @ train_nd
    own_k = (target_nk * cosine_nk).sum(axis=0) / np.maximum(target_nk.sum(axis=0), 1)
    alpha_k = np.full(k, 250.0 * own_k[target_nk.any(axis=0)].mean())
    step_w = 4 * n / np.linalg.eigvalsh(train_nd @ train_nd.T)[-1]
    step_alpha = n / (4 * (cosine_nk**2).sum(axis=0).max())
    for _ in range(N_STEPS):
        residual_nk = _softmax(train_nd @ weight_kd.T + alpha_k * cosine_nk) - target_nk
        weight_kd = weight_kd - step_w * residual_nk.T @ train_nd / n
        residual_nk = _softmax(train_nd @ weight_kd.T + alpha_k * cosine_nk) - target_nk
        alpha_k = alpha_k - step_alpha * (residual_nk * cosine_nk).sum(axis=0) / n
    logit_mk: Array = test_md @ weight_kd.T + alpha_k * (test_md @ text_emb_kd.T)
    return logit_mk


def clap(
    train_nd: Array,
    code_n: NDArray[np.int64],
    text_emb_kd: Array,
    test_md: Array,
    scale: float = 100.0,
) -> Array:
    """Return logits of class vectors that start from the texts and are held near them.

    Cross-entropy of scale · z·w_k / ‖w_k‖ plus Σ_k λ_k ‖w_k − t_k‖², λ_k the mean zero-shot
    probability of the images of class k; 300 steps of gradient descent with momentum 0.9, the
    rate falling from 0.1 along a cosine. Up to 256 labels, the paper's batch, that is its
    training but for augmented images, which embeddings do not have.

    References
    ----------
    J. Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large
    Vision-Language Models", CVPR 2024, sections 4.1 and 4.2.
    """
    n, k = len(train_nd), len(text_emb_kd)
    target_nk = np.eye(k)[code_n]
    zero_shot_nk = _softmax(scale * train_nd @ text_emb_kd.T)
    pull_k = (target_nk * zero_shot_nk).sum(axis=0) / np.maximum(target_nk.sum(axis=0), 1)
    pull_k[~target_nk.any(axis=0)] = 1.0
    weight_kd, speed_kd = text_emb_kd.copy(), np.zeros_like(text_emb_kd)
    for step in range(N_STEPS):
        length_k = np.linalg.norm(weight_kd, axis=1, keepdims=True)
        unit_kd = weight_kd / length_k
        residual_nk = (_softmax(scale * train_nd @ unit_kd.T) - target_nk) / n
        slope_kd = scale * residual_nk.T @ train_nd
        slope_kd = (slope_kd - (slope_kd * unit_kd).sum(axis=1, keepdims=True) * unit_kd) / length_k
        slope_kd += 2 * pull_k[:, None] * (weight_kd - text_emb_kd)
        speed_kd = 0.9 * speed_kd + slope_kd
        weight_kd = weight_kd - 0.05 * (1 + np.cos(np.pi * step / N_STEPS)) * speed_kd
    unit_kd = weight_kd / np.linalg.norm(weight_kd, axis=1, keepdims=True)
    logit_mk: Array = scale * test_md @ unit_kd.T
    return logit_mk


def _softmax(logit_nk: Array) -> Array:
    power_nk: Array = np.exp(logit_nk - logit_nk.max(axis=1, keepdims=True))
    power_nk /= power_nk.sum(axis=1, keepdims=True)
    return power_nk
