"""Stroke skeletons of the digits, after the ways people write them, and a pen that draws them.

A skeleton is a list of strokes in the unit box, y downwards. Each digit has several (a 1 with and
without flag and foot, a 7 with and without bar, an open and a closed 4, a straight and a curled
9 ...); the pen adds jitter, slant, rotation, a smooth warp and a width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

CANVAS = 96
Points = list[tuple[float, float]]
Stroke = tuple[str, Points]  # "l": straight segments, "c": a smooth curve through the points
Skeleton = tuple[list[Stroke], float]  # the strokes, and the width of their box over its height
Uniform = Callable[[float, float], float]


def _ellipse(cx: float, cy: float, rx: float, ry: float, start: float, turn: float) -> Points:
    """Points of an arc that starts at `start` and sweeps `turn` (radians)."""
    angles = np.linspace(start, start + turn, 14)
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _zero(u: Uniform, pick: float, _: float) -> Skeleton:
    start = u(-2.6, -0.6)
    turn = 2 * math.pi * u(0.93, 1.06) * (1 if pick < 0.5 else -1)
    return [("c", _ellipse(0.5, 0.5, 0.5, 0.5, start, turn))], u(0.45, 0.9)


def _one(u: Uniform, pick: float, _: float) -> Skeleton:
    stem: Stroke = ("l", [(0.6, 0.0), (0.6 + u(-0.08, 0.08), 1.0)])
    if pick < 0.3:
        return [stem], 0.25
    x, y = u(0.0, 0.3), u(0.15, 0.42)
    strokes: list[Stroke] = [("l", [(x, y), (0.6, 0.0), (0.6 + u(-0.08, 0.08), 1.0)])]
    if pick > 0.62:  # a foot
        strokes.append(("l", [(u(0.05, 0.3), 1.0), (u(0.85, 1.1), 1.0)]))
    return strokes, u(0.3, 0.62)


def _two(u: Uniform, pick: float, aspect: float) -> Skeleton:
    top = [(0.08, u(0.18, 0.3)), (0.3, 0.03), (0.7, 0.03), (0.88, u(0.22, 0.34))]
    if pick < 0.6:
        base: Stroke = ("l", [(0.06, 1.0), (0.95, 1.0)])
        return [("c", [*top, (0.6, 0.62), (0.06, 1.0)]), base], aspect
    if pick < 0.85:  # a loop at the foot
        tail = [(0.6, 0.6), (0.22, 0.93), (0.03, 0.9), (0.16, 0.76), (0.45, 0.92), (0.95, 0.96)]
        return [("c", [*top, *tail])], aspect
    return [("c", [*top, (0.5, 0.66), (0.06, 0.97), (0.4, 0.97), (0.95, 0.9)])], aspect


def _three(u: Uniform, pick: float, aspect: float) -> Skeleton:
    lower: Points = [(0.42, 0.46), (0.75, 0.54), (0.9, 0.76), (0.5, 1.0), (0.06, u(0.82, 0.95))]
    if pick < 0.25:  # a flat top
        return [("l", [(0.1, 0.0), (0.85, 0.0), (0.42, 0.42)]), ("c", lower)], aspect
    if pick < 0.6:
        return [("c", [(0.08, 0.12), (0.45, 0.0), (0.8, 0.2), (0.62, 0.42), *lower])], aspect
    upper: Points = [(0.08, 0.14), (0.48, 0.0), (0.82, 0.2), (0.6, 0.43), (u(0.25, 0.45), 0.47)]
    return [("c", upper), ("c", [upper[-1], *lower[1:]])], aspect


def _four(u: Uniform, pick: float, aspect: float) -> Skeleton:
    bar = u(0.5, 0.72)
    stem = u(0.6, 0.78)
    if pick < 0.45:  # closed, or nearly
        top = stem - u(0.0, 0.1)
        head = (top, 0.0) if pick < 0.25 else (stem, 0.3)
        return [("l", [(top, 0.0), (0.03, bar), (0.98, bar)]), ("l", [head, (stem, 1.0)])], aspect
    kind = "l" if pick < 0.8 else "c"
    return [
        (kind, [(u(0.08, 0.35), 0.0), (u(0.02, 0.12), bar - 0.06), (0.2, bar), (0.95, bar)]),
        ("l", [(stem + u(0.0, 0.14), u(0.0, 0.3)), (stem - u(0.0, 0.15), 1.0)]),
    ], aspect


def _five(u: Uniform, pick: float, aspect: float) -> Skeleton:
    left = u(0.1, 0.25)
    bowl: Points = [(left, 0.45), (0.5, 0.38), (0.88, 0.62), (0.72, 0.92), (0.38, 1.0)]
    bowl.append((0.04, u(0.82, 0.95)))
    if pick < 0.7:
        roof: Stroke = ("l", [(u(0.8, 1.0), u(0, 0.06)), (left + 0.05, 0.0), (left, 0.45)])
        return [roof, ("c", bowl)], aspect
    return [("c", [(0.9, 0.02), (0.4, 0.02), (left, 0.2), (0.3, 0.42), *bowl[2:]])], aspect


def _six(u: Uniform, pick: float, aspect: float) -> Skeleton:
    loop: Points = [(0.25, 0.96), (0.65, 0.98), (0.9, 0.74), (0.6, 0.52), (u(0.1, 0.22), 0.7)]
    if pick < 0.6:
        return [("c", [(u(0.55, 0.9), 0.0), (0.32, 0.25), (0.06, 0.66), *loop])], aspect
    return [("c", [(u(0.2, 0.45), 0.0), (0.14, 0.35), (0.05, 0.7), *loop])], aspect


def _seven(u: Uniform, pick: float, _: float) -> Skeleton:
    foot = (u(0.2, 0.5), 1.0)
    if pick < 0.65:
        strokes: list[Stroke] = [("l", [(0.05, u(0, 0.06)), (0.95, 0.0), foot])]
    else:
        strokes = [("l", [(0.05, 0.02), (0.92, 0.0)]), ("c", [(0.92, 0.0), (0.55, 0.45), foot])]
    if u(0, 1) < 0.3:  # a flag
        strokes.append(("l", [(0.05, 0.02), (0.04, 0.17)]))
    if u(0, 1) < 0.55:  # a bar
        strokes.append(("l", [(u(0.1, 0.35), u(0.45, 0.56)), (u(0.75, 1.0), u(0.42, 0.54))]))
    return strokes, u(0.55, 0.95)


def _eight(u: Uniform, pick: float, _: float) -> Skeleton:
    if pick < 0.6:  # in one stroke
        path: Points = [(0.8, 0.14), (0.5, 0.0), (0.17, 0.2), (0.5, 0.46), (0.85, 0.76)]
        path += [(0.5, 1.0), (0.12, 0.78), (0.5, 0.46), (0.82, 0.2)]
        return [("c", [*path, (u(0.6, 0.85), u(0.02, 0.16))])], u(0.45, 0.8)
    waist = u(0.42, 0.5)
    top, low = u(0.28, 0.42), u(0.36, 0.5)
    return [
        ("c", _ellipse(0.5, waist / 2, top, waist / 2, 0.5, 6.4)),
        ("c", _ellipse(0.5, (1 + waist) / 2, low, (1 - waist) / 2, -1.6, 6.4)),
    ], u(0.5, 0.8)


def _nine(u: Uniform, pick: float, aspect: float) -> Skeleton:
    right = u(0.8, 0.92)
    ring: Points = [(right, 0.2), (0.5, 0.0), (0.1, 0.24), (0.4, u(0.42, 0.54)), (right, 0.26)]
    if pick < 0.45:
        return [("c", ring), ("l", [(right, u(0.05, 0.25)), (right - u(0.0, 0.35), 1.0)])], aspect
    if pick < 0.6:
        return [("c", [*ring, (right - 0.1, 0.7), (u(0.3, 0.6), 1.0)])], aspect
    return [("c", [*ring, (right, 0.7), (0.55, 1.0), (0.1, u(0.85, 0.95))])], aspect


SKELETONS = (_zero, _one, _two, _three, _four, _five, _six, _seven, _eight, _nine)


def digit_skeleton(digit: int, rng: np.random.Generator) -> Skeleton:
    """Choose one way of writing `digit`."""
    pick = rng.random()
    aspect = rng.uniform(0.55, 0.85)
    return SKELETONS[digit](rng.uniform, pick, aspect)


def _smooth(points: np.ndarray, steps: int = 9) -> np.ndarray:
    """Catmull-Rom curve through `points` (k, 2)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                   + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )  # fmt: skip
    return np.concatenate([*parts, points[-1:]])


