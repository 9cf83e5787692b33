"""A report's numbers, pictures and texts as one HTML file.

The template, the style and the page's own scripts are in the folder ``page``. Every name
is escaped: by Jinja2 in the tables, in JSON by `json_in_html`.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clip_al import __version__
from clip_al.errors import missing_extra
from clip_al.mini import REAL_MODEL, TOY, is_mini
from clip_al.score.agreement import share_of_wrong
from clip_al.show.report.data import CHOSEN, MAX_CLASS_ROWS, MAX_CONCEPT_ROWS, SUSPECT, Shown
from clip_al.subset.selection import Selection
from clip_al.subset.selection_summaries import label_noise_in_words

BOTH = CHOSEN | SUSPECT
N_KEYS = 9  # that name a class
SCRIPTS = ("page.js", "marks.js", "stacks.js", "cards.js", "charts.js")
N_PAIRS = 5  # of classes that are labelled as another


def about_selection(
    selection: Selection,
    shown: Shown,
    labelled: NDArray[np.int64],
    against: Selection | None,
    max_images: int,
    title: str | None,
    is_sample: bool,
) -> dict[str, Any]:
    """Return what the template writes as text."""
    settings = dict(selection.settings)
    share, disagreement = share_of_wrong(settings)
    settings.pop("disagreement", None)
    asked = {name: settings.pop(name) for name in ("model", "random_state") if name in settings}
    change = against.compare(selection) if against is not None else None
    noise, confused = label_noise_in_words(settings)
    for name in ("wrong_interval", "confused_pairs"):
        settings.pop(name, None)  # said in words
    return {
        "title": title or ("What there is" if is_sample else "What was chosen"),
        "is_sample": is_sample,
        "n_images": selection.n_images,
        "n_chosen": len(selection),
        "n_left_out": max(0, len(selection) - max_images),
        "n_labelled": len(labelled),
        "n_look_wrong": round((share or 0) * selection.n_images),
        "n_suspects": int(np.count_nonzero(shown.flags & SUSPECT)),
        "n_suspects_chosen": int(np.count_nonzero((shown.flags & BOTH) == BOTH)),
        "has_labels": selection.labels is not None,
        "change": change,
        "model": asked.get("model"),
        "toy": f"{TOY} {REAL_MODEL}" if is_mini(asked.get("model")) else "",
        "seed": asked.get("random_state"),
        "label_noise": noise,
        "confused": confused[:N_PAIRS],
        "disagreement": disagreement,
        "settings": describe_settings(settings),
        "fingerprint": selection.fingerprint,
        "against_fingerprint": against.fingerprint if against is not None else None,
        "version": __version__,
    }


def describe_settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return settings as names and texts, nested ones with a dot."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += [(f"{name}.{inner}", text) for inner, text in describe_settings(value)]
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((str(name), text))
    return rows


def render_page(page: dict[str, Any], thumbnails: list[str], about: dict[str, Any]) -> str:
    """Return the HTML; every script is named in the policy by its hash."""
    jinja2 = _import("jinja2")
    has_charts = any(page[part] for part in ("balance", "coverage", "map", "curves"))
    plotly = _import("plotly.offline").get_plotlyjs() if has_charts else ""
    scripts = [_unix(text) for text in (*map(_asset, SCRIPTS), plotly) if text]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clip_al.show.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html: str = environment.get_template("page.html").render(
        about=about,
        page=page,
        max_concept_rows=MAX_CONCEPT_ROWS,
        max_class_rows=MAX_CLASS_ROWS,
        n_keys=N_KEYS,
        style=jinja2.utils.markupsafe.Markup(_asset("page.css")),
        scripts=[jinja2.utils.markupsafe.Markup(text) for text in scripts],
        policy=_policy(scripts),
        data=jinja2.utils.markupsafe.Markup(json_in_html(page)),
        thumbnails=jinja2.utils.markupsafe.Markup(json_in_html(thumbnails)),
    )
    return html


def json_in_html(value: Any) -> str:
    """Return JSON that no name inside of it can end the script element of.

    Examples
    --------
    >>> json_in_html("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 is escaped
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    # plotly sets style attributes; they can run nothing and, without img-src, load nothing.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (resources.files("clip_al.show.report") / "page" / name).read_text(encoding="utf-8")


def _unix(text: str) -> str:
    """Return line ends as a browser reads them, before it compares the hash."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        package = name.partition(".")[0]
        raise missing_extra(f"A report needs {package}", "report") from exc
