"""How `SelectionOptimizer` chooses: the top, the paper's descent, exchanges where edges cost.

Knows scores S, edges and parts with quotas, nothing of classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from clip_al.arrays.order import lowest
from clip_al.errors import InvalidInputError, InvalidTypeError, not_finite

ALIKE = 1e-6
"""Values of d this close cannot be told apart by a step of the descent."""


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


def not_reached(
    found: Descent, total_n: NDArray[np.float64], n_wanted: int, slack: float, edges: Any
) -> InvalidInputError:
    """Return the error of a descent that stopped elsewhere."""
    reached, n = np.count_nonzero(found.chosen_n), len(total_n)
    pull_n = np.abs(total_n) + (0.0 if edges is None else edges @ np.ones(n))
    price = "" if edges is None else " + the price of its edges"
    return InvalidInputError(
        f"The descent must come within {slack:g} images of {n_wanted} of {n} (ratio "
        f"{n_wanted / n:.4g}); after {found.n_iterations} iterations it is at {reached} "
        f"(ratio {reached / n:.4g}). Use solver='exact', or raise `beta` above the largest "
        f"|SAS + alpha SDS|{price}, {pull_n.max():.3g}, or raise `max_iter`."
    )


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


def check_graph(graph: Any, n: int) -> Any:
    """Return a neighbour graph as CSR in double precision, without an image's edge to itself."""
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
    if graph.dtype.kind not in "fiub":
        raise InvalidTypeError(
            f"`graph` must hold numbers; got dtype {graph.dtype}. Pass what `neighbour_graph` "
            "returns."
        )
    _check_format(graph)
    edges = sparse.coo_array(graph)
    bad = edges.row[~np.isfinite(edges.data)]
    if bad.size:
        raise not_finite("graph", np.unique(bad).tolist())
    between = edges.row != edges.col
    weights = edges.data[between].astype(np.float64)
    return sparse.csr_array((weights, (edges.row[between], edges.col[between])), shape=(n, n))


def _check_format(graph: Any) -> None:
    """Raise where an index leaves a sparse array: SciPy converts and multiplies without a look."""
    try:
        if hasattr(graph, "check_format"):
            graph.check_format(full_check=True)
        elif graph.format == "coo":
            type(graph)((graph.data, (graph.row, graph.col)), shape=graph.shape)
        elif graph.format not in ("dia", "dok", "lil"):
            raise ValueError(f"it has the format {graph.format}")
    except (ValueError, TypeError, IndexError) as exc:
        raise InvalidInputError(
            f"`graph` must be a well-formed sparse array; {exc}. Pass what `neighbour_graph` "
            "returns."
        ) from exc


def exchange_all(
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
