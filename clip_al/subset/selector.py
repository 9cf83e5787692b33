"""`ClipSelector`: adapter → scores → optimizer, in one estimator.

embeddings, labels ──adapter──▶ adapted space ──▶ label probability, SAS, SDS
                                                      │ scaled to a common spread
                                                      ▼
                                     optimizer: ratio, quotas ──▶ Selection
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from clip_al.adapt.resolve import PAPER_ADAPTER, describe_adapter, is_fitted, make_adapter
from clip_al.arrays.checks import check_choice, check_embeddings, check_int, check_number
from clip_al.arrays.device import keep_on
from clip_al.arrays.labels import Names, encode_labels, ordered_names
from clip_al.arrays.types import Embeddings, TextEncoder
from clip_al.errors import InvalidTypeError, LabelAgreementWarning
from clip_al.score.agreement import Agreement, check_agreement, disagreement
from clip_al.score.alignment_diversity import (
    ALIGNMENTS,
    COMPARED,
    check_exact_up_to,
    neighbors_for_sds,
)
from clip_al.score.class_vectors import best_text_weight, check_text_weight, unit_class_embeddings
from clip_al.score.label_noise.confusion import LabelConfusion
from clip_al.score.label_noise.estimate import NOISE_MODELS
from clip_al.score.label_noise.symmetric import LabelNoise
from clip_al.score.labelled_images import ImageScores, distance_space, score_images
from clip_al.score.neighbors import neighbour_count, neighbour_graph
from clip_al.score.scaling import SCALES, credible_first
from clip_al.subset.notebook import selector_html
from clip_al.subset.optimizer import SOLVERS, SelectionOptimizer
from clip_al.subset.quotas import Rule
from clip_al.subset.selection import Selection
from clip_al.subset.selection_checks import check_alpha

if TYPE_CHECKING:
    from clip_al.adapt.adapter import DatasetAdapter
    from clip_al.adapt.cross_fit import CrossFitAdapter

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {
        "adapter": False,
        "text_weight": "auto",
        "alignment": "contrastive",
        "scale": "class",
        "noise_aware": True,
        "min_label_probability": 0.5,
        "alpha": "ratio",
        "class_balance": "proportional",
        "solver": "exact",
    },
    "short": {
        "adapter": False,
        "text_weight": "auto",
        "alignment": "contrastive",
        "scale": "class",
        "noise_aware": True,
        "min_label_probability": 0.0,
        "alpha": 0.0,
        "class_balance": "proportional",
        "solver": "exact",
    },
    "paper": {
        "adapter": True,
        "text_weight": 1.0,
        "alignment": "cosine",
        "scale": "none",
        "noise_aware": False,
        "min_label_probability": 0.0,
        "alpha": "ratio",
        "class_balance": "none",
        "solver": "sgd",
    },
}
RECORDED = (
    "alignment", "scale", "noise_aware", "min_label_probability", "n_neighbors", "exact_up_to",
)  # fmt: skip
"""Settings that a selection keeps, beside those of the optimizer."""
COMPARED_BY: Mapping[str, int | None] = {"default": COMPARED, "short": COMPARED, "paper": None}
"""With how many of its class an image is compared, of presets; None is all."""
TEMPLATES = {
    "default": "a photo of a {}", "short": "a photo of a {}", "paper": "A photo of {}",
}  # fmt: skip


@dataclass(frozen=True)
class _Fitted:
    """What a fit leaves behind to choose from."""

    scores: ImageScores
    known: Selection  # labels, groups, ids and class names: checked copies
    optimizer: SelectionOptimizer
    graph: Any
    settings: Mapping[str, Any]
    record: Mapping[str, Any]


class ClipSelector(BaseEstimator):
    """Choose what to train on, from CLIP embeddings and labels that may be wrong.

    Parameters
    ----------
    ratio : float
        Share of the images to choose, in (0, 1].
    class_names : sequence of str or mapping, optional
        What the classes are called, in the order of their numbers; or name to number, as
        `class_to_idx` of torchvision's `ImageFolder`. Two classes may share a name where
        labels are numbers.
    class_embeddings : array-like of shape (k, d), optional
        Text embeddings of the classes, of the model that encoded the images. Without them
        `encoder` encodes `class_names`.
    encoder : ClipEncoder, optional
        Encodes "a photo of a {name}"; with the paper's preset "A photo of {name}".
    preset : {"default", "short", "paper"}
        What the parameters below mean where they are None. "short" goes by alignment alone: the
        images that look most like their class, for a training too short to learn more; see
        decisions/0016. "paper" is the method as printed: an adapter (a linear layer, no skip)
        trained by InfoNCE with the diagonal as positives, SAS by cosine, SAS + α SDS as they
        come, no quotas, the descent of Eq. 6.
    adapter : bool, "cross-fit", DatasetAdapter or CrossFitAdapter, optional
        False, the default, leaves CLIP as it is: see decisions/0010. True trains one on all
        images, "cross-fit" two on halves, so that no image is scored by an adapter that saw
        its label (SDS is then measured without, as two adapters do not map into one space); a
        fitted adapter is used as it is, an unfitted one is cloned and trained.
    alignment : {"contrastive", "cosine"}, optional
        See `semantic_alignment_scores`.
    scale : {"class", "global", "none"}, optional
        Bring both scores to mean 0 and standard deviation 1, within each class or over all
        images, before they are added.
    noise_aware : bool, optional
        Reckon with wrong labels, as `estimate_label_noise` finds them. SDS is weighted by the
        probability that the label is right: an image far from the others of its class adds
        diversity if it is, and harm if it is not. Contrastive SAS is the log-likelihood of the
        label, from the image or from chance.
    noise_model : {"confusion", "symmetric"}
        See `estimate_label_noise`: which labels look wrong, how many, and which class is
        labelled as which. "symmetric" is what releases up to 0.1.0 knew, labels drawn by chance;
        it finds too few of people's errors, see decisions/0015. Contrastive SAS goes by it with
        both.
    min_label_probability : float, optional
        In [0, 1]. Images whose label is less likely to be right are chosen after all others, the
        likeliest first; alignment and diversity weigh the rest. 0.5 by default, 0 (none is put
        behind) with the other presets. A higher one keeps fewer wrong labels and less that
        differs, which costs accuracy; see decisions/0016.
    alpha : float or "ratio", optional
        Weight of SDS: a number, or, by default, the share that is chosen, as printed. 0 with
        ``preset="short"``.
    text_weight : float in [0, 1], or "auto", optional
        Between the mean image of a class (0) and its text (1) as what images are aligned
        with. "auto", the default, takes the weight, of five, that names most held-out labels
        in CLIP's own space. 1 with the paper's preset.
    n_neighbors : int or float, optional
        Neighbours for SDS: a count, or a fraction of the class. Left out, SDS is measured only
        where `alpha` is not 0, with a tenth of the class. Pass 0.1 for the score ``sds`` beside
        a selection that does not go by it.
    exact_up_to : int, "auto" or None
        SDS of larger classes is approximated, see `sample_diversity_scores`; None is exact.
        "auto" compares each image with 2,000 of its class, and is exact where `n_neighbors` is a
        count and with the paper's preset.
    class_balance : {"none", "proportional", "equal"}, array-like or mapping, optional
        Quotas per class, see `SelectionOptimizer`. "proportional" by default, "none" with the
        paper's preset.
    group_balance, solver, redundancy
        See `SelectionOptimizer`.
    device : str, optional
        Where adapters are trained and distances computed; None is the CPU for distances
        and CUDA, where there is one, for training.
    random_state : int, optional
        Seed of the adapter and of every split; None draws another each time.
    progress : bool
        Show the adapter's training.

    Attributes
    ----------
    selection_ : Selection
    adapter_ : DatasetAdapter, CrossFitAdapter or None
        Fitted.
    class_embeddings_ : ndarray of shape (k, d), float32
        Unit rows, before the adapter.
    label_noise_ : LabelConfusion
        The share of labels that look wrong with its interval, and which classes are labelled as
        which; `str` of it is readable, and `confused_pairs` says what is worth a look. With
        ``noise_model="symmetric"`` its base class, `LabelNoise`.
    text_weight_ : float
    agreement_ : Agreement
        Whether labels, names and images belong together; see `check_agreement`. What does not
        is in ``selection_.settings["disagreement"]`` as well.

    Notes
    -----
    Time: the adapter, see `DatasetAdapter`; O(Σ n_c² d) for SDS over classes of n_c images,
    where it is measured; O(n k d) for the probabilities; O(n) for the choice. Memory: O(n), one
    class of embeddings, and one block of similarities for each core; "cross-fit" copies the
    embeddings of one fold at a time.

    With ``text_weight=1`` and no adapter, images of a class whose name the model does not
    know look mislabelled. `selection_.report()` shows what became of each class and group.

    References
    ----------
    Yang et al.: "A CLIP-Powered Framework for Robust and Generalizable Data Selection",
    ICLR 2025. The contrastive alignment, the common scale, the quotas and the weight of
    SDS are ours; decisions/0006 has the measurements.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> T = np.eye(4)[:2]
    >>> Z = T[y] + 0.1 * rng.standard_normal((200, 4))
    >>> given = np.where(np.arange(200) < 20, 1 - y, y)  # the first twenty labels are wrong
    >>> selector = ClipSelector(ratio=0.5, class_embeddings=T, adapter=False)
    >>> selection = selector.fit_select(Z, given)
    >>> len(selection), int((selection.indices < 20).sum())
    (100, 0)
    >>> sorted(s.index for s in selection.suspects(20)) == list(range(20))
    True
    """

    selection_: Selection
    adapter_: DatasetAdapter | CrossFitAdapter | None
    class_embeddings_: NDArray[np.float32]
    label_noise_: LabelNoise
    text_weight_: float
    agreement_: Agreement

    def __init__(
        self,
        ratio: float = 0.3,
        *,
        class_names: Names | None = None,
        class_embeddings: Embeddings | None = None,
        encoder: TextEncoder | None = None,
        preset: str = "default",
        adapter: bool | str | DatasetAdapter | CrossFitAdapter | None = None,
        alignment: str | None = None,
        scale: str | None = None,
        noise_aware: bool | None = None,
        noise_model: str = "confusion",
        min_label_probability: float | None = None,
        alpha: float | str | None = None,
        text_weight: float | str | None = None,
        n_neighbors: float | None = None,
        exact_up_to: int | str | None = "auto",
        class_balance: Rule | None = None,
        group_balance: Rule = "proportional",
        solver: str | None = None,
        redundancy: float = 0.0,
        device: str | None = None,
        random_state: int | None = 0,
        progress: bool = False,
    ) -> None:
        self.ratio = ratio
        self.class_names = class_names
        self.class_embeddings = class_embeddings
        self.encoder = encoder
        self.preset = preset
        self.adapter = adapter
        self.alignment = alignment
        self.scale = scale
        self.noise_aware = noise_aware
        self.noise_model = noise_model
        self.min_label_probability = min_label_probability
        self.alpha = alpha
        self.text_weight = text_weight
        self.n_neighbors = n_neighbors
        self.exact_up_to = exact_up_to
        self.class_balance = class_balance
        self.group_balance = group_balance
        self.solver = solver
        self.redundancy = redundancy
        self.device = device
        self.random_state = random_state
        self.progress = progress

    def fit(
        self,
        Z: Embeddings,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> ClipSelector:
        """Score every image and choose.

        Parameters
        ----------
        Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
            Image embeddings; not modified.
        y : array-like of shape (n,)
            Class numbers or, with `class_names`, names; some may be wrong.
        groups : array-like of shape (n,), optional
            Any attribute over which the subset is to have quotas as well.
        ids : sequence of str, optional
            What the images are called; those of a table by default.

        Returns
        -------
        ClipSelector
            Itself, with `selection_`.

        Raises
        ------
        InvalidInputError
            Where lengths differ, a label is no class, a class has no embedding, a row is not
            finite or all zeros, the ratio selects nothing, or a setting is out of range.
        ModelMismatchError
            Where images and classes were encoded by two models.
        InvalidTypeError
            Where neither class embeddings nor an encoder with class names was given, or an
            argument is of the wrong type.

        Warns
        -----
        LabelAgreementWarning
            Where labels, names and images do not belong together: rows that are shuffled or
            moved, names in another order or of one class twice, ids in place of names.

        Notes
        -----
        What can be checked is checked before the adapter is trained. A fit that fails leaves
        nothing, not even of an earlier one.
        """
        self._forget()
        settings = self._settings()
        image_emb_nd = check_embeddings(Z, "Z")
        image_emb_nd = keep_on(image_emb_nd, self.device)
        text_emb_kd, model_id = unit_class_embeddings(*self._class_source(), Z)
        known = self._try(settings, image_emb_nd, y, text_emb_kd, groups, _ids_of(Z, ids))
        codes_n: Any = known.labels
        agreement = self._agreement(image_emb_nd, codes_n, text_emb_kd, known)
        adapter = self._adapter(settings, image_emb_nd, text_emb_kd, known)
        weight = self._weight(settings, image_emb_nd, codes_n, text_emb_kd)
        scores = score_images(
            image_emb_nd,
            codes_n,
            text_emb_kd,
            adapter,
            alignment=settings["alignment"],
            noise_aware=settings["noise_aware"],
            text_weight=weight,
            n_neighbors=settings["n_neighbors"],
            noise_model=self.noise_model,
            device=self.device,
            exact_up_to=settings["exact_up_to"],
            random_state=self.random_state,
        )
        graph = None
        if self.redundancy > 0:
            graph = neighbour_graph(
                image_emb_nd,
                codes_n,
                len(text_emb_kd),
                adapter=distance_space(adapter),
                device=self.device,
            )
        record = {
            "model": model_id,
            "preset": self.preset,
            "adapter": describe_adapter(settings["adapter"], adapter),
            **{name: settings[name] for name in RECORDED},
            "text_weight": weight,
            "temperature": scores.noise.temperature,
            "noise_model": self.noise_model,
            "wrong_fraction": scores.noise.wrong_fraction,
            **_confusion_record(scores.noise, known.class_names),
            "random_state": self.random_state,
            **disagreement(agreement),
        }
        fitted = _Fitted(scores, known, self._optimizer(settings), graph, settings, record)
        selection = _choose(fitted, [self.ratio], len(text_emb_kd))[0]
        # Only now: a fit that fails on the way leaves nothing.
        self._fitted, self.selection_, self.adapter_ = fitted, selection, adapter
        self.class_embeddings_, self.text_weight_ = text_emb_kd, weight
        self.label_noise_, self.agreement_ = scores.noise, agreement
        return self

    def fit_select(
        self,
        Z: Embeddings,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> Selection:
        """Return ``fit(Z, y).selection_``; parameters and errors are those of `fit`."""
        return self.fit(Z, y, groups=groups, ids=ids).selection_

    def select(self, ratio: float | None = None) -> Selection:
        """Choose again from the scores and with the settings of the last `fit`.

        Parameters
        ----------
        ratio : float, optional
            In (0, 1]; that of the fit by default.

        Returns
        -------
        Selection

        Raises
        ------
        NotFittedError
            Before the first fit.
        InvalidInputError
            Where the ratio is out of range or selects nothing.
        """
        check_is_fitted(self, "selection_")
        wanted = self._fitted.optimizer.ratio if ratio is None else ratio
        return self.select_nested([wanted])[0]

    def select_nested(self, ratios: Sequence[float]) -> list[Selection]:
        """Choose at several ratios, each smaller subset inside the larger ones.

        Parameters
        ----------
        ratios : sequence of float
            Each in (0, 1], in any order.

        Returns
        -------
        list of Selection
            In the order of `ratios`.

        Raises
        ------
        NotFittedError, InvalidInputError
            As for `select`.
        """
        check_is_fitted(self, "selection_")
        return _choose(self._fitted, ratios, len(self.class_embeddings_))

    def _repr_html_(self) -> str:
        return selector_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        # Notebooks ask for this first, and scikit-learn's own shows the parameters alone.
        return {"text/plain": repr(self), "text/html": selector_html(self)}

    def _forget(self) -> None:
        """Remove what an earlier `fit` left, so that one that fails leaves nothing."""
        for name in [name for name in vars(self) if name.endswith("_") or name == "_fitted"]:
            delattr(self, name)

    def _settings(self) -> dict[str, Any]:
        """Return the preset with what was set over it, checked."""
        preset = PRESETS[check_choice(self.preset, tuple(PRESETS), "preset")]
        given = {name: getattr(self, name) for name in preset}
        settings = {name: preset[name] if given[name] is None else given[name] for name in preset}
        check_choice(settings["alignment"], ALIGNMENTS, "alignment")
        check_choice(settings["scale"], SCALES, "scale")
        check_choice(self.noise_model, NOISE_MODELS, "noise_model")
        check_choice(settings["solver"], SOLVERS, "solver")
        settings["n_neighbors"] = neighbors_for_sds(
            self.n_neighbors, check_alpha(settings["alpha"])
        )
        if not isinstance(settings["noise_aware"], bool):
            raise InvalidTypeError(
                f"`noise_aware` must be True or False; got {self.noise_aware!r}. Choose one."
            )
        check_text_weight(settings["text_weight"])
        check_number(settings["min_label_probability"], "min_label_probability", low=0.0, high=1.0)
        settings["exact_up_to"] = check_exact_up_to(
            self.exact_up_to, settings["n_neighbors"], compared=COMPARED_BY[self.preset]
        )
        if self.random_state is not None:
            check_int(self.random_state, "random_state", smallest=0)
        return settings

    def _class_source(self) -> tuple[Any, Any]:
        """Return class embeddings as given or encoded, and their encoder or model's id."""
        if self.class_embeddings is not None:
            return self.class_embeddings, getattr(self.class_embeddings, "model_id", None)
        if self.encoder is None or self.class_names is None:
            raise InvalidTypeError(
                "ClipSelector needs `class_embeddings`, or `encoder` and `class_names`; got "
                f"{'no encoder' if self.encoder is None else 'no names'}. Pass the encoder that "
                "made the image embeddings."
            )
        names = list(ordered_names(self.class_names))
        encoded = self.encoder.encode_texts(names, templates=[TEMPLATES[self.preset]])
        return encoded, self.encoder

    def _try(
        self,
        settings: Mapping[str, Any],
        image_emb_nd: NDArray[Any],
        y: ArrayLike,
        text_emb_kd: NDArray[np.float32],
        groups: ArrayLike | None,
        ids: ArrayLike | None,
    ) -> Selection:
        """Choose by blank scores, so that what is wrong shows before minutes of training.

        Returns
        -------
        Selection
            With checked copies of labels, names, groups and ids.
        """
        n, n_classes = len(image_emb_nd), len(text_emb_kd)
        names = None if self.class_names is None else ordered_names(self.class_names)
        codes_n = encode_labels(y, n_images=n, n_classes=n_classes, class_names=names)
        if settings["n_neighbors"] is not None:
            for number, size in enumerate(np.bincount(codes_n)):
                label = number if names is None else names[number]
                neighbour_count(settings["n_neighbors"], int(size), group=f"class {label}")
        blank_n = np.zeros(n)
        optimizer = self._optimizer({**settings, "solver": "exact"})
        return optimizer.select(
            blank_n,
            blank_n,
            codes_n,
            n_classes=n_classes,
            class_names=names,
            groups=groups,
            graph=sparse.csr_array((n, n)),
            ids=ids,
        )

    def _adapter(
        self,
        settings: Mapping[str, Any],
        image_emb_nd: NDArray[Any],
        text_emb_kd: NDArray[np.float32],
        known: Selection,
    ) -> DatasetAdapter | CrossFitAdapter | None:
        """Return the adapter, fitted, or None."""
        adapter = make_adapter(
            settings["adapter"],
            n_images=len(image_emb_nd),
            settings=PAPER_ADAPTER if self.preset == "paper" else {},
            device=self.device,
            random_state=self.random_state,
            progress=self.progress,
        )
        if adapter is None or is_fitted(adapter):
            return adapter
        codes_n: Any = known.labels  # `_try` was given them
        return adapter.fit(image_emb_nd, codes_n, text_emb_kd, class_names=known.class_names)

    def _agreement(
        self,
        image_emb_nd: NDArray[Any],
        codes_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
        known: Selection,
    ) -> Agreement:
        """Check that labels, names and images belong together; warn where they do not."""
        agreement = check_agreement(
            image_emb_nd,
            codes_n,
            text_emb_kd,
            class_names=known.class_names,
            ids=None if known.ids is None else known.ids.tolist(),
            random_state=self.random_state,
        )
        if agreement.findings:
            warnings.warn(agreement.message, LabelAgreementWarning, stacklevel=3)
        return agreement

    def _weight(
        self,
        settings: Mapping[str, Any],
        image_emb_nd: NDArray[Any],
        codes_n: NDArray[np.int64],
        text_emb_kd: NDArray[np.float32],
    ) -> float:
        weight = check_text_weight(settings["text_weight"])
        if isinstance(weight, float):
            return weight
        return best_text_weight(image_emb_nd, codes_n, text_emb_kd, random_state=self.random_state)

    def _optimizer(self, settings: Mapping[str, Any]) -> SelectionOptimizer:
        return SelectionOptimizer(
            self.ratio,
            solver=settings["solver"],
            alpha=settings["alpha"],
            redundancy=self.redundancy,
            class_balance=settings["class_balance"],
            group_balance=self.group_balance,
        )


