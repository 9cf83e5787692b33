"""Do profiles name what is there? On genuine CLIP embeddings, without any training.

Photos of CIFAR-10 whose class, or a kind of it, is among the m words; nouns of people's captions
of Flickr8k that are; and how well the number of shared words tells images of one class from
others (area under the ROC curve).

And what the floor of `ConceptProfiles.words` leaves out: of the right words, of what is said of
random directions around the mean image, and of photos whose class has no word in the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.preprocessing import normalize

from benchmarks.data.cifar import data_folder
from benchmarks.data.real_clip import load_real_pool
from benchmarks.harness.cells import (
    UNTRAINED,
    Cell,
    Experiment,
    Options,
    Size,
    UnavailableError,
    Values,
)
from benchmarks.harness.pages import Page
from clip_al import ConceptProfiles, ConceptVocabulary
from clip_al.concepts.profiles import SIMILARITIES

VOCABULARIES = ("lvis", "objects365")
WORDS = (5, 10, 20, 50)
MISSING, OTHER_WORDS = "9 classes and", (0, 20, 90, 490, 1090)
SEED = 0
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
    named = [
        {"similarity": similarity, "vocabulary": vocabulary, "m": m}
        for vocabulary in VOCABULARIES
        for m in WORDS
        for similarity in SIMILARITIES
    ]
    # Nine class names, and so many words that are of no class.
    missing = [
        {"similarity": SIMILARITIES[0], "vocabulary": f"{MISSING} {n}", "m": 10}
        for n in OTHER_WORDS
    ]
    return [*named, *missing]


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
    """Profile both pools; return what is named, the area under the curve, what is not said."""
    if cell["vocabulary"].startswith(MISSING):
        return run_missing(int(cell["vocabulary"].split()[-1]), cell["m"], options)
    folder = data_folder(options.data) / "real_clip"
    texts = _read(folder, "class_texts_openai_vitb32.npz")
    words = words_of(texts[f"{cell['vocabulary']}_names"])
    vocabulary = ConceptVocabulary.from_names(
        [f"{i} {word}" for i, word in enumerate(words)]  # senses of one word stay apart
    ).with_embeddings(texts[f"{cell['vocabulary']}_embeddings"].astype(np.float32))

    def profile(Z: NDArray[Any]) -> ConceptProfiles:
        return ConceptProfiles.from_embeddings(
            Z.astype(np.float32), vocabulary, cell["m"], similarity=cell["similarity"]
        )

    cifar = _read(folder, "cifar10_test500_openai_vitb32.npz")
    photos, y_n = profile(cifar["embeddings"]), cifar["labels"]
    ids_nm = photos.ids
    right = [
        {i for i, word in enumerate(words) if word in KINDS[name].split(", ")}
        for name in cifar["class_names"].tolist()
    ]
    flickr = _read(folder, "flickr8k_1000_vitb32.npz")
    captioned = profile(flickr["embeddings"])
    nouns = [nouns_in(caption, words) for caption in flickr["captions"].tolist()]
    named = [
        noun in ids_m for found, ids_m in zip(nouns, captioned.ids, strict=True) for noun in found
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
        **what_is_said(photos, [right[y] for y in y_n], "class"),
        **what_is_said(captioned, [set(found) for found in nouns], "nouns"),
        "noise_silent": float(1.0 - random_directions(flickr["embeddings"], profile).mean()),
    }


def what_is_said(profiles: ConceptProfiles, right: list[set[int]], name: str) -> Values:
    """Return what the floor does: shares of right words lost and of silent images, words left."""
    fits_nm = profiles.fits
    is_right_nm = np.array(
        [[i in named for i in ids] for ids, named in zip(profiles.ids.tolist(), right, strict=True)]
    )
    return {
        f"{name}_lost": float((is_right_nm & ~fits_nm).sum() / max(1, is_right_nm.sum())),
        f"{name}_silent": float((~fits_nm[:, 0]).mean()),
        f"{name}_said": float(fits_nm.sum(axis=1).mean()),
    }


def random_directions(
    Z: NDArray[Any], profile: Callable[[NDArray[Any]], ConceptProfiles]
) -> NDArray[np.bool_]:
    """Say of which of 1,000 random directions, as far from the mean as images, a word is said."""
    rng, unit_nd = np.random.default_rng(SEED), normalize(Z.astype(np.float32))
    mean_d = unit_nd.mean(axis=0)
    off_nd = normalize(rng.standard_normal((1000, len(mean_d))))
    off_nd *= np.linalg.norm(unit_nd - mean_d, axis=1).mean()
    return np.asarray(profile(mean_d + off_nd).fits[:, 0])


def run_missing(n_others: int, m: int, options: Options) -> Values:
    """Leave each class of CIFAR-10 out of the vocabulary once; return what is said then."""
    pool = load_real_pool("cifar", options.data)
    texts = _read(data_folder(options.data) / "real_clip", "class_texts_openai_vitb32.npz")
    kinds = {word for listed in KINDS.values() for word in listed.split(", ")}
    others = np.flatnonzero([word not in kinds for word in words_of(texts["lvis_names"])])
    rng = np.random.default_rng(SEED)
    rows: list[Values] = []
    for left_out in range(len(KINDS)):
        kept = np.delete(np.arange(len(KINDS)), left_out)
        more = texts["lvis_embeddings"][rng.permutation(others)[:n_others]]
        T = np.concatenate([pool.class_emb_kd[kept], more.astype(np.float32)])
        vocabulary = ConceptVocabulary.from_names([str(i) for i in range(len(T))])
        profiles = ConceptProfiles.from_embeddings(
            pool.emb_nd, vocabulary.with_embeddings(T), min(m, len(T))
        )
        known = pool.y != left_out
        right = [{int(np.searchsorted(kept, y))} for y in pool.y[known]]
        said = what_is_said(profiles.take(np.flatnonzero(known)), right, "class")
        rows.append({**said, "missing_silent": float((~profiles.fits[~known, 0]).mean())})
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def render(records: pd.DataFrame, page: Page) -> None:
    """Write one table a vocabulary."""
    page.text(
        "500 photos of CIFAR-10 and 1,000 of Flickr8k, OpenAI ViT-B/32. The centred similarity was "
        "chosen among some 30 ways on these pools and three others, so the figures say how well it "
        "fits them. Standard errors: about 1.5 points. Objects365 has no frog, so a tenth of the "
        "CIFAR photos cannot be named with it."
    )
    is_missing = records.vocabulary.str.startswith(MISSING)
    named = records[~is_missing]
    for vocabulary, rows in named.groupby("vocabulary", sort=False):
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
    page.heading("What the floor leaves out")
    page.text(
        "`ConceptProfiles.words` says of the ten nearest words those with a similarity of at least "
        "√(2 ln v) − 1.1 spreads. Right words are the class or the nouns of the caption. Random "
        "directions have the distance of a photo from the mean of Flickr8k; a normal score has "
        "√(2 ln v) as its largest of v, so the floor, which is to keep right words, does not "
        "keep quiet about noise."
    )
    ten = named[(named.m == 10) & (named.similarity == SIMILARITIES[0])].set_index("vocabulary")
    page.table(_percent(ten, FLOOR), "vocabulary")
    page.text(
        "CIFAR photos, each class left out of the vocabulary once: nine class names, and words of "
        "LVIS that are of no class. The last column is the photos of the class that has no word."
    )
    page.table(_percent(records[is_missing].set_index("vocabulary"), ABSENT), "vocabulary")


FLOOR = {
    "class_lost": "CIFAR: right words lost, %",
    "class_said": "CIFAR: words said, of 10",
    "class_silent": "CIFAR: nothing fits, %",
    "nouns_lost": "Flickr8k: right words lost, %",
    "nouns_said": "Flickr8k: words said, of 10",
    "nouns_silent": "Flickr8k: nothing fits, %",
    "noise_silent": "random directions: nothing fits, %",
}
ABSENT = {
    "class_lost": "right words lost, %",
    "class_said": "words said",
    "class_silent": "class has a word: nothing fits, %",
    "missing_silent": "class has none: nothing fits, %",
}


def _percent(rows: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """Return some columns under their titles, shares in percent."""
    return pd.DataFrame(
        {
            title: (rows[name] * (100 if "%" in title else 1)).map("{:.1f}".format)
            for name, title in titles.items()
        }
    )


EXPERIMENT = Experiment(
    name="naming",
    title="What profiles name",
    regime=UNTRAINED,
    cells=cells,
    run=run,
    render=render,
    share=("vocabulary", "m"),
    cost_s=lambda _cell: 1.0,
)
