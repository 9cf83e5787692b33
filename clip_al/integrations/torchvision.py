"""torchvision: the images and labels of its datasets, without the transforms of training.

The way back needs no code of ours: ``torch.utils.data.Subset(dataset, indices.tolist())``.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.errors import InvalidInputError

TRANSFORMS = ("transform", "target_transform", "transforms")
"""What torchvision's datasets call their transforms."""


def images_of(dataset: Any) -> Any:
    """Return what `ClipEncoder` and `EmbeddingTable` take: the images as they are stored.

    Transforms of the dataset are left aside on every level: they are the training's, and an
    augmentation among them would get into the embeddings.

    Parameters
    ----------
    dataset : torchvision dataset, a torch Subset or ConcatDataset of such, or a wrapper
        Not modified. A wrapper is a dataset that holds others as attributes.

    Returns
    -------
    list of paths or Dataset
        In the order of the dataset. Of an `ImageFolder` its paths: read by several processes,
        and a table then notices which of them changed.

    Raises
    ------
    InvalidInputError
        Where a dataset holds a transform of torchvision under another name than `transform`,
        `target_transform` and `transforms`.

    Examples
    --------
    >>> from torchvision.datasets import FakeData
    >>> from torchvision.transforms import ToTensor
    >>> images_of(FakeData(4, transform=ToTensor()))[0][0].size
    (224, 224)
    """
    from torch.utils.data import ConcatDataset, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import default_loader

    if isinstance(dataset, Subset):
        images = images_of(dataset.dataset)
        if isinstance(images, list):
            return [images[i] for i in dataset.indices]
        return Subset(images, dataset.indices)
    if isinstance(dataset, ConcatDataset):
        parts = [images_of(part) for part in dataset.datasets]
        if all(isinstance(part, list) for part in parts):
            return [path for part in parts for path in part]
        return ConcatDataset(parts)
    if isinstance(dataset, ImageFolder) and dataset.loader is default_loader:
        return [path for path, _ in dataset.samples]
    return _without_transforms(dataset)


def _without_transforms(dataset: Any) -> Any:
    """Return a copy of a dataset, and of those that it holds, without their transforms."""
    from torch.utils.data import Dataset

    plain = copy(dataset)
    for name in TRANSFORMS:
        if hasattr(plain, name):
            setattr(plain, name, None)
    for name, value in vars(plain).items():
        if isinstance(value, Dataset):
            setattr(plain, name, _without_transforms(value))
        elif isinstance(value, (list, tuple)) and any(isinstance(v, Dataset) for v in value):
            setattr(plain, name, type(value)(_without_transforms(v) for v in value))
        elif _is_transform(value):
            raise InvalidInputError(
                f"`dataset` must have its transforms as {', '.join(TRANSFORMS)}, so that they can "
                f"be left aside; {type(dataset).__name__} has one as `{name}`. Pass a dataset "
                "without it."
            )
    return plain


def _is_transform(value: Any) -> bool:
    return type(value).__module__.startswith("torchvision.transforms")


def labels_of(dataset: Any) -> tuple[NDArray[np.int64], list[str] | None]:
    """Return the class numbers, (n,), and what the classes are called, where the dataset knows.

    Parameters
    ----------
    dataset : torchvision dataset with `targets`, or a torch Subset or ConcatDataset of such
        Not modified, and no image is read.

    Raises
    ------
    InvalidInputError
        Where the dataset has no `targets`, or more than one an image.
    """
    from torch.utils.data import ConcatDataset, Subset

    if isinstance(dataset, ConcatDataset):
        parts = [labels_of(part) for part in dataset.datasets]
        if any(names != parts[0][1] for _, names in parts):
            raise InvalidInputError(
                "`dataset` must be of parts with the same classes, in one order; got "
                f"{parts[0][1]} and others. Make an array of the labels yourself."
            )
        return np.concatenate([labels for labels, _ in parts]), parts[0][1]
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
