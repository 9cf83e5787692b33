"""Images and texts to unit-length embeddings.

torch and open_clip are imported on first use, never with this module.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice, check_count, check_int
from clip_al.arrays.given import check_flag, listed
from clip_al.encode.clip_models import LoadedClip
from clip_al.errors import (
    CutTextsWarning,
    InvalidInputError,
    InvalidTypeError,
    SkippedImagesWarning,
    UnreadableImageError,
    describe_failures,
)
from clip_al.images.sources import ImageSource, image_source
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    import torch
    from PIL import Image

MIN_IMAGES_FOR_WORKERS = 512
MAX_WORKERS = 16
MOST_AT_ONCE = 2**31 - 1
MOST_WORKERS = 256  # that can be asked for: each is a process

_loading = threading.RLock()


class EncodedBatch(NamedTuple):
    """Consecutive rows of an encoded source.

    Parameters
    ----------
    start : int
        Position of the first row in the source.
    embeddings : ndarray of shape (b, d), float32
        Unit rows; NaN where the image could not be read.
    failures : list of (int, str)
        Position in the source and reason of each unreadable image.
    """

    start: int
    embeddings: NDArray[np.float32]
    failures: list[tuple[int, str]]


class ClipEncoder:
    """Encode images and texts with a CLIP model of open_clip.

    Parameters
    ----------
    model : str, default="mini"
        ``"mini"``, the small CLIP that ships with the package; a name of open_clip such as
        ``"ViT-B-32"``, together with `pretrained`; ``"hf-hub:ORG/REPO"``; or
        ``"local-dir:PATH"``, a folder with ``open_clip_config.json`` and
        ``open_clip_model.safetensors``, and, where the model has a vocabulary of its own,
        ``bpe_merges.txt.gz``.
    pretrained : str, optional
        Which weights an open_clip name is loaded with: a tag or a checkpoint file. Random
        weights are refused.
    device : str, optional
        Where to compute; CUDA where there is one, otherwise the CPU.
    precision : {"fp32", "bf16", "fp16"}, optional
        Type that the layers compute in (autocast); the weights and the normalisation stay
        float32. Left out: on CUDA bf16 where it is supported, otherwise fp16; elsewhere fp32.
    batch_size : int, default=256
        Images or texts encoded at once. The last digits of an embedding depend on it.
    n_workers : int, optional
        Processes that read images. Left out: one less than the cores, at most 16, for 512
        and more files on Linux; otherwise none, as for images in memory and for Datasets.
        Under torchrun, the cores are shared out to the ranks of the machine first.
    progress : bool, default=True
        Show progress, rate and remaining time on a terminal; other outputs stay clean.

    Notes
    -----
    Nothing is read or checked until the first use; the loaded model stays with the object,
    and copies and pickles leave it behind. Same input, batch size and machine give the same
    bytes. Preprocessing is the model's own (resize, crop, scale), applied to the image as RGB:
    photos are turned upright by their EXIF orientation, transparency is dropped; see
    `clip_al.images.pixels.to_rgb`.

    Examples
    --------
    >>> encoder = ClipEncoder("ViT-B-32", pretrained="laion2b_s34b_b79k", device="cpu")
    >>> encoder
    ClipEncoder('ViT-B-32', pretrained='laion2b_s34b_b79k')
    """

    def __init__(
        self,
        model: str = "mini",
        pretrained: str | None = None,
        *,
        device: str | None = None,
        precision: str | None = None,
        batch_size: int = 256,
        n_workers: int | None = None,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.pretrained = pretrained
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.n_workers = n_workers
        self.progress = progress
        self._loaded: LoadedClip | None = None

    def __repr__(self) -> str:
        weights = "" if self.pretrained is None else f", pretrained={self.pretrained!r}"
        return f"ClipEncoder({self.model!r}{weights})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding; loads the model."""
        return self._load().width

    @property
    def model_id(self) -> str:
        """Model and weights, such as ``mini@1a2b3c4d``; the digits are a hash of the weights.

        Loads the model and reads its weights once: about 1 s per gigabyte.
        """
        return f"{self._load().label}@{self._load().weights_hash[:8]}"

    @property
    def preprocessing(self) -> str:
        """How images are brought to the model's input; loads the model.

        Sizes, filters and scales, and by which rules files are read (`reading`): 2 turns photos
        upright by their EXIF orientation, 1, of tables of 0.1.0, left them as they lie.
        """
        return self._load().preprocessing

    @property
    def logit_scale(self) -> float:
        """By which the model multiplies cosines, 1 / temperature; loads the model."""
        return float(self._load().model.logit_scale.detach().exp())

    @property
    def logit_bias(self) -> float | None:
        """What the model adds to scaled cosines, as SigLIP's sigmoid needs; None without."""
        bias = getattr(self._load().model, "logit_bias", None)
        return None if bias is None else float(bias.detach())

    def key(self) -> dict[str, str]:
        """Return what the embeddings depend on: model, weights, preprocessing and precision.

        `weights` is a SHA-256 over the model's configuration, its vocabulary file and every
        weight, so it holds for a folder that was moved. Same cost as `model_id`.
        """
        loaded = self._load()
        return {
            "model": loaded.label,
            "weights": loaded.weights_hash,
            "preprocessing": loaded.preprocessing,
            "precision": loaded.precision,
        }

    def encode_images(self, images: Any, *, errors: str = "raise") -> NDArray[np.float32]:
        """Return one unit-length row for each image, in the order given.

        Parameters
        ----------
        images : folder, sequence, array or torch Dataset
            See `clip_al.images.sources.image_source`: a folder (searched recursively, sorted),
            paths, PIL images, arrays of shape (H, W[, C]), one array of shape (n, H, W[, C]), or a
            Dataset whose items are such images or tuples that begin with one.
        errors : {"raise", "skip"}
            What to do about unreadable images, after all others have been encoded: raise an
            error that names them, or give them rows of NaN and warn.

        Returns
        -------
        ndarray of shape (n, d), float32

        Raises
        ------
        UnreadableImageError
            With ``errors="raise"`` where an image could not be read, and always where none
            could. Its `failures` names each with the reason, and its attribute `embeddings`
            is the array with NaN in their rows, so no work is lost.
        InvalidInputError
            Where there is no image, or the model cannot be loaded.

        Warns
        -----
        SkippedImagesWarning
            With ``errors="skip"``, naming the images skipped.

        Notes
        -----
        O(n d) memory for the result and a few batches of 8-bit pixels. Workers hand batches
        over through shared memory; in a container that has little of it (Docker: 64 MB), pass
        ``n_workers=0`` or ``--shm-size``.
        """
        check_choice(errors, ("raise", "skip"), "errors")
        source = image_source(images)
        image_emb_nd = np.empty((len(source), self.embedding_dim), dtype=np.float32)
        failures = []
        for start, rows, failed in self.iter_embeddings(source):
            image_emb_nd[start : start + len(rows)] = rows
            failures += [(source.name(index), reason) for index, reason in failed]
        if not failures:
            return image_emb_nd
        if errors == "skip" and len(failures) < len(source):
            message = f"{describe_failures(failures)} Their rows are NaN."
            warnings.warn(message, SkippedImagesWarning, stacklevel=2)
            return image_emb_nd
        error = UnreadableImageError(
            failures,
            'Repair or leave them out, or pass errors="skip" for rows of NaN in their place; '
            "`.embeddings` of this error holds the rows of all others.",
        )
        error.embeddings = image_emb_nd
        raise error

    def iter_embeddings(
        self, images: Any, *, start: int = 0, batch_size: int | None = None
    ) -> Iterator[EncodedBatch]:
        """Yield the embeddings batch by batch, from position `start` on.

        Parameters
        ----------
        images : folder, sequence, array, torch Dataset or ImageSource
            As for `encode_images`.
        start : int, default=0
            Where to begin. A multiple of the batch size gives the same bytes as beginning
            at 0.
        batch_size : int, optional
            In place of the encoder's own.

        Yields
        ------
        EncodedBatch
            Unreadable images have rows of NaN and are listed with the reason.
        """
        check_flag(self.progress, "progress")
        source = images if isinstance(images, ImageSource) else image_source(images)
        loaded = self._load()
        start = check_int(start, "start", smallest=0)
        size = self.batch_size if batch_size is None else batch_size
        size = check_count(size, "batch_size", MOST_AT_ONCE)
        loader = pixel_loader(source, loaded, start, size, self._workers(source))
        with progress_bar(self.progress, "Encoding images", len(source), done=start) as advance:
            for position, (pixels, reasons) in zip(
                range(start, len(source), size), loader, strict=True
            ):
                rows = loaded.encode_pixels(pixels)
                failures = [(position + i, reason) for i, reason in enumerate(reasons) if reason]
                rows[[index - position for index, _ in failures]] = np.nan
                yield EncodedBatch(position, rows, failures)
                advance(len(rows))

    def encode_texts(
        self, texts: Sequence[str], *, templates: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """Return one unit-length row for each text.

        Parameters
        ----------
        texts : sequence of str
            Non-empty texts; what exceeds the model's context is cut off, as in CLIP.
        templates : sequence of str, optional
            Each with one ``{}`` for the text. The unit embeddings of the filled templates are
            averaged and scaled to unit length again.

        Returns
        -------
        ndarray of shape (t, d), float32

        Raises
        ------
        InvalidInputError
            Where a text is empty, there is none, or a template has not one ``{}``.
        InvalidTypeError
            Where `texts` or `templates` is a single string or holds anything but strings.

        Warns
        -----
        CutTextsWarning
            Where texts differ only beyond the model's context, and so have one embedding.

        Notes
        -----
        O(t d) memory, whatever the number of templates.
        """
        check_flag(self.progress, "progress")
        words = _check_strings(texts, "texts")
        fills = ("{}",) if templates is None else _check_strings(templates, "templates")
        for template in fills:
            if template.count("{}") != 1:
                raise InvalidInputError(
                    f"`templates` must each have one {{}} for the text; got {template!r}. "
                    "Write it like 'a photo of a {}'."
                )
        loaded, n = self._load(), len(words) * len(fills)
        size = check_int(self.batch_size, "batch_size")
        text_emb_td = np.zeros((len(words), loaded.width), dtype=np.float32)
        same_tokens: dict[bytes, set[str]] = {}
        with progress_bar(self.progress, "Encoding texts", n) as advance:
            for start in range(0, n, size):
                pairs = [divmod(i, len(fills)) for i in range(start, min(start + size, n))]
                tokens = loaded.tokenize([fills[f].replace("{}", words[t]) for t, f in pairs])
                for i, cut in loaded.cut_texts(tokens).items():
                    same_tokens.setdefault(cut, set()).add(words[pairs[i][0]])
                rows = loaded.encode_tokens(tokens)
                np.add.at(text_emb_td, [t for t, _ in pairs], rows)
                advance(len(rows))
        _warn_of_cut_texts([texts for texts in same_tokens.values() if len(texts) > 1])
        if len(fills) > 1:
            text_emb_td /= np.linalg.norm(text_emb_td, axis=1, keepdims=True)
        return text_emb_td

    def _workers(self, source: ImageSource) -> int:
        if self.n_workers is not None:
            none = isinstance(self.n_workers, int) and self.n_workers == 0
            return 0 if none else check_count(self.n_workers, "n_workers", MOST_WORKERS)
        # Elsewhere than on Linux a worker is a fresh process, which runs an unguarded script
        # a second time and takes seconds to start: only on request.
        if not source.is_named or len(source) < MIN_IMAGES_FOR_WORKERS:
            return 0
        if not sys.platform.startswith("linux"):
            return 0
        # torchrun tells each rank how many share the machine.
        n_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return min(MAX_WORKERS, max(0, len(os.sched_getaffinity(0)) // n_ranks - 1))

    def _load(self) -> LoadedClip:
        with _loading:
            if self._loaded is None:
                self._loaded = LoadedClip(self.model, self.pretrained, self.device, self.precision)
            return self._loaded


@dataclass
class _Pixels:
    """A torch map-style dataset: position to (8-bit pixels, reason why there are none)."""

    source: ImageSource
    to_pixels: Callable[[Image.Image], Image.Image]
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], str]:
        try:
            return np.asarray(self.to_pixels(self.source.load(index))), ""
        except Exception as exc:  # decoders and Datasets raise anything; it is reported
            # A black image in its place keeps the batch, and so the bits of the others.
            blank = np.zeros((*self.image_size, 3), dtype=np.uint8)
            return blank, self.source.describe_failure(index, exc)


def _collate(items: list[tuple[NDArray[np.uint8], str]]) -> tuple[torch.Tensor, list[str]]:
    import torch

    return torch.from_numpy(np.stack([pixels for pixels, _ in items])), [why for _, why in items]


def pixel_loader(
    source: ImageSource, loaded: LoadedClip, start: int, batch_size: int, n_workers: int
) -> Any:
    """Return the batches from `start` on: 8-bit pixels (b, h, w, 3), and why some are blank."""
    from torch.utils.data import DataLoader

    forks = n_workers and sys.platform.startswith("linux")
    pixels: Any = _Pixels(source, loaded.to_pixels, loaded.image_size)
    return DataLoader(
        pixels,
        batch_size=batch_size,
        sampler=range(start, len(source)),
        num_workers=n_workers,
        collate_fn=_collate,
        pin_memory=loaded.device.type == "cuda",
        multiprocessing_context="fork" if forks else None,
    )


def _warn_of_cut_texts(groups: list[set[str]]) -> None:
    if not groups:
        return
    n_texts = len(set().union(*groups))
    named = ", ".join(repr(f"{text[:30]} … {text[-30:]}") for text in sorted(groups[0])[:3])
    warnings.warn(
        f"Texts must differ within the model's context; {n_texts} differ only in what it cuts off "
        f"and have equal embeddings, among them {named}. Shorten them, or begin with what differs.",
        CutTextsWarning,
        stacklevel=3,
    )


def _check_strings(values: Sequence[str], name: str) -> list[str]:
    words: list[Any] = [None] if isinstance(values, str) else listed(values, name)
    if not all(isinstance(value, str) for value in words):
        raise InvalidTypeError(f"`{name}` must be a sequence of strings. Pass a list of them.")
    if not words or not all(value.strip() for value in words):
        found = "an empty one" if words else "none"
        raise InvalidInputError(
            f"`{name}` must hold at least one text and no empty one; got {found}. Leave it out."
        )
    return words
