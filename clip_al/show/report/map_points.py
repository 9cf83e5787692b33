"""The map of a pool as numbers for the page: places, and what they can be coloured by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.concepts.profiles import ConceptProfiles
from clip_al.show.report.data import Shown, rounded
from clip_al.show.report.map import PoolMap
from clip_al.subset.selection import Selection

N_NAMING = 2
"""Concepts that name a cluster."""


def describe_map(
    found: PoolMap,
    shown: Shown,
    labelled: NDArray[np.int64],
    method: str,
    selection: Selection,
    profiles: ConceptProfiles | None,
    concepts: Sequence[str],
) -> dict[str, Any]:
    """Return the places of the pool's sample, of the labelled and of the cards' images.

    Parameters
    ----------
    found : PoolMap
    shown : Shown
        Cards; what is known of their images stands there.
    labelled : ndarray of int64
    method : {"pca", "tsne"}
    selection : Selection
        For the class, the group and the scores of the others.
    profiles : ConceptProfiles, optional
        For the names of clusters, and for the concepts of the others.
    concepts : sequence of str
        Those of the cards, by their numbers on the page; no others are looked for.
    """
    at = {int(index): i for i, index in enumerate(found.indices)}
    pairs = [(card, at[i]) for card, i in enumerate(shown.indices.tolist()) if i in at]
    known = np.isin(found.indices, labelled)
    rest = found.in_sample & ~np.isin(found.indices, shown.indices) & ~known
    names = name_clusters(found, profiles)

    def points(rows: NDArray[Any]) -> dict[str, Any]:
        return {**_places(found.xy[rows]), "cluster": found.clusters[rows].tolist()}

    def others(rows: NDArray[Any]) -> dict[str, Any]:
        images = found.indices[rows]
        return {**points(rows), **_known_of(images, selection, profiles, concepts)}

    return {
        "method": method,
        "explained": found.explained,
        "clusters": [{"name": name, **_middle(found, code)} for code, name in enumerate(names)],
        "pool": others(np.flatnonzero(rest)),
        "labelled": others(np.flatnonzero(known)),
        "cards": {
            **points(np.array([place for _, place in pairs], dtype=np.int64)),
            "card": [card for card, _ in pairs],
        },
    }


def _known_of(
    images: NDArray[np.int64],
    selection: Selection,
    profiles: ConceptProfiles | None,
    concepts: Sequence[str],
) -> dict[str, Any]:
    """Return what the points of images without a card can be coloured by."""
    of: dict[str, Any] = {
        "scores": {
            name: rounded(values[images], 3)
            for name, values in selection.scores.items()
            if name != "likeliest"
        }
    }
    if selection.labels is not None:
        of["class"] = selection.labels[images].tolist()
    if selection.groups is not None:
        of["group"] = selection.groups.codes[images].tolist()
    if profiles is not None:
        of["concepts"] = _concepts_of(images, profiles, concepts)
    return of


def _concepts_of(
    images: NDArray[np.int64], profiles: ConceptProfiles, concepts: Sequence[str]
) -> list[list[int]]:
    """Return which of the page's concepts each image shows, by their numbers there."""
    on_page = {name: number for number, name in enumerate(concepts)}
    number_v = np.array([on_page.get(name, -1) for name in profiles.vocabulary.names])
    number_bm = np.where(_fits(images, profiles), number_v[profiles.ids[images]], -1)
    return [[number for number in row if number >= 0] for row in number_bm.tolist()]


def _fits(images: NDArray[np.int64], profiles: ConceptProfiles) -> NDArray[np.bool_]:
    return np.asarray(profiles.similarities[images] >= profiles.floor)


def name_clusters(found: PoolMap, profiles: ConceptProfiles | None) -> list[str]:
    """Return what the images of each cluster show more often than all do.

    Concepts are ranked by p log(p / q): p is the share of the cluster's images that show one, q
    that of all images on the map. "" where no concept is known, or fits.
    """
    n_clusters = int(found.clusters.max()) + 1
    if profiles is None or n_clusters < 2:
        return [""] * n_clusters
    fits_bm = _fits(found.indices, profiles)
    count_kv = np.zeros((n_clusters, profiles.n_concepts))
    cluster_bm = np.broadcast_to(found.clusters[:, None], fits_bm.shape)
    np.add.at(count_kv, (cluster_bm[fits_bm], profiles.ids[found.indices][fits_bm]), 1)
    share_kv = count_kv / np.bincount(found.clusters)[:, None]
    share_v = count_kv.sum(axis=0) / len(found.clusters)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain_kv = np.nan_to_num(share_kv * np.log(share_kv / share_v))
    names = profiles.vocabulary.names
    best_kn = np.argsort(-gain_kv, axis=1, kind="stable")[:, :N_NAMING]
    return [
        ", ".join(names[concept] for concept in best_n if gain_kv[cluster, concept] > 0)
        for cluster, best_n in enumerate(best_kn)
    ]


def _middle(found: PoolMap, code: int) -> dict[str, Any]:
    """Return where a cluster lies, and how large it is on the map."""
    of_it = found.clusters == code
    x, y = rounded(np.median(found.xy[of_it], axis=0), 4)
    return {"x": x, "y": y, "n": int(of_it.sum())}


def _places(xy: NDArray[np.float32]) -> dict[str, Any]:
    return {"x": rounded(xy[:, 0], 4), "y": rounded(xy[:, 1], 4)}
