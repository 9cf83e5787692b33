"""Draw the glyphs that the mini model is trained on: digits, letters and simple shapes.

Two sorts of picture come out. *Small* glyphs imitate how the UCI optical digits were made: a
stroke is drawn, size-normalised into a 32 x 32 bitmap, thresholded, and the set pixels of each
4 x 4 block are counted, which gives 8 x 8 values of 0..16. *Large* glyphs are 32 x 32 and in
colour. Strokes come from the skeletons below, printed glyphs from matplotlib's text fonts.
No scikit-learn image is read here.

Every glyph carries the names of the concepts that are true of it (`Glyphs.concepts`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CANVAS = 96
Points = list[tuple[float, float]]
Stroke = tuple[str, Points]  # "l": straight segments, "c": a smooth curve through the points

FONTS = [
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "STIXGeneralBolIta", "cmr10", "cmb10", "cmss10", "cmtt10", "cmti10",
]  # fmt: skip

COLOURS = {
    "red": (210, 35, 35), "orange": (240, 140, 30), "yellow": (240, 220, 50),
    "green": (45, 155, 60), "blue": (45, 80, 205), "purple": (140, 55, 165),
    "brown": (120, 75, 40), "white": (250, 250, 250), "black": (8, 8, 8),
    "grey": (128, 128, 128), "pink": (240, 140, 180), "turquoise": (50, 185, 180),
}  # fmt: skip

DIGIT_WORDS = "zero one two three four five six seven eight nine".split()

# What the form of each digit has, whatever the hand.
DIGIT_FORM: dict[int, tuple[str, ...]] = {
    0: ("loop", "oval", "round", "rounded", "symmetrical"),
    1: ("straight line", "vertical line", "angular", "long and thin"),
    2: ("open curve", "curve", "horizontal line"),
    3: ("open curve", "curve", "rounded"),
    4: ("straight line", "crossing lines", "angular", "angle"),
    5: ("open curve", "curve", "horizontal line", "angle"),
    6: ("loop", "curve", "rounded", "hook shape"),
    7: ("straight line", "diagonal line", "angular", "angle", "horizontal line"),
    8: ("two loops", "curve", "rounded", "symmetrical"),
    9: ("loop", "curve", "rounded"),
}


@dataclass
class Glyphs:
    """Pictures with their concepts: `small` (n, 8, 8) 0..16 and `large` (m, 32, 32, 3) uint8."""

    small: list[np.ndarray] = field(default_factory=list)
    small_concepts: list[list[str]] = field(default_factory=list)
    large: list[np.ndarray] = field(default_factory=list)
    large_concepts: list[list[str]] = field(default_factory=list)


def _ellipse(cx: float, cy: float, rx: float, ry: float, start: float, turn: float) -> Points:
    """Points of an arc that starts at `start` and sweeps `turn` (radians, y downwards)."""
    angles = np.linspace(start, start + turn, 14)
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def digit_skeleton(digit: int, rng: np.random.Generator) -> tuple[list[Stroke], float]:
    """Choose one way of writing `digit`; returns its strokes in the unit box and its aspect."""
    u = rng.uniform
    pick = rng.random()
    aspect = u(0.55, 0.85)
    if digit == 0:
        start = u(-2.6, -0.6)
        turn = 2 * math.pi * u(0.93, 1.06) * (1 if pick < 0.5 else -1)
        return [("c", _ellipse(0.5, 0.5, 0.5, 0.5, start, turn))], u(0.45, 0.9)
    if digit == 1:
        stem: Stroke = ("l", [(0.6, 0.0), (0.6 + u(-0.08, 0.08), 1.0)])
        if pick < 0.3:
            return [stem], 0.25
        x, y = u(0.0, 0.3), u(0.15, 0.42)
        strokes: list[Stroke] = [("l", [(x, y), (0.6, 0.0), (0.6 + u(-0.08, 0.08), 1.0)])]
        if pick > 0.62:
            strokes.append(("l", [(u(0.05, 0.3), 1.0), (u(0.85, 1.1), 1.0)]))
        return strokes, u(0.3, 0.62)
    if digit == 2:
        top = [(0.08, u(0.18, 0.3)), (0.3, 0.03), (0.7, 0.03), (0.88, u(0.22, 0.34))]
        if pick < 0.6:
            return [("c", [*top, (0.6, 0.62), (0.06, 1.0)]), ("l", [(0.06, 1.0), (0.95, 1.0)])], aspect
        if pick < 0.85:
            tail = [(0.6, 0.6), (0.22, 0.93), (0.03, 0.9), (0.16, 0.76), (0.45, 0.92), (0.95, 0.96)]
            return [("c", [*top, *tail])], aspect
        return [("c", [*top, (0.5, 0.66), (0.06, 0.97), (0.4, 0.97), (0.95, 0.9)])], aspect
    if digit == 3:
        lower: Points = [(0.42, 0.46), (0.75, 0.54), (0.9, 0.76), (0.5, 1.0), (0.06, u(0.82, 0.95))]
        if pick < 0.25:
            return [("l", [(0.1, 0.0), (0.85, 0.0), (0.42, 0.42)]), ("c", lower)], aspect
        if pick < 0.6:
            return [("c", [(0.08, 0.12), (0.45, 0.0), (0.8, 0.2), (0.62, 0.42), *lower])], aspect
        upper: Points = [(0.08, 0.14), (0.48, 0.0), (0.82, 0.2), (0.6, 0.43), (u(0.25, 0.45), 0.47)]
        return [("c", upper), ("c", [upper[-1], *lower[1:]])], aspect
    if digit == 4:
        bar = u(0.5, 0.72)
        stem_x = u(0.6, 0.78)
        if pick < 0.45:
            top = stem_x - u(0.0, 0.1)
            return [
                ("l", [(top, 0.0), (0.03, bar), (0.98, bar)]),
                ("l", [(top if pick < 0.25 else stem_x, 0.0 if pick < 0.25 else 0.3), (stem_x, 1.0)]),
            ], aspect
        kind = "l" if pick < 0.8 else "c"
        return [
            (kind, [(u(0.08, 0.35), 0.0), (u(0.02, 0.12), bar - 0.06), (0.2, bar), (0.95, bar)]),
            ("l", [(stem_x + u(0.0, 0.14), u(0.0, 0.3)), (stem_x - u(0.0, 0.15), 1.0)]),
        ], aspect
    if digit == 5:
        left = u(0.1, 0.25)
        bowl: Points = [(left, 0.45), (0.5, 0.38), (0.88, 0.62), (0.72, 0.92), (0.38, 1.0)]
        bowl.append((0.04, u(0.82, 0.95)))
        if pick < 0.7:
            return [("l", [(u(0.8, 1.0), u(0, 0.06)), (left + 0.05, 0.0), (left, 0.45)]), ("c", bowl)], aspect
        return [("c", [(0.9, 0.02), (0.4, 0.02), (left, 0.2), (0.3, 0.42), *bowl[2:]])], aspect
    if digit == 6:
        loop: Points = [(0.25, 0.96), (0.65, 0.98), (0.9, 0.74), (0.6, 0.52), (u(0.1, 0.22), 0.7)]
        if pick < 0.6:
            return [("c", [(u(0.55, 0.9), 0.0), (0.32, 0.25), (0.06, 0.66), *loop])], aspect
        return [("c", [(u(0.2, 0.45), 0.0), (0.14, 0.35), (0.05, 0.7), *loop])], aspect
    if digit == 7:
        foot = (u(0.2, 0.5), 1.0)
        if pick < 0.65:
            strokes = [("l", [(0.05, u(0, 0.06)), (0.95, 0.0), foot])]
        else:
            strokes = [("l", [(0.05, 0.02), (0.92, 0.0)]), ("c", [(0.92, 0.0), (0.55, 0.45), foot])]
        if rng.random() < 0.3:
            strokes.append(("l", [(0.05, 0.02), (0.04, 0.17)]))
        if rng.random() < 0.55:
            strokes.append(("l", [(u(0.1, 0.35), u(0.45, 0.56)), (u(0.75, 1.0), u(0.42, 0.54))]))
        return strokes, u(0.55, 0.95)
    if digit == 8:
        if pick < 0.6:
            path: Points = [(0.8, 0.14), (0.5, 0.0), (0.17, 0.2), (0.5, 0.46), (0.85, 0.76)]
            path += [(0.5, 1.0), (0.12, 0.78), (0.5, 0.46), (0.82, 0.2), (u(0.6, 0.85), u(0.02, 0.16))]
            return [("c", path)], u(0.45, 0.8)
        waist = u(0.42, 0.5)
        top, low = u(0.28, 0.42), u(0.36, 0.5)
        return [
            ("c", _ellipse(0.5, waist / 2, top, waist / 2, 0.5, 6.4)),
            ("c", _ellipse(0.5, (1 + waist) / 2, low, (1 - waist) / 2, -1.6, 6.4)),
        ], u(0.5, 0.8)
    right = u(0.8, 0.92)
    ring: Points = [(right, 0.2), (0.5, 0.0), (0.1, 0.24), (0.4, u(0.42, 0.54)), (right, 0.26)]
    if pick < 0.45:
        return [("c", ring), ("l", [(right, u(0.05, 0.25)), (right - u(0.0, 0.35), 1.0)])], aspect
    if pick < 0.6:
        return [("c", [*ring, (right - 0.1, 0.7), (u(0.3, 0.6), 1.0)])], aspect
    return [("c", [*ring, (right, 0.7), (0.55, 1.0), (0.1, u(0.85, 0.95))])], aspect


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
        x = p[:, 0] + amp[0] * np.sin(freq[0] * p[:, 1] + phase[0]) + amp[1] * np.sin(freq[1] * p[:, 0] + phase[1])
        y = p[:, 1] + amp[2] * np.sin(freq[2] * p[:, 0] + phase[2]) + amp[3] * np.sin(freq[3] * p[:, 1] + phase[3])
        p = np.stack([x - slant * y, y], 1) @ turn.T * size + CANVAS / 2
        pen.line([tuple(q) for q in p], fill=255, width=max(1, round(2 * half)), joint="curve")
        for q in (p[0], p[-1]):
            pen.ellipse([q[0] - half, q[1] - half, q[0] + half, q[1] + half], fill=255)
    return image


def _densify(p: np.ndarray) -> np.ndarray:
    """Add points to straight segments, so that the warp bends them."""
    t = np.linspace(0, 1, 5, endpoint=False)[:, None]
    return np.concatenate([*(a + (b - a) * t for a, b in zip(p, p[1:], strict=False)), p[-1:]])


def draw_font(
    text: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator, slant: float
) -> Image.Image:
    """Draw a printed glyph white on black, with a small random affine map."""
    image = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(image).text((CANVAS / 2, CANVAS / 2), text, fill=255, font=font, anchor="mm")
    sx, theta = rng.uniform(0.8, 1.25), rng.normal(0, 0.06)
    a, b, c, d = sx, slant, math.sin(theta), 1.0
    m = CANVAS / 2
    return image.transform(
        (CANVAS, CANVAS), Image.Transform.AFFINE, (a, b, m - a * m - b * m, c, d, m - c * m - d * m),
        Image.Resampling.BILINEAR,
    )  # fmt: skip


def to_counts(image: Image.Image, rng: np.random.Generator) -> np.ndarray | None:
    """Size-normalise to 32 rows, threshold, count 4 x 4 blocks: (8, 8) of 0..16, or None if empty."""
    box = image.getbbox()
    if box is None:
        return None
    crop = image.crop(box)
    height = 32
    width = int(np.clip(round(crop.width * height / crop.height * rng.uniform(0.92, 1.1)), 5, 30))
    bits = np.asarray(crop.resize((width, height), Image.Resampling.BILINEAR)) > rng.uniform(70, 170)
    canvas = np.zeros((32, 32), bool)
    left = int(np.clip((32 - width) // 2 + rng.integers(-2, 3), 0, 32 - width))
    canvas[:, left : left + width] = bits
    return canvas.reshape(8, 4, 8, 4).sum((1, 3)).astype(np.uint8)


def to_colour(
    mask: Image.Image, rng: np.random.Generator, names: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Paint a mask at a random place and size on a coloured ground: (32, 32, 3) and its concepts."""
    box = mask.getbbox() or (0, 0, CANVAS, CANVAS)
    crop = mask.crop(box)
    size = rng.uniform(0.38, 0.95)
    scale = 32 * size / max(crop.size)
    w, h = (max(2, round(s * scale)) for s in crop.size)
    x, y = (int(rng.integers(0, 33 - s)) for s in (w, h))
    if rng.random() < 0.6:
        x, y = (32 - w) // 2, (32 - h) // 2
    fore, back = rng.choice(list(COLOURS), 2, replace=False)
    if rng.random() < 0.3:
        fore, back = ("white", "black") if rng.random() < 0.5 else ("black", "white")
    f, b = (np.array(COLOURS[c]) + rng.normal(0, 12, 3) for c in (fore, back))
    alpha = np.zeros((32, 32), np.float32)
    alpha[y : y + h, x : x + w] = np.asarray(crop.resize((w, h), Image.Resampling.BOX)) / 255
    rgb = b + (f - b) * alpha[..., None] + rng.normal(0, rng.choice([0.0, 3.0, 10.0]), (32, 32, 3))
    known = ["pink", "turquoise"]
    concepts = [*names, "orange colour" if fore == "orange" else fore]
    concepts += [] if fore in known else [f"{fore} object"]
    concepts += [] if back in known else [f"{back} background"]
    concepts.append("light on dark" if f.mean() > b.mean() else "dark on light")
    if {fore, back} <= {"white", "black", "grey"}:
        concepts.append("black and white")
    else:
        concepts.append("colourful")
    concepts.append("light background" if b.mean() > 170 else "dark background" if b.mean() < 80 else "plain")
    concepts += ["large", "fills the frame"] if size > 0.78 else ["small"] if size < 0.52 else []
    concepts.append("centred" if abs(x + w / 2 - 16) + abs(y + h / 2 - 16) < 4 else "off-centre")
    contrast = abs(float(f.mean() - b.mean()))
    concepts += ["high contrast"] if contrast > 150 else ["low contrast"] if contrast < 40 else []
    return np.clip(rgb, 0, 255).astype(np.uint8), concepts


