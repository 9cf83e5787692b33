"""Dataset adaptation: small adapters on frozen CLIP embeddings, trained with InfoNCE.

    embeddings (n, d), labels (n,), class texts (k, d) ──fit──▶ image and text adapter
                                                      ──transform──▶ adapted embeddings

CLIP itself never runs here. Settings, fit, transform and files; the training itself is in
`training`.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional

from clip_al.adapt.losses import LOSSES
from clip_al.adapt.training import (
    Training,
    apply_layers,
    check_inputs,
    layer_names,
    split_rows,
    threads_for,
    to_tensor,
)
from clip_al.arrays.blocks import block_rows, unit_block
from clip_al.arrays.checks import check_choice, check_embeddings, check_int, check_number
from clip_al.arrays.device import check_device
from clip_al.arrays.given import check_flag, check_kind
from clip_al.arrays.labels import Names, ordered_names
from clip_al.arrays.types import Embeddings
from clip_al.atomic import write_bytes
from clip_al.errors import InvalidInputError
from clip_al.saved_files import SavedFile

FORMAT = "clip_al.DatasetAdapter 1"
SAVED = SavedFile("DatasetAdapter.save", "Pass such a file, or fit the adapter again.")


class DatasetAdapter(BaseEstimator):
    """Adapt CLIP embeddings of images and class texts to a labelled dataset.

    Parameters
    ----------
    loss : {"multi-positive", "diagonal", "image-to-text", "gce"}
        "multi-positive": symmetric InfoNCE, every pair of equal class a positive.
        "diagonal": symmetric InfoNCE over the batch as the paper has it, false negatives
        included. "image-to-text": the softmax over classes alone. "gce": generalised
        cross-entropy, which withstands wrong labels. In all but "diagonal" the texts of
        classes without images stay negatives, as the softmax is over all classes.
    hidden : int, optional
        Width of a hidden layer with ReLU; None is one linear layer.
    residual : bool
        Whether A(x) = x + f(x), with the last layer of f zero at first, so that an
        untrained adapter is CLIP itself. Without it A(x) = f(x), randomly initialised.
    epochs : int
        At least 0.
    learning_rate, step_size, gamma : float, int, float
        Of Adam; the rate is multiplied by gamma in (0, 1] every `step_size` epochs. The
        paper's step of 30 in 30 epochs never decays; pass ``step_size=30`` for that.
    batch_size : int
        Images a step.
    temperature : float, optional
        What the cosines are divided by; None learns it, from 0.07 and not below 0.01.
    gce_q : float
        In (0, 1], for "gce": the higher, the more robust and the slower.
    validation_fraction : float
        In [0, 0.5]: the share of images, spread over the classes, that is held out to
        measure the validation loss. A class of one image is trained on. 0 holds out none,
        and so does a share of less than half an image.
    patience : int, optional
        Stop after so many epochs without a lower validation loss, and keep the weights of
        the best epoch (those of CLIP itself do not compete). None runs all epochs and
        keeps the last.
    weight_decay : float
        Decoupled (AdamW); with `residual` it pulls towards CLIP itself.
    device : str, optional
        Of torch; None takes CUDA where there is one.
    random_state : int, optional
        Seed of split, order and first weights: on one machine it gives the same bits (large
        steps, see Notes: with one number of torch's threads). None draws another each time.
    progress : bool
        Show a bar on standard error, if that is a terminal.

    Attributes
    ----------
    temperature_ : float
        Learned, or the one given.
    n_epochs_ : int
        Epochs that were run.
    history_ : list of dict
        For each epoch: epoch (from 1), loss (mean over training images), validation_loss
        and validation_accuracy (None without validation), learning_rate.
    classes_ : ndarray of shape (k,)
        Names of the classes, or their numbers.
    n_classes_, n_features_in_ : int
        k and d.
    weights_ : dict of str to ndarray, float32
        Weight and bias of each layer, "image.0", "image.1", …, "text.0", ….

    Notes
    -----
    Each epoch costs O((n + k n / batch_size) d²) for linear adapters, O(n d hidden) for hidden
    layers; memory O(d²) and O(batch_size (d + k)), beside the embeddings where they are.
    50,000 × 512 with 10 classes trains 30 epochs in well under a minute. On the CPU a step
    of under 2^28 multiply-adds, (batch_size + k) d² or (batch_size + k) d hidden, runs on
    one thread, so the bits do not depend on how many there are; a larger one on torch's.
    No global random state is touched, and torch's number of threads is put back after.

    References
    ----------
    Yang et al.: "A CLIP-Powered Framework for Robust and Generalizable Data Selection",
    ICLR 2025, section 3.1 and appendix C.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(40) % 2
    >>> Z = np.eye(2)[y] + [0.0, 1.5] + 0.1 * rng.standard_normal((40, 2))  # all nearer to 1
    >>> adapter = DatasetAdapter(learning_rate=0.1, device="cpu").fit(Z, y, np.eye(2))
    >>> cosine = adapter.transform_images(Z) @ adapter.transform_texts(np.eye(2)).T
    >>> bool((cosine.argmax(axis=1) == y).all())
    True
    """

    def __init__(
        self,
        *,
        loss: str = "multi-positive",
        hidden: int | None = None,
        residual: bool = True,
        epochs: int = 30,
        learning_rate: float = 1e-4,
        step_size: int = 10,
        gamma: float = 0.1,
        batch_size: int = 256,
        temperature: float | None = None,
        gce_q: float = 0.7,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        weight_decay: float = 0.0,
        device: str | None = None,
        random_state: int | None = 0,
        progress: bool = False,
    ) -> None:
        self.loss = loss
        self.hidden = hidden
        self.residual = residual
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.step_size = step_size
        self.gamma = gamma
        self.batch_size = batch_size
        self.temperature = temperature
        self.gce_q = gce_q
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        Z: Embeddings,
        y: ArrayLike,
        T: Embeddings,
        *,
        class_names: Names | None = None,
    ) -> DatasetAdapter:
        """Train both adapters; a fit that fails or is interrupted leaves none.

        Parameters
        ----------
        Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
            Image embeddings, any float type, not modified; rows count as scaled to unit
            length. A memory-mapped array is read a batch at a time.
        y : array-like of shape (n,)
            Class numbers, or, with `class_names`, names; may be wrong for some.
        T : array-like of shape (k, d)
            Embeddings of "A photo of [CLS]", one row a class, of the same model; k ≥ 2.
        class_names : sequence of str, optional
            What the classes are called, in the order of `T`.

        Returns
        -------
        DatasetAdapter
            Itself.

        Raises
        ------
        InvalidInputError
            Where an input is not finite, has a row of zeros or another width; where a
            label is no class; where a setting is out of range; where the loss leaves the
            finite numbers.
        InvalidTypeError
            Where a setting or an input is of the wrong type.
        """
        forget_fit(self)
        image_emb_nd, y_n, text_emb_kd = check_inputs(Z, y, T, class_names)
        rows = np.arange(len(y_n))
        return fit_rows(self, rows, image_emb_nd, y_n, text_emb_kd, class_names)

    def transform_images(self, Z: Embeddings) -> NDArray[np.float32]:
        """Return adapted image embeddings.

        Parameters
        ----------
        Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
            Not modified; read in blocks.

        Returns
        -------
        ndarray of shape (n, d), float32
            Rows of unit length.
        """
        return self._transform(Z, "Z", "image")

    def transform_texts(self, T: Embeddings) -> NDArray[np.float32]:
        """Return adapted text embeddings, (k, d) float32 of unit length; see `transform_images`."""
        return self._transform(T, "T", "text")

    def adapt(self, unit_bd: torch.Tensor) -> torch.Tensor:
        """Return adapted images, (b, d) float32 of unit length, on the device of `unit_bd`."""
        check_is_fitted(self, "weights_")
        check_kind(unit_bd, torch.Tensor, "unit_bd", "Pass an array to `transform_images`.")
        d = self.n_features_in_
        if unit_bd.ndim != 2 or unit_bd.shape[1] != d or unit_bd.dtype != torch.float32:
            raise InvalidInputError(
                f"`unit_bd` must be float32 of {d} columns, as what the adapter was fitted on; got "
                f"{unit_bd.dtype} of shape {tuple(unit_bd.shape)}. Encode both with one model."
            )
        with torch.no_grad():
            adapted_bd = apply_layers(self._layers("image", unit_bd.device), unit_bd, self.residual)
            return functional.normalize(adapted_bd, dim=1)

    def _layers(self, side: str, device: torch.device) -> list[torch.Tensor]:
        named = self.weights_.items()
        return [torch.from_numpy(w).to(device) for name, w in named if name.startswith(side)]

    def _transform(self, X: Embeddings, name: str, side: str) -> NDArray[np.float32]:
        check_is_fitted(self, "weights_")
        d = self.n_features_in_
        emb_nd = check_embeddings(X, name, width=d, finite=False)
        device = check_device(self.device)
        layers = self._layers(side, device)
        adapted_nd = np.empty(emb_nd.shape, dtype=np.float32)
        step = block_rows(d)
        with torch.no_grad():
            for start in range(0, len(emb_nd), step):
                rows = slice(start, min(start + step, len(emb_nd)))
                block = to_tensor(unit_block(emb_nd, rows), device)
                adapted_bd = apply_layers(layers, block, self.residual)
                adapted_nd[rows] = functional.normalize(adapted_bd, dim=1).cpu().numpy()
        return adapted_nd

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write settings, weights and history to a safetensors file.

        Parameters
        ----------
        path : path
            Of the file, for instance ``adapter.safetensors``; put in place at once, when
            complete.
        overwrite : bool, default=False
            Replace a file that is there.

        Raises
        ------
        InvalidInputError
            Where the file is there, or its folder is not.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "weights_")
        fitted = {name: getattr(self, name) for name in ("temperature_", "n_epochs_", "history_")}
        named = self.classes_.dtype.kind == "U"
        fitted["classes_"] = self.classes_.tolist() if named else self.n_classes_
        settings = {"settings": self.get_params(), "fitted": fitted}
        text = json.dumps(settings, default=lambda value: value.item())
        head = {"format": FORMAT, "clip_al": text, "sha256": _digest(text, self.weights_)}
        write_bytes(path, to_safetensors(self.weights_, head), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, width: int | None = None) -> DatasetAdapter:
        """Read what `save` wrote; `width`, if given, is what the embeddings must have.

        Raises
        ------
        InvalidInputError
            Where the file is missing, damaged or something else, or its width is another.
        """
        if width is not None:
            check_int(width, "width")
        content = SAVED.read(path)
        try:
            with safe_open(path, framework="numpy") as file:
                head = file.metadata() or {}
            weights = from_safetensors(content)
        except SafetensorError as exc:
            raise SAVED.unfit(path, f"it is damaged or holds other things ({exc})") from exc
        if head.get("format") != FORMAT:
            found = head.get("format", "safetensors of something else")
            raise SAVED.unfit(path, f"it holds {found}")
        # Files of 0.1.0 have no checksum.
        if head.get("sha256", "") not in ("", _digest(head.get("clip_al", ""), weights)):
            raise SAVED.unfit(path, "it is damaged or was edited")
        try:
            adapter = cls._from_parts(json.loads(head["clip_al"]), weights)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise SAVED.unfit(path, f"something in it is missing or wrong: {exc}") from exc
        if width is not None and width != adapter.n_features_in_:
            raise InvalidInputError(
                f"The adapter must be for embeddings of {width} columns; {os.fspath(path)} is for "
                f"{adapter.n_features_in_}. Load one that was fitted on embeddings of this model."
            )
        return adapter

    @classmethod
    def _from_parts(
        cls, content: dict[str, Any], weights: dict[str, NDArray[Any]]
    ) -> DatasetAdapter:
        adapter = cls(**content["settings"])
        _check_settings(adapter)
        fitted = content["fitted"]
        adapter.temperature_ = check_number(fitted["temperature_"], "temperature_", above=0.0)
        adapter.n_epochs_ = check_int(fitted["n_epochs_"], "n_epochs_", smallest=0)
        adapter.history_ = [dict(epoch) for epoch in fitted["history_"]]
        classes = fitted["classes_"]
        adapter.classes_ = np.arange(classes) if isinstance(classes, int) else np.array(classes)
        if adapter.classes_.ndim != 1 or adapter.classes_.dtype.kind not in "iU":
            raise ValueError("the classes are no names")
        adapter.n_classes_ = len(adapter.classes_)
        n_layers = 1 if adapter.hidden is None else 2
        adapter.weights_ = {name: weights[name] for name in layer_names(n_layers)}
        d = adapter.n_features_in_ = int(weights["image.0.weight"].shape[1])
        for name, weight in adapter.weights_.items():
            _check_weight(name, weight, d, adapter.hidden or d, last=n_layers - 1)
        return adapter


def _check_weight(name: str, weight: NDArray[Any], d: int, hidden: int, *, last: int) -> None:
    """Raise unless a layer from d columns, or from `hidden` ones to d, has this weight or bias."""
    _, layer, kind = name.split(".")
    n_in, n_out = d if layer == "0" else hidden, d if int(layer) == last else hidden
    shape = (n_out, n_in) if kind == "weight" else (n_out,)
    if weight.shape != shape or weight.dtype != np.float32 or not np.isfinite(weight).all():
        raise ValueError(f"{name} is {weight.shape} of {weight.dtype}, or not finite")


def _digest(text: str, weights: dict[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of settings and weights."""
    digest = hashlib.sha256(text.encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"\0{name}\0{weight.dtype.str}\0{weight.shape}\0".encode())
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()


def fit_rows(
    adapter: DatasetAdapter,
    rows: NDArray[np.int64],
    image_emb_nd: NDArray[Any],
    y_n: NDArray[np.int64],
    text_emb_kd: NDArray[np.float32],
    class_names: Names | None,
) -> DatasetAdapter:
    """Train an adapter on some rows of checked inputs; look at no label of the others."""
    _check_settings(adapter)
    k, d = text_emb_kd.shape
    training = Training(adapter, image_emb_nd, y_n, text_emb_kd)
    train, held = split_rows(training.rng, rows, y_n, adapter.validation_fraction)
    if len(held) == 0 and adapter.patience is not None:
        raise InvalidInputError(
            "`patience` needs images to validate on; `validation_fraction` = "
            f"{adapter.validation_fraction:g} of {len(rows)} images leaves none. Raise it, or "
            "leave `patience` out."
        )
    with threads_for((adapter.batch_size + k) * d * (adapter.hidden or d)):
        history = training.run(train, held)
    adapter.temperature_ = training.temperature()
    adapter.weights_ = training.weights()
    adapter.history_ = history
    adapter.n_epochs_ = len(history)
    adapter.classes_ = np.arange(k) if class_names is None else np.array(ordered_names(class_names))
    adapter.n_classes_ = k
    adapter.n_features_in_ = d
    return adapter


def forget_fit(estimator: BaseEstimator) -> None:
    """Remove what an earlier `fit` left, so that one that fails leaves nothing."""
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        delattr(estimator, name)


def _check_settings(adapter: DatasetAdapter) -> None:
    check_choice(adapter.loss, LOSSES, "loss")
    for name, smallest in (("epochs", 0), ("step_size", 1), ("batch_size", 1)):
        check_int(getattr(adapter, name), name, smallest=smallest)
    for name, smallest in (("hidden", 1), ("patience", 1), ("random_state", 0)):
        if getattr(adapter, name) is not None:
            check_int(getattr(adapter, name), name, smallest=smallest)
    check_flag(adapter.residual, "residual")
    check_flag(adapter.progress, "progress")
    check_number(adapter.learning_rate, "learning_rate", above=0.0)
    check_number(adapter.gamma, "gamma", above=0.0, high=1.0)
    check_number(adapter.gce_q, "gce_q", above=0.0, high=1.0)
    check_number(adapter.validation_fraction, "validation_fraction", low=0.0, high=0.5)
    check_number(adapter.weight_decay, "weight_decay", low=0.0)
    if adapter.temperature is not None:
        check_number(adapter.temperature, "temperature", above=0.0)
