"""The vocabularies that experiments compare, encoded once, and random ones as controls."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.data.cifar import data_folder
from benchmarks.harness.cells import Options, UnavailableError
from clip_al import ClipEncoder, ConceptVocabulary

GENERAL, GENOME, CONTROL = "general", "Visual Genome", "random directions"
CONTROL_AGAIN = "other random directions"
STROKES, STROKES_CONTROL = "strokes", "random directions, as many as strokes"
CONTROLS = {CONTROL: (GENERAL, 0), CONTROL_AGAIN: (GENERAL, 1), STROKES_CONTROL: (STROKES, 0)}
"""Random directions: the words in whose place, and as many, they are, and their seed."""


@lru_cache(maxsize=5)
def vocabulary_of(name: str, options: Options) -> ConceptVocabulary:
    """Encode a vocabulary; a control has random directions in place of the words.

    Raises
    ------
    UnavailableError
        Where the data folder has no word lists of Visual Genome.
    """
    encoder = ClipEncoder(options.model, options.pretrained)
    if name in CONTROLS:
        replaced, seed = CONTROLS[name]
        words = words_of(replaced, options)
        noise = np.random.default_rng(seed).standard_normal((len(words), encoder.embedding_dim))
        return words.with_embeddings(noise / np.linalg.norm(noise, axis=1, keepdims=True))
    return words_of(name, options).encode(encoder)


def words_of(name: str, options: Options) -> ConceptVocabulary:
    """Read the words of a vocabulary."""
    if name == GENERAL:
        return ConceptVocabulary.load("general")
    if name == STROKES:
        templates = ("{}", "a handwritten digit with {}", "an image with {}")
        file = Path(__file__).with_name("digit_strokes.txt")
        return ConceptVocabulary.from_file(file, templates=templates)
    folder = data_folder(options.data) / "visual_genome"
    if not folder.is_dir():
        raise UnavailableError(f"The data folder has no word lists of {name}.")
    return ConceptVocabulary.from_visual_genome(folder)
