"""Say which words are true of a training image of the mini model, and how captions are phrased.

Three sources of truth: the class of a CIFAR-10 image (`CLASS_CONCEPTS`), what can be read off its
pixels (`pixel_concepts`), and what the script knows because it drew the picture (`mini_glyphs`).
The words themselves are those of the library's general vocabulary, so that a word there means
something to the model; words that nothing teaches stay in the text bank as negatives.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()

# Weight 1: the class, its synonyms and hypernyms; these count as a hit among the top-10 concepts.
KINDS: dict[str, str] = {
    "airplane": "airplane; aircraft; vehicle",
    "automobile": "automobile; vehicle; motor vehicle; road vehicle",
    "bird": "bird; animal",
    "cat": "cat; animal; mammal; pet; four-legged animal; feline",
    "deer": "deer; animal; mammal; four-legged animal; hoofed animal; wild animal",
    "dog": "dog; animal; mammal; pet; four-legged animal; canine",
    "frog": "frog; animal; amphibian",
    "horse": "horse; animal; mammal; four-legged animal; hoofed animal; farm animal",
    "ship": "ship; vehicle; watercraft; boat",
    "truck": "truck; vehicle; motor vehicle; road vehicle",
}

# Usual parts, surroundings and doings, true of many but not of every image of the class.
USUAL: dict[str, str] = {
    "airplane": "wing; metal; flying; flying in the sky; tail; jet engine; fuselage; airliner; jet; "
    "aircraft tail; sky; outdoors; streamlined; single object; side view; row of windows",
    "automobile": "wheel; tyre; metal; car door; headlight; windscreen; window; road; parked; bumper; "
    "shiny; sedan; outdoors; car bonnet; number plate; driving; chrome",
    "bird": "beak; feather; wing; tail; feathery; wild animal; songbird; standing; perching; nature; "
    "outdoors; eyes; thin legs; claw",
    "cat": "fur; whiskers; head; ear; paw; eyes; tail; furry texture; kitten; looking at the camera; "
    "nose; indoors; close-up; fluffy; tabby",
    "deer": "antlers; fur; long legs; head; ear; forest; nature; grazing; standing; stag; doe; outdoors; "
    "hoof; antelope; thin legs; grass",
    "dog": "fur; paw; nose; snout; head; floppy ears; eyes; tail; furry texture; puppy; collar; "
    "looking at the camera; sitting; fluffy; tongue",
    "frog": "bulging eyes; webbed feet; eyes; wet; toad; sitting; wild animal; smooth; nature; "
    "close-up; leaf; mottled; short legs",
    "horse": "mane; hoof; tail; long legs; fur; field; grass; pasture; standing; pony; outdoors; head; "
    "long neck; running; saddle; rider; farm",
    "ship": "water; sea; hull; mast; floating on water; harbour; metal; sailing; funnel; cargo ship; "
    "open water; horizon; outdoors; floating; wave; cruise ship; row of windows",
    "truck": "wheel; tyre; metal; trailer; cargo bed; headlight; windscreen; road; parked; van; boxy; "
    "semi-trailer truck; outdoors; driving; pickup; bumper; dump truck",
}
USUAL_WEIGHT = 0.4

# Hypernyms and synonyms a vocabulary may use for a class: the hits of the top-10 measurement.
EXTRA_HITS = {
    "airplane": ["plane", "flying machine"], "automobile": ["car"], "bird": ["fowl"],
    "ship": ["large ship", "vessel"], "truck": ["lorry"],
}  # fmt: skip

TEMPLATES = ["{}", "a photo of a {}", "a picture of {}", "an image with {}", "a photo of the {}",
             "a photo of {}", "a small photo of a {}", "this is a {}"]  # fmt: skip
DIGIT_PHRASES = ["digit {word}", "the number {word}", "number {word}", "the digit {figure}",
                 "a handwritten {figure}", "a handwritten digit {figure}", "the figure {figure}"]  # fmt: skip


def read_vocabulary(path: Path) -> list[list[str]]:
    """Read a vocabulary file: one list per concept, its name first, then its synonyms."""
    concepts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text and not text.startswith("["):
            concepts.append([part.strip() for part in text.split(",") if part.strip()])
    return concepts


def class_targets(names: list[str]) -> np.ndarray:
    """How true each concept is of each CIFAR-10 class: (10, c) float32 in [0, 1]."""
    column = {name: i for i, name in enumerate(names)}
    out = np.zeros((len(CLASSES), len(names)), np.float32)
    for k, label in enumerate(CLASSES):
        for table, weight in ((USUAL, USUAL_WEIGHT), (KINDS, 1.0)):
            for word in table[label].split("; "):
                if word in column:
                    out[k, column[word]] = weight
    return out


def hit_names(label: str, vocabulary: list[list[str]]) -> set[str]:
    """Return the concept names that count as the class, a synonym or a hypernym of `label`."""
    wanted = set(KINDS[label].split("; ")) | set(EXTRA_HITS.get(label, []))
    return {row[0] for row in vocabulary if wanted & set(row)}


def _hue_shares(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Share of each colour name among the pixels: rgb (n, p, 3) in [0, 1] to name -> (n,)."""
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    sat = chroma / np.maximum(high, 1e-6)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(high == r, (g - b) / safe % 6, np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    vivid = (sat > 0.25) & (high > 0.2)
    brown = vivid & (hue >= 12) & (hue < 45) & (high < 0.68)
    masks = {
        "red": vivid & ((hue < 12) | (hue >= 340)), "orange": vivid & (hue >= 12) & (hue < 40) & ~brown,
        "yellow": vivid & (hue >= 40) & (hue < 68) & ~brown, "green": vivid & (hue >= 68) & (hue < 165),
        "blue": vivid & (hue >= 185) & (hue < 260), "purple": vivid & (hue >= 260) & (hue < 310),
        "pink": vivid & (hue >= 310) & (hue < 340), "turquoise": vivid & (hue >= 165) & (hue < 185),
        "brown": brown, "black": high < 0.2, "white": (low > 0.78) & (sat < 0.15),
        "grey": (sat <= 0.15) & (high >= 0.2) & (low <= 0.78),
    }  # fmt: skip
    return {name: mask.mean(-1) for name, mask in masks.items()}


def pixel_concepts(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Read colours, light, sharpness and surroundings off (n, 32, 32, 3) uint8 photographs.

    Returns the truth of each concept, name -> (n,) bool. `labels` are CIFAR-10 class numbers:
    some surroundings are only believed for some classes (blue below a ship is water).
    """
    x = images.astype(np.float32) / 255
    n = len(x)
    grey = x @ np.array([0.3, 0.59, 0.11], np.float32)
    border = np.concatenate([x[:, :4].reshape(n, -1, 3), x[:, -4:].reshape(n, -1, 3),
                             x[:, 4:-4, :4].reshape(n, -1, 3), x[:, 4:-4, -4:].reshape(n, -1, 3)], 1)  # fmt: skip
    centre = x[:, 9:23, 9:23].reshape(n, -1, 3)
    whole, back, front = _hue_shares(x.reshape(n, -1, 3)), _hue_shares(border), _hue_shares(centre)
    top, low = _hue_shares(x[:, :8].reshape(n, -1, 3)), _hue_shares(x[:, -8:].reshape(n, -1, 3))
    out: dict[str, np.ndarray] = {}
    for colour in whole:
        name = "orange colour" if colour == "orange" else colour
        out[name] = whole[colour] > (0.45 if colour in ("black", "white", "grey") else 0.35)
        if colour in ("pink", "turquoise"):
            continue
        out[f"{colour} background"] = back[colour] > 0.55
        out[f"{colour} object"] = (front[colour] > 0.45) & (back[colour] < 0.4)
    mean, std = grey.mean((1, 2)), grey.std((1, 2))
    sat = ((x.max(-1) - x.min(-1)) / np.maximum(x.max(-1), 1e-6)).mean((1, 2))
    lap = np.abs(4 * grey[:, 1:-1, 1:-1] - grey[:, :-2, 1:-1] - grey[:, 2:, 1:-1] - grey[:, 1:-1, :-2]
                 - grey[:, 1:-1, 2:]).mean((1, 2))  # fmt: skip
    edge = border.std(1).mean(-1)
    border_grey = border.mean((1, 2))
    off = np.abs(x - np.median(border, 1)[:, None, None]).max(-1) > 0.2
    fill = off.mean((1, 2))
    dx, dy = np.abs(np.diff(grey, axis=2)).mean((1, 2)), np.abs(np.diff(grey, axis=1)).mean((1, 2))
    out |= {
        "bright": mean > 0.66, "dark": mean < 0.3, "dim light": (mean < 0.36) & (std < 0.2),
        "high contrast": std > 0.29, "low contrast": std < 0.13, "colourful": sat > 0.45,
        "saturated colours": sat > 0.55, "black and white": sat < 0.06, "sharp": lap > 0.22,
        "blurry": lap < 0.07, "overexposed": (grey > 0.96).mean((1, 2)) > 0.4,
        "underexposed": (grey < 0.06).mean((1, 2)) > 0.35, "light background": border_grey > 0.72,
        "dark background": border_grey < 0.25, "plain": (edge < 0.1), "cluttered background": edge > 0.27,
        "isolated object": (edge < 0.12) & (fill < 0.6), "tiny in the frame": (fill < 0.13) & (edge < 0.12),
        "fills the frame": (fill > 0.65) & (edge > 0.2), "backlit": (border_grey > centre.mean((1, 2)) + 0.33),
        "silhouette": (front["black"] > 0.5) & (border_grey > 0.45), "horizontal line": dy > 1.6 * dx,
        "vertical line": dx > 1.5 * dy, "smooth": lap < 0.05, "noisy": lap > 0.3,
        "warm light": (x[..., 0].mean((1, 2)) > x[..., 2].mean((1, 2)) + 0.2) & (mean > 0.35),
        "night": (mean < 0.17), "daylight": (mean > 0.5) & (top["blue"] + top["white"] > 0.4),
    }  # fmt: skip
    animal = np.isin(labels, [2, 3, 4, 5, 6, 7])
    outdoor = np.isin(labels, [0, 1, 2, 4, 7, 8, 9])
    blue_top = (top["blue"] > 0.6) & outdoor
    ship, plane = labels == 8, labels == 0
    road = np.isin(labels, [1, 9])
    green_low = (low["green"] > 0.4) & ~ship
    out |= {
        "blue sky": blue_top & (mean > 0.4), "sky": (blue_top | ((top["white"] > 0.7) & (plane | ship))),
        "cloudy sky": (top["white"] + top["grey"] > 0.75) & (plane | ship) & (edge > 0.06),
        "grass": green_low, "lawn": green_low & road, "field": green_low & np.isin(labels, [4, 7]),
        "meadow": green_low & np.isin(labels, [4, 7]) & (mean > 0.45),
        "forest": (whole["green"] > 0.5) & np.isin(labels, [2, 4]) & (mean < 0.45),
        "foliage": (whole["green"] > 0.5) & animal, "blue background": out["blue background"],
        "snow": (low["white"] > 0.6) & np.isin(labels, [4, 7, 5]) & (back["white"] < 0.9),
        "sea": ship & (low["blue"] > 0.4), "water": ship | ((labels == 2) & (low["blue"] > 0.6)),
        "asphalt": road & (low["grey"] > 0.6), "road": road & (low["grey"] > 0.5),
        "runway": plane & (low["grey"] > 0.5) & (edge > 0.12), "airport": plane & (low["grey"] > 0.5),
        "dark green": (whole["green"] > 0.4) & (mean < 0.33), "light blue": (whole["blue"] > 0.4) & (mean > 0.6),
        "navy blue": (whole["blue"] > 0.4) & (mean < 0.33), "light green": (whole["green"] > 0.4) & (mean > 0.55),
        "dark brown": (whole["brown"] > 0.4) & (mean < 0.3), "light brown": (whole["orange"] > 0.35) & (sat < 0.45),
        "sunset": (top["orange"] + top["red"] > 0.5) & (plane | ship), "soil": animal & (low["brown"] > 0.6),
        "red object": out["red object"], "autumn": (back["orange"] + back["brown"] > 0.6) & (labels == 4),
        "white background": back["white"] > 0.7,
    }  # fmt: skip
    return out


def train_bpe(texts: Iterable[str], n_merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from lower-case words, most frequent pair first."""
    counts: Counter[str] = Counter(w for t in texts for w in t.lower().replace("-", " ").split() if w.isalpha())
    words = {w: (*w[:-1], w[-1] + "</w>") for w in counts if w.isascii()}
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = max(pairs.items(), key=lambda item: (item[1], item[0]))[0]
        merges.append(best)
        joined = best[0] + best[1]
        for word, parts in words.items():
            if joined in "".join(parts):
                words[word] = _merge(parts, best)
    return merges


def _merge(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def write_merges(path: Path, merges: list[tuple[str, str]]) -> None:
    """Write merges as open_clip's tokenizer reads them: a header, one merge a line, no last newline."""
    body = "\n".join(["# merges of clip_al's mini model", *(f"{a} {b}" for a, b in merges)])
    path.write_bytes(gzip.compress(body.encode("utf-8"), mtime=0))
