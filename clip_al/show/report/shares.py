"""Shares of classes, groups and concepts, before and after a choice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al.concepts.diversity import ConceptCounts
from clip_al.concepts.profiles import ConceptProfiles
from clip_al.show.report.data import rounded
from clip_al.subset.selection import Selection


def describe_balance(selection: Selection, against: Selection | None) -> list[dict[str, Any]]:
    """Return counts and shares of classes and of groups: before, after, and of the other."""
    report, parts = selection.report(), []
    for what, table, balance in (
        ("class", report.classes, report.class_balance),
        ("group", report.groups, report.group_balance),
    ):
        if table is None or balance is None:
            continue
        part = {
            "what": what,
            "name": [str(name) for name in table["name"]],
            "before": table["before"].tolist(),
            "after": table["after"].tolist(),
            "share_before": rounded(table["share_before"]),
            "share_after": rounded(table["share_after"]),
            "balance": list(balance),
        }
        codes_n = selection.labels if what == "class" else getattr(selection.groups, "codes", None)
        if against is not None and codes_n is not None:
            counts = np.bincount(codes_n[against.indices], minlength=len(table))
            part |= {"other": counts.tolist(), "share_other": rounded(counts / counts.sum())}
        parts.append(part)
    return parts


def describe_coverage(
    profiles: ConceptProfiles, chosen: NDArray[np.int64], labelled: NDArray[np.int64]
) -> dict[str, Any]:
    """Return how many images show each concept, in the pool, the labelled and the chosen ones.

    Concepts that no image shows are left out. They come in the order of what the chosen and
    labelled ones together show more often than the pool does, in shares: over-covered first.
    """
    pool = ConceptCounts.from_profiles(profiles)
    sets = {
        "pool": pool,
        "chosen": ConceptCounts.from_profiles(profiles, chosen),
    }
    after = sets["chosen"]
    if labelled.size:
        sets["labelled"] = ConceptCounts.from_profiles(profiles, labelled)
        after = after + sets["labelled"]
    excess_v = after.count_v / after.n - pool.count_v / pool.n
    seen = np.flatnonzero(pool.count_v)
    order = seen[np.argsort(-excess_v[seen], kind="stable")]
    return {
        **_coverage(profiles, order, sets),
        "excess": rounded(excess_v[order]),
        "n_unseen": int(np.count_nonzero((after.count_v == 0) & (pool.count_v > 0))),
    }


def describe_pool_balance(selection: Selection) -> list[dict[str, Any]]:
    """Return counts and shares of classes and of groups of all images."""
    return [
        {name: part[name] for name in ("what", "name", "before", "share_before")}
        | {"balance": part["balance"][:1]}
        for part in describe_balance(selection, None)
    ]


def describe_pool_concepts(
    profiles: ConceptProfiles, labelled: NDArray[np.int64]
) -> dict[str, Any]:
    """Return how many images show each concept, in the pool and the labelled, frequent first."""
    pool = ConceptCounts.from_profiles(profiles)
    sets = {"pool": pool}
    if labelled.size:
        sets["labelled"] = ConceptCounts.from_profiles(profiles, labelled)
    seen = np.flatnonzero(pool.count_v)
    order = seen[np.argsort(-pool.count_v[seen], kind="stable")]
    return _coverage(profiles, order, sets)


def _coverage(
    profiles: ConceptProfiles, order: NDArray[np.int64], sets: dict[str, ConceptCounts]
) -> dict[str, Any]:
    return {
        "names": [profiles.vocabulary.names[i] for i in order],
        "n_vocabulary": profiles.n_concepts,
        "sets": {
            name: {
                "n": counts.n,
                "count": counts.count_v[order].tolist(),
                "seen": counts.richness(),
                "diversity": rounded([counts.diversity()], 4)[0],
            }
            for name, counts in sets.items()
        },
    }
