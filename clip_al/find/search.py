"""Images by text, by example, and by what they are to be unlike.

texts, images, rows ──▶ unit vectors ──▶ one direction ──▶ cosine with every image ──▶ first n
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import block_rows, unit_block
from clip_al.arrays.checks import (
    check_embeddings,
    check_indices,
    check_int,
    check_number,
)
from clip_al.arrays.given import array_of, length_of, method_of
from clip_al.arrays.types import ChecksModel, Embeddings
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.file_names import text_column
from clip_al.find.cosines import cosines_with

if TYPE_CHECKING:
    import pandas as pd

N_FOUND = 20
MINUS_WEIGHT = 0.5
"""How much of what is unwanted is taken away. Of texts on real CLIP embeddings, most average
precision, and 4 % unwanted images among the first 20, for 23 % with 0 and 0.4 % with 1, where
precision is that of no minus again: python -m benchmarks.find.search_minus."""
SHORTEST = 1e-6
"""Of what is left of a query; below it, only rounding is left."""
MANY = 4
"""Where less than one image in so many is searched, rows are gathered."""


@dataclass(frozen=True, repr=False, eq=False)
class Found:
    """Images that `search` found, most similar first.

    Attributes
    ----------
    indices : ndarray of shape (n,), int64
        Positions of the images.
    similarity : ndarray of shape (n,), float32
        Cosine with the query, in [-1, 1].
    n_images : int
        How many images were searched.
    """

    indices: NDArray[np.int64]
    similarity: NDArray[np.float32]
    n_images: int

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        ends = f", similarity {self.similarity[0]:.3f} to {self.similarity[-1]:.3f}"
        return f"Found({len(self):,} of {self.n_images:,} images{ends})"

    def to_frame(self, ids: Any = None, paths: Any = None) -> pd.DataFrame:
        """Return ``rank``, ``index``, ``id`` and ``path`` where passed, ``similarity``.

        Parameters
        ----------
        ids, paths : sequence of str, optional
            Of all images that the positions count in.
        """
        import pandas as pd

        frame = pd.DataFrame({"rank": np.arange(1, len(self) + 1), "index": self.indices})
        for name, given in (("id", ids), ("path", paths)):
            if given is None:
                continue
            if length_of(given, f"{name}s") <= self.indices.max():
                raise InvalidInputError(
                    f"`{name}s` must have one entry for each image; got {len(given)}, and an image "
                    f"at position {self.indices.max()}. Pass those of the same images."
                )
            frame[name] = text_column(given[i] for i in self.indices)
        frame["similarity"] = self.similarity
        return frame


def search(
    Z: Embeddings,
    query: Any,
    *,
    minus: Any = (),
    encoder: Any = None,
    n: int = N_FOUND,
    within: ArrayLike | None = None,
    minus_weight: float = MINUS_WEIGHT,
) -> Found:
    """Return the images that are most similar to texts or images, and unlike others.

    Parameters
    ----------
    Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
        Embeddings of any float type and scale, not modified, read in blocks.
    query : str, int, path, image or array, or a sequence of these
        A text; the position of an image in `Z`; an image file as `pathlib.Path`; an image as PIL
        or an array of shape (H, W[, C]); an embedding as an array of shape (d,), several as (k, d).
        Of several, the images are sought that are near to all.
    minus : as `query`, optional
        What they are to be unlike: "toy" with the query "truck".
    encoder : ClipEncoder, optional
        For texts and images; of the model that made `Z`.
    n : int
        How many images; all, where fewer are searched.
    within : array-like of int, or mask of shape (n,), optional
        Positions of the images that are searched.
    minus_weight : float
        How much `minus` counts, 0 or more; beside 1 for the query.

    Returns
    -------
    Found
        Most similar first; ties go to the lowest position.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where the query is empty or has nothing but what `minus` takes away, an encoder is missing
        or of another model or width, or no image is searched.

    Notes
    -----
    With unit vectors p of the query and m of minus, images are ranked by their cosine with

        mean(p) − minus_weight · mean(m),

    Rocchio's formula with a fixed first query of 0. O(n d) time, bound by reading the rows once;
    O(n) memory, and no copy of the rows.

    References
    ----------
    Rocchio: "Relevance Feedback in Information Retrieval", in Salton (ed.), The SMART Retrieval
    System, 1971. Manning, Raghavan, Schütze: Introduction to Information Retrieval, 2008,
    section 9.1.1, equation 9.3.

    Examples
    --------
    >>> Z = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> search(Z, 0, n=2).indices
    array([0, 1])
    >>> search(Z, np.array([1.0, 0.1]), minus=2, n=1, within=[1, 2])
    Found(1 of 2 images, similarity 0.518 to 0.518)
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    n = check_int(n, "n")
    minus_weight = check_number(minus_weight, "minus_weight", low=0.0)
    rows = None
    if within is not None:
        rows = np.sort(check_indices(within, len(image_emb_nd), "within"))
        if not rows.size:
            raise InvalidInputError(
                "`within` must name at least one image; got none. Leave it out to search all."
            )
    wanted = _as_unit_rows(query, "query", Z, image_emb_nd, encoder)
    unwanted = _as_unit_rows(minus, "minus", Z, image_emb_nd, encoder)
    if not len(wanted):
        raise InvalidInputError(
            "`query` must hold at least one text or image; got none. Pass what is sought."
        )
    unit_d = _direction(wanted, unwanted, minus_weight)
    sim_r = _similarities(image_emb_nd, rows, unit_d)
    best = _first(sim_r, n)
    return Found(best if rows is None else rows[best], sim_r[best], len(sim_r))


