"""Scores and a ratio in, a `Selection` out. Imports `greedy`, `quotas`, `selection`.

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
from numbers import Real
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator

from clip_al.checks import check_choice, check_int
from clip_al.errors import InvalidInputError, InvalidTypeError, not_finite
from clip_al.greedy import lowest
from clip_al.quotas import Attribute, Rule, class_attribute, group_attribute, plan_cells
from clip_al.selection import Groups, Selection, encode_classes, encode_groups

SOLVERS = ("exact", "sgd")
ALIKE = 1e-6
"""Values of d this close cannot be told apart by a step of the descent."""


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
    alpha : float, optional
        Weight α of SDS. None means the ratio, as in the paper.
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
    class_balance : None, "proportional", "equal", array-like or mapping
        Quotas per class: none; in proportion to its images; equal, where a class with too
        few gives all and the others share the rest; k counts that sum to the number to
        choose, or k shares that sum to 1; or those by class, nothing for classes left out.
        Rounded by largest remainder, so that the total is exact.
    group_balance : None, "proportional", "equal", array-like or mapping
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
        alpha: float | None = None,
        beta: float = 2.0,
        theta: float = 5e-4,
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        max_iter: int = 100_000,
        redundancy: float = 0.0,
        class_balance: Rule | None = None,
        group_balance: Rule | None = "proportional",
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
        sds: ArrayLike,
        y: ArrayLike | None = None,
        *,
        n_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        groups: ArrayLike | Groups | None = None,
        graph: Any = None,
        ids: Sequence[str] | None = None,
        label_score: ArrayLike | None = None,
        likeliest: ArrayLike | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Selection:
        """Choose ``ratio`` of the images; no input is modified.

        Parameters
        ----------
        sas, sds : array-like of shape (n,)
            Alignment and diversity of each image, finite; higher is chosen first.
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
            Indices ascending; scores ``sas``, ``sds``, ``total``; all settings, and with them
            ``effective_alpha`` and, for ``sgd``, ``n_iterations``.

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
        sds: ArrayLike,
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
        checked = _check_data(sas, sds, y, **data)
        self._check_parameters(checked)
        asked = list(ratios)
        if not asked:
            raise InvalidInputError("`ratios` must hold at least one ratio; got none. Pass one.")
        wanted = [_check_ratio(ratio, len(checked.sas_n)) for ratio in asked]
        chosen: dict[float, Selection] = {}
        candidates = np.arange(len(checked.sas_n))
        larger: dict[str, float] = {}
        for n_wanted, ratio in sorted(set(zip(wanted, asked, strict=True)), reverse=True):
            record = {**(settings or {}), **self._record(ratio), **larger}
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
        alpha = ratio if self.alpha is None else float(self.alpha)
        total_n = data.sas_n + alpha * data.sds_n.astype(np.float64)
        # A descent may have stopped short of the ratio that this one is chosen within.
        cells = plan_cells(
            min(n_wanted, len(candidates)),
            candidates,
            classes=data.classes,
            class_rule=self.class_balance,
            groups=data.groups,
            group_rule=self.group_balance if data.groups is not None else None,
        )
        edges = None
        if self.redundancy > 0:
            edges = (data.graph + data.graph.T).tocsr() * float(self.redundancy)
        chosen_n = np.zeros(len(total_n), dtype=bool)
        if self.solver == "exact":
            for part, quota in cells:
                if quota:
                    chosen_n[part[lowest(-total_n[part], quota)]] = True
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
            _exchange_all(chosen_n, total_n, edges, [part for part, _ in cells])
        record["effective_alpha"] = alpha
        scores = {"sas": data.sas_n, "sds": data.sds_n, "total": total_n, **data.other_scores}
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
        reached, n = np.count_nonzero(found.chosen_n), len(total_n)
        pull_n = np.abs(total_n) + (0.0 if edges is None else edges @ np.ones(n))
        price = "" if edges is None else " + the price of its edges"
        raise InvalidInputError(
            f"The descent must come within {slack:g} images of {n_wanted} of {n} (ratio "
            f"{n_wanted / n:.4g}); after {found.n_iterations} iterations it is at {reached} "
            f"(ratio {reached / n:.4g}). Use solver='exact', or raise `beta` above the largest "
            f"|SAS + alpha SDS|{price}, {pull_n.max():.3g}, or raise `max_iter`."
        )

    def _record(self, ratio: float) -> dict[str, Any]:
        record = {**self.get_params(deep=False), "ratio": float(ratio)}
        for name in ("class_balance", "group_balance"):
            if isinstance(record[name], Mapping):  # JSON knows only text as keys
                record[name] = {str(key): value for key, value in record[name].items()}
        return record

    def _check_parameters(self, data: _Data) -> None:
        check_choice(self.solver, SOLVERS, "solver")
        if self.alpha is not None:
            _check_number(self.alpha, "alpha")
        _check_number(self.beta, "beta", above=0.0)
        _check_number(self.theta, "theta", low=0.0, below=1.0)
        _check_number(self.learning_rate, "learning_rate", above=0.0)
        _check_number(self.momentum, "momentum", low=0.0, below=1.0)
        _check_number(self.redundancy, "redundancy", low=0.0)
        check_int(self.max_iter, "max_iter")
        if self.class_balance is not None and data.classes is None:
            raise InvalidInputError(
                "With `class_balance`, `y` must be given; got none. Pass the labels, or set "
                "class_balance=None."
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
    sds_n: NDArray[Any]
    classes: Attribute | None
    class_names: tuple[str, ...] | None
    groups: Attribute | None
    given_groups: Groups | None
    graph: Any
    ids: Any
    other_scores: dict[str, Any]


def _check_data(
    sas: Any,
    sds: Any,
    y: Any,
    *,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    graph: Any = None,
    ids: Any = None,
    label_score: Any = None,
    likeliest: Any = None,
) -> _Data:
    sas_n, sds_n = _check_score(sas, "sas"), _check_score(sds, "sds")
    n = len(sas_n)
    if len(sds_n) != n:
        raise InvalidInputError(
            f"`sds` must have one score for each of the {n} images of `sas`; got {len(sds_n)}. "
            "Score the same images, in the same order."
        )
    classes, names = None, None if class_names is None else tuple(class_names)
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
        None if graph is None else _check_graph(graph, n),
        ids,
        {name: score for name, score in others.items() if score is not None},
    )


