"""Read words off the pixels of a photograph: colours, light, sharpness, surroundings."""

from __future__ import annotations

import numpy as np

# Classes by number: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
ANIMALS, OUTDOORS, ROAD, GRAZERS = [2, 3, 4, 5, 6, 7], [0, 1, 2, 4, 7, 8, 9], [1, 9], [4, 7]


def _hue_shares(rgb: np.ndarray) -> dict[str, np.ndarray]:
    """Share of each colour name among the pixels: rgb (n, p, 3) in [0, 1] to name -> (n,)."""
    high, low = rgb.max(-1), rgb.min(-1)
    chroma = high - low
    sat = chroma / np.maximum(high, 1e-6)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    safe = np.maximum(chroma, 1e-6)
    hue = (
        np.where(
            high == r,
            (g - b) / safe % 6,
            np.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4),
        )
        * 60
    )
    vivid = (sat > 0.25) & (high > 0.2)
    brown = vivid & (hue >= 12) & (hue < 45) & (high < 0.68)
    masks = {
        "red": vivid & ((hue < 12) | (hue >= 340)),
        "orange": vivid & (hue >= 12) & (hue < 40) & ~brown,
        "yellow": vivid & (hue >= 40) & (hue < 68) & ~brown,
        "green": vivid & (hue >= 68) & (hue < 165),
        "blue": vivid & (hue >= 185) & (hue < 260),
        "purple": vivid & (hue >= 260) & (hue < 310),
        "pink": vivid & (hue >= 310) & (hue < 340),
        "turquoise": vivid & (hue >= 165) & (hue < 185),
        "brown": brown,
        "black": high < 0.2,
        "white": (low > 0.78) & (sat < 0.15),
        "grey": (sat <= 0.15) & (high >= 0.2) & (low <= 0.78),
    }
    return {name: mask.mean(-1) for name, mask in masks.items()}


def pixel_concepts(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Read colours, light, sharpness and surroundings off (n, 32, 32, 3) uint8 photographs.

    Returns the truth of each concept, name -> (n,) bool. `labels` are CIFAR-10 class numbers:
    some surroundings are only believed for some classes (blue below a ship is water).
    """
    x = images.astype(np.float32) / 255
    n = len(x)
    grey = x @ np.array([0.3, 0.59, 0.11], np.float32)
    sides = [x[:, :4], x[:, -4:], x[:, 4:-4, :4], x[:, 4:-4, -4:]]
    border = np.concatenate([side.reshape(n, -1, 3) for side in sides], 1)
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
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    lap = np.abs(4 * grey[:, 1:-1, 1:-1] - around).mean((1, 2))
    edge = border.std(1).mean(-1)
    border_grey = border.mean((1, 2))
    off = np.abs(x - np.median(border, 1)[:, None, None]).max(-1) > 0.2
    fill = off.mean((1, 2))
    dx, dy = np.abs(np.diff(grey, axis=2)).mean((1, 2)), np.abs(np.diff(grey, axis=1)).mean((1, 2))
    out |= {
        "bright": mean > 0.66,
        "dark": mean < 0.3,
        "dim light": (mean < 0.36) & (std < 0.2),
        "high contrast": std > 0.29,
        "low contrast": std < 0.13,
        "colourful": sat > 0.45,
        "saturated colours": sat > 0.55,
        "black and white": sat < 0.06,
        "sharp": lap > 0.22,
        "blurry": lap < 0.07,
        "overexposed": (grey > 0.96).mean((1, 2)) > 0.4,
        "underexposed": (grey < 0.06).mean((1, 2)) > 0.35,
        "light background": border_grey > 0.72,
        "dark background": border_grey < 0.25,
        "plain": (edge < 0.1),
        "cluttered background": edge > 0.27,
        "isolated object": (edge < 0.12) & (fill < 0.6),
        "tiny in the frame": (fill < 0.13) & (edge < 0.12),
        "fills the frame": (fill > 0.65) & (edge > 0.2),
        "backlit": (border_grey > centre.mean((1, 2)) + 0.33),
        "silhouette": (front["black"] > 0.5) & (border_grey > 0.45),
        "horizontal line": dy > 1.6 * dx,
        "vertical line": dx > 1.5 * dy,
        "smooth": lap < 0.05,
        "noisy": lap > 0.3,
        "warm light": (x[..., 0].mean((1, 2)) > x[..., 2].mean((1, 2)) + 0.2) & (mean > 0.35),
        "night": (mean < 0.17),
        "daylight": (mean > 0.5) & (top["blue"] + top["white"] > 0.4),
    }
    animal = np.isin(labels, ANIMALS)
    outdoor = np.isin(labels, OUTDOORS)
    blue_top = (top["blue"] > 0.6) & outdoor
    ship, plane = labels == 8, labels == 0
    road = np.isin(labels, ROAD)
    green_low = (low["green"] > 0.4) & ~ship
    out |= {
        "blue sky": blue_top & (mean > 0.4),
        "sky": (blue_top | ((top["white"] > 0.7) & (plane | ship))),
        "cloudy sky": (top["white"] + top["grey"] > 0.75) & (plane | ship) & (edge > 0.06),
        "grass": green_low,
        "lawn": green_low & road,
        "field": green_low & np.isin(labels, GRAZERS),
        "meadow": green_low & np.isin(labels, GRAZERS) & (mean > 0.45),
        "forest": (whole["green"] > 0.5) & np.isin(labels, [2, 4]) & (mean < 0.45),
        "foliage": (whole["green"] > 0.5) & animal,
        "snow": (low["white"] > 0.6) & np.isin(labels, [4, 7, 5]) & (back["white"] < 0.9),
        "sea": ship & (low["blue"] > 0.4),
        "water": ship | ((labels == 2) & (low["blue"] > 0.6)),
        "asphalt": road & (low["grey"] > 0.6),
        "road": road & (low["grey"] > 0.5),
        "runway": plane & (low["grey"] > 0.5) & (edge > 0.12),
        "airport": plane & (low["grey"] > 0.5),
        "dark green": (whole["green"] > 0.4) & (mean < 0.33),
        "light blue": (whole["blue"] > 0.4) & (mean > 0.6),
        "navy blue": (whole["blue"] > 0.4) & (mean < 0.33),
        "light green": (whole["green"] > 0.4) & (mean > 0.55),
        "dark brown": (whole["brown"] > 0.4) & (mean < 0.3),
        "light brown": (whole["orange"] > 0.35) & (sat < 0.45),
        "sunset": (top["orange"] + top["red"] > 0.5) & (plane | ship),
        "soil": animal & (low["brown"] > 0.6),
        "autumn": (back["orange"] + back["brown"] > 0.6) & (labels == 4),
        "white background": back["white"] > 0.7,
    }
    return out