SMALL_COMMON = ["light on dark", "black background", "white object", "black and white",
                "low resolution", "dark background", "plain", "fills the frame"]  # fmt: skip


def style_concepts(slant: float, width: float, ratio: float) -> list[str]:
    """Name slant, stroke width and width-to-height ratio."""
    out = ["thick", "bold"] if width > 0.17 else ["thin"] if width < 0.1 else []
    if slant > 0.18:
        out += ["slanted", "slanted to the right"]
    elif slant < -0.12:
        out += ["slanted", "slanted to the left"]
    else:
        out += ["upright"]
    return out + (["wide"] if ratio > 0.85 else ["narrow", "tall and narrow"] if ratio < 0.5 else [])


def font_concepts(name: str) -> list[str]:
    """Name the typeface."""
    out = ["printed text"]
    if "Mono" in name or name == "cmtt10":
        out.append("typewriter typeface")
    out.append("sans-serif typeface" if "Sans" in name or name == "cmss10" else "serif typeface")
    if "Bold" in name or "Bol" in name or name == "cmb10":
        out += ["bold", "thick"]
    italic = "Oblique" in name or "Ita" in name or name == "cmti10"
    return out + (["slanted", "slanted to the right"] if italic else ["upright"])


def draw_shape(name: str, rng: np.random.Generator) -> Image.Image:
    """Draw one of `SHAPES` filled, or outlined where that makes sense."""
    image = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(image)
    c, r = CANVAS / 2, 34.0
    line = int(rng.integers(5, 12))
    theta = rng.normal(0, 0.15)

    def at(points: Points) -> Points:
        return [
            (c + r * (x * math.cos(theta) - y * math.sin(theta)),
             c + r * (x * math.sin(theta) + y * math.cos(theta)))
            for x, y in points
        ]  # fmt: skip

    def ngon(k: int, start: float = -math.pi / 2) -> Points:
        return [(math.cos(start + 2 * math.pi * i / k), math.sin(start + 2 * math.pi * i / k)) for i in range(k)]

    star = [(math.cos(a) * s, math.sin(a) * s)
            for i in range(10) for a, s in [(-math.pi / 2 + math.pi * i / 5, 1 if i % 2 == 0 else 0.42)]]  # fmt: skip
    t = np.linspace(0, 2 * math.pi, 40)
    heart = [(float(x), float(y)) for x, y in zip(np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16, strict=True)]
    polygons: dict[str, Points] = {
        "circle": ngon(40), "oval": [(x, 0.6 * y) for x, y in ngon(40)], "square": ngon(4, math.pi / 4),
        "rectangle": [(1, 0.5), (-1, 0.5), (-1, -0.5), (1, -0.5)], "triangle": ngon(3),
        "diamond shape": [(0.65 * x, y) for x, y in ngon(4)], "hexagon": ngon(6), "star shape": star,
        "heart": heart,
        "arrow": [(-1, 0.22), (0.1, 0.22), (0.1, 0.65), (1, 0), (0.1, -0.65), (0.1, -0.22), (-1, -0.22)],
    }  # fmt: skip
    lines: dict[str, list[Points]] = {
        "plus sign shape": [[(-1, 0), (1, 0)], [(0, -1), (0, 1)]],
        "x shape": [[(-0.8, -0.8), (0.8, 0.8)], [(-0.8, 0.8), (0.8, -0.8)]],
        "cross": [[(-0.6, -0.35), (0.6, -0.35)], [(0, -1), (0, 1)]],
        "straight line": [[(-1, 0.0), (1, 0.0)]], "vertical line": [[(0, -1), (0, 1)]],
        "horizontal line": [[(-1, 0), (1, 0)]], "diagonal line": [[(-0.8, 0.8), (0.8, -0.8)]],
        "parallel lines": [[(-1, -0.5), (1, -0.5)], [(-1, 0.1), (1, 0.1)], [(-1, 0.7), (1, 0.7)]],
        "wavy line": [[(x, 0.3 * math.sin(7 * x)) for x in np.linspace(-1, 1, 40)]],
        "spiral": [[(a / 14 * math.cos(a), a / 14 * math.sin(a)) for a in np.linspace(0, 14, 70)]],
        "angle": [[(-0.8, -0.8), (-0.8, 0.8), (0.8, 0.8)]],
        "zigzag": [[(-1, 0.4), (-0.6, -0.4), (-0.2, 0.4), (0.2, -0.4), (0.6, 0.4), (1, -0.4)]],
    }  # fmt: skip
    if name in polygons:
        pen.polygon(at(polygons[name]), fill=255)
    elif name in lines:
        for path in lines[name]:
            pen.line(at(path), fill=255, width=line, joint="curve")
    elif name == "dot":
        pen.ellipse([c - 9, c - 9, c + 9, c + 9], fill=255)
    elif name == "crescent":
        pen.ellipse([c - r, c - r, c + r, c + r], fill=255)
        pen.ellipse([c - r * 0.4, c - r, c + r * 1.4, c + r * 0.8], fill=0)
    else:  # ring shape
        pen.ellipse([c - r, c - r, c + r, c + r], outline=255, width=line)
    return image


