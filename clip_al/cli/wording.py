"""Messages in the words of the command line: options and files by their names, no Python.

The library speaks to those who call it. Here parameters become options, and advice in Python
becomes the command or option that does the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARAMETERS = {
    "n_instances": "--budget",
    "ratio": "--ratio",
    "alpha": "--alpha",
    "n_neighbors": "--n-neighbors",
    "class_balance": "--class-balance",
    "group_balance": "--group-balance",
    "random_state": "--random-state",
    "candidate_factor": "--candidate-factor",
    "target": "--target",
    "m": "-m",
    "jitter": "--jitter",
    "dtype": "--dtype",
    "device": "--device",
    "batch_size": "--batch-size",
    "n_workers": "--workers",
    "model": "--model",
    "pretrained": "--pretrained",
    "worth": "--worth",
    "target_accuracy": "--target-accuracy",
    "probabilities": "--probabilities",
    "labelled": "--labelled",
    "indices": "--indices",
    "rounds": "--rounds",
    "suspects": "--suspects",
    "map_method": "--map",
    "title": "--title",
    "against": "--against",
    "groups": "--groups",
    "y": "--labels",
    "Y": "--labels",
    "threshold": "--threshold",
    "splits": "--splits",
    "query": "QUERY",
    "minus": "--not",
    "within": "--within",
    "n": "-n",
    "class_names": "--classes",
    "name": "--vocabulary",
    "path": "--output",
    "conflicts": "--conflicts",
    "control": "--control",
    "field": "--field",
    "unchanged": "--unchanged",
    "images": "IMAGES",
    "directory": "TABLE",
    "X": "TABLE",
    "Z": "TABLE",
}
"""Parameters of the library, as they are typed."""

OF_EMBED = {
    "directory": "--output",
    "column": "--column",
    "id_column": "--id-column",
    "ids": "--ids",
    "split": "--split",
    "every_s": "--every",
    "boxes": "--boxes",
}
"""Parameters that only `embed` has."""

NO_TABLE = (
    r"`directory` must (?:hold a table of embeddings; found none in|be new, empty or a table of "
    r"embeddings;) '(.*?)'(?: holds other things)?\. (?:Name another directory\.|Make one with .*)"
)
# Patterns of the library's advice, and what the command line has in its place; in this order.
ADVICE = (
    (
        r"To have the table without these, run again with errors=\"skip\" \(`--skip-unreadable`\)",
        "To have the table without these, run the same command with `--skip-unreadable`",
    ),
    (r"errors=['\"]skip['\"](?: \(`--skip-unreadable`\))?", "`--skip-unreadable`"),
    (r"overwrite=True(?: \(`--force`\))?", "`--force`"),
    (r"model='(local-dir:\w+)'", r"`--model \1`"),
    (r"(?:Pass|pass) precision='fp32', or check", "Check"),
    (r"the same `EmbeddingTable\.create` or `clip-al embed`", "the same `clip-al embed`"),
    (r"`EmbeddingTable\.create` or `clip-al embed`", "`clip-al embed`"),
    (r"a file that `Selection\.save` wrote", "a file that `clip-al select --ratio` wrote as .json"),
    (r"a folder or a sequence of images; got", "a folder of images; got"),
    (r"no such folder\. Check the path, or pass single files in a list\.", "no such folder. Check "
     "the path."),
    (r"a file\. Check the path, or pass single files in a list\.", "a file. Name its folder."),
    (r"Name another directory", "Name another folder"),
    (r", or use `Selection\.from_indices`", ""),
    (r"Pass what `predict_proba` returns\.", "Write one row an image and one column a class."),
    (r"; pass a list of paths for other endings", "; convert files with other endings"),
    (r"([Pp])ass `?multi_label=True`?(?: to the strategy)?", r"\1ass `--multi-label`"),
    (r"got None\b", "got none"),
    (r"`embeddings=`", "a table"),
    (r"multi_label=True", "`--multi-label`"),
    (r'conflicts="leave" or "majority"', "`--conflicts leave` or `--conflicts majority`"),
    (r'unchanged="(\w+)"', r"`--unchanged \1`"),
    (r"`control=`", "`--control`"),
    (r"`make_tasks`", "`clip-al export label-studio`"),
    (r"`labeling_config`", "`clip-al export label-studio --config`"),
    (r"with shape \((\d+),\)", r"with \1 entries"),
)  # fmt: skip


def in_own_words(message: str, command: str | None = None) -> str:
    """Return a message of the library in the words of the command line.

    Parameters
    ----------
    message : str
    command : str, optional
        The command that was typed; ``embed`` calls its table ``--output``.

    Examples
    --------
    >>> in_own_words("`n_instances` must be in [1, 12], the size of the pool; got 40. Lower it.")
    '`--budget` must be in [1, 12], the size of the pool; got 40. Lower it.'
    """
    if command != "embed":
        found = re.match(NO_TABLE, message)
        if found:
            given = found[1]
            table = f"{given}.table" if Path(given).is_dir() else given
            images = given if Path(given).is_dir() else "FOLDER"
            what = "a folder of other things" if Path(given).is_dir() else "not there"
            return (
                f"TABLE must be a table of embeddings; {given} is {what}. Make one: "
                f"clip-al embed {images} -o {table}"
            )
    for pattern, words in ADVICE:
        message = re.sub(pattern, words, message)
    # Not the columns of a file: "the column `name`", "got the columns `name` ('1.jpg'), …".
    return re.sub(
        r"(?<!column )`([A-Za-z_]+)`(?! \()", lambda found: _option(found[1], command), message
    )


def _option(name: str, command: str | None) -> str:
    if command == "embed" and name in OF_EMBED:
        return f"`{OF_EMBED[name]}`"
    option = PARAMETERS.get(name)
    if option is None:
        return f"`{name}`"
    return option if option.isupper() else f"`{option}`"


def of_the_system(exc: OSError, options: Mapping[str, Any]) -> str:
    """Return an error of the operating system with the option that names its file.

    Parameters
    ----------
    exc : OSError
    options : mapping of str to object
        How each option is typed, and its value.
    """
    reason = exc.strerror or str(exc)
    if exc.filename is None:
        return f"{reason}. Check the disk, and run the same command again."
    file = str(exc.filename)
    option = next((name for name, value in options.items() if str(value) == file), None)
    whose = f"`{option}`" if option is not None else file
    return f"{whose} must be usable; {file}: {reason}. Check the path and its permissions."
