"""What functions take: embeddings of every kind, devices, adapters, encoders.

Protocols say what is used of a thing, so that nobody imports the package that makes it, nor
torch with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Device: TypeAlias = "str | torch.device | None"
"""Where to compute. What None takes, each function says."""


class Rows(Protocol):
    """Embeddings that are no array: `EmbeddingTable` on disk, `DeviceEmbeddings` on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images and columns."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


Embeddings: TypeAlias = "ArrayLike | Rows"
"""One row an image, or a text: an array, a tensor, lists, a table, or rows on a device."""


def as_array(Z: Embeddings) -> Any:
    """Return the memory-mapped array of a table; anything else as it is.

    Examples
    --------
    >>> as_array([[1.0, 0.0]])
    [[1.0, 0.0]]
    """
    return getattr(Z, "embeddings", Z)


class TextEncoder(Protocol):
    """What is used of an encoder of class names and concepts; `ClipEncoder` has it.

    Where it has `logit_scale` and `logit_bias` as well, `ClipClassifier` starts from them.
    """

    @property
    def model_id(self) -> str:
        """Which model and weights encode."""

    def encode_texts(self, texts: Sequence[str], *, templates: Sequence[str]) -> Any:
        """Return one embedding a text, the mean over the templates."""


@runtime_checkable
class ChecksModel(Protocol):
    """Embeddings that know their model: `EmbeddingTable`, `DeviceEmbeddings`."""

    def check_model(self, source: Any, /) -> None:
        """Raise unless an encoder, or a model's id, is of the model that made them."""


@runtime_checkable
class Adapter(Protocol):
    """A fitted map of images and texts into one space; `DatasetAdapter` is one.

    Where it has `temperature_`, scores divide cosines by that.
    """

    def transform_images(self, Z: Any, /) -> NDArray[np.float32]:
        """Return adapted images as rows of unit length."""

    def transform_texts(self, T: Any, /) -> NDArray[np.float32]:
        """Return adapted texts as rows of unit length."""

    def adapt(self, unit_bd: torch.Tensor, /) -> torch.Tensor:
        """Return adapted images where they are, on a device."""


@runtime_checkable
class FoldAdapters(Protocol):
    """An adapter a fold, each fitted without the images of its own; a fitted `CrossFitAdapter`.

    Two adapters do not map into one space, so this is no `Adapter`.
    """

    fold_: NDArray[np.int64]

    @property
    def adapters_(self) -> Sequence[Adapter]:
        """One for each fold."""
