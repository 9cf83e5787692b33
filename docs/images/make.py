"""Draw the pictures of the documentation from scikit-learn's digits and photos.

python docs/images/make.py [FOLDER]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import spearmanr
from sklearn.datasets import load_digits, load_sample_images

import clip_al
from clip_al.subset.solvers import descend

HERE = Path(__file__).parent
INK, ACCENT, PALE = "#333333", "#b5482a", "#7a96ac"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
JITTER = 1e-3
SET_SIZE = 40


@cache
def profile_digits() -> tuple[Any, NDArray[np.uint8], NDArray[np.float32], Any]:
    """Return digits, their pixels, embeddings, and profiles over words of shape and style."""
    digits = load_digits()
    images = (digits.images * 255 / 16).astype(np.uint8)
    encoder = clip_al.ClipEncoder("mini", progress=False)
    Z = encoder.encode_images(images)
    words = clip_al.ConceptVocabulary.load("general").include("shapes", "style", "symbols")
    profiles = clip_al.ConceptProfiles.from_embeddings(Z, words.encode(encoder), m=5)
    return digits, images, Z, profiles


def draw_sets(path: Path) -> None:
    """Draw two sets of forty digits, what they show, and how diverse that is."""
    from matplotlib import pyplot as plt

    digits, images, Z, profiles = profile_digits()
    zeros = np.flatnonzero(digits.target == 0)
    closest = zeros[np.argsort(-(Z[zeros] @ Z[zeros].mean(axis=0)), kind="stable")[:SET_SIZE]]
    picked = clip_al.CBDSampling(target="uniform").select(profiles=profiles, n_instances=SET_SIZE)
    figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.6), width_ratios=(1.25, 1))
    sets = {"Forty zeros that look alike": closest, "Forty picked for their concepts": picked}
    for (pictures, bars), (title, rows) in zip(axes, sets.items(), strict=True):
        tiles = images[rows].reshape(5, 8, 8, 8)
        padded = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=70)
        pictures.imshow(padded.transpose(0, 2, 1, 3).reshape(50, 80), cmap="gray", vmin=0)
        cbd = clip_al.concept_diversity(profiles, rows)
        gd = clip_al.geometric_diversity(Z[rows], jitter=JITTER)
        pictures.set_title(f"{title}\nCBD {cbd:.2f},  GD {gd:.0f}", loc="left", color=INK)
        pictures.set_axis_off()
        draw_histogram(bars, profiles, rows)
    figure.tight_layout()
    figure.savefig(path)


def draw_histogram(axes: Any, profiles: Any, rows: NDArray[np.int64], n_shown: int = 14) -> None:
    """Show how many images of a set hold each concept, the most frequent first."""
    counts_v = np.bincount(profiles.ids[rows].ravel(), minlength=profiles.n_concepts)
    order = np.argsort(-counts_v, kind="stable")[: min(n_shown, np.count_nonzero(counts_v))]
    places = np.arange(len(order))
    axes.barh(places, counts_v[order], color=ACCENT)
    axes.set_yticks(places, [profiles.vocabulary.names[j] for j in order])
    axes.set_ylim(n_shown - 0.5, -0.5)
    axes.set_xlim(0, len(rows))
    axes.set_xlabel(f"images of {len(rows)}; {np.count_nonzero(counts_v)} concepts in all")


def draw_cbd_and_gd(path: Path) -> None:
    """Draw CBD over GD, for sets of few and of many kinds of digit."""
    from matplotlib import pyplot as plt

    digits, _, Z, profiles = profile_digits()
    rng = np.random.default_rng(0)
    n_kinds = np.repeat(np.arange(1, 11), 20)
    points = []
    for kinds in n_kinds:
        of_kind = np.isin(digits.target, rng.choice(10, kinds, replace=False))
        rows = rng.choice(np.flatnonzero(of_kind), 100, replace=False)
        gd = clip_al.geometric_diversity(Z[rows], jitter=JITTER)
        points.append((gd, clip_al.concept_diversity(profiles, rows)))
    gd_s, cbd_s = np.array(points).T
    figure, axes = plt.subplots(figsize=(5.6, 4))
    dots = axes.scatter(gd_s, cbd_s, c=n_kinds, s=14, cmap="viridis")
    figure.colorbar(dots, label="kinds of digit in the set")
    rank = spearmanr(gd_s, cbd_s).statistic
    axes.set(xlabel="GD: log-determinant of the Gram matrix", ylabel="CBD: one sum of counters")
    axes.set_title(f"200 sets of 100 digits; rank correlation {rank:.2f}", loc="left", color=INK)
    figure.tight_layout()
    figure.savefig(path)


def draw_descent(path: Path) -> None:
    """Draw the paper's d of images by step, for N times the loss and for the loss itself."""
    from matplotlib import pyplot as plt

    digits, _, Z, _ = profile_digits()
    encoder = clip_al.ClipEncoder("mini", progress=False)
    classes = encoder.encode_texts(list(WORDS), templates=["A photo of {}"])
    sas_n = clip_al.scores.semantic_alignment_scores(Z, digits.target, classes, alignment="cosine")
    total_n = sas_n + 0.3 * clip_al.scores.sample_diversity_scores(
        Z, digits.target, n_neighbors=0.1
    )
    n, n_wanted = len(total_n), round(0.3 * len(total_n))
    exact = np.zeros(n, dtype=bool)
    exact[np.argsort(-total_n, kind="stable")[:n_wanted]] = True
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axes, scale in zip(panels, (1.0, 1 / n), strict=True):
        found = descend_to(total_n, n_wanted, 3000, scale)
        steps = np.unique(np.linspace(0, found.n_iterations, 40).astype(int))
        shown = np.argsort(total_n)[:: n // 60]
        d_sn = np.array([descend_to(total_n, n_wanted, t, scale).d_n[shown] for t in steps])
        for path_s, row in zip(d_sn.T, shown, strict=True):
            axes.plot(steps, path_s, color=ACCENT if exact[row] else PALE, lw=0.8)
        axes.axhline(0, color=INK, lw=0.8, ls="--")
        title = f"N × loss: {np.mean(found.chosen_n == exact):.1%} as one partition chooses"
        if not found.converged:
            title = f"loss as printed, N = {n:,}: d is never below {found.d_n.min():.3f}"
        axes.set_title(title, loc="left", color=INK)
        axes.set_xlabel(f"step, of {found.n_iterations:,}")
    panels[0].set_ylabel("d of an image; below 0 it is left out")
    figure.tight_layout()
    figure.savefig(path)


def descend_to(total_n: NDArray[np.float64], n_wanted: int, last: int, scale: float) -> Any:
    """Descend with the paper's settings, up to a step."""
    return descend(
        total_n, n_wanted, 5e-4 * len(total_n), beta=2.0, learning_rate=1e-3, momentum=0.9,
        max_iter=last, gradient_scale=scale,
    )  # fmt: skip


def draw_report(path: Path) -> None:
    """Photograph the report that `clip-al train-demo` writes, in Chromium driven by playwright."""
    from playwright.sync_api import sync_playwright
    from rich.console import Console

    from clip_al.demo.label import encode_digits
    from clip_al.demo.train import choose, flip_labels, write_page

    digits = encode_digits(Console(quiet=True))
    given = flip_labels(digits.y, seed=0)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        write_page(Path(folder), choose(digits, np.arange(len(given)), given, seed=0), digits)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 720})
        page.goto((Path(folder) / "report.html").as_uri())
        page.select_option("#show", label="all")
        page.select_option("#sort", label="position")
        page.locator("#concepts").scroll_into_view_if_needed()  # charts are drawn when seen
        page.wait_for_timeout(3000)
        page.evaluate("scrollTo(0, 0)")
        concepts = page.locator("#concepts").bounding_box()
        area = {"x": 0, "y": 0, "width": 1200, "height": concepts["y"] + concepts["height"]}
        page.screenshot(path=path, full_page=True, clip=area)
        browser.close()
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)


