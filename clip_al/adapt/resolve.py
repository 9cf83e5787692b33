"""Which adapter a selector fits or uses, from what was asked for.

The adapters, and torch with them, are imported where one is asked for: a selector without
an adapter needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from clip_al.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    from clip_al.adapt.adapter import DatasetAdapter
    from clip_al.adapt.cross_fit import CrossFitAdapter

PAPER_ADAPTER: Mapping[str, Any] = {
    "loss": "diagonal",
    "residual": False,
    "epochs": 30,
    "learning_rate": 1e-4,
    "step_size": 30,
    "gamma": 0.1,
    "batch_size": 256,
    "validation_fraction": 0.0,
}
"""Appendix C; what it leaves open (residual, validation) as plainly as can be."""


def make_adapter(
    asked: object,
    *,
    n_images: int,
    settings: Mapping[str, Any],
    device: str | None = None,
    random_state: int | None = 0,
    progress: bool = False,
) -> DatasetAdapter | CrossFitAdapter | None:
    """Return an adapter that is fitted already or is to be fitted, or None.

    Parameters
    ----------
    asked : bool, "cross-fit", DatasetAdapter or CrossFitAdapter
        False: None. True, "cross-fit": a new one. A fitted adapter: itself; an unfitted one:
        its clone.
    n_images : int
        Of how many a cross-fitted adapter must be.
    settings : mapping
        Parameters of a new `DatasetAdapter`.
    device, random_state, progress
        Of a new one.

    Raises
    ------
    InvalidInputError
        Where a cross-fitted adapter is of another number of images.
    InvalidTypeError
        Where something else is asked for.
    """
    if asked is False:
        return None
    from clip_al.adapt.adapter import DatasetAdapter
    from clip_al.adapt.cross_fit import CrossFitAdapter

    if isinstance(asked, CrossFitAdapter | DatasetAdapter):
        if not is_fitted(asked):
            fresh: DatasetAdapter | CrossFitAdapter = clone(asked)
            return fresh
        if isinstance(asked, CrossFitAdapter) and len(asked.fold_) != n_images:
            raise InvalidInputError(
                f"A cross-fitted adapter must be of the {n_images} images; it was fitted on "
                f"{len(asked.fold_)}. Fit it on these."
            )
        return asked
    if asked is not True and not (isinstance(asked, str) and asked == "cross-fit"):
        raise InvalidTypeError(
            "`adapter` must be True, False, 'cross-fit', a DatasetAdapter or a CrossFitAdapter; "
            f"got {asked!r}. Choose one."
        )
    new = DatasetAdapter(**settings, device=device, random_state=random_state, progress=progress)
    return new if asked is True else CrossFitAdapter(new, random_state=random_state)


def is_fitted(adapter: object) -> bool:
    """Return whether an adapter of either kind can transform."""
    return hasattr(adapter, "weights_") or hasattr(adapter, "adapters_")


def describe_adapter(asked: object, fitted: DatasetAdapter | CrossFitAdapter | None) -> Any:
    """Return what JSON can hold of an adapter: what was asked for, or kind and settings."""
    if fitted is None or isinstance(asked, bool | str):
        return asked
    from clip_al.adapt.cross_fit import CrossFitAdapter

    folds: dict[str, Any] = {}
    if isinstance(fitted, CrossFitAdapter):
        inner, folds = fitted.adapters_[0], {"n_splits": len(fitted.adapters_)}
    else:
        inner = fitted
    settings: dict[str, Any] = inner.get_params()
    if inner.device is not None:
        settings["device"] = str(inner.device)
    return {"kind": type(fitted).__name__, **folds, **settings}