SHAPES = [
    "circle", "oval", "square", "rectangle", "triangle", "diamond shape", "hexagon", "star shape",
    "heart", "arrow", "plus sign shape", "x shape", "cross", "vertical line", "horizontal line",
    "diagonal line", "parallel lines", "wavy line", "spiral", "angle", "zigzag", "dot", "crescent",
    "ring shape",
]  # fmt: skip
ROUND = {"circle", "oval", "ring shape", "dot", "spiral", "heart", "crescent"}


def draw_glyphs(seed: int, scale: float = 1.0, fonts: list[str] | None = None) -> Glyphs:
    """Draw the whole set (about 84,000 at `scale` 1), seeded; `fonts` limits the typefaces."""
    rng = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = {f: ImageFont.truetype(str(folder / f"{f}.ttf"), 58) for f in fonts or FONTS}
    out = Glyphs()

    def written(digit: int) -> tuple[Image.Image, list[str]]:
        strokes, aspect = digit_skeleton(digit, rng)
        slant = rng.normal(0.06, 0.17)
        width = float(np.clip(rng.normal(0.145, 0.035), 0.06, 0.26))
        image = draw_strokes(strokes, aspect, rng, slant, width)
        box = image.getbbox() or (0, 0, 1, 1)
        ratio = (box[2] - box[0]) / (box[3] - box[1])
        style = style_concepts(slant, width, ratio)
        return image, [DIGIT_WORDS[digit], "digit", "number", "symbol", *DIGIT_FORM[digit],
                       "handwriting", *style]  # fmt: skip

    def printed(text: str, names: list[str]) -> tuple[Image.Image, list[str]]:
        name = str(rng.choice(list(faces)))
        slant = float(rng.normal(0, 0.1))
        return draw_font(text, faces[name], rng, slant), [*names, *font_concepts(name)]

    def digit_names(d: int) -> list[str]:
        return [DIGIT_WORDS[d], "digit", "number", "symbol", *DIGIT_FORM[d]]

    def letter() -> tuple[Image.Image, list[str]]:
        i = int(rng.integers(26))
        upper = rng.random() < 0.5
        text = chr((65 if upper else 97) + i)
        case = "capital letter" if upper else "small letter"
        return printed(text, [f"letter {chr(97 + i)}", "letter", "symbol", case, "text"])

    def shape() -> tuple[Image.Image, list[str]]:
        name = str(rng.choice(SHAPES))
        form = ["round", "rounded"] if name in ROUND else ["angular"]
        return draw_shape(name, rng), [name, "shape", "symbol", *form]

    def small(image: Image.Image, names: list[str]) -> None:
        counts = to_counts(image, rng)
        if counts is not None:
            out.small.append(counts)
            out.small_concepts.append([*names, *SMALL_COMMON])

    def large(image: Image.Image, names: list[str]) -> None:
        picture, concepts = to_colour(image, rng, names)
        out.large.append(picture)
        out.large_concepts.append(concepts)

    for i in range(int(40_000 * scale)):
        small(*written(i % 10))
    for i in range(int(8_000 * scale)):
        small(*printed(str(i % 10), digit_names(i % 10)))
    for i in range(int(10_000 * scale)):
        large(*written(i % 10))
        large(*printed(str(i % 10), digit_names(i % 10)))
    for i in range(int(10_000 * scale)):
        large(*letter())
        large(*shape())
        if i % 5 == 0:
            small(*letter())
    return out
