"""`multi_label_suspects`: which labels look wrong, image by image and label by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit

from clip_al.arrays.blocks import block_rows, map_blocks, one_blas_thread, unit_block
from clip_al.arrays.checks import check_embeddings, check_int
from clip_al.arrays.given import listed
from clip_al.arrays.labels import Names, ordered_names
from clip_al.arrays.several import check_label_probabilities, encode_indicator
from clip_al.arrays.types import Embeddings, TextEncoder
from clip_al.errors import InvalidInputError
from clip_al.score.class_vectors import unit_class_embeddings
from clip_al.score.several_labels.held_out import held_out_scores
from clip_al.score.several_labels.pair_noise import fit_pair_noise

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "a photo of a {}"
LIKELY_WRONG = 0.5
MOST_NAMED = 5
SURE = 1e-6  # of a probability, so that its log-odds are finite


@dataclass(frozen=True)
class LabelSuspect:
    """A label of an image that may be wrong.

    Parameters
    ----------
    index : int
        Of the image.
    id : str or None
        Of the image, where it is known.
    label : str or int
        By name where names are known.
    is_given : bool
        True: the image has the label, and perhaps should not. False: it lacks the label, and
        perhaps should have it.
    probability : float
        That the label is wrong, in [0, 1].
    """

    index: int
    id: str | None
    label: str | int
    is_given: bool
    probability: float

    def __str__(self) -> str:
        name = f"image {self.index}" if self.id is None else self.id
        what = "given, and perhaps wrong" if self.is_given else "missing, and perhaps shown"
        return f"{name}: {self.label!r} is {what} ({self.probability:.0%})"


@dataclass(frozen=True, eq=False)
class MultiLabelSuspects:
    """How likely each label of each image is wrong.

    Parameters
    ----------
    probabilities : ndarray of shape (n, k), float32
        That it is wrong as it stands, given or missing.
    given : ndarray of shape (n, k), bool
        The labels.
    class_names : tuple of str or None
    ids : tuple of str or None
        Of the images.
    """

    probabilities: NDArray[np.float32]
    given: NDArray[np.bool_]
    class_names: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None

    @property
    def n_wrong(self) -> int:
        """How many labels are likelier wrong than right."""
        return int((self.probabilities > LIKELY_WRONG).sum())

    @property
    def wrongly_given(self) -> NDArray[np.int64]:
        """Of each label, how many images have it and likely should not, (k,)."""
        counts: NDArray[np.int64] = (self._likely & self.given).sum(axis=0)
        return counts

    @property
    def wrongly_missing(self) -> NDArray[np.int64]:
        """Of each label, how many images lack it and likely should have it, (k,)."""
        counts: NDArray[np.int64] = (self._likely & ~self.given).sum(axis=0)
        return counts

    @property
    def _likely(self) -> NDArray[np.bool_]:
        likely_nk: NDArray[np.bool_] = self.probabilities > LIKELY_WRONG
        return likely_nk

    def top(self, n: int | None = None) -> list[LabelSuspect]:
        """Return the labels that are likeliest wrong, worst first.

        Parameters
        ----------
        n : int, optional
            How many, in [1, n k]; by default all that are likelier wrong than right.

        Returns
        -------
        list of LabelSuspect
            Ties by the position of the image, then of the label.
        """
        if n is None:
            n = self.n_wrong
            if not n:
                return []
        n = check_int(n, "n", largest=self.probabilities.size)
        flat = self.probabilities.ravel()
        if n < flat.size:
            least = np.partition(flat, flat.size - n)[flat.size - n]
            places = np.flatnonzero(flat >= least)
        else:
            places = np.arange(flat.size)
        places = places[np.argsort(-flat[places], kind="stable")][:n]
        k = self.probabilities.shape[1]
        return [self._suspect(*divmod(int(place), k)) for place in places]

    def _suspect(self, i: int, j: int) -> LabelSuspect:
        return LabelSuspect(
            i,
            None if self.ids is None else self.ids[i],
            j if self.class_names is None else self.class_names[j],
            bool(self.given[i, j]),
            float(self.probabilities[i, j]),
        )

    def to_frame(self, n: int | None = None) -> pd.DataFrame:
        """Return `top(n)` as a table: index, id where known, label, suspected, probability.

        ``suspected`` is "given" or "missing".
        """
        import pandas as pd

        from clip_al.file_names import text_column

        found = self.top(n)
        frame = pd.DataFrame(
            {
                "index": np.array([suspect.index for suspect in found], dtype=np.int64),
                "label": np.array([suspect.label for suspect in found], dtype=object),
                "suspected": ["given" if suspect.is_given else "missing" for suspect in found],
                "probability": np.array([suspect.probability for suspect in found]),
            }
        )
        if self.ids is not None:
            frame.insert(1, "id", text_column(suspect.id for suspect in found))
        return frame

    def __str__(self) -> str:
        n, k = self.probabilities.shape
        added_k, missing_k = self.wrongly_given, self.wrongly_missing
        lines = [
            f"{self.n_wrong:,} of {n * k:,} labels ({n:,} images × {k:,}) are likelier wrong than "
            f"right: {added_k.sum():,} given, {missing_k.sum():,} missing"
        ]
        order = np.argsort(-(added_k + missing_k), kind="stable")[:MOST_NAMED]
        for j in order[(added_k + missing_k)[order] > 0]:
            name = int(j) if self.class_names is None else self.class_names[j]
            lines.append(f"  {name}: {added_k[j]:,} given, {missing_k[j]:,} missing")
        return "\n".join(lines)


def multi_label_suspects(
    Z: Embeddings,
    Y: ArrayLike,
    *,
    class_names: Names | None = None,
    class_embeddings: Embeddings | None = None,
    encoder: TextEncoder | None = None,
    probabilities: ArrayLike | None = None,
    ids: ArrayLike | None = None,
) -> MultiLabelSuspects:
    """Find labels that look wrong where an image may have several: given, or missing.

    Parameters
    ----------
    Z : array-like or EmbeddingTable of shape (n, d)
        Image embeddings, n ≥ 2; not modified.
    Y : array-like of shape (n, k)
        1 where an image has a label, 0 where it has it not.
    class_names : sequence of str or mapping, optional
        What the labels are called, in the order of the columns.
    class_embeddings : array-like of shape (k, d), optional
        Text embeddings of the labels, of the images' model, k ≥ 2.
    encoder : ClipEncoder, optional
        Encodes the names in place of `class_embeddings`. Without either, images alone speak.
    probabilities : array-like of shape (n, k), optional
        That each image has each label, in [0, 1], by a model of your own that did not see these
        labels of the image; in place of what other images say.
    ids : sequence of str, optional
        What the images are called; those of a table by default.

    Returns
    -------
    MultiLabelSuspects

    Raises
    ------
    InvalidInputError
        Where shapes do not fit together, `Y` holds other than 0 and 1, or a row of `Z` is not
        finite or all zeros.
    ModelMismatchError
        Where images and texts were encoded by two models.

    Notes
    -----
    Two things speak for a label of an image: ridge regression on the other images (each left
    out in closed form) and the cosine with the label's text. A logistic model of both says how
    likely the image shows the label; together with the share of labels that are wrongly given
    and that are missing (see `PairNoise`) that is the probability that the label is wrong.
    These shares are held near a tenth and a twentieth: the probability ranks, and is no count
    of what is wrong in all.

    O(n d (d + k) + d³) time, O(n k) memory.

    References
    ----------
    Ours. Logistic regression with labels flipped at a rate: Bootkrajang, Kabán: "Label-noise
    Robust Logistic Regression and its Applications", ECML PKDD 2012. cf. Thyagarajan et al.:
    "Identifying Incorrect Annotations in Multi-Label Classification Data", 2022 (cleanlab).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> Y = (rng.random((300, 3)) < 0.3).astype(int)
    >>> Z = Y @ np.eye(8)[:3] + 0.5 + 0.1 * rng.standard_normal((300, 8))
    >>> Y[0, 0], Y[1, 2] = 1 - Y[0, 0], 1 - Y[1, 2]  # two are wrong
    >>> found = multi_label_suspects(Z, Y, class_names=["car", "dog", "sky"])
    >>> sorted((s.index, s.label) for s in found.top(2))
    [(0, 'car'), (1, 'sky')]
    """
    image_emb_nd = check_embeddings(Z, "Z", finite=False)
    image_emb_nd = image_emb_nd[:] if getattr(image_emb_nd, "is_on_device", False) else image_emb_nd
    n = len(image_emb_nd)
    if n < 2:
        raise InvalidInputError(
            f"`Z` must hold at least two images, as each is judged by the others; got {n}. Pass "
            "all images."
        )
    given_nk = encode_indicator(Y, n_images=n, name="Y")
    k = given_nk.shape[1]
    names = None if class_names is None else _names(class_names, k)
    text_emb_kd = _texts(class_embeddings, encoder, names, k, Z)
    images = _ids(Z if ids is None else None, ids, n)
    with one_blas_thread():
        if probabilities is None:
            features = [held_out_scores(image_emb_nd, given_nk)]
        else:
            prob_nk = check_label_probabilities(probabilities, n_images=n, n_labels=k)
            features = [logit(np.clip(prob_nk, SURE, 1.0 - SURE)).astype(np.float32)]
        if text_emb_kd is not None:
            features.append(_cosines(image_emb_nd, text_emb_kd))
        wrong_nk = fit_pair_noise(features, given_nk).wrong(features, given_nk)
    return MultiLabelSuspects(wrong_nk, given_nk, names, images)


def _names(class_names: Names, k: int) -> tuple[str, ...]:
    names = ordered_names(class_names)
    if len(names) != k:
        raise InvalidInputError(
            f"`class_names` must name each of the {k} columns of `Y`; got {len(names)} names. "
            "Pass one a label, in the order of the columns."
        )
    return names


def _texts(
    class_embeddings: Embeddings | None,
    encoder: TextEncoder | None,
    names: Sequence[str] | None,
    k: int,
    Z: Embeddings,
) -> NDArray[np.float32] | None:
    """Return the unit text embeddings of the labels; None without."""
    source: Any = getattr(class_embeddings, "model_id", None)
    if class_embeddings is None:
        if encoder is None:
            return None
        if names is None:
            raise InvalidInputError(
                "`encoder` must come with `class_names`, which it encodes; got none. Pass the "
                "names of the labels."
            )
        class_embeddings, source = encoder.encode_texts(list(names), templates=[TEMPLATE]), encoder
    text_emb_kd, _ = unit_class_embeddings(class_embeddings, source, Z)
    if len(text_emb_kd) != k:
        raise InvalidInputError(
            f"`class_embeddings` must have one row for each of the {k} columns of `Y`; got "
            f"{len(text_emb_kd)}. Encode the names in the order of the columns."
        )
    return text_emb_kd


def _ids(table: Any, ids: ArrayLike | None, n: int) -> tuple[str, ...] | None:
    known = getattr(table, "ids", None) if ids is None else ids
    if known is None or callable(known):  # a masked array has a method of that name
        return None
    names = tuple(str(one) for one in listed(known, "ids", "a sequence", "Pass one id an image."))
    if len(names) != n:
        raise InvalidInputError(
            f"`ids` must name each of the {n} images; got {len(names)}. Pass one an image, in "
            "their order."
        )
    return names


def _cosines(image_emb_nd: NDArray[Any], text_emb_kd: NDArray[np.float32]) -> NDArray[np.float32]:
    cosine_nk = np.empty((len(image_emb_nd), len(text_emb_kd)), dtype=np.float32)

    def compare(rows: slice) -> None:
        cosine_nk[rows] = unit_block(image_emb_nd, rows) @ text_emb_kd.T

    for _ in map_blocks(compare, len(image_emb_nd), block_rows(max(text_emb_kd.shape), 8)):
        pass
    return cosine_nk
