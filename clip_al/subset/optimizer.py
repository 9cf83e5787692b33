"""Scores and a ratio in, a `Selection` out.

The paper writes the choice as a descent on one number d_i an image. Two facts, checked by the
tests, decide how it is solved here:

1. In the loss as printed the gradient of d_i carries 1/N, so at the printed learning rate
   nothing is ever deselected; N times the loss is descended instead.
2. All d start equal and each moves at a speed that is monotone in S_i = SAS_i + α SDS_i, so the
   descent keeps the order of S: what it returns is the top of S, which is one partition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from clip_al.arrays.checks import check_choice, check_int, check_number
from clip_al.arrays.given import check_kind, listed
from clip_al.arrays.labels import Names
from clip_al.arrays.order import highest_of_parts
from clip_al.errors import InvalidInputError
from clip_al.subset.quotas import (
    Attribute,
    Rule,
    check_rule,
    class_attribute,
    group_attribute,
    plan_cells,
)
from clip_al.subset.selection import Selection
from clip_al.subset.selection_checks import (
    Groups,
    check_alpha,
    check_names,
    check_ratio,
    check_score,
    encode_classes,
    encode_groups,
)
from clip_al.subset.solvers import (
    Descent,
    check_graph,
    descend,
    exchange_all,
    not_reached,
)

SOLVERS = ("exact", "sgd")


class SelectionOptimizer(BaseEstimator):
    """Choose the share of a dataset with the highest S = SAS + α SDS.

    Parameters
    ----------
    ratio : float
        Share of the images to choose, in (0, 1]. The number is ``ratio * n`` rounded to the
        nearest, halves up; at least one image.
    solver : {"exact", "sgd"}
        ``exact`` takes the top of S in one partition and hits the number to the image.
        ``sgd`` is the paper's descent, with N times its loss; it stops within `theta` of the
        ratio, or, where an image is more than that, at the number. Both return the same set,
        up to those few images.
    alpha : float or "ratio"
        Weight α of SDS: a number, or the share that is chosen, as in the paper. With 0, `sds`
        may be left out.
    beta : float
        Weight β of the selection loss, > 0. The descent can deselect only images with S < β
        and take back only those with S > −β, less the price of their edges where there is
        `redundancy`. Not used by ``exact``.
    theta : float
        How far from the ratio the descent may stop, in [0, 1).
    learning_rate : float
        Step of the descent, > 0.
    momentum : float
        In [0, 1).
    max_iter : int
        Most steps of the descent.
    redundancy : float
        γ ≥ 0, the price of choosing near neighbours together; see Notes. Needs ``graph=``.
    class_balance : {"none", "proportional", "equal"}, array-like or mapping
        Quotas per class: none; in proportion to its images; equal, where a class with too
        few gives all and the others share the rest; k counts that sum to the number to
        choose, or k shares that sum to 1; or those by class, nothing for classes left out.
        Rounded by largest remainder, so that the total is exact.
    group_balance : {"none", "proportional", "equal"}, array-like or mapping
        The same over ``groups=``, where those are given. With both, the quota of each class
        is shared out over its groups by this rule (as shares or a word).

    Notes
    -----
    ``exact`` costs O(n) time and memory, with one partition a class where there are quotas;
    ``sgd`` O(n) a step, some hundred steps where the scores spread, more the closer they lie.

    Equal scores move together in the descent, which then jumps over the ratio for ever; when
    the images that a step moves are within 1e-6 of each other, the higher S and then the lower
    index decides, as in ``exact``. Otherwise, ties go to the lowest index.

    The printed loss treats images one by one. ``redundancy`` adds the group effect: the cost

        γ Σ_(i,j) σ(d_i) σ(d_j) cos_ij   over the edges (i, j) of the neighbour graph

    to N times the loss. Minimising it is NP-hard (independent sets are a special case), so it is
    solved to a local optimum: ``sgd`` descends with the cost in its gradient, ``exact`` starts
    from the top of S; then the chosen image that is worth least (S less the cost of its edges
    to chosen ones) is exchanged for the one left that is worth most, within its class or group
    where there are quotas, for as long as that helps. Each exchange betters the objective, so
    ``exact`` never does worse than the top of S. The descent alone would not do: it stops before
    neighbours part. Time: O(n + edges) a step, and one
    scan of the class or dataset an exchange; memory O(n + edges).

    References
    ----------
    Yang, Ye, Ouyang, Zhou, Shen: "A CLIP-Powered Framework for Robust and Generalizable Data
    Selection", ICLR 2025, section 3.3, Eq. 3-6, Algorithm 1 and appendices A-C.

    Examples
    --------
    >>> sas, sds = [0.9, 0.1, 0.8, 0.3], [0.2, 0.9, 0.1, 0.4]
    >>> SelectionOptimizer(ratio=0.5).select(sas, sds).indices
    array([0, 2])
    >>> SelectionOptimizer(0.5, class_balance="equal").select(sas, sds, [0, 1, 0, 1]).indices
    array([0, 1])
    """

    def __init__(
        self,
        ratio: float = 0.3,
        *,
        solver: str = "exact",
        alpha: float | str = "ratio",
        beta: float = 2.0,
        theta: float = 5e-4,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        max_iter: int = 100_000,
        redundancy: float = 0.0,
        class_balance: Rule = "none",
        group_balance: Rule = "proportional",
    ) -> None:
        self.ratio = ratio
        self.solver = solver
        self.alpha = alpha
        self.beta = beta
        self.theta = theta
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.max_iter = max_iter
        self.redundancy = redundancy
        self.class_balance = class_balance
        self.group_balance = group_balance

    def select(
        self,
        sas: ArrayLike,
        sds: ArrayLike | None = None,
        y: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        groups: ArrayLike | Groups | None = None,
        graph: Any = None,
        ids: ArrayLike | None = None,
        label_score: ArrayLike | None = None,
        likeliest: ArrayLike | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Selection:
        """Choose ``ratio`` of the images; no input is modified.

        Parameters
        ----------
        sas : array-like of shape (n,)
            Alignment of each image, finite; higher is chosen first.
        sds : array-like of shape (n,), optional
            Diversity, the same way; needed unless `alpha` is 0.
        y : array-like of shape (n,), optional
            Class numbers, or names. Needed for `class_balance`.
        n_classes : int, optional
            How many classes there are; left out, those of `class_names` or those that occur.
        class_names : sequence of str, optional
            What they are called.
        groups : array-like of shape (n,) of str or int, optional
            An attribute to put quotas on, as `group_balance` says.
        graph : scipy sparse array of shape (n, n), optional
            Cosine of near neighbours, as `neighbour_graph` makes it; for `redundancy`.
        ids : sequence of str, optional
            What the images are called.
        label_score, likeliest : array-like of shape (n,), optional
            Log-probability of the given label, and number of the likeliest class; kept for
            `Selection.suspects`.
        settings : mapping, optional
            What else to record, such as the model and the seed.

        Returns
        -------
        Selection
            Indices ascending; scores ``sas``, ``sds`` (where given), ``total``; all settings, and
            with them ``effective_alpha`` and, for ``sgd``, ``n_iterations``.

        Raises
        ------
        InvalidInputError
            Where a parameter is out of its range, lengths differ, a score is not finite, the
            ratio selects nothing, labels or the graph are missing, quotas exceed a class, or
            the descent does not reach the ratio.
        """
        return self.select_nested(
            sas,
            sds,
            [self.ratio],
            y,
            settings=settings,
            n_classes=n_classes,
            class_names=class_names,
            groups=groups,
            graph=graph,
            ids=ids,
            label_score=label_score,
            likeliest=likeliest,
        )[0]

    def select_nested(
        self,
        sas: ArrayLike,
        sds: ArrayLike | None,
        ratios: Iterable[float],
        y: ArrayLike | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> list[Selection]:
        """Choose several shares of the images, the smaller inside the larger.

        Parameters
        ----------
        ratios : iterable of float
            In place of the parameter `ratio`, in any order.
        sas, sds, y, settings, **data
            As for `select`, which names them all.

        Returns
        -------
        list of Selection
            In the order of `ratios`. The largest is what `select` returns; each smaller one
            is chosen among the images of the next larger, by its own α, so it may differ from
            what `select` returns for that ratio alone. ``settings["within"]`` is the ratio of
            the one it was chosen from.
        """
        known = {} if settings is None else settings
        check_kind(known, Mapping, "settings", "Pass a dict.")
        checked = _check_data(sas, sds, y, **data)
        self._check_parameters(checked)
        asked = listed(ratios, "ratios")
        if not asked:
            raise InvalidInputError("`ratios` must hold at least one ratio; got none. Pass one.")
        wanted = [check_ratio(ratio, len(checked.sas_n)) for ratio in asked]
        chosen: dict[float, Selection] = {}
        candidates = np.arange(len(checked.sas_n))
        larger: dict[str, float] = {}
        for n_wanted, ratio in sorted(set(zip(wanted, asked, strict=True)), reverse=True):
            record = {**known, **self._record(ratio), **larger}
            chosen[ratio] = self._select(checked, float(ratio), n_wanted, candidates, record)
            candidates, larger = chosen[ratio].indices, {"within": float(ratio)}
        return [chosen[ratio] for ratio in asked]

    def _select(
        self,
        data: _Data,
        ratio: float,
        n_wanted: int,
        candidates: NDArray[np.int64],
        record: dict[str, Any],
    ) -> Selection:
        alpha = ratio if isinstance(self.alpha, str) else float(self.alpha)
        total_n = data.sas_n.astype(np.float64)
        if data.sds_n is not None:
            total_n += alpha * data.sds_n.astype(np.float64)
        # A descent may have stopped short of the ratio that this one is chosen within.
        cells = plan_cells(
            min(n_wanted, len(candidates)),
            candidates,
            classes=data.classes,
            class_rule=check_rule(self.class_balance, "class_balance"),
            groups=data.groups,
            group_rule=None if data.groups is None else self._group_rule(),
        )
        edges = None
        if self.redundancy > 0:
            edges = (data.graph + data.graph.T).tocsr() * float(self.redundancy)
        chosen_n = np.zeros(len(total_n), dtype=bool)
        if self.solver == "exact":
            chosen_n[highest_of_parts(total_n, cells)] = True
        else:
            slack = max(self.theta * len(total_n) - abs(n_wanted - ratio * len(total_n)), 0.0)
            n_iterations = 0
            for part, quota in [cell for cell in cells if cell[1]]:
                allowed = slack if len(cells) == 1 else math.floor(slack * quota / n_wanted)
                inner = None if edges is None else edges[part][:, part]
                found = self._descend(total_n[part], quota, allowed, inner)
                chosen_n[part] = found.chosen_n
                n_iterations += found.n_iterations
            record["n_iterations"] = n_iterations
        if edges is not None:
            exchange_all(chosen_n, total_n, edges, [part for part, _ in cells])
        record["effective_alpha"] = alpha
        diversity = {} if data.sds_n is None else {"sds": data.sds_n}
        scores = {"sas": data.sas_n, **diversity, "total": total_n, **data.other_scores}
        return Selection(
            np.flatnonzero(chosen_n),
            len(total_n),
            scores=scores,
            settings=record,
            labels=None if data.classes is None else data.classes.codes_n,
            class_names=data.class_names,
            groups=data.given_groups,
            ids=data.ids,
        )

    def _descend(
        self, total_n: NDArray[np.float64], n_wanted: int, slack: float, edges: Any
    ) -> Descent:
        found = descend(
            total_n,
            n_wanted,
            slack,
            beta=float(self.beta),
            learning_rate=float(self.learning_rate),
            momentum=float(self.momentum),
            max_iter=int(self.max_iter),
            edges=edges,
        )
        if found.converged:
            return found
        raise not_reached(found, total_n, n_wanted, slack, edges)

    def _group_rule(self) -> Rule | None:
        return check_rule(self.group_balance, "group_balance")

    def _record(self, ratio: float) -> dict[str, Any]:
        record = {**self.get_params(deep=False), "ratio": float(ratio)}
        for name in ("class_balance", "group_balance"):
            if isinstance(record[name], Mapping):  # JSON knows only text as keys
                record[name] = {str(key): value for key, value in record[name].items()}
        return record

    def _check_parameters(self, data: _Data) -> None:
        check_choice(self.solver, SOLVERS, "solver")
        if check_alpha(self.alpha) != 0 and data.sds_n is None:
            raise InvalidInputError(
                f"With alpha={self.alpha!r}, `sds` must be given; got none. Pass what "
                "`sample_diversity_scores` returns, or set alpha=0."
            )
        check_number(self.beta, "beta", above=0.0)
        check_number(self.theta, "theta", low=0.0, below=1.0)
        check_number(self.learning_rate, "learning_rate", above=0.0)
        check_number(self.momentum, "momentum", low=0.0, below=1.0)
        check_number(self.redundancy, "redundancy", low=0.0)
        check_int(self.max_iter, "max_iter")
        self._group_rule()
        if check_rule(self.class_balance, "class_balance") is not None and data.classes is None:
            raise InvalidInputError(
                "With `class_balance`, `y` must be given; got none. Pass the labels, or set "
                "class_balance='none'."
            )
        if self.redundancy > 0 and data.graph is None:
            raise InvalidInputError(
                "With `redundancy` above 0, `graph` must be given; got none. Pass what "
                "`neighbour_graph` returns, or set redundancy=0."
            )


@dataclass(frozen=True)
class _Data:
    """What a selection is made from, checked."""

    sas_n: NDArray[Any]
    sds_n: NDArray[Any] | None
    classes: Attribute | None
    class_names: tuple[str, ...] | None
    groups: Attribute | None
    given_groups: Groups | None
    graph: Any
    ids: Any
    other_scores: dict[str, Any]


def _check_data(
    sas: ArrayLike,
    sds: ArrayLike | None,
    y: ArrayLike | None,
    *,
    n_classes: int | None = None,
    class_names: Names | None = None,
    groups: ArrayLike | Groups | None = None,
    graph: Any = None,
    ids: ArrayLike | None = None,
    label_score: ArrayLike | None = None,
    likeliest: ArrayLike | None = None,
) -> _Data:
    sas_n, sds_n = check_score(sas, "sas"), None if sds is None else check_score(sds, "sds")
    n = len(sas_n)
    if sds_n is not None and len(sds_n) != n:
        raise InvalidInputError(
            f"`sds` must have one score for each of the {n} images of `sas`; got {len(sds_n)}. "
            "Score the same images, in the same order."
        )
    classes, names = None, check_names(class_names)
    if y is not None:
        codes, k, names = encode_classes(
            y, n_images=n, n_classes=n_classes, class_names=class_names
        )
        classes = class_attribute(codes, k, names)
    coded = None if groups is None else encode_groups(groups, n_images=n)
    others = {"label_score": label_score, "likeliest": likeliest}
    return _Data(
        sas_n,
        sds_n,
        classes,
        names,
        None if coded is None else group_attribute(coded),
        coded,
        None if graph is None else check_graph(graph, n),
        ids,
        {name: score for name, score in others.items() if score is not None},
    )
