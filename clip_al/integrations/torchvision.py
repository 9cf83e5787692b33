"""torchvision: the images and labels of its datasets, without the transforms of training.

The way back needs no code of ours: ``torch.utils.data.Subset(dataset, indices.tolist())``.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError


def images_of(dataset: Any) -> Any:
    """Return what `ClipEncoder` and `EmbeddingTable` take: the images as they are stored.

    A transform of the dataset is left aside: it is the training's, and an augmentation in it
    would get into the embeddings.

    Parameters
    ----------
    dataset : torchvision dataset, or a torch Subset of one
        Not modified.

    Returns
    -------
    list of paths or Dataset
        In the order of the dataset. Of an `ImageFolder` its paths: read by several processes,
        and a table then notices which of them changed.

    Examples
    --------
    >>> from torchvision.datasets import FakeData
    >>> from torchvision.transforms import ToTensor
    >>> images_of(FakeData(4, transform=ToTensor()))[0][0].size
    (224, 224)
    """
    from torch.utils.data import Subset
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import default_loader

    if isinstance(dataset, Subset):
        images = images_of(dataset.dataset)
        if isinstance(images, list):
            return [images[i] for i in dataset.indices]
        return Subset(images, dataset.indices)
    if isinstance(dataset, ImageFolder) and dataset.loader is default_loader:
        return [path for path, _ in dataset.samples]
    plain = copy(dataset)
    for name in ("transform", "target_transform", "transforms"):
        if hasattr(plain, name):
            setattr(plain, name, None)
    return plain


def labels_of(dataset: Any) -> tuple[NDArray[np.int64], list[str] | None]:
    """Return the class numbers, (n,), and what the classes are called, where the dataset knows.

    Parameters
    ----------
    dataset : torchvision dataset with `targets`, or a torch Subset of one
        Not modified, and no image is read.

    Raises
    ------
    InvalidInputError
        Where the dataset has no `targets`, or more than one an image.
    """
    from torch.utils.data import Subset

    if isinstance(dataset, Subset):
        of_all, names = labels_of(dataset.dataset)
        return of_all[np.asarray(dataset.indices)], names
    targets: Any = getattr(dataset, "targets", ())
    single = len(targets) > 0 and np.ndim(targets[0]) == 0
    labels: Any = np.asarray(targets if single else ())
    if labels.shape != (len(dataset),) or labels.dtype.kind not in "iu":
        raise InvalidInputError(
            f"`dataset` must have `targets`, one class number an image; {type(dataset).__name__} "
            f"of {len(dataset)} images has none such. Make an array of the labels yourself."
        )
    names = getattr(dataset, "classes", None)
    if names is not None:  # ImageNet has several names for a class
        names = [name if isinstance(name, str) else ", ".join(name) for name in names]
    return labels.astype(np.int64), names
