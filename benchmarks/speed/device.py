"""Time of both paths with embeddings on a device, beside the bare products there.

    python -m benchmarks.speed.device [--device cuda] [--images 1000000] [--dtype float16] [--cpu]
    python -m benchmarks.speed.device --ranking [--folder PHOTOS]

Made-up unit embeddings, `--per-class` images a class, sent to the device once and kept there
(`DeviceEmbeddings`). Each step in turns with what it cannot do without, computed by torch on the
same device from the same tensor, float32: images × concepts, images × classes, each class with
itself. An epoch of the adapter has no such product beside it. `--cpu` also times each step on the
array, with NumPy.

`--ranking` asks what keeping embeddings in half the bytes changes, of real images: scikit-learn's
digits through the embedded model, or a folder of images. For float16 and bfloat16 it prints the
mean share of an image's concepts that stay, the rank correlation of SAS and SDS, and the share of
the picks that stay. Classes are those that the vocabulary's first names make likeliest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from benchmarks.harness.environment import (
    Timing,
    format_seconds,
    print_environment,
    print_table,
    time_in_turns,
    write_json_lines,
)
from clip_al import (
    CBDMarginSampling,
    ClipEncoder,
    ClipSelector,
    ConceptProfiles,
    ConceptStatistics,
    ConceptVocabulary,
    DatasetAdapter,
    DeviceEmbeddings,
)
from clip_al.arrays.device import device_slices
from clip_al.arrays.labels import group_by_class
from clip_al.score.alignment_diversity import sample_diversity_scores, semantic_alignment_scores

PROFILES, SAS, SDS = "profiles", "SAS (contrastive)", "SDS"
UPLOAD, EPOCH, FIT = "array to device", "adapter, one epoch", "ClipSelector.fit"
PRODUCTS = {PROFILES: "images × concepts", SAS: "images × classes", SDS: "class-wise products"}


def make_data(args: argparse.Namespace) -> tuple[Any, ...]:
    """Draw images around the texts of their classes, and concepts."""
    rng = np.random.default_rng(args.seed)
    n, d, k = args.images, args.width, max(2, args.images // args.per_class)
    T = _unit(rng.standard_normal((k, d), dtype=np.float32))
    y = rng.integers(k, size=n)
    Z = 1.5 * rng.standard_normal((n, d), dtype=np.float32) / np.sqrt(d)
    Z += T[y]
    names = [f"concept {i}" for i in range(args.concepts)]
    text = _unit(rng.standard_normal((args.concepts, d), dtype=np.float32))
    return _unit(Z), y, T, ConceptVocabulary.from_names(names).with_embeddings(text)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def products(kept: DeviceEmbeddings, y: NDArray[Any], T: Any, text: Any) -> dict[str, Any]:
    """Return the bare products on the device, in the blocks that the steps take."""
    texts = {name: torch.tensor(rows, device=kept.device).T for name, rows in
             ((PROFILES, text), (SAS, T))}  # fmt: skip
    members = [torch.as_tensor(m, device=kept.device) for m in group_by_class(y, len(T))]

    def with_texts(name: str) -> None:
        for rows in device_slices(len(kept), texts[name].shape[1]):
            torch.mm(kept.tensor[rows].float(), texts[name])
        _wait(kept.device)

    def with_itself() -> None:
        for rows in members:
            unit_md = kept.tensor[rows].float()
            torch.mm(unit_md, unit_md.T)
        _wait(kept.device)

    return {
        PROFILES: lambda: with_texts(PROFILES),
        SAS: lambda: with_texts(SAS),
        SDS: with_itself,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps(Z: Any, y: Any, T: Any, vocabulary: Any, device: str | None) -> dict[str, Any]:
    """Return what is timed, of an array or of embeddings on a device."""
    statistics = ConceptStatistics.from_embeddings(Z, vocabulary)
    adapter = DatasetAdapter(epochs=1, validation_fraction=0.0, device=device or "cpu")
    return {
        PROFILES: lambda: ConceptProfiles.from_embeddings(Z, vocabulary, statistics=statistics),
        SAS: lambda: semantic_alignment_scores(Z, y, T, alignment="contrastive"),
        SDS: lambda: sample_diversity_scores(Z, y),
        EPOCH: lambda: adapter.fit(Z, y, T),
        FIT: lambda: ClipSelector(0.3, class_embeddings=T).fit(Z, y),
    }


def time_steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every step and print the table."""
    Z, y, T, vocabulary = make_data(args)
    kept = DeviceEmbeddings(Z, args.device, dtype=args.dtype)
    bare = products(kept, y, T, vocabulary.embeddings)
    functions: dict[str, Callable[[], Any]] = {
        UPLOAD: lambda: DeviceEmbeddings(Z, args.device, dtype=args.dtype)
    }
    for name, step in steps(kept, y, T, vocabulary, args.device).items():
        if name in bare:
            functions[PRODUCTS[name]] = bare[name]
        functions[name] = step
    timings = time_in_turns(functions, args.runs)
    on_cpu: dict[str, Timing] = {}
    if args.cpu:
        on_cpu = time_in_turns(steps(Z, y, T, vocabulary, None), 1)
    rows = [
        {
            "step": name,
            "device": str(kept.device),
            "dtype": args.dtype,
            "images": args.images,
            "seconds": timing.median_s,
            "product_s": timings[PRODUCTS[name]].median_s if name in PRODUCTS else None,
            "cpu_s": on_cpu[name].median_s if name in on_cpu else None,
        }
        for name, timing in timings.items()
        if name not in PRODUCTS.values()
    ]
    show(rows)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print times, and ratios to the product there and to the step on the CPU."""

    def ratio(row: dict[str, Any], other: str) -> str:
        return "" if row[other] is None else f"{row['seconds'] / row[other]:.2f} ×"

    print_table(
        ["step", "time", "images/s", "of the bare product", "of the CPU's time"],
        [
            [
                row["step"],
                format_seconds(row["seconds"]),
                f"{row['images'] / row['seconds']:,.0f}",
                ratio(row, "product_s"),
                ratio(row, "cpu_s"),
            ]
            for row in rows
        ],
    )


def compare_rankings(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Print what half the bytes change, of real images."""
    encoder = ClipEncoder("mini", device="cpu")
    images: Any = args.folder
    if images is None:
        images = (load_digits().images * 255 / 16).astype(np.uint8)
    Z = encoder.encode_images(images)
    vocabulary = ConceptVocabulary.load("general").encode(encoder)
    T = vocabulary.embeddings[:10]
    y = (Z @ T.T).argmax(axis=1)
    P = np.exp((Z @ T.T) / 0.05)
    P /= P.sum(axis=1, keepdims=True)
    full = _rankings(DeviceEmbeddings(Z, args.device), y, T, P, vocabulary)
    rows = []
    for dtype in ("float16", "bfloat16"):
        half = _rankings(DeviceEmbeddings(Z, args.device, dtype=dtype), y, T, P, vocabulary)
        same = [len(set(a) & set(b)) for a, b in zip(full["ids"], half["ids"], strict=True)]
        rows.append({
            "kept as": dtype,
            "concepts that stay": float(np.mean(same)) / full["ids"].shape[1],
            "SAS, rank correlation": float(spearmanr(full["sas"], half["sas"])[0]),
            "SDS, rank correlation": float(spearmanr(full["sds"], half["sds"])[0]),
            "picks that stay": float(np.isin(half["picks"], full["picks"]).mean()),
            "images": len(Z),
        })  # fmt: skip
    print_table(
        list(rows[0])[:-1], [[*(f"{v:.4f}" if i else v for i, v in enumerate(row.values()))][:-1]
                             for row in rows]
    )  # fmt: skip
    return rows


def _rankings(Z: Any, y: Any, T: Any, P: Any, vocabulary: ConceptVocabulary) -> dict[str, Any]:
    profiles = ConceptProfiles.from_embeddings(Z, vocabulary)
    n_picks = max(1, len(P) // 10)
    return {
        "ids": profiles.ids,
        "sas": semantic_alignment_scores(Z, y, T, alignment="contrastive"),
        "sds": sample_diversity_scores(Z, y),
        "picks": CBDMarginSampling(vocabulary).select(
            n_instances=n_picks, probabilities=P, profiles=profiles
        ),
    }


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--concepts", type=int, default=2_000)
    parser.add_argument("--per-class", type=int, default=1_000)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="time each step on the CPU, too")
    parser.add_argument("--ranking", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    facts = print_environment(args.seed)
    if args.device.startswith("cuda"):
        print(f"{torch.cuda.get_device_name(args.device)}; matmul precision "
              f"{torch.get_float32_matmul_precision()}\n")  # fmt: skip
    rows = compare_rankings(args) if args.ranking else time_steps(args)
    if args.json is not None:
        write_json_lines(args.json, [{**row, "environment": facts} for row in rows])
    return rows


if __name__ == "__main__":
    main()
