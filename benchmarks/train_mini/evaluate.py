"""Measure the embedded model through open_clip's own loading, preprocessing and tokenizer."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.train_mini import concepts as words
from benchmarks.train_mini import data as mini_data
from benchmarks.train_mini.glyphs import DIGIT_WORDS

TEMPLATES = ("{}", "a photo of a {}", "a picture of {}", "an image with {}")  # the library's own


class Mini:
    """The shipped model, as a user of open_clip gets it."""

    def __init__(self, folder: Path) -> None:
        name = f"local-dir:{folder}"
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(name)
        merges = str(folder / "bpe_merges.txt.gz")
        self.tokenizer = open_clip.get_tokenizer(name, bpe_path=merges)
        self.model.eval()

    @torch.inference_mode()
    def images(self, pictures: np.ndarray, batch: int = 250) -> np.ndarray:
        """Encode (n, h, w[, 3]) uint8 pictures: (n, d) float32 of unit length."""
        out = []
        for start in range(0, len(pictures), batch):
            part = [Image.fromarray(p).convert("RGB") for p in pictures[start : start + batch]]
            x = torch.stack([self.preprocess(p) for p in part])
            x = x.contiguous(memory_format=torch.channels_last)
            out.append(self.model.encode_image(x, normalize=True).numpy())
        return np.concatenate(out)

    @torch.inference_mode()
    def texts(self, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """Encode names, the mean over templates: (len(names), d) float32 of unit length."""
        total = 0
        for template in templates:
            tokens = self.tokenizer([template.format(n) for n in names])
            total = total + self.model.encode_text(tokens, normalize=True).numpy()
        return total / np.linalg.norm(total, axis=1, keepdims=True)


def accuracy(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose nearest text is their label's, in percent."""
    return 100 * float(((images @ texts.T).argmax(1) == labels).mean())


def top_concepts(images: np.ndarray, concepts: np.ndarray, m: int = 10) -> np.ndarray:
    """Concepts with the highest similarity, standardised over the images: (n, m) int64."""
    sim = images @ concepts.T
    sim = (sim - sim.mean(0)) / sim.std(0)
    return np.argsort(-sim, axis=1)[:, :m]


def hit_share(top: np.ndarray, labels: np.ndarray, vocabulary: list[list[str]]) -> list[float]:
    """Per class, the percentage whose top concepts hold the class, a synonym or a hypernym."""
    names = np.array([row[0] for row in vocabulary])
    shares = []
    for k, label in enumerate(words.CLASSES):
        wanted = np.isin(names, list(words.hit_names(label, vocabulary)))
        shares.append(100 * float(wanted[top[labels == k]].any(1).mean()))
    return shares


def evaluate(folder: Path, vocabulary_path: Path, root: Path, limit: int, seed: int) -> None:
    """Print every figure of clip_al/mini/CARD.md; `limit` > 0 takes fewer images per class."""
    say: Callable[..., None] = lambda *a: print(*a, flush=True)  # noqa: E731
    packages = ("torch", "open_clip_torch", "timm", "scikit-learn", "pillow", "numpy")
    say(f"seed {seed};", ", ".join(f"{p} {version(p)}" for p in packages))
    say(f"python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, torch threads {torch.get_num_threads()}")  # fmt: skip
    mini = Mini(folder)
    size = sum(f.stat().st_size for f in folder.iterdir()) / 1e6
    say(f"size {size:.2f} MB, {sum(p.numel() for p in mini.model.parameters()):,} parameters")
    digits = load_digits()
    pictures = (digits.images * 255 / 16).astype(np.uint8)
    z = mini.images(pictures)
    figures = [str(i) for i in range(10)]
    for text, names in (("a photo of the digit {}", figures), ("the number {}", DIGIT_WORDS)):
        t = mini.texts(names, (text,))
        say(f"digits, '{text.format(names[7])}': {accuracy(z, t, digits.target):.2f} % of {len(z)}")
    t = mini.texts(figures, ("a photo of the digit {}",)) + mini.texts(
        DIGIT_WORDS, ("the number {}",)
    )
    say(f"digits, both averaged: {accuracy(z, t, digits.target):.2f} %")
    right = (z @ t.T).argmax(1) == digits.target
    say(
        "  per digit:",
        " ".join(f"{d}:{100 * right[digits.target == d].mean():.0f}" for d in range(10)),
    )
    vocabulary = words.read_vocabulary(vocabulary_path)
    concepts = mini.texts([row[0] for row in vocabulary], TEMPLATES)
    classes = mini.texts(words.CLASSES, ("a photo of a {}",))
    for split, first, last in (("train", 2500, 5000), ("test", 0, 1000)):
        last = min(last, first + limit) if limit else last
        images, labels = mini_data.load_cifar(root, split, first, last)
        begun = time.perf_counter()
        z = mini.images(images)
        rate = len(z) / (time.perf_counter() - begun)
        share = accuracy(z, classes, labels)
        say(f"CIFAR-10 {split} {first}-{last - 1}: {share:.2f} % of {len(z)}; "
            f"{rate:.0f} images/s with preprocessing")  # fmt: skip
        top = top_concepts(z, concepts)
        shares = hit_share(top, labels, vocabulary)
        per_class = " ".join(f"{c}:{s:.0f}" for c, s in zip(words.CLASSES, shares, strict=True))
        say(f"  top-10 concepts hold class, synonym or hypernym: {np.mean(shares):.2f} %")
        say("  per class:", per_class)
        for i in range(0, len(z), len(z) // 10):
            say("   ", words.CLASSES[labels[i]], "->", ", ".join(vocabulary[c][0] for c in top[i]))
