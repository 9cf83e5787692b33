"""Concept profiles: the top-m concepts of each image, and how strongly it shows them.

    embeddings (n, d) × vocabulary (v, d) ──▶ centred similarity, a block at a time
                                          ──▶ ids (n, m) and similarities (n, m)

The similarity of all images to all concepts, n × v numbers, never exists at once: each
worker thread multiplies one block, which stays in its cache, and keeps the top m.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread, unit_block
from clip_al.arrays.checks import (
    check_choice,
    check_embeddings,
    check_indices,
    check_int,
)
from clip_al.arrays.device import device_block, device_of, device_slices
from clip_al.arrays.types import Device, Embeddings, as_array
from clip_al.atomic import replacing
from clip_al.concepts.notebook import profiles_html
from clip_al.concepts.profile_checks import (
    FORMAT,
    SIMILARITIES,
    checked_profiles,
    checked_statistics,
    checksum_of,
    why_unfit,
)
from clip_al.concepts.vocabulary import ConceptVocabulary
from clip_al.errors import InvalidInputError, InvalidTypeError, ModelMismatchError
from clip_al.saved_files import SavedFile

SAVED = SavedFile("ConceptProfiles.save", "Copy it again, or profile the images again.")
WEIGHTINGS = ("binary", "softmax")
"""What the entries of a concept vector may be; the first is the default everywhere."""
IMAGE_MEAN_SHARE = 0.5
"""How much of the pool's mean image is taken off: all of it deletes what the pool is about."""
WORD_FLOOR = 1.1
"""How many spreads below the largest of v chance scores a word is no longer said."""
SMALLEST_STD = 1e-6
RUN_LENGTH = 16
CACHED_ROWS = 512  # of some hundred columns: what a core keeps at hand
STATISTICS_IMAGES = 5_000


