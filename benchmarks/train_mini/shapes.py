"""Simple shapes, drawn white on black: filled polygons and lines."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.train_mini.strokes import CANVAS, Points


def _ngon(k: int, start: float = -math.pi / 2) -> Points:
    """Corners of a regular polygon in the unit circle."""
    angles = [start + 2 * math.pi * i / k for i in range(k)]
    return [(math.cos(a), math.sin(a)) for a in angles]


def _star() -> Points:
    radii = [1.0, 0.42] * 5
    return [(r * x, r * y) for r, (x, y) in zip(radii, _ngon(10), strict=True)]


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, 40)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return list(zip(x.tolist(), y.tolist(), strict=True))


POLYGONS: dict[str, Points] = {
    "circle": _ngon(40),
    "oval": [(x, 0.6 * y) for x, y in _ngon(40)],
    "square": _ngon(4, math.pi / 4),
    "rectangle": [(1, 0.5), (-1, 0.5), (-1, -0.5), (1, -0.5)],
    "triangle": _ngon(3),
    "diamond shape": [(0.65 * x, y) for x, y in _ngon(4)],
    "hexagon": _ngon(6),
    "star shape": _star(),
    "heart": _heart(),
    "arrow": [
        (-1, 0.22), (0.1, 0.22), (0.1, 0.65), (1, 0), (0.1, -0.65), (0.1, -0.22), (-1, -0.22)
    ],
}  # fmt: skip
LINES: dict[str, list[Points]] = {
    "plus sign shape": [[(-1, 0), (1, 0)], [(0, -1), (0, 1)]],
    "x shape": [[(-0.8, -0.8), (0.8, 0.8)], [(-0.8, 0.8), (0.8, -0.8)]],
    "cross": [[(-0.6, -0.35), (0.6, -0.35)], [(0, -1), (0, 1)]],
    "vertical line": [[(0, -1), (0, 1)]],
    "horizontal line": [[(-1, 0), (1, 0)]],
    "diagonal line": [[(-0.8, 0.8), (0.8, -0.8)]],
    "parallel lines": [[(-1, -0.5), (1, -0.5)], [(-1, 0.1), (1, 0.1)], [(-1, 0.7), (1, 0.7)]],
    "wavy line": [[(float(x), 0.3 * math.sin(7 * x)) for x in np.linspace(-1, 1, 40)]],
    "spiral": [[(a / 14 * math.cos(a), a / 14 * math.sin(a)) for a in np.linspace(0, 14, 70)]],
    "angle": [[(-0.8, -0.8), (-0.8, 0.8), (0.8, 0.8)]],
    "zigzag": [[(-1, 0.4), (-0.6, -0.4), (-0.2, 0.4), (0.2, -0.4), (0.6, 0.4), (1, -0.4)]],
}
SHAPES = [
    "circle", "oval", "square", "rectangle", "triangle", "diamond shape", "hexagon", "star shape",
    "heart", "arrow", "plus sign shape", "x shape", "cross", "vertical line", "horizontal line",
    "diagonal line", "parallel lines", "wavy line", "spiral", "angle", "zigzag", "dot", "crescent",
    "ring shape",
]  # fmt: skip
ROUND = {"circle", "oval", "ring shape", "dot", "spiral", "heart", "crescent"}


def draw_shape(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one of `SHAPES`, turned a little, with lines of a random width."""
    image = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    c, r = CANVAS / 2, 34.0
    line = int(rng.integers(5, 12))
    theta = rng.normal(0, 0.15)
    cos, sin = r * math.cos(theta), r * math.sin(theta)

    def place(points: Points) -> Points:
        return [(c + x * cos - y * sin, c + x * sin + y * cos) for x, y in points]

    if name in POLYGONS:
        pen.polygon(place(POLYGONS[name]), fill=255)
    elif name in LINES:
        for path in LINES[name]:
            pen.line(place(path), fill=255, width=line, joint="curve")
    elif name == "dot":
        pen.ellipse([c - 9, c - 9, c + 9, c + 9], fill=255)
    elif name == "crescent":
        pen.ellipse([c - r, c - r, c + r, c + r], fill=255)
        pen.ellipse([c - r * 0.4, c - r, c + r * 1.4, c + r * 0.8], fill=0)
    else:
        pen.ellipse([c - r, c - r, c + r, c + r], outline=255, width=line)
    return image
