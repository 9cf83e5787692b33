"""Embeddings that stay on a device from step to step.

Every function that takes embeddings takes these too. What multiplies them does so where they
lie, by torch; what runs on the CPU reads rows as from an array.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.blocks import block_rows, unit_block
from clip_al.arrays.checks import check_choice, check_embeddings, check_indices
from clip_al.arrays.types import Device, Embeddings, TextEncoder
from clip_al.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)

DTYPES = ("float32", "float16", "bfloat16")
SHORTEST = 1e-30  # a row below this has no direction
LARGER = 8
"""How many blocks of a core's cache keep a GPU busy."""


class DeviceEmbeddings:
    """Image embeddings on a device, to pass in place of `Z` to several steps.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or torch.Tensor of shape (n, d)
        Not modified. A tensor that is on the device already is shared, not copied.
    device : str or torch.device, optional
        "cuda" where there is one by default; that of a tensor.
    dtype : {"float32", "float16", "bfloat16"}, optional
        In which they are kept; that of a tensor, or "float32". Products and sums are computed
        in float32 whatever is kept, so a smaller type costs only what its rounding changed.

    Attributes
    ----------
    tensor : torch.Tensor of shape (n, d)
        Rows as they came.
    device : torch.device

    Raises
    ------
    InvalidInputError
        Where a row is not finite or all zeros, the device is not there, or the type unknown.

    Notes
    -----
    n · d · 4 bytes on the device, or half of that; one block on its way there.

    Examples
    --------
    >>> import clip_al
    >>> Z = DeviceEmbeddings([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], device="cpu")
    >>> clip_al.scores.sample_diversity_scores(Z, [0, 0, 0], n_neighbors=1).round(3)
    array([1.414, 0.   , 0.   ], dtype=float32)
    """

    is_on_device = True
    dtype = np.dtype(np.float32)  # of the rows that reading gives
    itemsize = 4
    ndim = 2

    def __init__(self, Z: Embeddings, device: Device = None, *, dtype: str | None = None) -> None:
        import torch

        if dtype is not None:
            check_choice(dtype, DTYPES, "dtype")
        self.table: Any = Z if hasattr(Z, "model_id") else None
        if isinstance(Z, torch.Tensor):
            wanted = Z.dtype if dtype is None else getattr(torch, dtype)
            self.tensor = _checked_tensor(Z, wanted).to(device or Z.device, wanted)
        else:
            image_emb_nd = check_embeddings(Z, "Z", finite=False)
            self.tensor = _upload(image_emb_nd, _device(device), dtype or "float32")

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.tensor.device

    @property
    def shape(self) -> tuple[int, int]:
        """Images and columns."""
        return self.tensor.shape[0], self.tensor.shape[1]

    @property
    def model_id(self) -> str | None:
        """Model that made them, where a table told it."""
        return getattr(self.table, "model_id", None)

    @property
    def ids(self) -> Any:
        """What the images are called, where a table told it."""
        return getattr(self.table, "ids", None)

    def check_model(self, source: TextEncoder | str) -> None:
        """Raise where a table told another model than that of the source."""
        if self.table is not None:
            self.table.check_model(source)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n, d = self.shape
        return f"DeviceEmbeddings({n:,} × {d}, {self.tensor.dtype}, {self.device})"

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return some rows as a float32 array of unit rows; a copy."""
        unit_bd: NDArray[np.float32] = self.unit(rows).cpu().numpy()
        return unit_bd

    def unit(self, rows: Any) -> Tensor:
        """Return some rows as a float32 tensor of unit rows, on the device.

        Parameters
        ----------
        rows : slice or ndarray of shape (b,), int64
        """
        import torch

        block = self.tensor[self._rows(rows)].float()
        unit: Tensor = block / torch.linalg.vector_norm(block, dim=1, keepdim=True)
        return unit

    def subset(self, rows: Any) -> DeviceEmbeddings:
        """Return some rows, on the device; a slice of them is no copy."""
        part = DeviceEmbeddings.__new__(DeviceEmbeddings)
        part.table = None
        part.tensor = self.tensor[self._rows(rows)]
        return part

    def _rows(self, rows: Any) -> Any:
        """Return a slice as it is, positions or a mask as a tensor on the device."""
        import torch

        if isinstance(rows, slice):
            return rows
        positions = check_indices(rows, len(self), "rows", distinct=False)
        return torch.from_numpy(for_torch(positions)).to(self.device)


def is_on_device(Z: object) -> TypeGuard[DeviceEmbeddings]:
    """Return whether `Z` is a `DeviceEmbeddings`."""
    return bool(getattr(Z, "is_on_device", False))


def device_of(Z: Embeddings | None, device: Device) -> Device:
    """Return where to compute: where the embeddings are, or the device asked for.

    Returns
    -------
    torch.device, str or None
        None for NumPy on the CPU.

    Raises
    ------
    InvalidInputError
        Where the embeddings are on another device than the one asked for.
    """
    if device is not None and str(device) != "cpu":
        device = check_device(device)
    if not is_on_device(Z):
        return None if device is None or str(device) == "cpu" else device
    if device is not None and str(device).split(":")[0] != Z.device.type:
        raise InvalidInputError(
            f"`device` must be that of the embeddings, {Z.device}; got {device}. Leave it out."
        )
    return Z.device


def keep_on(Z: NDArray[Any], device: Device) -> Any:
    """Return embeddings on a GPU where one is asked for and half of its free memory holds them.

    Anything else comes back as it is, to be sent there block by block in each step.
    """
    if is_on_device(Z) or device is None or not str(device).startswith("cuda"):
        return Z
    import torch

    n, d = Z.shape
    free = torch.cuda.mem_get_info(torch.device(device))[0]
    if n * d * 4 > free // 2:
        log.info("%d × %d embeddings stay on the host: %s has %d bytes free", n, d, device, free)
        return Z
    return DeviceEmbeddings(Z, device)


def subset(Z: Any, rows: Any) -> Any:
    """Return some rows of an array or of embeddings on a device, where they are."""
    return Z.subset(rows) if is_on_device(Z) else Z[rows]


def device_block(Z: Any, rows: slice, device: Device) -> Tensor:
    """Return some rows as a float32 tensor of unit rows on the device."""
    import torch

    if is_on_device(Z):
        unit: Tensor = Z.unit(rows)
        return unit
    return torch.from_numpy(for_torch(unit_block(Z, rows))).to(device)


def for_torch(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that torch can share memory with: writable, without negative strides."""
    ready = np.require(array, requirements=["C", "W"])
    # One row counts as contiguous whatever its stride.
    return ready.copy() if min(ready.strides, default=0) < 0 else ready