def _check_score(score: Any, name: str) -> NDArray[Any]:
    array = np.asarray(score)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"`{name}` must be a 1-D array of numbers, one an image, of at least one; got shape "
            f"{array.shape} and dtype {array.dtype}. Pass what the score returned."
        )
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise not_finite(name, bad.tolist())
    return array


def _check_graph(graph: Any, n: int) -> Any:
    """Return the graph as CSR in double precision, without an image's edge to itself."""
    if not sparse.issparse(graph):
        raise InvalidTypeError(
            f"`graph` must be a scipy sparse array; got {type(graph).__name__}. Pass what "
            "`neighbour_graph` returns."
        )
    if graph.shape != (n, n):
        raise InvalidInputError(
            f"`graph` must have shape ({n}, {n}), one row and column an image; got "
            f"{graph.shape}. Make it from the same images."
        )
    edges = sparse.coo_array(graph)
    bad = edges.row[~np.isfinite(edges.data)]
    if bad.size:
        raise not_finite("graph", np.unique(bad).tolist())
    between = edges.row != edges.col
    weights = edges.data[between].astype(np.float64)
    return sparse.csr_array((weights, (edges.row[between], edges.col[between])), shape=(n, n))


def _check_ratio(ratio: Any, n: int) -> int:
    """Return how many images a ratio of n is: the nearest, halves up."""
    value = _check_number(ratio, "ratio")
    if not 0 < value <= 1:
        raise InvalidInputError(
            f"`ratio` must be in (0, 1], a share of the images; got {ratio}. Pass 0.3 for 30 %."
        )
    n_wanted = math.floor(value * n + 0.5)
    if n_wanted == 0:
        raise InvalidInputError(
            f"`ratio` must select at least one of the {n} images; {ratio} selects none. Raise "
            f"it to {1 / n:.2g} or more."
        )
    return n_wanted


def _check_number(
    value: Any,
    name: str,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidTypeError(f"`{name}` must be a number; got {value!r}. Pass a float.")
    number = float(value)
    if not (low <= number < below and above < number and math.isfinite(number)):
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", low), ("above", above), ("below", below))
            if math.isfinite(bound)
        ]
        raise InvalidInputError(
            f"`{name}` must be finite{''.join(', ' + b for b in bounds)}; got {value}. Change it."
        )
    return number


class Descent(NamedTuple):
    """Where a descent stopped: the choice, d, how many steps, and whether it got there."""

    chosen_n: NDArray[np.bool_]
    d_n: NDArray[np.float64]
    n_iterations: int
    converged: bool


