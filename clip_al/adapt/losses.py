"""Losses of the adapters: InfoNCE and its kin on the similarities of a batch to all classes.

    logits (b, k) = cosine of image and class text / temperature ──▶ one number

The texts of one class are identical, so a batch of b images has k texts, not b: every loss
here is computed on b × k logits, also where its definition speaks of b × b. Functions of
torch tensors, differentiable, that trust their input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def diagonal_infonce(logits_bk: Tensor, y_b: Tensor) -> Tensor:
    """Return InfoNCE over the b image–text pairs of a batch, its diagonal the only positives.

    Literally the paper's loss, symmetric as CLIP's: the mean of image → text and text →
    image. Where a class comes twice in a batch, its second text (the same text) counts
    against the first: false negatives. Texts of classes that are absent from the batch
    take no part.

    Parameters
    ----------
    logits_bk : Tensor of shape (b, k), float
        Cosine of each image and each class text over the temperature.
    y_b : Tensor of shape (b,), int64
        Class of each image.

    Returns
    -------
    Tensor of shape (), at least 0 nats; 0 only for a batch of one image

    Notes
    -----
    With n_c images of class c in the batch the b × b form is, exactly,

        ½ mean_i [ log Σ_c n_c exp(s_ic) − s_iy ]  +  ½ mean_i [ log Σ_l exp(s_ly) − s_iy ]

    O(b k) time and memory. Averaging over all positives outside the logarithm (supervised
    contrastive learning) would give this same number, the texts of a class being equal;
    `multi_positive_infonce` differs because it also clears the denominators.

    References
    ----------
    Yang et al.: "A CLIP-Powered Framework for Robust and Generalizable Data Selection",
    ICLR 2025, section 3.1. Oord et al.: "Representation Learning with Contrastive Predictive
    Coding", arXiv 1807.03748, equation 4. Radford et al.: "Learning Transferable Visual
    Models From Natural Language Supervision", ICML 2021, figure 3.

    Examples
    --------
    >>> one_class = torch.tensor([0, 0])
    >>> diagonal_infonce(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), one_class)  # log 2
    tensor(0.6931)
    """
    own_b = logits_bk.gather(1, y_b[:, None])[:, 0]
    count_k = torch.bincount(y_b, minlength=logits_bk.shape[1])
    # log 0 = −∞ takes the absent classes out of the sum; some class is always present.
    image_to_text = torch.logsumexp(logits_bk + count_k.to(logits_bk.dtype).log(), dim=1) - own_b
    text_to_image = torch.logsumexp(logits_bk, dim=0)[y_b] - own_b
    return 0.5 * (image_to_text.mean() + text_to_image.mean())


def multi_positive_infonce(logits_bk: Tensor, y_b: Tensor) -> Tensor:
    """Return symmetric InfoNCE in which every pair of equal class is a positive.

    Each pair of an image and its class text stands against pairs of different classes
    alone, so there are no false negatives. Texts of classes that are absent from the batch
    stay among the negatives: the softmax is over all k classes, each counted once.

    Parameters
    ----------
    logits_bk : Tensor of shape (b, k), float
        Cosine of each image and each class text over the temperature.
    y_b : Tensor of shape (b,), int64
        Class of each image.

    Returns
    -------
    Tensor of shape (), at least 0 nats; 0 for a perfect separation

    Notes
    -----
    The mean over images, each with its class text, of half of each of

        log( exp(s_iy) + Σ_{c ≠ y} exp(s_ic) ) − s_iy              image → text
        log( exp(s_iy) + Σ_{l: y_l ≠ y} exp(s_ly) ) − s_iy         text → image

    In the b × b form each image has n_y equal positives, so the mean over positives is the
    mean over images; only the weight of a negative class differs, 1 here and n_c there:
    how often a text happens to come in a batch says nothing of the image. O(b k).

    References
    ----------
    Barbano et al.: "Unbiased Supervised Contrastive Learning", ICLR 2023, the loss
    SupInfoNCE: positives that do not stand in each other's denominators.

    Examples
    --------
    >>> one_class = torch.tensor([0, 0])
    >>> multi_positive_infonce(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), one_class) < 1e-4
    tensor(True)
    """
    own_b = logits_bk.gather(1, y_b[:, None])[:, 0]
    image_to_text = torch.logsumexp(logits_bk, dim=1) - own_b
    same_bk = functional.one_hot(y_b, logits_bk.shape[1]).bool()
    # Not −∞: in a batch of one class its column is left empty, and −∞ has no gradient.
    lowest = torch.finfo(logits_bk.dtype).min
    others_k = torch.logsumexp(logits_bk.masked_fill(same_bk, lowest), dim=0)
    text_to_image = functional.softplus(others_k[y_b] - own_b)
    return 0.5 * (image_to_text.mean() + text_to_image.mean())


def image_to_text(logits_bk: Tensor, y_b: Tensor) -> Tensor:
    """Return the cross-entropy of a softmax over all classes: InfoNCE's image → text half.

    Parameters
    ----------
    logits_bk : Tensor of shape (b, k), float
        Cosine of each image and each class text over the temperature.
    y_b : Tensor of shape (b,), int64
        Class of each image.

    Returns
    -------
    Tensor of shape (), at least 0 nats

    Examples
    --------
    >>> image_to_text(torch.zeros(3, 2), torch.tensor([0, 1, 1]))  # log 2
    tensor(0.6931)
    """
    return functional.cross_entropy(logits_bk, y_b)


def generalized_cross_entropy(logits_bk: Tensor, y_b: Tensor, q: float = 0.7) -> Tensor:
    """Return (1 − p_y^q) / q, which gives up on labels that stay improbable.

    Parameters
    ----------
    logits_bk : Tensor of shape (b, k), float
        Cosine of each image and each class text over the temperature.
    y_b : Tensor of shape (b,), int64
        Class of each image.
    q : float
        In (0, 1]: towards 0 it is the cross-entropy, at 1 the mean absolute error, which
        ignores wrong labels best and learns slowest.

    Returns
    -------
    Tensor of shape (), in [0, 1/q]

    References
    ----------
    Zhang, Sabuncu: "Generalized Cross Entropy Loss for Training Deep Neural Networks with
    Noisy Labels", NeurIPS 2018, equation 6.

    Examples
    --------
    >>> generalized_cross_entropy(torch.zeros(3, 2), torch.tensor([0, 1, 1]), q=1.0)
    tensor(0.5000)
    """
    log_p_b = -functional.cross_entropy(logits_bk, y_b, reduction="none")
    return (1.0 - torch.exp(q * log_p_b)).mean() / q


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "diagonal": diagonal_infonce,
    "multi-positive": multi_positive_infonce,
    "image-to-text": image_to_text,
    "gce": generalized_cross_entropy,
}
"""The losses by the names that `DatasetAdapter` takes."""
