"""How many labels are wrong: the public function over both models."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import (
    check_choice,
    check_embeddings,
    check_host_embeddings,
    check_seed,
)
from clip_al.arrays.labels import encode_labels
from clip_al.arrays.types import Adapter, Embeddings
from clip_al.errors import InvalidInputError
from clip_al.score.label_noise.confusion import LabelConfusion, fit_label_confusion
from clip_al.score.label_noise.symmetric import LabelNoise, fit_symmetric_noise
from clip_al.score.neighbors import adapted_texts, unit_rows

NOISE_MODELS = ("confusion", "symmetric")


def estimate_label_noise(
    Z: Embeddings,
    y: ArrayLike,
    T: ArrayLike,
    *,
    adapter: Adapter | None = None,
    model: str = "confusion",
    random_state: int | None = 0,
) -> LabelNoise:
    """Estimate how many labels are wrong, and which classes are labelled as which.

    The true class of an image follows a softmax over what speaks for each class: its text, the
    mean of its images and a ridge regression, the last two without the image itself, weighed by
    the likelihood of the labels. A label is wrong with a probability that depends on the class
    and grows with how hard the image is, and then another class, depending on the true one and,
    to the power of κ, on what the image looks like. κ is that of chance or that of people,
    whichever explains the labels.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Image embeddings, any float type, not modified.
    y : array-like of shape (n,)
        Class numbers in [0, k).
    T : array-like of shape (k, d)
        Class embeddings, k ≥ 2, not modified.
    adapter : DatasetAdapter, optional
        Fitted; applied to both.
    model : {"confusion", "symmetric"}
        "symmetric" knows wrong labels drawn from all classes alike, and the class embeddings
        alone. It finds too few of people's errors.
    random_state : int, optional
        Chooses the images that are looked at, where there are more than 8,000. None chooses
        others each time.

    Returns
    -------
    LabelConfusion
        With ``model="symmetric"`` its base class, `LabelNoise`.

    Raises
    ------
    InvalidInputError
        Where lengths or widths differ, a label is no class, there is one class alone, or a
        row that is looked at is not finite or all zeros.

    Notes
    -----
    O(m d (d + k) + d³) time for means and regression of m = min(n, 20,000) images, up to 100,000
    with more than 400 classes; O(s d (d + k)) for the evidence of s ≤ 8,000, fewer with more
    than 130 classes; then some 200 steps of O(s k), O(s k²) up to 64 classes. Above, wrong
    labels follow looks alone, and the matrix is sparse. Share and matrix are counted over 20,000
    images, fewer with more than 840 classes.

    Whether an image is hard for the model or for people cannot be told from labels alone: κ of
    people and the error of the model are those of the human labels CIFAR-10N. The page of
    results says how far off the share is, see decisions/0015.

    References
    ----------
    Wei et al.: "Learning with Noisy Labels Revisited: A Study Using Real-World Human
    Annotations", ICLR 2022.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(600) % 3
    >>> Z = np.eye(8)[y] + 0.15 * rng.standard_normal((600, 8))
    >>> given = np.where(np.arange(600) < 60, (y + 1) % 3, y)  # one in ten is wrong
    >>> noise = estimate_label_noise(Z, given, np.eye(8)[:3])
    >>> round(noise.wrong_fraction, 2)
    0.1
    >>> print(estimate_label_noise(Z, y, np.eye(8)[:3]))
    no sign of more than 2 % wrong labels
    """
    check_choice(model, NOISE_MODELS, "model")
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    text_emb_kd = check_host_embeddings(T, "T", width=image_emb_nd.shape[1])
    n, n_classes = len(image_emb_nd), len(text_emb_kd)
    if n_classes < 2:
        raise InvalidInputError(
            f"`T` must hold at least two classes for labels to be wrong; got {n_classes}. "
            "Add the embeddings of the other classes."
        )
    codes_n = encode_labels(y, n_images=n, n_classes=n_classes)
    random_state = check_seed(random_state)
    text_emb_kd = unit_rows(text_emb_kd, np.arange(n_classes))
    if adapter is not None:
        text_emb_kd = adapted_texts(adapter, text_emb_kd)
    return fit_label_noise(
        image_emb_nd, codes_n, text_emb_kd, text_emb_kd, adapter, model, random_state
    )


def fit_label_noise(
    image_emb_nd: NDArray[Any],
    codes_n: NDArray[np.int64],
    class_emb_kd: NDArray[np.float32],
    text_emb_kd: NDArray[np.float32],
    adapter: Adapter | None,
    model: str,
    random_state: int | None,
) -> LabelNoise:
    """Fit a model to checked input, with class vectors and texts as the adapter maps them.

    Parameters
    ----------
    class_emb_kd : ndarray of shape (k, d), float32
        What alignment is measured by; its temperature is fitted to these.
    text_emb_kd : ndarray of shape (k, d), float32
        The texts alone: class means of the confusion leave each image out.
    """
    noise = fit_symmetric_noise(image_emb_nd, codes_n, class_emb_kd, adapter, random_state)
    if model == "symmetric":
        return noise
    confusion: LabelConfusion = fit_label_confusion(
        noise, image_emb_nd, codes_n, text_emb_kd, adapter, random_state
    )
    return confusion