def draw_strokes(
    strokes: list[Stroke], aspect: float, rng: np.random.Generator, slant: float, width: float
) -> Image.Image:
    """Draw jittered, warped strokes white on black; `width` is a share of the glyph's height."""
    theta = rng.normal(0, 0.06)
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    amp, phase, freq = rng.normal(0, 0.022, 4), rng.uniform(0, 6.3, 4), rng.uniform(2, 6, 4)
    size = 60.0
    image = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    half = width * size / 2
    for kind, points in strokes:
        p = np.array(points)
        p = p + rng.normal(0, 0.024, p.shape)
        p = _smooth(p) if kind == "c" else _densify(p)
        p = (p - 0.5) * np.array([aspect, 1.0])
        x = (
            p[:, 0]
            + amp[0] * np.sin(freq[0] * p[:, 1] + phase[0])
            + amp[1] * np.sin(freq[1] * p[:, 0] + phase[1])
        )
        y = (
            p[:, 1]
            + amp[2] * np.sin(freq[2] * p[:, 0] + phase[2])
            + amp[3] * np.sin(freq[3] * p[:, 1] + phase[3])
        )
        p = np.stack([x - slant * y, y], 1) @ turn.T * size + CANVAS / 2
        pen.line([tuple(q) for q in p], fill=255, width=max(1, round(2 * half)), joint="curve")
        for q in (p[0], p[-1]):
            pen.ellipse([q[0] - half, q[1] - half, q[0] + half, q[1] + half], fill=255)
    return image


def _densify(p: np.ndarray) -> np.ndarray:
    """Add points to straight segments, so that the warp bends them."""
    t = np.linspace(0, 1, 5, endpoint=False)[:, None]
    return np.concatenate([*(a + (b - a) * t for a, b in pairwise(p)), p[-1:]])
