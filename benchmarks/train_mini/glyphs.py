"""Draw the glyphs that the mini model is trained on: digits, letters and simple shapes.

Two sorts of picture come out. *Small* glyphs imitate how the UCI optical digits were made: a
stroke is drawn, size-normalised into a 32 x 32 bitmap, thresholded, and the set pixels of each
4 x 4 block are counted, which gives 8 x 8 values of 0..16. *Large* glyphs are 32 x 32 and in
colour. Strokes come from `strokes`, shapes from `shapes`, printed glyphs from
matplotlib's text fonts. No scikit-learn image is read here.

Every glyph carries the names of the concepts that are true of it (`Glyphs.concepts`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.train_mini.shapes import ROUND, SHAPES, draw_shape
from benchmarks.train_mini.strokes import CANVAS, digit_skeleton, draw_strokes

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

DIGIT_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
]  # fmt: skip

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


def draw_font(
    text: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator, slant: float
) -> Image.Image:
    """Draw a printed glyph white on black, with a small random affine map."""
    image = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(image).text((CANVAS / 2, CANVAS / 2), text, fill=255, font=font, anchor="mm")
    sx, theta = rng.uniform(0.8, 1.25), rng.normal(0, 0.06)
    a, b, c, d = sx, slant, math.sin(theta), 1.0
    m = CANVAS / 2
    about_centre = (a, b, m - a * m - b * m, c, d, m - c * m - d * m)
    return image.transform(
        (CANVAS, CANVAS), Image.Transform.AFFINE, about_centre, Image.Resampling.BILINEAR
    )


def to_counts(image: Image.Image, rng: np.random.Generator) -> np.ndarray | None:
    """Size-normalise to 32 rows, threshold, count 4 x 4 blocks: (8, 8) of 0..16, None if empty."""
    box = image.getbbox()
    if box is None:
        return None
    crop = image.crop(box)
    height = 32
    width = int(np.clip(round(crop.width * height / crop.height * rng.uniform(0.92, 1.1)), 5, 30))
    grey = np.asarray(crop.resize((width, height), Image.Resampling.BILINEAR))
    bits = grey > rng.uniform(70, 170)
    canvas = np.zeros((32, 32), bool)
    left = int(np.clip((32 - width) // 2 + rng.integers(-2, 3), 0, 32 - width))
    canvas[:, left : left + width] = bits
    return canvas.reshape(8, 4, 8, 4).sum((1, 3)).astype(np.uint8)


def to_colour(
    mask: Image.Image, rng: np.random.Generator, names: list[str]
) -> tuple[np.ndarray, list[str]]:
    """Paint a mask in a random place, size and colour: (32, 32, 3) uint8 and its concepts."""
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
    concepts.append(
        "light background" if b.mean() > 170 else "dark background" if b.mean() < 80 else "plain"
    )
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
    return out + (
        ["wide"] if ratio > 0.85 else ["narrow", "tall and narrow"] if ratio < 0.5 else []
    )


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


@dataclass
class Drawer:
    """Draws one glyph at a time: its white-on-black mask and the concepts true of it."""

    rng: np.random.Generator
    faces: dict[str, ImageFont.FreeTypeFont]

    def written(self, digit: int) -> tuple[Image.Image, list[str]]:
        """Draw a digit by hand."""
        strokes, aspect = digit_skeleton(digit, self.rng)
        slant = self.rng.normal(0.06, 0.17)
        width = float(np.clip(self.rng.normal(0.145, 0.035), 0.06, 0.26))
        image = draw_strokes(strokes, aspect, self.rng, slant, width)
        box = image.getbbox() or (0, 0, 1, 1)
        style = style_concepts(slant, width, (box[2] - box[0]) / (box[3] - box[1]))
        return image, [*digit_concepts(digit), "handwriting", *style]

    def printed(self, text: str, names: list[str]) -> tuple[Image.Image, list[str]]:
        """Draw a text in a random font."""
        name = str(self.rng.choice(list(self.faces)))
        slant = float(self.rng.normal(0, 0.1))
        image = draw_font(text, self.faces[name], self.rng, slant)
        return image, [*names, *font_concepts(name)]

    def printed_digit(self, digit: int) -> tuple[Image.Image, list[str]]:
        """Draw a digit in a random font."""
        return self.printed(str(digit), digit_concepts(digit))

    def letter(self) -> tuple[Image.Image, list[str]]:
        """Draw a random letter in a random font."""
        i = int(self.rng.integers(26))
        upper = self.rng.random() < 0.5
        case = "capital letter" if upper else "small letter"
        names = [f"letter {chr(97 + i)}", "letter", "symbol", case, "text"]
        return self.printed(chr((65 if upper else 97) + i), names)

    def shape(self) -> tuple[Image.Image, list[str]]:
        """Draw a random shape."""
        name = str(self.rng.choice(SHAPES))
        form = ["round", "rounded"] if name in ROUND else ["angular"]
        return draw_shape(name, self.rng), [name, "shape", "symbol", *form]


def digit_concepts(digit: int) -> list[str]:
    """Name a digit and its form; the name comes first."""
    return [DIGIT_WORDS[digit], "digit", "number", "symbol", *DIGIT_FORM[digit]]


def draw_plan(drawer: Drawer, scale: float) -> Iterator[tuple[str, Image.Image, list[str]]]:
    """Yield ("small" or "large", mask, concepts) for the whole set."""
    for i in range(int(40_000 * scale)):
        yield "small", *drawer.written(i % 10)
    for i in range(int(8_000 * scale)):
        yield "small", *drawer.printed_digit(i % 10)
    for i in range(int(10_000 * scale)):
        yield "large", *drawer.written(i % 10)
        yield "large", *drawer.printed_digit(i % 10)
    for i in range(int(10_000 * scale)):
        yield "large", *drawer.letter()
        yield "large", *drawer.shape()
        if i % 5 == 0:
            yield "small", *drawer.letter()


def draw_glyphs(seed: int, scale: float = 1.0, fonts: list[str] | None = None) -> Glyphs:
    """Draw the whole set (90,000 at `scale` 1), seeded; `fonts` limits the typefaces."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = {f: ImageFont.truetype(str(folder / f"{f}.ttf"), 58) for f in fonts or FONTS}
    rng = np.random.default_rng(seed)
    out = Glyphs()
    for kind, mask, names in draw_plan(Drawer(rng, faces), scale):
        if kind == "large":
            picture, concepts = to_colour(mask, rng, names)
            out.large.append(picture)
            out.large_concepts.append(concepts)
        elif (counts := to_counts(mask, rng)) is not None:
            out.small.append(counts)
            out.small_concepts.append([*names, *SMALL_COMMON])
    return out