@dataclass(frozen=True, eq=False)
class ConceptStatistics:
    """Mean and spread, over a pool, of the products of images and concepts.

    Parameters
    ----------
    mean_v, std_v : ndarray of shape (v,), float64
        Mean and standard deviation of the product of the pool's images and each concept's
        direction (`concept_directions`).
    n : int
        Number of images that were measured.
    similarity : {"centred", "standardized"}
        What they are for; see `ConceptProfiles.from_embeddings`.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where they are not of one number a concept, not finite, or no product of unit vectors.
    """

    mean_v: NDArray[np.float64]
    std_v: NDArray[np.float64]
    n: int
    similarity: str = SIMILARITIES[0]

    def __post_init__(self) -> None:
        checked = checked_statistics(self.mean_v, self.std_v, self.n, self.similarity)
        for name, value in zip(("mean_v", "std_v", "n"), checked, strict=True):
            object.__setattr__(self, name, value)  # the dataclass is frozen

    def scale_and_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by what products are multiplied, and what is then added, a number a concept.

        A spread below 1e-6 (all images alike) counts as 1.
        """
        if self.similarity == "standardized":
            std_v = np.where(self.std_v < SMALLEST_STD, 1.0, self.std_v)
            return 1.0 / std_v, -self.mean_v / std_v
        off_v = IMAGE_MEAN_SHARE * self.mean_v
        rest_v = self.mean_v - off_v
        # Of all images and all concepts together, so that no concept's own spread counts.
        pooled = float(np.sqrt(np.mean(self.std_v**2) + np.var(rest_v)))
        scale = 1.0 / pooled if pooled >= SMALLEST_STD else 1.0
        return np.full(len(off_v), scale), -off_v * scale

    @classmethod
    def from_embeddings(
        cls,
        Z: Embeddings,
        vocabulary: ConceptVocabulary,
        *,
        similarity: str = SIMILARITIES[0],
        max_images: int | None = STATISTICS_IMAGES,
    ) -> ConceptStatistics:
        """Measure a pool: of one image or more, standardised similarities need two.

        Parameters
        ----------
        Z : array-like or EmbeddingTable of shape (n, d)
            Image embeddings; not modified.
        vocabulary : ConceptVocabulary
            With embeddings of the same model, (v, d).
        similarity : {"centred", "standardized"}
            What they are for.
        max_images : int or None
            Of a larger pool this many or fewer, evenly spaced, are measured: 5,000 leave
            a standard error of 1 % of the spread, and 1.4 % of it for the mean. None
            measures all.

        Notes
        -----
        The covariance of the embeddings, (d, d), gives the variance of every concept's
        similarity, so no similarity is computed: O(n d²) time against O(n d v), O(d²)
        memory for each worker, one pass.
        """
        check_choice(similarity, SIMILARITIES[:2], "similarity")
        text_emb_vd = concept_directions(_text_embeddings(vocabulary), similarity)
        image_emb_nd = check_embeddings(
            _unwrap(Z, vocabulary), "Z", width=text_emb_vd.shape[1], finite=False
        )
        n_pool, d = image_emb_nd.shape
        if n_pool < 2 and similarity == "standardized":
            raise InvalidInputError(
                "Standardising needs a pool of at least 2 images; got 1. Pass the pool's "
                "`statistics=`, or another `similarity=`."
            )
        step = 1
        if max_images is not None:
            step = -(-n_pool // check_int(max_images, "max_images", smallest=2))
        n = -(-n_pool // step)
        # Around one of the images, so that a small spread is not lost in a large mean.
        centre_d = unit_block(image_emb_nd, slice(0, 1))[0]

        def moments(rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            spaced = slice(rows.start * step, rows.stop * step, step)
            block = unit_block(image_emb_nd, spaced) - centre_d
            sum_d = np.ones(len(block), dtype=np.float32) @ block  # twice as fast as block.sum
            return sum_d.astype(np.float64), (block.T @ block).astype(np.float64)

        sum_d, gram_dd = np.zeros(d), np.zeros((d, d))
        for block_sum_d, block_gram_dd in map_blocks(moments, n, CACHED_ROWS):
            sum_d += block_sum_d
            gram_dd += block_gram_dd
        mean_d = sum_d / n
        covariance_dd = gram_dd / n - np.outer(mean_d, mean_d)
        # Around a centre there is nothing to cancel, so float32 is enough, and twice as fast.
        spread_vd = text_emb_vd @ covariance_dd.astype(np.float32)
        variance_v = np.einsum("vd,vd->v", spread_vd, text_emb_vd, dtype=np.float64)
        std_v = np.sqrt(np.maximum(variance_v, 0.0))
        return cls(text_emb_vd @ (centre_d + mean_d), std_v, n, similarity)


@dataclass(frozen=True, eq=False, repr=False)
class ConceptProfiles:
    """The top-m concepts of each of n images.

    Make them with `from_embeddings`; the constructor takes what that computes.

    Parameters
    ----------
    ids : ndarray of shape (n, m), int32
        Positions in the vocabulary, most similar first, ties by lowest position.
    similarities : ndarray of shape (n, m), float32
        How strongly each shows, as `from_embeddings` was asked to measure it.
    vocabulary : ConceptVocabulary
        What `ids` point into.
    statistics : ConceptStatistics or None
        Of the pool that similarities are relative to; None for plain cosines.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        Where an id is no position in the vocabulary, an image has a concept twice, or
        similarities are not finite, do not fall, or are not as many.

    References
    ----------
    "A Highly Efficient Diversity-based Input Selection for DNN Improvement Using VLMs",
    arXiv 2601.08024, section III-A: the m concepts nearest to an image in CLIP's space.

    Examples
    --------
    >>> import numpy as np
    >>> from clip_al import ConceptProfiles, ConceptVocabulary
    >>> vocabulary = ConceptVocabulary.from_names(["dog", "grass", "sky"])
    >>> vocabulary = vocabulary.with_embeddings(np.eye(3))
    >>> Z = np.array([[0.9, 0.4, 0.1], [0.1, 0.2, 0.9]])
    >>> profiles = ConceptProfiles.from_embeddings(Z, vocabulary, m=2, similarity="cosine")
    >>> profiles.names(0)
    ['dog', 'grass']
    """

    ids: NDArray[np.int32]
    similarities: NDArray[np.float32]
    vocabulary: ConceptVocabulary
    statistics: ConceptStatistics | None

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)
        v = len(self.vocabulary)
        ids_nm, sims_nm = checked_profiles(self.ids, self.similarities, v)
        if self.statistics is not None:
            _check_statistics(self.statistics, v)
        object.__setattr__(self, "ids", ids_nm)  # the dataclass is frozen
        object.__setattr__(self, "similarities", sims_nm)

    @classmethod
    def _of(
        cls,
        ids: NDArray[np.int32],
        similarities: NDArray[np.float32],
        vocabulary: ConceptVocabulary,
        statistics: ConceptStatistics | None,
    ) -> ConceptProfiles:
        """Return profiles of what is checked or computed, which is not looked at again."""
        profiles = object.__new__(cls)
        parts = {"ids": ids, "similarities": similarities, "vocabulary": vocabulary}
        for name, value in {**parts, "statistics": statistics}.items():
            object.__setattr__(profiles, name, value)
        return profiles

    @classmethod
    def from_embeddings(
        cls,
        Z: Embeddings,
        vocabulary: ConceptVocabulary,
        m: int = 10,
        *,
        similarity: str = SIMILARITIES[0],
        statistics: ConceptStatistics | None = None,
        device: Device = None,
    ) -> ConceptProfiles:
        """Name the m most similar concepts of each image.

        Parameters
        ----------
        Z : array-like, EmbeddingTable or DeviceEmbeddings of shape (n, d)
            Image embeddings, any float type, not modified; rows are scaled to unit length
            where they are not. A memory-mapped array is read in blocks.
        vocabulary : ConceptVocabulary
            With embeddings of the same model, (v, d).
        m : int
            Concepts per image, in [1, v].
        similarity : {"centred", "standardized", "cosine"}
            "centred": (z − ½ μ_images) · (t_c − μ_texts) / ‖t_c − μ_texts‖, all divided by one
            spread. "standardized": each concept's cosines are brought to mean 0 and standard
            deviation 1 over the pool, which lets words win that say little about any image.
            "cosine": z · t_c, of which a few concepts near to every image ("hubs") fill most
            profiles.
        statistics : ConceptStatistics, optional
            Those of another pool, so that a shard, a later pool or a single image is
            profiled like it; measured on `Z`, on 5,000 of it at most, when not given.
        device : str or torch.device, optional
            Where images and concepts are multiplied, in float32; where the embeddings are
            by default, and with NumPy on the CPU for an array.
            Sums in another order may swap concepts that are equal to the last digits.

        Returns
        -------
        ConceptProfiles

        Raises
        ------
        InvalidInputError
            Where `Z` is empty, not 2-D, not finite, or of another width; where m is out of
            range; where the vocabulary has no embeddings.
        ModelMismatchError
            Where `Z` is a table made by another model than the vocabulary's.

        Notes
        -----
        O(n v d) time for the product, O(n v) for the top m, and one block of similarities
        for each core as memory. Any number of cores gives the same bytes.
        """
        text_emb_vd = _text_embeddings(vocabulary)
        v, d = text_emb_vd.shape
        image_emb_nd = check_embeddings(_unwrap(Z, vocabulary), "Z", width=d, finite=False)
        m = check_int(m, "m", largest=v)
        check_choice(similarity, SIMILARITIES, "similarity")
        if statistics is not None:
            _check_statistics(statistics, v)
        if statistics is not None and similarity not in (statistics.similarity, "cosine"):
            raise InvalidInputError(
                f"`statistics` must be for similarity={similarity!r}; got some for "
                f"{statistics.similarity!r}. Pass similarity={statistics.similarity!r}."
            )
        with one_blas_thread():
            if similarity == "cosine":
                statistics = None
            elif statistics is None:
                statistics = ConceptStatistics.from_embeddings(
                    image_emb_nd, vocabulary, similarity=similarity
                )
            return cls._profile(image_emb_nd, vocabulary, m, statistics, device)

    @classmethod
    def _profile(
        cls,
        image_emb_nd: NDArray[Any],
        vocabulary: ConceptVocabulary,
        m: int,
        statistics: ConceptStatistics | None,
        device: Device,
    ) -> ConceptProfiles:
        text_emb_vd = _text_embeddings(vocabulary)
        v = len(text_emb_vd)
        scale_v, shift_v = np.ones(v), np.zeros(v)
        if statistics is not None:
            # Affine in the text embedding, so it costs nothing per image.
            text_emb_vd = concept_directions(text_emb_vd, statistics.similarity)
            scale_v, shift_v = statistics.scale_and_shift()
        scaled_dv = np.ascontiguousarray((text_emb_vd * scale_v[:, None]).T, dtype=np.float32)
        offset_v = shift_v.astype(np.float32)
        n = image_emb_nd.shape[0]
        ids_nm = np.empty((n, m), dtype=np.int32)
        sims_nm = np.empty((n, m), dtype=np.float32)

        def profile(rows: slice) -> None:
            sim_bv = unit_block(image_emb_nd, rows) @ scaled_dv
            _top_concepts(sim_bv, offset_v, ids_nm[rows], sims_nm[rows])

        device = device_of(image_emb_nd, device)
        if device is None:
            for _ in map_blocks(profile, n, max(64, block_rows(v) // 16)):
                pass
        else:
            _profile_on(device, image_emb_nd, scaled_dv, offset_v, ids_nm, sims_nm)
        return cls._of(ids_nm, sims_nm, vocabulary, statistics)

    @property
    def m(self) -> int:
        """Number of concepts per image."""
        return int(self.ids.shape[1])

    @property
    def similarity(self) -> str:
        """How similarities were measured, one of `SIMILARITIES`."""
        return "cosine" if self.statistics is None else self.statistics.similarity

    @property
    def n_concepts(self) -> int:
        """Size of the vocabulary, v."""
        return len(self.vocabulary)

    @property
    def floor(self) -> float:
        """Similarity below which `words` does not say a concept; −∞ with plain cosines.

        ``√(2 ln v) − 1.1``, in spreads: √(2 ln v) is about the largest of v scores that are
        chance. docs/results/naming.md has what it keeps and what it leaves out.
        """
        if self.statistics is None:
            return -math.inf
        return math.sqrt(2.0 * math.log(self.n_concepts)) - WORD_FLOOR

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Which entries of `ids` reach the floor, (n, m): the first of each row, or none."""
        return np.asarray(self.similarities >= self.floor)

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def __repr__(self) -> str:
        return f"ConceptProfiles(n={len(self)}, m={self.m}, n_concepts={self.n_concepts})"

    def _repr_html_(self) -> str:
        return profiles_html(self)

    def names(self, index: int) -> list[str]:
        """Return the names of one image's m concepts, most similar first, fitting or not."""
        index = check_int(index, "index", smallest=0, largest=len(self) - 1)
        return [self.vocabulary.names[concept] for concept in self.ids[index]]

    def words(self, index: int) -> list[str]:
        """Return the names of those that fit: what to say of an image; `[]` where none does.

        The m nearest concepts of an image that shows nothing of the vocabulary are m wrong
        ones; `floor` leaves most of them out.
        """
        index = check_int(index, "index", smallest=0, largest=len(self) - 1)
        said = self.ids[index][self.similarities[index] >= self.floor]
        return [self.vocabulary.names[concept] for concept in said]

    def weights(self, weighting: str = "binary") -> NDArray[np.float32]:
        """Return the nonzero entries of the unit concept vectors.

        Parameters
        ----------
        weighting : {"binary", "softmax"}
            "binary": 1/√m each, the plain reading of the paper. "softmax": proportional
            to exp(similarity), which tells apart images that share a concept strongly.

        Returns
        -------
        ndarray of shape (n, m), float32
            In (0, 1]; each row has Euclidean length 1.
        """
        check_choice(weighting, WEIGHTINGS, "weighting")
        if weighting == "binary":
            return np.full(self.ids.shape, 1.0 / np.sqrt(self.m), dtype=np.float32)
        # Similarities fall along a row, so the first is the largest: exp cannot overflow.
        weights_nm: NDArray[np.float32] = np.exp(self.similarities - self.similarities[:, :1])
        weights_nm /= np.sqrt(np.einsum("nm,nm->n", weights_nm, weights_nm))[:, None]
        return weights_nm

    def take(self, indices: ArrayLike) -> ConceptProfiles:
        """Return the profiles of the images at `indices`, in that order."""
        rows = check_indices(indices, len(self))
        return ConceptProfiles._of(
            self.ids[rows], self.similarities[rows], self.vocabulary, self.statistics
        )

    def profile(self, Z: Any) -> ConceptProfiles:
        """Profile further images as these were, with the same vocabulary and statistics."""
        return ConceptProfiles.from_embeddings(
            Z,
            self.vocabulary,
            self.m,
            similarity=self.similarity,
            statistics=self.statistics,
        )

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write ids, similarities and statistics to an .npz file; of the vocabulary the names.

        Parameters
        ----------
        path : path
            Of the file, for instance ``profiles.npz``; put in place at once, when complete.
        overwrite : bool, default=False
            Replace a file that is there.

        Raises
        ------
        InvalidInputError
            Where the file is there, or its folder is not.
        """
        arrays: dict[str, Any] = {"ids": self.ids, "similarities": self.similarities}
        arrays |= {"format": np.array(FORMAT), "names": np.array(self.vocabulary.names)}
        if self.statistics is not None:
            arrays |= {"mean_v": self.statistics.mean_v, "std_v": self.statistics.std_v}
            arrays["n"] = np.int64(self.statistics.n)
            arrays["similarity"] = np.array(self.statistics.similarity)
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        arrays["sha256"] = checksum_of(arrays)
        with replacing(path, "wb", overwrite=overwrite) as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], vocabulary: ConceptVocabulary) -> ConceptProfiles:
        """Read what `save` wrote; `vocabulary` must have the same names.

        Raises
        ------
        InvalidInputError
            Where the file is missing, damaged or something else, or of another vocabulary.
        """
        _check_vocabulary(vocabulary)
        arrays = SAVED.read_arrays(path, SAVED.read(path))
        why = why_unfit(arrays)
        if why is not None:
            raise SAVED.unfit(path, why)
        if tuple(arrays["names"].tolist()) != vocabulary.names:
            raise InvalidInputError(
                f"`vocabulary` must be the one that {os.fspath(path)} was made with, "
                f"{len(arrays['names'])} concepts; got another of {len(vocabulary)}. "
                "Load that one."
            )
        statistics = None
        if "mean_v" in arrays:
            # 0.1.0 knew no other than standardised ones, and did not name them.
            similarity = str(arrays.get("similarity", "standardized"))
            statistics = ConceptStatistics(
                arrays["mean_v"], arrays["std_v"], int(arrays["n"]), similarity
            )
        return cls._of(arrays["ids"], arrays["similarities"], vocabulary, statistics)


def concept_directions(text_emb_vd: NDArray[Any], similarity: str) -> NDArray[np.float32]:
    """Return what images are multiplied with: the texts, or their unit deviations from the mean.

    A text that is the mean itself has no direction and is similar to nothing.
    """
    if similarity != "centred":
        return text_emb_vd
    off_vd = text_emb_vd - text_emb_vd.mean(axis=0, dtype=np.float64)
    length_v1 = np.linalg.norm(off_vd, axis=1, keepdims=True)
    off_vd /= np.where(length_v1 < SMALLEST_STD, np.inf, length_v1)
    directions_vd: NDArray[np.float32] = off_vd.astype(np.float32)
    return directions_vd


def _check_vocabulary(vocabulary: object) -> None:
    if not isinstance(vocabulary, ConceptVocabulary):
        raise InvalidTypeError(
            f"`vocabulary` must be a ConceptVocabulary; got {type(vocabulary).__name__}. Make one "
            "with `ConceptVocabulary.from_names`, for instance."
        )


def _check_statistics(statistics: object, v: int) -> None:
    if not isinstance(statistics, ConceptStatistics):
        raise InvalidTypeError(
            f"`statistics` must be a ConceptStatistics; got {type(statistics).__name__}. Measure "
            "some with `ConceptStatistics.from_embeddings`, or leave them out."
        )
    if len(statistics.mean_v) != v:
        raise InvalidInputError(
            f"`statistics` must be of this vocabulary, {v} concepts; got those of "
            f"{len(statistics.mean_v)}. Measure them with it."
        )


def _text_embeddings(vocabulary: ConceptVocabulary) -> NDArray[np.float32]:
    _check_vocabulary(vocabulary)
    if vocabulary.embeddings is None:
        raise InvalidInputError(
            "`vocabulary` must have embeddings; got names alone. "
            "Call `vocabulary.encode(encoder)` or `.with_embeddings(T)` first."
        )
    return vocabulary.embeddings


def check_same_model(Z: object, vocabulary: ConceptVocabulary) -> None:
    """Raise where `Z` is a table of another model than the vocabulary's; arrays have none."""
    model = getattr(Z, "model_id", None)
    if model is not None and vocabulary.model is not None and model != vocabulary.model:
        raise ModelMismatchError(
            f"The images and the vocabulary must be encoded by one model; got {model} and "
            f"{vocabulary.model}. Encode the vocabulary with {model}."
        )


