"""Say which words are true of a training image of the mini model, and how captions are phrased.

Three sources of truth: the class of a CIFAR-10 image (`CLASS_CONCEPTS`), what can be read off its
pixels (`pixels`), and what the script knows because it drew the picture (`glyphs`).
The words themselves are those of the library's general vocabulary, so that a word there means
something to the model; words that nothing teaches stay in the text bank as negatives.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np

CLASSES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip

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
    "airplane": "wing; metal; flying; flying in the sky; tail; jet engine; fuselage; airliner; "
    "jet; aircraft tail; sky; outdoors; streamlined; single object; side view; row of "
    "windows",
    "automobile": "wheel; tyre; metal; car door; headlight; windscreen; window; road; parked; "
    "bumper; shiny; sedan; outdoors; car bonnet; number plate; driving; chrome",
    "bird": "beak; feather; wing; tail; feathery; wild animal; songbird; standing; perching; "
    "nature; outdoors; eyes; thin legs; claw",
    "cat": "fur; whiskers; head; ear; paw; eyes; tail; furry texture; kitten; looking at the "
    "camera; nose; indoors; close-up; fluffy; tabby",
    "deer": "antlers; fur; long legs; head; ear; forest; nature; grazing; standing; stag; doe; "
    "outdoors; hoof; antelope; thin legs; grass",
    "dog": "fur; paw; nose; snout; head; floppy ears; eyes; tail; furry texture; puppy; "
    "collar; looking at the camera; sitting; fluffy; tongue",
    "frog": "bulging eyes; webbed feet; eyes; wet; toad; sitting; wild animal; smooth; nature; "
    "close-up; leaf; mottled; short legs",
    "horse": "mane; hoof; tail; long legs; fur; field; grass; pasture; standing; pony; outdoors; "
    "head; long neck; running; saddle; rider; farm",
    "ship": "water; sea; hull; mast; floating on water; harbour; metal; sailing; funnel; cargo "
    "ship; open water; horizon; outdoors; floating; wave; cruise ship; row of windows",
    "truck": "wheel; tyre; metal; trailer; cargo bed; headlight; windscreen; road; parked; van; "
    "boxy; semi-trailer truck; outdoors; driving; pickup; bumper; dump truck",
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
                 "a handwritten {figure}", "a handwritten digit {figure}",
                 "the figure {figure}"]  # fmt: skip


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


def train_bpe(texts: Iterable[str], n_merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from lower-case words, most frequent pair first."""
    counts: Counter[str] = Counter(
        w for t in texts for w in t.lower().replace("-", " ").split() if w.isalpha()
    )
    words = {w: (*w[:-1], w[-1] + "</w>") for w in counts if w.isascii()}
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
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
    """Write merges as open_clip reads them: a header, one merge a line, no last newline."""
    body = "\n".join(["# merges of clip_al's mini model", *(f"{a} {b}" for a, b in merges)])
    path.write_bytes(gzip.compress(body.encode("utf-8"), mtime=0))