def _direction(
    wanted: NDArray[np.float32], unwanted: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    query_d = wanted.mean(axis=0, dtype=np.float64)
    if len(unwanted):
        query_d -= weight * unwanted.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(query_d))
    if length < SHORTEST:
        raise InvalidInputError(
            "`query` must differ from `minus`; what one adds the other takes away. Leave what "
            "stands in both out."
        )
    unit_d: NDArray[np.float32] = (query_d / length).astype(np.float32)
    return unit_d


def _similarities(
    image_emb_nd: NDArray[Any], rows: NDArray[np.int64] | None, unit_d: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the cosine of each image that is searched."""
    n = len(image_emb_nd)
    whole = isinstance(image_emb_nd, np.ndarray) and (rows is None or len(rows) * MANY > n)
    if whole:
        sim_n = cosines_with(image_emb_nd, unit_d)
        return sim_n if rows is None else sim_n[rows]
    searched = np.arange(n) if rows is None else rows
    sim_r = np.empty(len(searched), dtype=np.float32)
    step = block_rows(image_emb_nd.shape[1])
    for start in range(0, len(searched), step):
        part = slice(start, start + step)
        sim_r[part] = cosines_with(np.asarray(image_emb_nd[searched[part]]), unit_d)
    return sim_r


def _first(sim_r: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Return the positions of the n largest, largest first, ties by position."""
    kept = np.arange(len(sim_r))
    if n < len(sim_r):
        least = np.partition(sim_r, len(sim_r) - n)[len(sim_r) - n]
        kept = np.flatnonzero(sim_r >= least)
    return kept[np.argsort(-sim_r[kept], kind="stable")][:n]


def _as_unit_rows(
    given: Any, name: str, Z: Embeddings, image_emb_nd: NDArray[Any], encoder: Any
) -> NDArray[np.float32]:
    """Return what was asked for as unit rows, in any order."""
    texts: list[str] = []
    images: list[Any] = []
    positions: list[Any] = []
    vectors: list[Any] = []
    for given_entry in _entries(given, name, image_emb_nd.shape[1]):
        entry = _as_numbers(given_entry, name)
        if isinstance(entry, str):
            texts.append(entry)
        elif isinstance(entry, int | np.integer) and not isinstance(entry, bool):
            positions.append(entry)
        elif isinstance(entry, np.ndarray) and entry.ndim == 1:
            vectors.append(entry)
        elif isinstance(entry, os.PathLike | np.ndarray) or hasattr(entry, "getexif"):
            images.append(entry)
        else:
            raise InvalidTypeError(
                f"`{name}` must hold texts, positions, paths, images or embeddings; got a "
                f"{type(entry).__name__}. Pass an image file as `pathlib.Path`."
            )
    width = image_emb_nd.shape[1]
    parts = [np.empty((0, width), dtype=np.float32)]
    if positions:
        rows = check_indices(np.array(positions), len(image_emb_nd), name, distinct=False)
        parts.append(unit_block(np.asarray(image_emb_nd[rows]), slice(None)))
    if vectors:
        parts.append(_checked(vectors, name, width))
    if texts or images:
        _check_encoder(encoder, Z, name)
    if texts:
        encode = method_of(encoder, "encode_texts", "encoder", "Pass a `ClipEncoder`.")
        parts.append(_checked(encode(texts), "encoder", width))
    if images:
        encode = method_of(encoder, "encode_images", "encoder", "Pass a `ClipEncoder`.")
        parts.append(_checked(encode(images), "encoder", width))
    return np.concatenate(parts)


def _entries(given: Any, name: str, width: int) -> list[Any]:
    """Return the entries of a query, of one where it is one."""
    if not isinstance(given, list | tuple):
        given = _as_numbers(given, name)
    if isinstance(given, np.ndarray):
        is_rows = given.ndim == 2 and given.dtype.kind == "f" and given.shape[1] == width
        is_positions = given.ndim == 1 and given.dtype.kind in "iu"
        return list(given) if is_rows or is_positions else [given]
    is_one = isinstance(given, str | bytes | int | np.generic | os.PathLike)
    if is_one or hasattr(given, "getexif"):
        return [given]
    try:
        return list(given)
    except TypeError as exc:
        raise InvalidTypeError(
            f"`{name}` must be a text, a position, a path, an image or an embedding, or a "
            f"sequence of these; got a {type(given).__name__}. Pass a list."
        ) from exc


def _as_numbers(entry: Any, name: str) -> Any:
    """Return lists and tensors as arrays, anything else as it is."""
    is_other = isinstance(entry, np.ndarray | np.generic) or hasattr(entry, "getexif")
    is_numbers = isinstance(entry, list | tuple) or hasattr(entry, "__array__")
    return array_of(entry, name) if is_numbers and not is_other else entry


def _checked(vectors: Any, name: str, width: int) -> NDArray[np.float32]:
    return unit_block(check_embeddings(array_of(vectors, name), name, width=width), slice(None))


def _check_encoder(encoder: Any, Z: Embeddings, name: str) -> None:
    if encoder is None:
        raise InvalidInputError(
            f"`encoder` must be given where `{name}` holds texts or images; got none. Pass a "
            "`ClipEncoder` of the model that made the embeddings."
        )
    if isinstance(Z, ChecksModel):
        Z.check_model(encoder)