def device_slices(n: int, n_columns: int) -> list[slice]:
    """Return slices of range(n) whose blocks are large enough for a GPU."""
    step = LARGER * block_rows(n_columns)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def host(rows: Any) -> NDArray[Any]:
    """Return a tensor as an array on the CPU; an array as it is."""
    array: NDArray[Any] = rows.cpu().numpy() if hasattr(rows, "cpu") else rows
    return array


def _device(device: Device) -> torch.device:
    return check_device(None if device is None else str(device))


def _upload(image_emb_nd: NDArray[Any], device: torch.device, dtype: str) -> Tensor:
    import torch

    n, d = image_emb_nd.shape
    tensor = torch.empty((n, d), dtype=getattr(torch, dtype), device=device)
    for rows in device_slices(n, d):
        tensor[rows] = device_block(image_emb_nd, rows, device).to(tensor.dtype)
    return tensor


def _checked_tensor(Z: Tensor, wanted: torch.dtype) -> Tensor:
    """Refuse a tensor that holds no embeddings; look at the values block by block."""
    import torch

    if str(wanted).removeprefix("torch.") not in DTYPES:
        raise InvalidTypeError(
            f"A tensor of embeddings must be one of {', '.join(DTYPES)}; got {wanted}. Convert it."
        )
    if Z.ndim != 2 or 0 in Z.shape:
        raise InvalidInputError(
            f"`Z` must be 2-D, (images, features), and not empty; got shape {tuple(Z.shape)}. "
            "Reshape it."
        )
    Z = Z.detach()
    for rows in device_slices(*Z.shape):
        length_b = torch.linalg.vector_norm(Z[rows].float(), dim=1)
        bad = (~(torch.isfinite(length_b) & (length_b > SHORTEST))).nonzero()
        if len(bad):
            raise InvalidInputError(
                f"Every embedding must be finite and have a direction; row "
                f"{rows.start + int(bad[0])} has length {float(length_b[bad[0]]):g}. "
                "Encode it again."
            )
    return Z


def check_device(device: Device) -> torch.device:
    """Return a device that torch can use here; None takes CUDA where there is one."""
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as exc:
        raise InvalidInputError(
            f"`device` must be one that torch can use here; got {device!r}. Pass 'cpu', or leave "
            "it out to take CUDA where there is one."
        ) from exc
    return found
