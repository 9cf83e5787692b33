"""Dataset adaptation: small adapters on frozen CLIP embeddings, trained with InfoNCE.

    embeddings (n, d), labels (n,), class texts (k, d) ──fit──▶ image and text adapter
                                                      ──transform──▶ adapted embeddings

CLIP itself never runs here. A batch is a few rows gathered from the embeddings, which may
lie on disk; they are never copied as a whole (but to a GPU on which they fit).
"""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from clip_al.blocks import block_rows, map_blocks, unit_block
from clip_al.checks import check_choice, check_embeddings, check_int
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.labels import encode_labels, group_by_class
from clip_al.losses import LOSSES, generalized_cross_entropy
from clip_al.models import _check_device
from clip_al.table_files import sync_file

FIRST_TEMPERATURE = 0.07
LOWEST_TEMPERATURE = 0.01  # as CLIP: below it a step can no longer be undone
SMALL_STEP = 2**28  # multiply-adds, some 5 ms of one core
FORMAT = "clip_al.DatasetAdapter 1"

Layers = list[Tensor]  # weight and bias of each linear layer in turn


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
    No global random state and no other thread's setting is touched.

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
        self, Z: Any, y: ArrayLike, T: Any, *, class_names: Sequence[str] | None = None
    ) -> DatasetAdapter:
        """Train both adapters; a fit that fails or is interrupted leaves none.

        Parameters
        ----------
        Z : array-like or EmbeddingTable of shape (n, d)
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
        _forget_fit(self)
        image_emb_nd, y_n, text_emb_kd = _check_inputs(Z, y, T, class_names)
        rows = np.arange(len(y_n))
        return self._fit_rows(rows, image_emb_nd, y_n, text_emb_kd, class_names)

    def _fit_rows(
        self,
        rows: NDArray[np.int64],
        image_emb_nd: NDArray[Any],
        y_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
        class_names: Sequence[str] | None,
    ) -> DatasetAdapter:
        """Train on some rows of checked inputs; looks at no label of the others."""
        self._check_settings()
        k, d = text_emb_kd.shape
        training = _Training(self, image_emb_nd, y_n, text_emb_kd)
        train, held = self._split(training.rng, rows, y_n)
        with _threads_for((self.batch_size + k) * d * (self.hidden or d)):
            history = training.run(train, held)
        self.temperature_ = training.temperature()
        self.weights_ = training.weights()
        self.history_ = history
        self.n_epochs_ = len(history)
        self.classes_ = np.arange(k) if class_names is None else np.array(list(class_names))
        self.n_classes_ = k
        self.n_features_in_ = d
        return self

    def _split(
        self, rng: np.random.Generator, rows: NDArray[np.int64], y_n: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return training and validation rows; every class keeps an image to train on."""
        shared = _class_order(rng, y_n[rows], smallest=2)
        n_held = min(round(self.validation_fraction * len(rows)), len(shared) // 2)
        if n_held == 0 and self.patience is not None:
            raise InvalidInputError(
                "`patience` needs images to validate on; `validation_fraction` = "
                f"{self.validation_fraction:g} of {len(rows)} images leaves none. Raise it, or "
                "leave `patience` out."
            )
        # Evenly spaced in class order: the same share of each class, within one image. At
        # most every second is taken, so none of the classes is used up.
        places = ((np.arange(n_held) + 0.5) * len(shared) / max(n_held, 1)).astype(np.int64)
        held = np.zeros(len(rows), dtype=bool)
        held[shared[places]] = True
        return rows[~held], rng.permutation(rows[held])

    def _check_settings(self) -> None:
        check_choice(self.loss, LOSSES, "loss")
        for name, smallest in (("epochs", 0), ("step_size", 1), ("batch_size", 1)):
            check_int(getattr(self, name), name, smallest=smallest)
        for name, smallest in (("hidden", 1), ("patience", 1), ("random_state", 0)):
            if getattr(self, name) is not None:
                check_int(getattr(self, name), name, smallest=smallest)
        _check_real(self.learning_rate, "learning_rate", above=0.0)
        _check_real(self.gamma, "gamma", above=0.0, most=1.0)
        _check_real(self.gce_q, "gce_q", above=0.0, most=1.0)
        _check_real(self.validation_fraction, "validation_fraction", least=0.0, most=0.5)
        _check_real(self.weight_decay, "weight_decay", least=0.0)
        if self.temperature is not None:
            _check_real(self.temperature, "temperature", above=0.0)

    def transform_images(self, Z: Any) -> NDArray[np.float32]:
        """Return adapted image embeddings.

        Parameters
        ----------
        Z : array-like or EmbeddingTable of shape (n, d)
            Not modified; read in blocks.

        Returns
        -------
        ndarray of shape (n, d), float32
            Rows of unit length.
        """
        return self._transform(Z, "Z", "image")

    def transform_texts(self, T: Any) -> NDArray[np.float32]:
        """Return adapted text embeddings, (k, d) float32 of unit length; see `transform_images`."""
        return self._transform(T, "T", "text")

    def _transform(self, X: Any, name: str, side: str) -> NDArray[np.float32]:
        check_is_fitted(self, "weights_")
        d = self.n_features_in_
        emb_nd = check_embeddings(getattr(X, "embeddings", X), name, width=d, finite=False)
        device = _check_device(self.device)
        layers = [
            torch.from_numpy(w).to(device)
            for key, w in self.weights_.items()
            if key.startswith(side)
        ]
        adapted_nd = np.empty(emb_nd.shape, dtype=np.float32)
        step = block_rows(d)
        with torch.no_grad():
            for start in range(0, len(emb_nd), step):
                rows = slice(start, min(start + step, len(emb_nd)))
                block = _to_tensor(unit_block(emb_nd, rows), device)
                adapted_bd = _adapt(layers, block, self.residual)
                adapted_nd[rows] = functional.normalize(adapted_bd, dim=1).cpu().numpy()
        return adapted_nd

    def save(self, path: str | Path) -> None:
        """Write settings, weights and history to a safetensors file, at once when complete."""
        check_is_fitted(self, "weights_")
        fitted = {name: getattr(self, name) for name in ("temperature_", "n_epochs_", "history_")}
        named = self.classes_.dtype.kind == "U"
        fitted["classes_"] = self.classes_.tolist() if named else self.n_classes_
        settings = {"settings": self.get_params(), "fitted": fitted}
        text = json.dumps(settings, default=lambda value: value.item())
        content = to_safetensors(self.weights_, {"format": FORMAT, "clip_al": text})
        path = Path(path)
        temporary = path.with_name(f"{path.name}.tmp")
        with temporary.open("wb") as file:
            file.write(content)
            sync_file(file)
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | Path, *, width: int | None = None) -> DatasetAdapter:
        """Read what `save` wrote; `width`, if given, is what the embeddings must have.

        Raises
        ------
        InvalidInputError
            Where the file is not one of `save`, or its width is another.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
        except SafetensorError as exc:
            raise _no_adapter(path, str(exc)) from exc
        if metadata.get("format") != FORMAT:
            found = metadata.get("format", "safetensors of something else")
            raise _no_adapter(path, f"it holds {found}")
        try:
            content = json.loads(metadata["clip_al"])
            adapter = cls(**content["settings"])
            classes = content["fitted"].pop("classes_")
            for name, value in content["fitted"].items():
                setattr(adapter, name, value)
            n_layers = 1 if adapter.hidden is None else 2
            adapter.weights_ = {name: weights[name] for name in _layer_names(n_layers)}
            adapter.n_features_in_ = int(weights["image.0.weight"].shape[1])
        except (KeyError, TypeError, ValueError) as exc:
            raise _no_adapter(path, f"something is missing from it: {exc}") from exc
        adapter.classes_ = np.arange(classes) if isinstance(classes, int) else np.array(classes)
        adapter.n_classes_ = len(adapter.classes_)
        if width is not None and width != adapter.n_features_in_:
            raise InvalidInputError(
                f"The adapter must be for embeddings of {width} columns; {path} is for "
                f"{adapter.n_features_in_}. Load one that was fitted on embeddings of this model."
            )
        return adapter


class CrossFitAdapter(BaseEstimator):
    """Fit one adapter a fold, each on the images of the other folds.

    An adapter learns wrong labels too; one that never saw an image's label can tell that
    the label is wrong.

    Parameters
    ----------
    adapter : DatasetAdapter, optional
        Settings of all of them, cloned; None is ``DatasetAdapter()``.
    n_splits : int
        Folds, at least 2. With 2, all the training together costs what one adapter on all
        images does, and with more n_splits − 1 times that.
    random_state : int, optional
        Seed of the folds.

    Attributes
    ----------
    fold_ : ndarray of shape (n,), int64
        The fold of each image: ``adapters_[fold_[i]]`` never saw the label of image i.
    adapters_ : list of DatasetAdapter
        One a fold.
    temperature_ : float
        The mean of theirs.

    Notes
    -----
    Folds hold the same share of each class, within one image. A class of one image is
    unseen by the adapter that scores it. The spaces of two adapters are not the same:
    compare an image with texts and images through one of them.

    Examples
    --------
    >>> y = np.arange(40) % 2
    >>> folds = CrossFitAdapter(DatasetAdapter(epochs=1)).fit(np.eye(2)[y], y, np.eye(2))
    >>> np.bincount(folds.fold_), len(folds.adapters_)
    (array([20, 20]), 2)
    """

    def __init__(
        self,
        adapter: DatasetAdapter | None = None,
        *,
        n_splits: int = 2,
        random_state: int | None = 0,
    ) -> None:
        self.adapter = adapter
        self.n_splits = n_splits
        self.random_state = random_state

    def fit(
        self,
        Z: Any,
        y: ArrayLike,
        T: Any,
        *,
        class_names: Sequence[str] | None = None,
        fold: ArrayLike | None = None,
    ) -> CrossFitAdapter:
        """Fit an adapter for each fold; one that fails or is interrupted leaves none.

        Parameters
        ----------
        Z, y, T, class_names
            As for `DatasetAdapter.fit`.
        fold : array-like of shape (n,), optional
            A fold in [0, n_splits) for each image, all of them used; near duplicates, say,
            in one. Without it folds are drawn from `random_state`, class by class.

        Returns
        -------
        CrossFitAdapter
            Itself.
        """
        _forget_fit(self)
        image_emb_nd, y_n, text_emb_kd = _check_inputs(Z, y, T, class_names)
        fold_n = self._folds(y_n) if fold is None else self._check_fold(fold, len(y_n))
        adapters = []
        for f in range(self.n_splits):
            adapter = DatasetAdapter() if self.adapter is None else clone(self.adapter)
            seen = np.flatnonzero(fold_n != f)
            adapters.append(adapter._fit_rows(seen, image_emb_nd, y_n, text_emb_kd, class_names))
        self.fold_ = fold_n
        self.adapters_ = adapters
        self.temperature_ = float(np.mean([adapter.temperature_ for adapter in adapters]))
        return self

    def _folds(self, y_n: NDArray[np.int64]) -> NDArray[np.int64]:
        n_splits = check_int(self.n_splits, "n_splits", smallest=2, largest=max(2, len(y_n)))
        if self.random_state is not None:
            check_int(self.random_state, "random_state", smallest=0)
        order = _class_order(np.random.default_rng(self.random_state), y_n)
        fold_n = np.empty(len(y_n), dtype=np.int64)
        fold_n[order] = np.arange(len(y_n)) % n_splits
        return fold_n

    def _check_fold(self, fold: ArrayLike, n: int) -> NDArray[np.int64]:
        n_splits = check_int(self.n_splits, "n_splits", smallest=2)
        fold_n = encode_labels(fold, n_images=n, n_classes=n_splits, name="fold")
        empty = np.flatnonzero(np.bincount(fold_n, minlength=n_splits) == 0)
        if empty.size:
            raise InvalidInputError(
                f"`fold` must use all of the {n_splits} folds; no image is in {empty[0]}. "
                "Lower `n_splits`, or number the folds from 0."
            )
        return fold_n.copy()


class _Training:
    """One run: weights on the device, and the loop over batches."""

    def __init__(
        self,
        adapter: DatasetAdapter,
        image_emb_nd: NDArray[Any],
        y_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
    ) -> None:
        self.settings = adapter
        self.rng = np.random.default_rng(adapter.random_state)
        self.device = _check_device(adapter.device)
        self.images = _Rows(image_emb_nd, self.device)
        self.y_n = y_n
        self.text_emb_kd = _to_tensor(text_emb_kd, self.device)
        d = text_emb_kd.shape[1]
        self.layers = {side: self._first_layers(d) for side in ("image", "text")}
        first = adapter.temperature or FIRST_TEMPERATURE
        self.log_scale = torch.tensor(-math.log(first), device=self.device)
        self.log_scale.requires_grad_(adapter.temperature is None)
        self.loss: Callable[[Tensor, Tensor], Tensor] = LOSSES[adapter.loss]
        if adapter.loss == "gce":
            self.loss = lambda logits_bk, y_b: generalized_cross_entropy(
                logits_bk, y_b, adapter.gce_q
            )

    def _first_layers(self, d: int) -> Layers:
        """Draw weights as torch's Linear does; the last layer of a residual is zero."""
        hidden = self.settings.hidden
        widths = [d, d] if hidden is None else [d, int(hidden), d]
        layers: Layers = []
        for fan_in, fan_out in pairwise(widths):
            bound = 1.0 / math.sqrt(fan_in)
            for shape in ((fan_out, fan_in), (fan_out,)):
                drawn = self.rng.uniform(-bound, bound, shape).astype(np.float32)
                layers.append(torch.from_numpy(drawn))
        if self.settings.residual:
            for last in layers[-2:]:
                last.zero_()
        return [layer.to(self.device).requires_grad_() for layer in layers]

    def run(self, train: NDArray[np.int64], held: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Train; return the history."""
        settings = self.settings
        weights = [layer for layers in self.layers.values() for layer in layers]
        groups: list[dict[str, Any]] = [{"params": weights}]
        if settings.temperature is None:
            groups.append({"params": [self.log_scale], "weight_decay": 0.0})
        # Decoupled decay; without any it is Adam. Fused: one pass over the weights a step.
        decay = float(settings.weight_decay)
        optimizer = torch.optim.AdamW(groups, weight_decay=decay, fused=True)
        history: list[dict[str, Any]] = []
        best, best_weights, best_epoch = math.inf, self._copy(), 0
        with _progress(settings.progress, settings.epochs) as advance:
            for epoch in range(1, settings.epochs + 1):
                rate = settings.learning_rate * settings.gamma ** (
                    (epoch - 1) // settings.step_size
                )
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = self._train_epoch(optimizer, self.rng.permutation(train))
                validation_loss, accuracy = self._validate(held)
                self._check_finite(epoch, rate, loss, validation_loss)
                history.append(
                    {
                        "epoch": epoch,
                        "loss": loss,
                        "validation_loss": validation_loss,
                        "validation_accuracy": accuracy,
                        "learning_rate": rate,
                    }
                )
                advance(loss)
                if settings.patience is None or validation_loss is None:
                    continue
                if validation_loss < best:
                    best, best_weights, best_epoch = validation_loss, self._copy(), epoch
                elif epoch - best_epoch >= settings.patience:
                    break
        if settings.patience is not None and history:
            self._restore(best_weights)
        return history

    def _train_epoch(self, optimizer: torch.optim.Optimizer, order: NDArray[np.int64]) -> float:
        total = torch.zeros((), device=self.device)
        for rows in _batches(order, self.settings.batch_size):
            logits_bk, y_b = self._logits(rows)
            loss = self.loss(logits_bk, y_b)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if self.settings.temperature is None:
                    self.log_scale.clamp_(max=-math.log(LOWEST_TEMPERATURE))
                total += loss.detach() * len(rows)
        return float(total) / len(order)

    @torch.no_grad()
    def _validate(self, held: NDArray[np.int64]) -> tuple[float | None, float | None]:
        """Return loss and accuracy on held-out images, in batches as in training."""
        if len(held) == 0:
            return None, None
        total = torch.zeros(2, device=self.device)
        for rows in _batches(held, self.settings.batch_size):
            logits_bk, y_b = self._logits(rows)
            total[0] += self.loss(logits_bk, y_b) * len(rows)
            total[1] += (logits_bk.argmax(dim=1) == y_b).sum()
        loss, n_right = total.tolist()
        return loss / len(held), n_right / len(held)

    def _logits(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        residual = self.settings.residual
        image_bd = _adapt(self.layers["image"], self.images.take(rows), residual)
        text_kd = _adapt(self.layers["text"], self.text_emb_kd, residual)
        y_b = torch.from_numpy(self.y_n[rows]).to(self.device)
        # The b × k products are divided by the lengths: much less than scaling b × d.
        length_b1 = torch.linalg.vector_norm(image_bd, dim=1, keepdim=True)
        products_bk = image_bd @ functional.normalize(text_kd, dim=1).T
        return products_bk / length_b1 * self.log_scale.exp(), y_b

    def _check_finite(
        self, epoch: int, rate: float, loss: float, validation_loss: float | None
    ) -> None:
        bad = [value for value in (loss, validation_loss) if value is not None]
        bad = [value for value in bad if not math.isfinite(value)]
        if not bad and all(bool(w.isfinite().all()) for w in self._tensors()):
            return
        what = f"the loss was {bad[0]}" if bad else "the weights were not"
        raise InvalidInputError(
            f"Training must stay finite; {what} in epoch {epoch}, at learning rate {rate:g}. "
            "Lower `learning_rate`."
        )

    def _tensors(self) -> list[Tensor]:
        return [*self.layers["image"], *self.layers["text"], self.log_scale]

    def _copy(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]

    @torch.no_grad()
    def _restore(self, saved: list[Tensor]) -> None:
        for tensor, value in zip(self._tensors(), saved, strict=True):
            tensor.copy_(value)

    def temperature(self) -> float:
        given = self.settings.temperature
        return math.exp(-float(self.log_scale.detach())) if given is None else float(given)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        layers = [*self.layers["image"], *self.layers["text"]]
        names = _layer_names(len(layers) // 4)
        arrays = [layer.detach().cpu().numpy() for layer in layers]
        return dict(zip(names, arrays, strict=True))


class _Rows:
    """Unit rows of embeddings on the device, by position."""

    def __init__(self, image_emb_nd: NDArray[Any], device: torch.device) -> None:
        self._image_emb_nd = image_emb_nd
        self._device = device
        self._resident: Tensor | None = None
        n, d = image_emb_nd.shape
        if device.type == "cuda" and n * d * 4 < torch.cuda.mem_get_info(device)[0] // 2:
            self._resident = torch.empty((n, d), device=device)
            step = block_rows(d)
            for start in range(0, n, step):
                rows = slice(start, min(start + step, n))
                self._resident[rows] = _to_tensor(unit_block(image_emb_nd, rows), device)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self._device)]
        gathered = self._image_emb_nd[rows]
        return _to_tensor(unit_block(gathered, slice(0, len(rows))), self._device)


def _adapt(layers: Layers, x_bd: Tensor, residual: bool) -> Tensor:
    """Return A(x), not yet of unit length."""
    out_bd = functional.linear(x_bd, layers[0], layers[1])
    if len(layers) > 2:
        out_bd = functional.linear(functional.relu(out_bd), layers[2], layers[3])
    return x_bd + out_bd if residual else out_bd


def _layer_names(n_layers: int) -> list[str]:
    """Return what the weights are called, in the order of `_adapt` for each side."""
    parts = product(("image", "text"), range(n_layers), ("weight", "bias"))
    return [f"{side}.{i}.{kind}" for side, i, kind in parts]


def _to_tensor(rows: NDArray[np.float32], device: torch.device) -> Tensor:
    """Share memory with an array where torch can: it wants a writable one, as if to write."""
    return torch.from_numpy(np.require(rows, requirements=["C", "W"])).to(device)


def _batches(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut an order into batches, each sorted, as a disk likes to be read."""
    for start in range(0, len(order), size):
        yield np.sort(order[start : start + size])


def _class_order(
    rng: np.random.Generator, y_n: NDArray[np.int64], *, smallest: int = 1
) -> NDArray[np.int64]:
    """Return positions class after class, in random order within each; skip small classes."""
    groups = group_by_class(y_n, int(y_n.max()) + 1)
    kept = [rng.permutation(group) for group in groups if len(group) >= smallest]
    return np.concatenate([np.empty(0, dtype=np.int64), *kept])


def _check_inputs(
    Z: Any, y: ArrayLike, T: Any, class_names: Sequence[str] | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.float32]]:
    """Return images (as they are), class numbers, and texts as unit float32."""
    text_emb_kd = check_embeddings(getattr(T, "embeddings", T), "T")
    k, d = text_emb_kd.shape
    if k < 2:
        raise InvalidInputError(
            f"`T` must hold the texts of at least 2 classes; got {k}. A text needs another to be "
            "told from: add the other classes."
        )
    zero = np.flatnonzero(~text_emb_kd.any(axis=1))
    if zero.size:
        raise InvalidInputError(
            f"Every class text must have a direction; row {zero[0]} of `T` is all zeros. Encode "
            "it again."
        )
    if class_names is not None and (len(class_names) != k or len(set(class_names)) != k):
        raise InvalidInputError(
            f"`class_names` must name each of the {k} rows of `T` once; got {len(class_names)} "
            f"names, {len(set(class_names))} different. Encode one text for each name."
        )
    image_emb_nd = check_embeddings(getattr(Z, "embeddings", Z), "Z", width=d, finite=False)
    n = len(image_emb_nd)
    y_n = encode_labels(y, n_images=n, n_classes=k, class_names=class_names)
    # One pass finds NaN and zeros with the row's number, before training starts.
    for _ in map_blocks(
        lambda rows: len(unit_block(image_emb_nd, rows)), n, max(1, block_rows(d) // 8)
    ):
        pass
    return image_emb_nd, y_n, unit_block(text_emb_kd, slice(0, k))


@contextmanager
def _threads_for(n_products: int) -> Iterator[None]:
    """Keep OpenMP on the calling thread, and for it alone, where a step is small work.

    A step has some twenty parallel loops. Where each takes microseconds, threads wait for
    each other longer than they work, and on a busy machine 15 times as long.
    """
    if n_products >= SMALL_STEP:
        yield
        return
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def _forget_fit(estimator: BaseEstimator) -> None:
    """Remove what an earlier `fit` left, so that one that fails leaves nothing."""
    for name in [name for name in vars(estimator) if name.endswith("_")]:
        delattr(estimator, name)


def _check_real(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> None:
    """Raise an error where a setting is no finite number in (above, most] or [least, most]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidTypeError(f"`{name}` must be a number; got {value!r}. Pass a float.")
    number = float(value)
    high_enough = (above is None or number > above) and (least is None or number >= least)
    if math.isfinite(number) and high_enough and (most is None or number <= most):
        return
    low = f"above {above:g}" if least is None else f"at least {least:g}"
    high = "finite" if most is None else f"at most {most:g}"
    bound = f"{low} and {high}"
    raise InvalidInputError(f"`{name}` must be {bound}; got {value}. Change it.")


def _no_adapter(path: str | Path, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} must be a file that `DatasetAdapter.save` wrote; {why}. Pass such a file, or fit "
        "the adapter again."
    )


@contextmanager
def _progress(wanted: bool, n_epochs: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on standard error if that is a terminal; yield what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda _: None
        return
    title, loss = TextColumn("{task.description}"), TextColumn("loss {task.fields[loss]}")
    bar = Progress(
        title, BarColumn(), MofNCompleteColumn(), loss, console=console, auto_refresh=False
    )
    with bar:
        task = bar.add_task("Adapting", total=n_epochs, loss="–")
        yield lambda value: bar.update(task, advance=1, loss=f"{value:.4f}", refresh=True)
