"""scikit-activeml: `UncertaintyCoverage` and others query what ours pick, index by index."""

from copy import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import clone

from clip_al.arrays.order import lowest
from clip_al.errors import missing_extra
from clip_al.label.alignment_sampling import AlignmentDiversitySampling
from clip_al.label.concept_sampling import UNCERTAINTIES, CBDMarginSampling
from clip_al.label.coverage_sampling import UncertaintyCoverageSampling
from clip_al.label.query_inputs import count_labelled, target_vector, training_embeddings

try:
    from skactiveml import base, utils
except ImportError as exc:
    raise missing_extra(
        "clip_al.integrations.scikit_activeml needs scikit-activeml", "activeml"
    ) from exc


class _Wrapped(base.SingleAnnotatorPoolQueryStrategy):
    def __init__(self, strategy: Any, missing_label: Any = np.nan, random_state: Any = None):
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.strategy = strategy

    def query(
        self, X: Any, y: Any, clf: Any, fit_clf: bool = True, sample_weight: Any = None,
        candidates: Any = None, batch_size: int = 1, return_utilities: bool = False,
    ) -> Any:  # fmt: skip
        """Query as the host's own do; `X` holds embeddings, or row numbers of the bound table.

        Utilities are what each pick, ties by index, is the highest of; −inf is out of the choice.
        """
        X, y, given, n, full = self._validate_data(X, y, candidates, batch_size, return_utilities)
        pool, rows = self._transform_candidates(given, X, y)
        utils.check_type(self.strategy, "strategy", self._wraps)
        utils.check_type(clf, "clf", base.SkactivemlClassifier)
        utils.check_type(fit_clf, "fit_clf", bool)
        utils.check_equal_missing_label(clf.missing_label, self.missing_label_)
        labelled = utils.is_labeled(y, self.missing_label_)
        if fit_clf:
            weights = {} if sample_weight is None else {"sample_weight": sample_weight}
            clf = clone(clf).fit(X, y, **weights) if labelled.any() else None
        strategy, answer = self._ask(copy(self.strategy), clf, pool)
        learner = SimpleNamespace(X_training=X[labelled], predict=answer, predict_proba=answer)
        picks, _ = strategy(learner, pool, n)
        rows, n_rows = (np.arange(len(pool)), len(pool)) if rows is None else (rows, len(X))
        if not full:
            return rows[picks]
        utilities = np.full((n, n_rows), np.nan)
        utilities[:, rows] = self._utilities(strategy, learner, pool, picks)
        later, earlier = np.tril_indices(n, -1)
        utilities[later, rows[picks[earlier]]] = np.nan
        return rows[picks], utilities


class UncertaintyCoverage(_Wrapped):
    """`UncertaintyCoverageSampling`; before there is any label, by its rule for that."""

    _wraps = UncertaintyCoverageSampling

    def _ask(self, strategy: Any, clf: Any, pool: Any) -> tuple[Any, Any]:  # noqa: ARG002
        return strategy, (lambda _: None) if clf is None else clf.predict_proba

    def _utilities(self, strategy: Any, learner: Any, pool: Any, picks: Any) -> Any:
        gain_bn = np.full((len(picks), len(pool)), -np.inf)
        strategy._query(learner, pool, len(picks), gain_bn=gain_bn)
        return gain_bn


class CBDMargin(_Wrapped):
    """`CBDMarginSampling`; before there is any label, `CBDSampling` of the same settings."""

    _wraps = CBDMarginSampling

    def _ask(self, strategy: Any, clf: Any, pool: Any) -> tuple[Any, Any]:
        if clf is None:
            strategy.set_params(candidate_factor=len(pool), target="pool", uncertainty="margin")
        return strategy, (lambda X: np.full((len(X), 2), 0.5)) if clf is None else clf.predict_proba

    def _utilities(self, strategy: Any, learner: Any, pool: Any, picks: Any) -> Any:
        certainty_n = UNCERTAINTIES[strategy.uncertainty](learner.predict_proba(pool))
        open_c = lowest(certainty_n, strategy.candidate_factor * len(picks))
        profiles, weighting = strategy.profile(pool), strategy.weighting
        labelled = training_embeddings(learner, profiles, strategy.table)
        chosen = count_labelled(labelled, profiles, weighting)
        part, sum_v = profiles.take(open_c), chosen.sum_v.copy()
        target_v = target_vector(strategy.target, profiles, part, weighting)
        weights_cm, gain_bn = part.weights(weighting), np.full((len(picks), len(pool)), -np.inf)
        for step, place in enumerate(np.searchsorted(open_c, picks)):
            pull_v = 0.0 if target_v is None else target_v * (chosen.n + step + 1)
            gain_bn[step, open_c] = np.einsum("cm,cm->c", weights_cm, (pull_v - sum_v)[part.ids])
            sum_v[part.ids[place]] += weights_cm[place]
        return gain_bn


class AlignmentDiversity(_Wrapped):
    """`AlignmentDiversitySampling` of predicted classes; before there is any label, of CLIP's."""

    _wraps = AlignmentDiversitySampling

    def _ask(self, strategy: Any, clf: Any, pool: Any) -> tuple[Any, Any]:
        y: Any = None if clf is None else clf.predict(pool)
        if y is not None and y.dtype.kind == "f" and (y == y.round()).all():
            y = y.astype(np.int64)  # class numbers beside missing labels that are NaN
        return strategy, lambda _: y

    def _utilities(self, strategy: Any, learner: Any, pool: Any, picks: Any) -> Any:
        alpha = len(picks) / len(pool) if strategy.alpha == "ratio" else strategy.alpha
        order, total = strategy.set_params(alpha=alpha)(learner, pool, len(pool))
        total_n = total[np.argsort(order)]
        never_n = ~np.isin(np.arange(len(pool)), picks)
        return np.where(never_n & (total_n > total_n[picks][:, None]), -np.inf, total_n)