def _unwrap(Z: Embeddings, vocabulary: ConceptVocabulary) -> Any:
    """Return the array of an EmbeddingTable, after comparing models; anything else as it is."""
    check_same_model(Z, vocabulary)
    return as_array(Z)


def _profile_on(
    device: Device,
    image_emb_nd: NDArray[Any],
    scaled_dv: NDArray[np.float32],
    offset_v: NDArray[np.float32],
    ids_nm: NDArray[np.int32],
    sims_nm: NDArray[np.float32],
) -> None:
    """Write ids and similarities of the top m by torch; blocks large enough for a GPU."""
    import torch

    m = ids_nm.shape[1]
    with torch.no_grad():
        right_dv, shift_v = (torch.as_tensor(a, device=device) for a in (scaled_dv, offset_v))
        for rows in device_slices(len(image_emb_nd), len(offset_v)):
            left_bd = device_block(image_emb_nd, rows, device)
            sim_bv = torch.addmm(shift_v, left_bd, right_dv)
            bound_b1 = sim_bv.topk(m, dim=1).values[:, -1:]
            kept_bv, tied_bv = sim_bv > bound_b1, sim_bv == bound_b1
            n_tied_b1 = m - kept_bv.sum(dim=1, keepdim=True)
            kept_bv |= tied_bv & (tied_bv.cumsum(dim=1) <= n_tied_b1)
            # Ascending ids, so that a stable sort leaves equal ones in that order.
            ids_bm = kept_bv.nonzero()[:, 1].view(-1, m)
            found = sim_bv.gather(1, ids_bm).sort(dim=1, descending=True, stable=True)
            sims_nm[rows] = found.values.cpu().numpy()
            ids_nm[rows] = ids_bm.gather(1, found.indices).cpu().numpy()


