"""How much of what is unwanted a search takes away: why `minus_weight` is 0.5.

    python -m benchmarks.find.search_minus

On 500 photos of CIFAR-10 and words of OpenImages, both of OpenAI's ViT-B/32 ("a NAME"): a kind is
sought ("animal") without one of its members ("dog"). What is right are the photos of the other
members. Prints, for each weight, the mean average precision over the queries, and how many of
the first 20 photos are of the unwanted class.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.data.cifar import data_folder
from benchmarks.harness.environment import print_environment, print_table
from clip_al import search

WEIGHTS = (0.0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0, 1.5)
FIRST = 20
ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
KINDS = {
    "animal": {name: name for name in ANIMALS},
    "carnivore": {"cat": "cat", "dog": "dog"},
    "vehicle": {"airplane": "airplane", "automobile": "car", "ship": "boat", "truck": "truck"},
    "land vehicle": {"automobile": "car", "truck": "truck"},
}
"""What is sought -> its members, as CIFAR-10 and as OpenImages call them."""


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print the table, return one record a weight."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the data; CLIP_AL_DATA by default")
    args = parser.parse_args(arguments)
    print_environment(0)
    folder = data_folder(args.data) / "real_clip"
    photos = np.load(folder / "cifar10_test500_openai_vitb32.npz")
    texts = np.load(folder / "class_texts_openai_vitb32.npz")
    Z, classes = photos["embeddings"], photos["class_names"][photos["labels"]]
    words = [name.lower() for name in texts["openimages_names"]]

    def of(word: str) -> Any:
        return texts["openimages_embeddings"][words.index(word)].astype(np.float32)

    records, rows = [], []
    for weight in WEIGHTS:
        precision, unwanted = [], []
        for kind, members in KINDS.items():
            for name, word in members.items():
                found = search(Z, of(kind), minus=of(word), minus_weight=weight, n=len(Z))
                kinds = classes[found.indices]
                right = np.isin(kinds, [member for member in members if member != name])
                precision.append(average_precision_score(right, found.similarity))
                unwanted.append((kinds[:FIRST] == name).mean())
        record = {"weight": weight, "precision": np.mean(precision), "unwanted": np.mean(unwanted)}
        records.append(record)
        rows.append([f"{weight:g}", f"{record['precision']:.3f}", f"{record['unwanted']:.1%}"])
    print(f"{len(precision)} queries, {len(Z)} photos")
    print_table(["weight", "mean average precision", f"unwanted, of the first {FIRST}"], rows)
    return records


if __name__ == "__main__":
    main()
