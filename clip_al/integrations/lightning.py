"""Lightning: a `LightningDataModule` that trains on a selection and resumes in mid-epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from clip_al.arrays.checks import check_indices
from clip_al.errors import InvalidInputError, missing_extra
from clip_al.samplers.distributed import DistributedSelectedSubsetSampler
from clip_al.samplers.epoch_plan import Chosen, Positions
from clip_al.samplers.sampler import SelectedSubsetSampler, world_size

try:
    from lightning.pytorch import LightningDataModule
    from torchdata.stateful_dataloader import StatefulDataLoader
except ImportError as exc:
    raise missing_extra(
        "clip_al.integrations.lightning needs Lightning and torchdata", "lightning"
    ) from exc


class SelectedSubsetDataModule(LightningDataModule):
    """Train on the chosen positions of a dataset, which stays as it is.

    Parameters
    ----------
    dataset : map-style torch Dataset
        The whole one, in the order that the selection counts in.
    selection : Selection, array-like of int, or array-like of bool
        What to train on; a newer one may be assigned between calls of `fit`.
    val_dataset : map-style torch Dataset, optional
        To validate on, whole and in order.
    sampling : mapping, optional
        For `SelectedSubsetSampler`: ``weights``, ``replay``, …; `random_state` is 0 there.
    **loading
        For torch's `DataLoader`: ``batch_size``, ``num_workers``, …

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where the selection is not one of the dataset, or `fit` is to go on from a checkpoint
        of another subset, other settings of the sampler or another seed.

    Notes
    -----
    With several processes each reads its share by a `DistributedSelectedSubsetSampler`, which
    Lightning leaves alone. The loader is torchdata's `StatefulDataLoader`: from a checkpoint
    of mid-epoch (``ModelCheckpoint(every_n_train_steps=…)``), `fit` goes on with the next batch.
    """

    def __init__(
        self,
        dataset: Any,
        selection: Positions,
        *,
        val_dataset: Any = None,
        sampling: Mapping[str, Any] | None = None,
        **loading: Any,
    ) -> None:
        super().__init__()
        self.dataset, self.selection, self.val_dataset = dataset, selection, val_dataset
        self.sampling = {"random_state": 0, **(sampling or {})}
        self.loading = loading
        self._sampler()  # says early what is wrong
        if val_dataset is not None:  # as the host's own `from_datasets` does
            self.val_dataloader = self._validation  # type: ignore[method-assign]

    def train_dataloader(self) -> Any:
        """Return a loader of the selection, of this process's share where there are several."""
        return StatefulDataLoader(self.dataset, sampler=self._sampler(world_size()), **self.loading)

    def _validation(self) -> Any:
        return DataLoader(self.val_dataset, **{**self.loading, "drop_last": False})

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint is checked by; the place in the epoch is the loader's."""
        sampler = self._sampler()
        return {"fingerprint": sampler.fingerprint, "random_state": sampler.random_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on training with another subset than the checkpoint's."""
        trains = self.trainer is None or self.trainer.state.fn == "fit"
        if trains and state_dict != self.state_dict():
            raise InvalidInputError(
                "A checkpoint must be of this selection, sampling and seed; got one of others, "
                f"{state_dict}. Pass those, or load the model's weights alone."
            )

    def _sampler(self, n_processes: int = 1) -> SelectedSubsetSampler:
        n = len(self.dataset)
        if not isinstance(self.selection, Chosen):
            check_indices(self.selection, n, "selection")
        elif self.selection.n_images != n:
            raise InvalidInputError(
                f"`selection` must be of the {n} images of `dataset`; got one of "
                f"{self.selection.n_images}. Pass both of one dataset, and the whole of it."
            )
        kind = DistributedSelectedSubsetSampler if n_processes > 1 else SelectedSubsetSampler
        return kind(self.selection, **self.sampling)