def descend(
    total_n: NDArray[np.float64],
    n_wanted: int,
    slack: float,
    *,
    beta: float,
    learning_rate: float,
    momentum: float,
    max_iter: int,
    edges: Any = None,
    gradient_scale: float = 1.0,
) -> Descent:
    """Descend the paper's loss by SGD with momentum (Algorithm 1).

    Parameters
    ----------
    total_n : ndarray of shape (n,), float64
        S = SAS + α SDS.
    n_wanted, slack : int, float
        Stop when the number chosen is within `slack` of `n_wanted`.
    edges : csr_array of shape (n, n), optional
        Symmetric price of choosing two images together.
    gradient_scale : float
        1 for N times the loss; 1/N is the loss as printed.

    Notes
    -----
    The straight-through estimator passes the gradient of the indicator on to the sigmoid, so
    that of Eq. 6, times N, is in closed form
    ``σ'(d_i) (β sign(chosen / N − ratio) − S_i + Σ_j edge_ij σ(d_j))``.
    """
    n = len(total_n)
    d_n, velocity_n = np.ones(n), np.zeros(n)
    sigmoid_n, slope_n = np.empty(n), np.empty(n)
    push_n = {side: gradient_scale * (side * beta - total_n) for side in (1.0, -1.0)}
    before_n, side_before = np.ones(n, dtype=bool), 1.0
    for step in range(max_iter + 1):
        chosen_n = d_n > 0.0  # which is σ(d) > 0.5
        n_chosen = int(np.count_nonzero(chosen_n))
        if abs(n_chosen - n_wanted) <= slack and n_chosen:
            return Descent(chosen_n, d_n, step, True)
        side = 1.0 if n_chosen > n_wanted else -1.0
        if side != side_before:
            moved = np.flatnonzero(chosen_n != before_n)
            if np.ptp(d_n[moved]) <= ALIKE:
                # From now on they would jump over the ratio together, for ever.
                chosen_n &= before_n
                n_missing = n_wanted - int(np.count_nonzero(chosen_n))
                chosen_n[moved[lowest(-total_n[moved], n_missing)]] = True
                return Descent(chosen_n, d_n, step, True)
        turned = step == 0 or side != side_before
        hopeless = turned and edges is None and _is_stuck(total_n, chosen_n, n_wanted + slack, beta)
        if step == max_iter or hopeless:
            break
        before_n, side_before = chosen_n, side
        _sigmoid(d_n, sigmoid_n)
        np.multiply(sigmoid_n, sigmoid_n, out=slope_n)
        np.subtract(sigmoid_n, slope_n, out=slope_n)
        if edges is None:
            slope_n *= push_n[side]
        else:
            slope_n *= push_n[side] + gradient_scale * (edges @ sigmoid_n)
        velocity_n *= momentum
        velocity_n += slope_n
        np.multiply(velocity_n, learning_rate, out=slope_n)
        d_n -= slope_n
    return Descent(chosen_n, d_n, step, False)


def _sigmoid(d_n: NDArray[np.float64], sigmoid_n: NDArray[np.float64]) -> None:
    with np.errstate(over="ignore"):  # exp is infinite far below 0, and the sigmoid 0
        np.exp(np.negative(d_n, out=sigmoid_n), out=sigmoid_n)
    sigmoid_n += 1.0
    np.reciprocal(sigmoid_n, out=sigmoid_n)


def _is_stuck(
    total_n: NDArray[np.float64], chosen_n: NDArray[np.bool_], most: float, beta: float
) -> bool:
    """Return whether too many can never fall, or too few are chosen and none can rise."""
    if np.count_nonzero(chosen_n) > most:
        return bool(np.count_nonzero(total_n >= beta) > most)
    return not (total_n[~chosen_n] > -beta).any()


def _exchange_all(
    chosen_n: NDArray[np.bool_],
    total_n: NDArray[np.float64],
    edges: Any,
    parts: list[NDArray[np.int64]],
) -> None:
    """Exchange chosen images for others of their part while that betters the objective.

    `chosen_n` is changed in place; how many are chosen of each part is not.
    """
    worth_n = total_n - edges @ chosen_n.astype(np.float64)
    bounds = np.cumsum([0, *map(len, parts)])
    smallest = 1e-9 * max(1.0, float(np.abs(worth_n).max()))  # less is rounding
    members = np.concatenate(parts)
    _exchange(edges.indptr, edges.indices, edges.data, worth_n, chosen_n, members, bounds, smallest)


@numba.njit(nogil=True, cache=True)
def _exchange(indptr, indices, weights, worth_n, chosen_n, members, bounds, smallest):  # type: ignore[no-untyped-def]
    """Worth of image i: S_i less the price of its edges to chosen images."""
    changed = True
    while changed:  # an exchange in one part may change the worth of images in another
        changed = False
        for part in range(len(bounds) - 1):
            while True:
                worst, best = _extremes(worth_n, chosen_n, members, bounds[part : part + 2])
                if worst < 0 or best < 0:
                    break
                between = 0.0
                for e in range(indptr[best], indptr[best + 1]):
                    if indices[e] == worst:
                        between += weights[e]
                if worth_n[best] - worth_n[worst] + between <= smallest:
                    break
                chosen_n[worst], chosen_n[best] = False, True
                for e in range(indptr[worst], indptr[worst + 1]):
                    worth_n[indices[e]] += weights[e]
                for e in range(indptr[best], indptr[best + 1]):
                    worth_n[indices[e]] -= weights[e]
                changed = True


@numba.njit(nogil=True, cache=True)
def _extremes(worth_n, chosen_n, members, bounds):  # type: ignore[no-untyped-def]
    """Return the chosen member worth least and the other worth most, −1 where there is none."""
    worst, best = -1, -1
    for p in range(bounds[0], bounds[1]):
        i = members[p]
        if chosen_n[i]:
            if worst < 0 or worth_n[i] <= worth_n[worst]:  # of equals, the higher index goes
                worst = i
        elif best < 0 or worth_n[i] > worth_n[best]:
            best = i
    return worst, best