EDITS = {
    "half the size": lambda photo: photo.resize((photo.width // 2, photo.height // 2)),
    "1.2 times as bright": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
    "cropped to 90 %": lambda photo: ImageOps.crop(photo, round(0.05 * photo.width)),
    "turned by 5°": lambda photo: photo.rotate(5, Image.Resampling.BILINEAR),
    "mirrored": ImageOps.mirror,
    "grey": lambda photo: ImageOps.grayscale(photo).convert("RGB"),
    "upside down": ImageOps.flip,
    "a corner": lambda photo: photo.crop((0, 0, photo.width // 2, photo.height // 2)),
}
"""What is done to a photo, and how it is called."""


def draw_near_copies(path: Path) -> None:
    """Draw two photos and edits of each, with their cosines by the mini model."""
    from matplotlib import pyplot as plt

    encoder = clip_al.ClipEncoder("mini", progress=False)
    figure, axes = plt.subplots(2, len(EDITS) + 1, figsize=(11, 3))
    for row, pixels in zip(axes, load_sample_images().images, strict=True):
        photo = ImageOps.fit(Image.fromarray(pixels), (96, 96))
        shown = {"the photo": photo, **{name: edit(photo) for name, edit in EDITS.items()}}
        Z = encoder.encode_images(list(shown.values()))
        for panel, (name, picture), cosine in zip(row, shown.items(), Z @ Z[0], strict=True):
            panel.imshow(picture.resize((96, 96)))
            panel.set_title(f"{name}\n{cosine:.3f}", color=INK, fontsize=7)
            panel.set_axis_off()
    figure.tight_layout()
    figure.savefig(path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


PICTURES = {
    "near-copies.png": draw_near_copies,
    "report.png": draw_report,
    "cbd-sets.png": draw_sets,
    "cbd-and-gd.png": draw_cbd_and_gd,
    "one-partition.png": draw_descent,
}


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "font.size": 9,
            "savefig.dpi": 110,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    for name, draw in PICTURES.items():
        draw(folder / name)
        print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
