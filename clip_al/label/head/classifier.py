"""`ClipClassifier`: a classifier on CLIP embeddings that starts from the class names.


class names ──▶ texts T ──▶ zero-shot: s · z·T ──┐
labelled embeddings ──▶ e R + b, as far as they improve on it ──▶ probabilities
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread, unit_block
from clip_al.arrays.checks import check_choice, check_embeddings, check_number, check_seed
from clip_al.arrays.given import array_of, check_flag
from clip_al.arrays.labels import Names
from clip_al.arrays.types import ChecksModel, Embeddings, TextEncoder
from clip_al.concepts.vocabulary import DEFAULT_TEMPLATES
from clip_al.errors import InvalidInputError, TextPriorWarning
from clip_al.label.head.inputs import (
    check_images,
    check_names,
    check_weights,
    encode_targets,
    order_classes,
)
from clip_al.label.head.linear import (
    EVIDENCE_NATS,
    GATE_NATS,
    PLAIN_WEIGHT,
    SMALLEST_WEIGHT,
    TEXT_WEIGHT,
    Choice,
    Folds,
    Head,
    Problem,
    choose_head,
    draw_folds,
    probabilities,
    texts_tell,
    weigh_heads,
)

CLIP_SCALE = 100.0
"""Of CLIP as published, at the end of training."""
LARGEST_CONSTANT = 1e6
"""Of a model; what is beyond it leaves no finite logits."""
PLAIN_COSINE = 0.25
"""Of an image and a text that fits it, roughly, in CLIP: half likely where nothing is known."""
SINGLE_PRECISION = 20_000_000  # rows × columns × classes from which sums are float32
TEXT_PRIORS = ("auto", "always", "never")


class ClipClassifier(ClassifierMixin, BaseEstimator):
    """Classify CLIP embeddings, from the class names alone or with labels.

    Parameters
    ----------
    class_names : sequence of str or mapping, optional
        One name a class, in the order of the columns of `predict_proba`; or name to number, as
        `class_to_idx`. Two classes may share a name where labels are numbers. Without names and
        embeddings the head is a logistic regression.
    encoder : ClipEncoder, optional
        Of the model that encoded the images; encodes the names, once.
    class_embeddings : array-like of shape (k, d), optional
        Text embeddings of the classes, in place of `encoder`; not modified.
    classes : array-like of shape (k,), optional
        What labels look like, in the order of the classes, where they are neither the names
        nor numbers from 0.
    templates : sequence of str
        The prompts that names are put into, at "{}".
    text_prior : {"auto", "always", "never"}
        Whether the class texts are used. "auto" leaves them out, with a warning, where
        labels that were held out say that they do not help.
    multi_label : bool
        Labels are an indicator matrix (n, k), and probabilities are of each class by itself.
    center : array-like of shape (d,), optional
        What is taken off the embeddings, such as the mean of the pool: that of the labelled
        images by default.
    logit_scale : float, optional
        By which the model multiplies cosines: the encoder's by default, 100 without. In
        (0, 10⁶].
    logit_bias : float, optional
        What the model adds to them, as SigLIP does: the encoder's by default. It shifts all
        classes alike and so matters with `multi_label` alone. In ±10⁶.
    random_state : int, optional
        Of the folds that are held out.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        All classes, labelled or not, in the order of the columns: names, or numbers where the
        labels were numbers (an empty `y` says which by its dtype).
    head_ : Head
        s, R and b.
    text_emb_kd_ : ndarray of shape (k, d) or None
        T, unit rows.
    center_ : ndarray of shape (d,)
        μ.
    text_weight_ : float
        Of the head with texts in the sum of two; 0 where they were left out.
    strengths_ : tuple of float
        C of the ridge, with texts and without; nan for what was not fitted.
    n_features_in_ : int

    Warns
    -----
    TextPriorWarning
        Where the texts were left out.

    Notes
    -----
    logits = s · z·T + e R + b with e = unit(z − μ). A head with texts (log s has a prior of
    standard deviation 3 around the model's) and a logistic regression are each fitted with the
    ridge that predicts held-out labels best; both are added with the weights that do so.
    That makes probabilities calibrated, and lets wrong texts go: they must raise the
    log-likelihood of held-out labels by 2 nats, once there are labels enough to tell.

    **Before `fit`** a head with class texts answers zero-shot, so that
    ``ActiveLearner(ClipClassifier(...), strategy)`` can be queried before the first label;
    `sklearn.utils.validation.check_is_fitted` still says that it is not fitted. A head without
    texts raises `NotFittedError`. Every `fit` starts anew; one of no rows is zero-shot.

    Time: O(n d k) a step, some 30 steps a fit, 80 fits; ridges are chosen by at most 2,000
    rows. Prediction reads blocks of float16 tables and memory maps, O(n d k).

    References
    ----------
    Y. Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024,
    Eq. 4: the sum of text and image logits; we share one s between the classes, and choose
    ridge and weights by held-out labels.
    J. Silva-Rodriguez et al., "A Closer Look at the Few-Shot Adaptation of Large
    Vision-Language Models", CVPR 2024: the pull towards the zero-shot head.

    Examples
    --------
    >>> Z = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.5]])
    >>> head = ClipClassifier(class_names=["cat", "dog"], class_embeddings=np.eye(2))
    >>> head.predict(Z).tolist()
    ['cat', 'dog', 'cat']
    >>> head.fit(Z[:2], ["cat", "dog"]).predict_proba(Z).argmax(axis=1)
    array([0, 1, 0])
    """

    def __init__(
        self,
        class_names: Names | None = None,
        encoder: TextEncoder | None = None,
        *,
        class_embeddings: Embeddings | None = None,
        classes: ArrayLike | None = None,
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        text_prior: str = "auto",
        multi_label: bool = False,
        center: ArrayLike | None = None,
        logit_scale: float | None = None,
        logit_bias: float | None = None,
        random_state: int | None = 0,
    ) -> None:
        self.class_names = class_names
        self.encoder = encoder
        self.class_embeddings = class_embeddings
        self.classes = classes
        self.templates = templates
        self.text_prior = text_prior
        self.multi_label = multi_label
        self.center = center
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.random_state = random_state

    def __sklearn_clone__(self) -> ClipClassifier:
        """Share encoder and encoded names: a copy of the encoder would load its model again."""
        copy = type(self)(**self.get_params(deep=False))
        if hasattr(self, "_encoded"):
            copy._encoded = self._encoded
        return copy

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_encoded"}

    def fit(
        self, Z: Embeddings, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ClipClassifier:
        """Fit the head anew; with no rows it is zero-shot.

        Parameters
        ----------
        Z : array-like or EmbeddingTable of shape (n, d)
            Image embeddings, any float type, not modified; n may be 0 where there are texts.
        y : array-like of shape (n,), or (n, k) with `multi_label`
            Names, positions or `classes` of the labels; no class must occur. With
            `multi_label` 0 and 1.
        sample_weight : array-like of shape (n,), optional
            By which losses are multiplied, at least 0.

        Returns
        -------
        ClipClassifier
            Itself.

        Raises
        ------
        InvalidInputError
            Where a label is no class, lengths differ, or a row is not finite or all zeros.
        ModelMismatchError
            Where images and class texts differ in width.
        """
        check_choice(self.text_prior, TEXT_PRIORS, "text_prior")
        check_seed(self.random_state)
        check_flag(self.multi_label, "multi_label")
        text_emb_kd = self._texts()
        self._check_model(Z)
        image_emb_nd = check_images(Z, None if text_emb_kd is None else text_emb_kd.shape[1])
        n, d = image_emb_nd.shape
        classes = self._order(y, text_emb_kd)
        if not n and text_emb_kd is None:
            raise InvalidInputError(
                "`Z` must hold at least one labelled image where there are no class texts; got "
                "none. Label one, or pass `class_names=` with `encoder=`."
            )
        target_nk, code_n = encode_targets(y, n, classes, self.multi_label)
        weight_n = check_weights(sample_weight, n)
        self._start(d, classes, text_emb_kd)
        if not n:
            return self
        with one_blas_thread():
            unit_nd = unit_block(image_emb_nd, slice(0, n)).astype(np.float64)
            # In an order of their own, so that the folds do not depend on the caller's.
            order = np.lexsort((unit_nd @ np.cos(np.arange(d) ** 2), code_n))
            self._fit(unit_nd[order], target_nk[order], code_n[order], weight_n[order])
        return self

    def predict_proba(self, Z: Embeddings) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        Z : array-like or EmbeddingTable of shape (n, d)
            Read in blocks; not modified.

        Returns
        -------
        ndarray of shape (n, k), float64
            Columns in the order of `classes_`; rows sum to 1, but with `multi_label`.
        """
        logit_nk = self.decision_function(Z)
        step = block_rows(logit_nk.shape[1], 8)
        for start in range(0, len(logit_nk), step):
            rows = slice(start, start + step)
            logit_nk[rows] = probabilities(logit_nk[rows], self.multi_label)
        return logit_nk

    def predict(self, Z: Embeddings) -> NDArray[Any]:
        """Return the likeliest class of each image, or with `multi_label` zeros and ones.

        Returns
        -------
        ndarray of shape (n,), of the type of `classes_`, or (n, k), int64
            Ties go to the first class; with `multi_label` 1 where a probability is above ½.
        """
        logit_nk = self.decision_function(Z)
        if self.multi_label:
            return np.asarray(logit_nk > 0).astype(np.int64)
        classes: NDArray[Any] = (
            self.classes_ if hasattr(self, "head_") else self._order(None, self._texts())
        )
        likeliest_n: NDArray[Any] = classes[logit_nk.argmax(axis=1)]
        return likeliest_n

    def decision_function(self, Z: Embeddings) -> NDArray[np.float64]:
        """Return the logits, (n, k); always a column a class, for two classes as well."""
        fitted = self
        check_flag(self.multi_label, "multi_label")
        if not hasattr(self, "head_"):
            text_emb_kd = self._texts()
            if text_emb_kd is None:
                raise NotFittedError(
                    "A ClipClassifier without class texts must be fitted before it predicts; it "
                    "is not. Call `fit`, or pass `class_names=` with `encoder=`."
                )
            fitted = self.__sklearn_clone__()
            fitted._start(text_emb_kd.shape[1], np.arange(len(text_emb_kd)), text_emb_kd)
        self._check_model(Z)
        image_emb_nd = check_images(Z, fitted.n_features_in_)
        logit_nk = np.empty((len(image_emb_nd), len(fitted.classes_)))
        weight_dk, text_emb_dk = fitted.head_.weight_dk.astype(np.float32), None
        learned = bool(weight_dk.any())
        if fitted.text_emb_kd_ is not None and fitted.head_.scale:
            text_emb_dk = fitted.text_emb_kd_.T.astype(np.float32)

        def answer(rows: slice) -> None:
            unit_bd = unit_block(image_emb_nd, rows)
            logit_nk[rows] = fitted.head_.bias_k
            if learned:
                logit_nk[rows] += _features(unit_bd, fitted.center_) @ weight_dk
            if text_emb_dk is not None:
                logit_nk[rows] += fitted.head_.scale * (unit_bd @ text_emb_dk)

        step = block_rows(max(logit_nk.shape[1], fitted.n_features_in_), 8)
        for _ in map_blocks(answer, len(image_emb_nd), step):
            pass
        return logit_nk

    def _order(self, y: ArrayLike | None, text_emb_kd: NDArray[Any] | None) -> NDArray[Any]:
        """Return all classes in the order of the columns, in the type of the labels."""
        return order_classes(
            y,
            text_emb_kd,
            classes=self.classes,
            class_names=self.class_names,
            multi_label=self.multi_label,
        )

    def _check_model(self, Z: Embeddings) -> None:
        """Refuse a table of images of another model than the names'."""
        if (
            self.encoder is not None
            and self.class_embeddings is None
            and isinstance(Z, ChecksModel)
        ):
            Z.check_model(self.encoder)

    def _start(self, d: int, classes: NDArray[Any], text_emb_kd: NDArray[Any] | None) -> None:
        """Become the zero-shot head."""
        scale = self._constant("logit_scale", CLIP_SCALE, above=0.0, high=LARGEST_CONSTANT)
        limits = {"low": -LARGEST_CONSTANT, "high": LARGEST_CONSTANT}
        bias = self._constant("logit_bias", -PLAIN_COSINE * scale, **limits)
        k = len(classes)
        self.classes_, self.n_features_in_, self.text_emb_kd_ = classes, d, text_emb_kd
        self.center_ = np.zeros(d)
        if self.center is not None:
            self.center_ = array_of(self.center, "center", np.float64)
            if self.center_.shape != (d,) or not np.isfinite(self.center_).all():
                raise InvalidInputError(
                    f"`center` must hold {d} finite numbers, as many as an embedding; got shape "
                    f"{self.center_.shape}. Pass the mean of the pool, `Z.mean(axis=0)`."
                )
        self.head_ = Head(scale, np.zeros((d, k)), np.full(k, bias if self.multi_label else 0.0))
        self.text_weight_, self.strengths_ = 1.0, (np.nan, np.nan)

    def _fit(
        self,
        unit_nd: NDArray[Any],
        target_nk: NDArray[Any],
        code_n: NDArray[np.int64],
        weight_n: NDArray[Any],
    ) -> None:
        """Fit the two heads, weigh them, and keep their sum."""
        n, k = target_nk.shape
        if self.center is None and weight_n.any():
            self.center_ = np.average(unit_nd, axis=0, weights=weight_n)
        feature_nd, basis_dr = _reduced(_features(unit_nd, self.center_))
        if n * feature_nd.shape[1] * k > SINGLE_PRECISION:
            feature_nd = feature_nd.astype(np.float32)
        scale, zero_shot_bias = self.head_.scale, self.head_.bias_k[0]
        cosine_nk, shift = None, 0.0
        if self.text_emb_kd_ is not None and self.text_prior != "never":
            cosine_nk = unit_nd @ self.text_emb_kd_.T
        rate = np.clip(np.average(target_nk, weights=weight_n + 1e-12, axis=0).mean(), 0.001, 0.999)
        bias = float(np.log(rate / (1 - rate))) if self.multi_label else 0.0
        plain = Problem(
            feature_nd, None, target_nk, weight_n, self.multi_label, float(np.log(scale)), bias
        )
        folds = draw_folds(code_n, k, self.random_state)
        choices = {"plain": choose_head(plain, folds)} if self._wants_plain(cosine_nk) else {}
        if cosine_nk is not None:
            if self.multi_label:  # so that s and b do not do the same
                shift = float(cosine_nk.mean())
                told = self._constant("logit_bias", np.nan)
                bias = bias if np.isnan(told) else float(zero_shot_bias + scale * shift)
            texts = plain._replace(cosine_nk=cosine_nk - shift, bias=bias)
            choices["texts"] = choose_head(texts, folds)
        telling = cosine_nk is not None and texts_tell(cosine_nk, plain)
        weights = self._weigh(choices, plain, folds, telling)
        head = _sum_of(choices, weights)
        self.text_weight_ = weights.get("texts", 0.0)
        self.strengths_ = (_strength(choices, "texts"), _strength(choices, "plain"))
        bias_k = head.bias_k - head.scale * shift
        self.head_ = Head(head.scale, basis_dr @ head.weight_dk.astype(np.float64), bias_k)
        if cosine_nk is not None and not self.text_weight_ and not telling:
            warnings.warn(self._why(cosine_nk, code_n), TextPriorWarning, stacklevel=3)

    def _wants_plain(self, cosine_nk: NDArray[Any] | None) -> bool:
        return cosine_nk is None or self.text_prior == "auto"

    def _weigh(
        self, choices: dict[str, Choice], problem: Problem, folds: Folds, telling: bool
    ) -> dict[str, float]:
        """Return what each head weighs, by the rows that were held out.

        Texts that tell classes apart are kept where they merely do no harm, as with so many
        labels that they add nothing.
        """
        rows = np.flatnonzero(folds.held_n)
        held = problem.take(rows)
        prior = {"plain": PLAIN_WEIGHT, "texts": TEXT_WEIGHT}
        logits = {name: choice.held_out_nk[rows] for name, choice in choices.items()}
        if len(choices) == 1:
            name = next(iter(choices))
            (weight,), _ = weigh_heads([logits[name]], held, [1.0], SMALLEST_WEIGHT)
            return {name: float(weight)}
        both, loss = weigh_heads(list(logits.values()), held, [prior[name] for name in logits])
        (alone,), loss_alone = weigh_heads([logits["plain"]], held, [1.0], SMALLEST_WEIGHT)
        gain = loss_alone - loss
        few = problem.weight_n.sum() * np.log(problem.target_nk.shape[1]) < EVIDENCE_NATS
        if gain >= GATE_NATS or few or (gain >= 0 and telling):
            return dict(zip(logits, map(float, both), strict=True))
        return {"plain": float(alone), "texts": 0.0}

    def _why(self, cosine_nk: NDArray[Any], code_n: NDArray[np.int64]) -> str:
        """Say that the texts were left out, and the likeliest reason."""
        n, k = cosine_nk.shape
        share = float((cosine_nk.argmax(axis=1) == code_n).mean())
        advice = "say little about these images"
        if not self.multi_label and share < 2 / k:
            advice = "are in another order than the labels, or of another model than the images"
        right = "" if self.multi_label else f" (zero-shot names {share:.0%} of them)"
        return (
            f"The class texts do not help to tell the {n} labelled images apart{right}, and were "
            f"left out. Most likely they {advice}. Check `class_names` or `class_embeddings`, or "
            "pass text_prior='never'."
        )

    def _constant(self, name: str, otherwise: float, **limits: float) -> float:
        """Return a constant of the model: as given, or the encoder's, or another."""
        value = getattr(self, name)
        if value is None:
            value = getattr(self.encoder, name, None)
        return otherwise if value is None else check_number(value, name, **limits)

    def _texts(self) -> NDArray[np.float64] | None:
        """Return the unit text embeddings of the classes, encoded once; None without."""
        T = self.class_embeddings
        if T is None:
            if self.class_names is None:
                return None
            if self.encoder is None:
                raise InvalidInputError(
                    "`class_names` need `encoder=` or `class_embeddings=` to be more than names; "
                    "got neither. Pass one, or `classes=` for a head without texts."
                )
            names = tuple(check_names(self.class_names, distinct=False))
            key = (names, tuple(self.templates), id(self.encoder))
            if getattr(self, "_encoded", (None, None))[0] != key:
                rows = self.encoder.encode_texts(list(key[0]), templates=list(key[1]))
                self._encoded = (key, rows)
            T = self._encoded[1]
        text_emb_kd = check_embeddings(T, "class_embeddings")
        n_names = None
        if self.class_names is not None:
            n_names = len(check_names(self.class_names, distinct=False))
        if n_names is not None and n_names != len(text_emb_kd):
            raise InvalidInputError(
                f"`class_embeddings` must have one row for each of the {n_names} "
                f"class names; got {len(text_emb_kd)}. Encode the names in their order."
            )
        zero = np.flatnonzero(~text_emb_kd.any(axis=1))
        if zero.size:
            raise InvalidInputError(
                f"Every class must have a text embedding; row {zero[0]} of `class_embeddings` is "
                "all zeros. Encode its name."
            )
        return unit_block(text_emb_kd, slice(0, len(text_emb_kd))).astype(np.float64)