def _confusion_record(noise: LabelNoise, class_names: Sequence[str] | None) -> dict[str, Any]:
    """Return the interval of wrong labels and the pairs worth a look, as JSON holds them."""
    if not isinstance(noise, LabelConfusion):
        return {}
    pairs = noise.confused_pairs(class_names=class_names)
    return {
        "wrong_interval": list(noise.interval),
        "confused_pairs": [pair._asdict() for pair in pairs],
    }


def _choose(fitted: _Fitted, ratios: Sequence[float], n_classes: int) -> list[Selection]:
    """Choose at several ratios, and record all scores as they were before scaling."""
    scores, known, settings = fitted.scores, fitted.known, fitted.settings
    labels: Any = known.labels
    sas_n, sds_n = credible_first(
        scores.sas_n,
        scores.sds_n,
        scores.right_n,
        labels,
        scale=settings["scale"],
        noise_aware=settings["noise_aware"],
        min_label_probability=settings["min_label_probability"],
        largest_alpha=1.0 if isinstance(settings["alpha"], str) else settings["alpha"],
    )
    chosen = fitted.optimizer.select_nested(
        sas_n,
        sds_n,
        ratios,
        known.labels,
        n_classes=n_classes,
        class_names=known.class_names,
        groups=known.groups,
        graph=fitted.graph,
        ids=known.ids,
        settings=fitted.record,
    )
    plain: dict[str, NDArray[Any]] = {
        "sas": scores.sas_n,
        **({} if scores.sds_n is None else {"sds": scores.sds_n}),
        "label_score": scores.label_score_n,
        "label_probability": scores.right_n,
        "likeliest": scores.likeliest_n,
    }
    return [
        replace(selection, scores={**plain, "total": selection.scores["total"]})
        for selection in chosen
    ]


def _ids_of(Z: Embeddings, ids: ArrayLike | None) -> Any:
    """Return ids as given, or those of a table; a masked array has a method of that name."""
    known = getattr(Z, "ids", None) if ids is None else ids
    return None if callable(known) else known
