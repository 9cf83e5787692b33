"""What profiles and statistics must hold, wherever they come from: a file or a constructor.

Compiled loops count concepts by the ids of profiles, so an id that is no position in the
vocabulary must never reach them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.checks import check_choice, check_int
from clip_al.arrays.given import array_of
from clip_al.errors import InvalidInputError, InvalidTypeError

FORMAT = "clip_al.ConceptProfiles 1"
SIMILARITIES = ("centred", "standardized", "cosine")
LARGEST_PRODUCT = 1.01
"""Of unit vectors, with what float16 rounds."""


def checked_profiles(
    ids: ArrayLike, similarities: ArrayLike, v: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the two arrays of profiles in a vocabulary of v concepts, int32 and float32.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where they are no profiles.

    Notes
    -----
    O(n m log m) time; no copy where they are of these types.
    """
    ids_nm, sims_nm = array_of(ids, "ids"), array_of(similarities, "similarities")
    if ids_nm.dtype.kind not in "iu" or ids_nm.ndim != 2 or sims_nm.dtype.kind not in "fiu":
        raise InvalidTypeError(
            "`ids` must be a 2-D array of whole numbers and `similarities` one of numbers; got "
            f"{ids_nm.ndim}-D of {ids_nm.dtype} and {sims_nm.ndim}-D of {sims_nm.dtype}. Make "
            "profiles with `ConceptProfiles.from_embeddings`."
        )
    with np.errstate(over="ignore"):  # infinity is found below
        sims_nm = sims_nm.astype(np.float32, copy=False)
    why = _wrong_concepts(ids_nm, sims_nm, v)
    if why is not None:
        raise InvalidInputError(
            f"Profiles must hold distinct positions in the vocabulary and falling similarities; "
            f"{why.replace('it names', 'they name')}. Make them with "
            "`ConceptProfiles.from_embeddings`."
        )
    return ids_nm.astype(np.int32, copy=False), sims_nm


def checked_statistics(
    mean_v: ArrayLike, std_v: ArrayLike, n: int, similarity: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return mean, spread and number of images of a pool's statistics, read-only float64.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where they are no statistics of products of unit vectors.
    """
    check_choice(similarity, SIMILARITIES[:2], "similarity")
    n = check_int(n, "n")
    mean, std = (
        np.array(array_of(values, name, np.float64))
        for values, name in ((mean_v, "mean_v"), (std_v, "std_v"))
    )
    why = None
    if mean.ndim != 1 or mean.shape != std.shape or not mean.size:
        why = f"`mean_v` has shape {mean.shape} and `std_v` {std.shape}"
    elif not (np.abs(mean) <= LARGEST_PRODUCT).all():
        why = "a mean is beyond 1 or not finite"
    elif not ((std >= 0) & (std <= LARGEST_PRODUCT)).all():
        why = "a spread is below 0, beyond 1 or not finite"
    if why is not None:
        raise InvalidInputError(
            "Statistics must hold mean and spread of the products of unit vectors, one number a "
            f"concept; {why}. Measure them with `ConceptStatistics.from_embeddings`."
        )
    mean.setflags(write=False)
    std.setflags(write=False)
    return mean, std, n


def why_unfit(arrays: dict[str, NDArray[Any]]) -> str | None:
    """Return what is wrong with the arrays of a file; None where they are profiles."""
    why = _wrong_kind(arrays)
    if why is None:
        why = _wrong_concepts(arrays["ids"], arrays["similarities"], len(arrays["names"]))
    return why or _wrong_statistics(arrays) or _wrong_checksum(arrays)


def checksum_of(arrays: dict[str, NDArray[Any]]) -> NDArray[np.str_]:
    """Return the SHA-256 of the arrays of a file, its format and this checksum apart."""
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {"format", "sha256"}):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return np.array(digest.hexdigest())


def _wrong_checksum(arrays: dict[str, NDArray[Any]]) -> str | None:
    # Files of 0.1.0 have none.
    found = arrays.get("sha256")
    if found is None or (found.shape == () and found.item() == checksum_of(arrays).item()):
        return None
    return "it is damaged or was edited"


def _wrong_kind(arrays: dict[str, NDArray[Any]]) -> str | None:
    # Files of 0.1.0 do not name their format.
    found = arrays.get("format", np.array(FORMAT))
    if found.shape != () or found.item() != FORMAT:
        return f"it holds {found.ravel()[:1].tolist()} in place of {FORMAT}"
    kinds = {"ids": (np.int32, 2), "similarities": (np.float32, 2), "names": (np.str_, 1)}
    if "mean_v" in arrays:
        kinds |= {"mean_v": (np.float64, 1), "std_v": (np.float64, 1), "n": (np.int64, 0)}
    for name, (dtype, ndim) in kinds.items():
        if name not in arrays:
            return f"it has no `{name}`"
        array = arrays[name]
        if not np.issubdtype(array.dtype, dtype) or array.ndim != ndim:
            return f"`{name}` is {array.ndim}-D of {array.dtype}"
    return None


def _wrong_concepts(ids_nm: NDArray[Any], sims_nm: NDArray[Any], v: int) -> str | None:
    if sims_nm.shape != ids_nm.shape or ids_nm.shape[1] < 1:
        return f"`ids` has shape {ids_nm.shape} and `similarities` {sims_nm.shape}"
    if ids_nm.size and (ids_nm.min() < 0 or ids_nm.max() >= v):
        bad = ids_nm.min() if ids_nm.min() < 0 else ids_nm.max()
        return f"it names the concept {bad} of a vocabulary of {v}"
    if (np.diff(np.sort(ids_nm, axis=1), axis=1) == 0).any():
        return "it names a concept twice for one image"
    if not np.isfinite(sims_nm).all() or (np.diff(sims_nm, axis=1) > 0).any():
        return "similarities are not finite, or do not fall along each row"
    return None


def _wrong_statistics(arrays: dict[str, NDArray[Any]]) -> str | None:
    if "mean_v" in arrays:
        v, mean_v, std_v = len(arrays["names"]), arrays["mean_v"], arrays["std_v"]
        if mean_v.shape != (v,) or std_v.shape != (v,) or arrays["n"] < 1:
            return f"its statistics are not of {v} concepts"
        if not np.isfinite(mean_v).all() or not np.isfinite(std_v).all() or (std_v < 0).any():
            return "its statistics are not finite, or no spreads"
        if max(np.abs(mean_v).max(), std_v.max()) > LARGEST_PRODUCT:
            return "its statistics are not of products of unit vectors"
        similarity = arrays.get("similarity", np.array("standardized"))
        if similarity.shape != () or similarity.item() not in SIMILARITIES[:2]:
            return f"its statistics are for {similarity.ravel()[:1].tolist()}"
    return None