def _features(unit_nd: NDArray[Any], center_d: NDArray[np.float64]) -> NDArray[Any]:
    """Return unit(z − μ); a row at μ itself stays zero."""
    off_nd = unit_nd - center_d.astype(unit_nd.dtype)
    length_n = np.sqrt(np.einsum("nd,nd->n", off_nd, off_nd))
    feature_nd: NDArray[Any] = off_nd / np.where(length_n > 1e-6, length_n, 1.0)[:, None]
    return feature_nd


def _reduced(feature_nd: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return features in the span of the rows, and its basis: the ridge's R lies in it."""
    n, d = feature_nd.shape
    if n >= d:
        return feature_nd, np.eye(d)
    basis_dr, _ = np.linalg.qr(feature_nd.T)
    return feature_nd @ basis_dr, basis_dr


def _strength(choices: dict[str, Choice], name: str) -> float:
    return choices[name].strength if name in choices else float("nan")


def _sum_of(choices: dict[str, Choice], weights: dict[str, float]) -> Head:
    heads = [(weights[name], choice.head) for name, choice in choices.items()]
    return Head(
        sum(weight * head.scale for weight, head in heads),
        np.sum([weight * head.weight_dk for weight, head in heads], axis=0),
        np.sum([weight * head.bias_k for weight, head in heads], axis=0),
    )
