"""CLIP models of open_clip in memory: from a name to towers, preprocessing and tokenizer.

torch and open_clip are imported on first use, never with this module.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clip_al.arrays.checks import check_choice
from clip_al.arrays.device import check_device
from clip_al.errors import InvalidInputError, InvalidTypeError
from clip_al.images.pixels import READING, crop_extreme
from clip_al.mini import MODEL_DIR
from clip_al.progress import progress_bar

if TYPE_CHECKING:
    import torch

BPE_FILE = "bpe_merges.txt.gz"
REASON_WIDTH = 300
N_TAGS = 8
LOGS = ("huggingface_hub.utils._http", "huggingface_hub.file_download", "urllib3.connectionpool")
"""Loggers that tell of each try of a download."""
TOKENIZER_FILES = (
    "added_tokens.json", "merges.txt", "sentencepiece.bpe.model", "special_tokens_map.json",
    "spiece.model", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
    "vocab.txt",
)  # fmt: skip
"""What transformers reads a tokenizer from, as SigLIP's is."""
READ_BY = " reading="
"""What stands before the number of `pixels.READING` in a description of preprocessing."""

_hashing = threading.Lock()


class LoadedClip:
    """A model in memory with its preprocessing: what an encoder makes on first use.

    Parameters
    ----------
    model, pretrained, device, precision
        As `ClipEncoder` takes them; checked here.
    """

    def __init__(
        self, model: str, pretrained: str | None, device: str | None, precision: str | None
    ) -> None:
        import torch
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from torchvision.transforms import Compose

        self.name, self.label = _resolve(model, pretrained)
        self.device = check_device(device)
        self.precision = _check_precision(precision, self.device)
        self.config, self.model = _create(self.name, pretrained, self.device)
        self.width = int(self.config["embed_dim"])
        settings = PreprocessCfg(**self.model.visual.preprocess_cfg)
        # Workers resize and crop; what open_clip then does to each image, x / 255 and the
        # normalisation, is done here to whole batches, so that 8-bit pixels travel. Same bits.
        *steps, _, _ = image_transform_v2(settings, is_train=False).transforms
        squash = settings.resize_mode == "squash"
        self.to_pixels = Compose(steps if squash else [crop_extreme, *steps])
        self.image_size = settings.input_size[1:]
        self.preprocessing = _describe_preprocessing(asdict(settings))
        shape = (1, 3, 1, 1)
        self.mean_c = torch.tensor(settings.mean, device=self.device).reshape(shape)
        self.std_c = torch.tensor(settings.std, device=self.device).reshape(shape)
        self._tokenizer: Callable[[list[str]], torch.Tensor] | None = None
        self._weights_hash = ""

    @property
    def weights_hash(self) -> str:
        """SHA-256 of configuration, vocabulary files and weights; read once, on first use."""
        if not self._weights_hash:
            with _hashing:
                self._weights_hash = _hash_weights(self.config, self._word_files(), self.model)
        return self._weights_hash

    def _word_files(self) -> list[Path]:
        """Return the files of a local folder that say which numbers a text becomes."""
        files = [] if self.bpe_file is None else [self.bpe_file]
        if self.name.startswith("local-dir:") and "hf_tokenizer_name" in self.config["text_cfg"]:
            folder = Path(self.name.removeprefix("local-dir:"))
            files += [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
        return files

    @property
    def bpe_file(self) -> Path | None:
        """The byte-pair vocabulary that a local folder brings with it."""
        if not self.name.startswith("local-dir:"):
            return None
        file = Path(self.name.removeprefix("local-dir:")) / BPE_FILE
        return file if file.is_file() else None

    def encode_pixels(self, pixels_nhwc: torch.Tensor) -> NDArray[np.float32]:
        """Return unit rows for a batch of 8-bit RGB pixels of the model's size."""
        import torch

        with torch.inference_mode(), self._autocast():
            # Channels last in memory from the start: permuting moves no byte.
            x = pixels_nhwc.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            x = x.to(torch.float32).div_(255).sub_(self.mean_c).div_(self.std_c)
            return self._unit_rows(self.model.encode_image(x))

    def tokenize(self, words: list[str]) -> torch.Tensor:
        """Return the tokens of a batch of texts, (b, context); what exceeds it is cut off."""
        if self._tokenizer is None:
            self._tokenizer = self._make_tokenizer()
        return self._tokenizer(words)

    def cut_texts(self, tokens: torch.Tensor) -> dict[int, bytes]:
        """Return the rows of tokens that fill the context, where texts may have been cut off."""
        padding = self.tokenize([""])[0, -1]
        rows = (tokens[:, -1] != padding).nonzero().flatten().tolist()
        return {row: tokens[row].numpy().tobytes() for row in rows}

    def encode_tokens(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        """Return unit rows for the tokens of a batch of texts."""
        import torch

        tokens = tokens.to(self.device)
        with torch.inference_mode(), self._autocast():
            return self._unit_rows(self.model.encode_text(tokens))

    def _make_tokenizer(self) -> Any:
        import open_clip

        own = {} if self.bpe_file is None else {"bpe_path": str(self.bpe_file)}
        try:
            with _without_logs(f"tokenizer of {self.label}"):
                return open_clip.get_tokenizer(self.name, **own)
        except Exception as exc:
            raise _loading_error(f"tokenizer of {self.label}", self.name, None, exc) from exc

    def _autocast(self) -> Any:
        import torch

        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def _unit_rows(self, features: torch.Tensor) -> NDArray[np.float32]:
        import torch

        rows = torch.nn.functional.normalize(features.float(), dim=-1).cpu()
        if not bool(torch.isfinite(rows).all()):
            raise InvalidInputError(
                f"The model must give finite embeddings; {self.label} gave NaN or infinity at "
                f"precision {self.precision}. Pass precision='fp32', or check the weights."
            )
        array: NDArray[np.float32] = rows.numpy()
        return array


def _check_precision(precision: str | None, device: torch.device) -> str:
    import torch

    if precision is not None:
        return check_choice(precision, ("fp32", "bf16", "fp16"), "precision")
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def model_label(model: str, pretrained: str | None) -> str:
    """Return what tables call a model, without a look at whether it is there.

    Examples
    --------
    >>> model_label("ViT-B/32", "openai"), model_label("local-dir:models/mine", None)
    ('ViT-B-32/openai', 'local-dir:mine')
    """
    if model == "mini" or model.startswith("hf-hub:"):
        return model
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        return f"local-dir:{folder.resolve().name}"
    name = model.replace("/", "-")
    if pretrained is None:
        return name
    return f"{name}/{Path(pretrained).name if Path(pretrained).is_file() else pretrained}"


def _resolve(model: str, pretrained: str | None) -> tuple[str, str]:
    """Return the name that open_clip loads and the label that tables carry."""
    if not isinstance(model, str):
        raise InvalidTypeError(f"`model` must be a string; got {model!r}. Pass a model's name.")
    brings_weights = model == "mini" or model.startswith(("hf-hub:", "local-dir:"))
    if not brings_weights:
        return _resolve_open_clip(model, pretrained)
    if pretrained is not None:
        raise InvalidInputError(
            f"`pretrained` must be left out with {model!r}, which brings its own weights; got "
            f"{pretrained!r}."
        )
    if model.startswith("hf-hub:"):
        return model, model
    mini = model == "mini"
    folder = MODEL_DIR if mini else Path(model.removeprefix("local-dir:")).expanduser()
    weights = [file for end in ("safetensors", "bin", "pth") for file in folder.glob(f"*.{end}")]
    if not (folder / "open_clip_config.json").is_file() or not weights:
        remedy = "Install clip_al again." if mini else "Check the path."
        raise InvalidInputError(
            "A local model must be a folder with open_clip_config.json and "
            f"open_clip_model.safetensors; {str(folder)!r} has not both. {remedy}"
        )
    return f"local-dir:{folder}", model_label(model, None)


def _resolve_open_clip(model: str, pretrained: str | None) -> tuple[str, str]:
    import open_clip

    models = {name.lower(): name for name in open_clip.list_models()}
    name = model.replace("/", "-")
    if name not in models.values():
        near = difflib.get_close_matches(name.lower(), models, n=3, cutoff=0.5)
        close = f" The closest are {', '.join(models[n] for n in near)}." if near else ""
        raise InvalidInputError(
            "`model` must be 'mini', a model of open_clip, 'hf-hub:ORG/REPO' or 'local-dir:PATH'; "
            f"got {model!r}.{close}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is not None and Path(pretrained).is_file():
        return name, model_label(name, pretrained)
    if pretrained is None or not open_clip.is_pretrained_cfg(name, pretrained):
        more = f", … ({len(tags)} in all)" if len(tags) > N_TAGS else ""
        known = f"one of {', '.join(tags[:N_TAGS])}{more}" if tags else "a checkpoint file"
        raise InvalidInputError(
            f"`pretrained` must name the weights of {name}, {known}; got {pretrained!r}. "
            "Random weights would give embeddings without meaning."
        )
    return name, model_label(name, pretrained)


def _create(name: str, pretrained: str | None, device: torch.device) -> tuple[dict[str, Any], Any]:
    import open_clip
    import torch

    label = name if pretrained is None else f"{name}/{pretrained}"
    try:
        with _without_logs(f"weights of {label}"):
            model = open_clip.create_model(
                name, pretrained, precision="fp32", device=device, require_pretrained=True
            )
            config = open_clip.get_model_config(name)
    except Exception as exc:
        raise _loading_error(f"weights of {label}", name, pretrained, exc) from exc
    return config, model.eval().to(memory_format=torch.channels_last)


def _loading_error(
    what: str, name: str, pretrained: str | None, exc: Exception
) -> InvalidInputError:
    import open_clip

    reason = _reason(exc)
    if name.startswith("local-dir:"):
        return InvalidInputError(f"The {what} could not be loaded: {reason}")
    hub = open_clip.get_pretrained_cfg(name, pretrained or "").get("hf_hub", "")
    page = name.removeprefix("hf-hub:") if name.startswith("hf-hub:") else hub.strip("/")
    where = f" of huggingface.co/{page}" if page else ""
    return InvalidInputError(
        f"The {what} could not be loaded: {reason}. Without a network: copy "
        f"open_clip_config.json and open_clip_model.safetensors{where} into a folder and pass "
        "model='local-dir:FOLDER', or use 'mini', which ships with clip_al."
    )


def _reason(exc: BaseException) -> str:
    """Return why something failed: the first error of the chain, in one line without its end."""
    first, seen = exc, {id(exc)}
    while (cause := first.__cause__ or first.__context__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        first = cause
    told = str(first) or str(exc) or type(first).__name__
    if isinstance(first, OSError) and first.strerror:
        told = first.strerror
    line = " ".join(told.split()).rstrip(".")
    return line if len(line) <= REASON_WIDTH else f"{line[:REASON_WIDTH]} …"


@contextmanager
def _without_logs(what: str) -> Iterator[None]:
    """Keep back what libraries log while they load: each try of a download, five times a file.

    What went wrong is in the error that they raise. From the first try that failed on, the time
    gone by is shown, as all of them together take two minutes.
    """
    with ExitStack() as shown:
        waits = False

        def is_grave(record: logging.LogRecord) -> bool:
            nonlocal waits
            if not waits and "Retrying" in record.getMessage():
                waits = True
                shown.enter_context(progress_bar(True, f"No answer yet for the {what}", None))
            return record.levelno >= logging.CRITICAL

        # open_clip logs to the root; a filter of a logger holds for what is logged to it alone.
        loggers = [logging.getLogger(name) for name in (None, "huggingface_hub", *LOGS)]
        for logger in loggers:
            logger.addFilter(is_grave)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(is_grave)


def _describe_preprocessing(settings: dict[str, Any]) -> str:
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    scales = (f"{name}={','.join(map(str, settings[name]))}" for name in ("mean", "std"))
    fill = f" fill={settings['fill_color']}" if settings["resize_mode"] == "longest" else ""
    how = f"{settings['resize_mode']} {settings['interpolation']}{fill}"
    return f"{settings['mode']} {height}x{width} {how} {' '.join(scales)}{READ_BY}{READING}"


def split_preprocessing(described: str) -> tuple[str, int]:
    """Return the preprocessing of a model alone, and by which rules images were read.

    Examples
    --------
    >>> split_preprocessing("RGB 8x8 reading=2"), split_preprocessing("RGB 8x8")
    (('RGB 8x8', 2), ('RGB 8x8', 1))
    """
    own, _, number = described.partition(READ_BY)
    return own, int(number) if number.isdecimal() else 1


def _hash_weights(config: dict[str, Any], word_files: list[Path], model: Any) -> str:
    """Return a SHA-256 of configuration, vocabulary files and weights, whatever their device."""
    import torch

    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in word_files:
        digest.update(file.read_bytes())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()