FAST = {"nnan", "ninf", "nsz"}  # lets the maximum of a run be one vector instruction


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _top_concepts(sim_bv, offset_v, ids_bm, sims_bm):  # type: ignore[no-untyped-def]
    """Write the m largest of ``sim + offset`` of each row, largest first, lowest id first.

    A row is cut into at least m runs, run r being every n_runs-th entry from r on. Where m
    run maxima reach a bound, so do the m largest entries, and only runs that reach it are
    looked at entry by entry. One vectorised pass and a few dozen entries, without the
    mispredicted branches of a heap.
    """
    b, v = sim_bv.shape
    m = ids_bm.shape[1]
    n_runs = max(m, (v + RUN_LENGTH - 1) // RUN_LENGTH)
    run_max = np.empty(n_runs, np.float32)
    runs, reached = np.empty(n_runs, np.int32), np.empty(v, np.int32)
    for i in range(b):
        row, sims_m, ids_m = sim_bv[i], sims_bm[i], ids_bm[i]
        _add_offset(row, offset_v, run_max)
        bound = _bound_reached_by(run_max, m)
        n = 0
        for r in range(n_runs):  # written always, kept by the step: no branch to mispredict
            runs[n] = r
            n += run_max[r] >= bound
        n_reached = 0
        for k in range(n):
            for j in range(runs[k], v, n_runs):
                reached[n_reached] = j
                n_reached += row[j] >= bound
        found = 0
        for k in range(n_reached):
            found = _insert(sims_m, ids_m, found, row[reached[k]], reached[k])


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _add_offset(row, offset_v, run_max):  # type: ignore[no-untyped-def]
    """Add the offset in place and write the maximum of each run."""
    n_runs = len(run_max)
    run_max[:] = np.float32(-3.0e38)
    for start in range(0, len(row), n_runs):
        part, offset = row[start : start + n_runs], offset_v[start : start + n_runs]
        for r in range(len(part)):
            part[r] += offset[r]
            run_max[r] = max(run_max[r], part[r])


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _bound_reached_by(run_max, m):  # type: ignore[no-untyped-def]
    """Return, by bisection, a value that at least m of the maxima reach, and few more."""
    low, high = run_max.min(), run_max.max()
    for _ in range(12):
        middle = np.float32(0.5) * (low + high)
        n = 0
        for r in range(len(run_max)):
            n += run_max[r] >= middle
        if n >= m:
            low = middle
            if n <= m + 2:
                break
        else:
            high = middle
    return low


@numba.njit(nogil=True, cache=True, fastmath=FAST)
def _insert(values_m, ids_m, found, x, j):  # type: ignore[no-untyped-def]
    """Insert x, with id j, by value and then lowest id; return how many are held."""
    m = len(values_m)
    if found == m and (x < values_m[m - 1] or (x == values_m[m - 1] and j > ids_m[m - 1])):
        return found
    p = min(found, m - 1)
    while p > 0 and (values_m[p - 1] < x or (values_m[p - 1] == x and ids_m[p - 1] > j)):
        values_m[p], ids_m[p] = values_m[p - 1], ids_m[p - 1]
        p -= 1
    values_m[p], ids_m[p] = x, j
    return min(found + 1, m)
