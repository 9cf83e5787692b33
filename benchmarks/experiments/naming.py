"""Do profiles name what is there? On genuine CLIP embeddings, without any training.

Photos of CIFAR-10 whose class, or a kind of it, is among the m words; nouns of people's captions
of Flickr8k that are; and how well the number of shared words tells images of one class from
others (area under the ROC curve).
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.data.cifar import data_folder
from benchmarks.harness.cells import Cell, Experiment, Options, Size, UnavailableError, Values
from benchmarks.harness.pages import Page
from clip_al import ConceptProfiles, ConceptVocabulary
from clip_al.concepts.profiles import SIMILARITIES

VOCABULARIES = ("lvis", "objects365")
WORDS = (5, 10, 20, 50)
KINDS = {
    "airplane": "airplane, jet plane, fighter jet, seaplane",
    "automobile": "car, minivan, race car, convertible, limousine, cab, jeep, suv, sports car",
    "bird": "bird, seabird, wild bird",
    "cat": "cat, kitten",
    "deer": "deer, elk, gazelle, antelope",
    "dog": "dog, puppy, shepherd dog, pug-dog",
    "frog": "frog",
    "horse": "horse, pony, foal",
    "ship": "ship, boat, cargo ship, cruise ship, passenger ship, ferry, yacht, barge, sailboat",
    "truck": "truck, pickup truck, trailer truck, fire engine, garbage truck, tow truck, "
    "fire truck, heavy truck",
}
"""Words that name a class of CIFAR-10: its own, another for it, or a kind of it."""


def cells(size: Size) -> list[Cell]:
    """Return a cell for each way to compare, vocabulary and number of words."""
    del size  # nothing is drawn: one run says all
    return [
        {"similarity": similarity, "vocabulary": vocabulary, "m": m}
        for vocabulary in VOCABULARIES
        for m in WORDS
        for similarity in SIMILARITIES
    ]


@lru_cache(maxsize=4)
def _read(folder: Path, name: str) -> dict[str, NDArray[Any]]:
    path = folder / name
    if not path.is_file():
        raise UnavailableError(f"{path.name} is not there. Point --data at it.")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def words_of(names: NDArray[Any]) -> list[str]:
    """Return names as a caption writes them: without underscores and what tells senses apart.

    Examples
    --------
    >>> words_of(np.array(["car_(automobile)", "Traffic Light"]))
    ['car', 'traffic light']
    """
    return [re.sub(r"[_ ]?\(.*\)", "", name).replace("_", " ").lower() for name in names]


def nouns_in(caption: str, words: list[str]) -> list[int]:
    """Return the positions of the words that a caption has, in the singular or the plural.

    Examples
    --------
    >>> nouns_in("Two dogs on a beach", ["beach", "cat", "dog"])
    [0, 2]
    """
    found = re.findall(r"[a-z]+", caption.lower())
    forms = {
        *found,
        *(f[:-1] for f in found if f[-1] == "s"),
        *(f[:-2] for f in found if f[-2:] == "es"),
    }
    return [i for i, word in enumerate(words) if word in forms]


def area_under_curve(score_n: NDArray[Any], is_positive_n: NDArray[np.bool_]) -> float:
    """Return the share of pairs of one positive and one other that scores order rightly.

    Examples
    --------
    >>> area_under_curve(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
    1.0
    """
    n_positive = int(is_positive_n.sum())
    rank = rankdata(score_n)[is_positive_n].sum() - n_positive * (n_positive + 1) / 2
    return float(rank / (n_positive * (len(score_n) - n_positive)))


def run(cell: Cell, options: Options) -> Values:
    """Profile both pools; return the shares named and the area under the curve."""
    folder = data_folder(options.data) / "real_clip"
    texts = _read(folder, "class_texts_openai_vitb32.npz")
    words = words_of(texts[f"{cell['vocabulary']}_names"])
    vocabulary = ConceptVocabulary.from_names(
        [f"{i} {word}" for i, word in enumerate(words)]  # senses of one word stay apart
    ).with_embeddings(texts[f"{cell['vocabulary']}_embeddings"].astype(np.float32))

    def profile(Z: NDArray[Any]) -> NDArray[np.int32]:
        return ConceptProfiles.from_embeddings(
            Z.astype(np.float32), vocabulary, cell["m"], similarity=cell["similarity"]
        ).ids

    cifar = _read(folder, "cifar10_test500_openai_vitb32.npz")
    ids_nm, y_n = profile(cifar["embeddings"]), cifar["labels"]
    right = [
        {i for i, word in enumerate(words) if word in KINDS[name].split(", ")}
        for name in cifar["class_names"].tolist()
    ]
    flickr = _read(folder, "flickr8k_1000_vitb32.npz")
    named = [
        noun in ids_m
        for caption, ids_m in zip(
            flickr["captions"].tolist(), profile(flickr["embeddings"]), strict=True
        )
        for noun in nouns_in(caption, words)
    ]
    has_nv = np.zeros((len(ids_nm), len(words)), dtype=np.float32)
    np.put_along_axis(has_nv, ids_nm, 1.0, axis=1)
    above = np.triu_indices(len(has_nv), 1)
    return {
        "class_named": float(
            np.mean([bool(right[y] & set(i)) for y, i in zip(y_n, ids_nm.tolist(), strict=True)])
        ),
        "nouns_named": float(np.mean(named)),
        "n_nouns": len(named),
        "same_class_auc": area_under_curve(
            (has_nv @ has_nv.T)[above], (y_n[:, None] == y_n)[above]
        ),
    }


def render(records: pd.DataFrame, page: Page) -> None:
    """Write one table a vocabulary."""
    page.text(
        "500 photos of CIFAR-10 and 1,000 of Flickr8k, OpenAI ViT-B/32. The centred similarity was "
        "chosen among some 30 ways on these pools and three others, so the figures say how well it "
        "fits them. Standard errors: about 1.5 points. Objects365 has no frog, so a tenth of the "
        "CIFAR photos cannot be named with it."
    )
    for vocabulary, rows in records.groupby("vocabulary", sort=False):
        page.heading(str(vocabulary))
        table = rows.assign(
            **{
                "CIFAR: class named, %": 100 * rows.class_named,
                "Flickr8k: nouns of the caption named, %": 100 * rows.nouns_named,
                "CIFAR: AUC of 'same class' by shared words": rows.same_class_auc,
            }
        ).set_index(["m", "similarity"])
        shown = table.iloc[:, -3:].round({table.columns[-1]: 3}).round(1)
        shown[table.columns[-1]] = table[table.columns[-1]].map("{:.3f}".format)
        shown.index = [f"{m} words, {similarity}" for m, similarity in table.index]
        page.table(shown, "profiles")


EXPERIMENT = Experiment(
    name="naming",
    title="What profiles name",
    cells=cells,
    run=run,
    render=render,
    share=("vocabulary", "m"),
    cost_s=lambda _cell: 1.0,
)
