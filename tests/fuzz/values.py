"""Broken values: what people pass by mistake, made from a value that is right.

`broken(rng, value)` returns another value in its place, and whether it says the same: an array in
another memory layout does, one with a NaN does not.
"""

from __future__ import annotations

import pathlib

import numpy as np

HUGE = [2**31, 2**62, 10**30, -(10**30)]
INTS = [0, -1, 1, 2, 3, 10**6, *HUGE, 2.5, float("nan"), float("inf"), True, None, "3", b"3"]
FLOATS = [0.0, -1.0, 1.0, 0.5, 1e300, -1e300, 1e-300, 1e-9, float("nan"), float("inf"), 10**400]
FLOATS += [-float("inf"), "0.3", None, True, 3, -2, 1 + 2j, [0.3]]
TEXTS = [
    "",
    "auto",
    "none",
    "a\0",
    "\ud800",
    "x" * 1000,
    "0",
    "ratio",
    "pool",
    b"x",
    3,
    None,
    ["a"],
]
JUNK = [
    None,
    3,
    -1,
    2.5,
    "text",
    "",
    b"bytes",
    [],
    {},
    (),
    object(),
    float("nan"),
    True,
    [[1], [2, 3]],
]


class Odd:
    """Looks like an array and is none."""

    shape = (3, 2)
    dtype = np.dtype(float)

    def __len__(self):
        return 3

    def __array__(self, *_, **__):
        raise RuntimeError("no array today")

    def __repr__(self):
        return "Odd()"


def junk(rng):
    extra = [np.zeros(0), np.zeros((0, 3)), np.zeros((2, 2, 2)), np.array(5), np.array("a"), Odd()]
    extra += [np.array([None, 1], dtype=object), np.arange(3), np.full((3, 2), np.nan), {1: 2}]
    values = [*JUNK, *extra]
    return values[rng.integers(len(values))]


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def broken(rng, value, others=()):
    """Return a value in place of another, and whether it says the same.

    Parameters
    ----------
    others : sequence
        Further objects of the kinds that are passed around, such as profiles of other sizes.
    """
    if rng.random() < 0.1:
        return (pick(rng, others) if len(others) and rng.random() < 0.5 else junk(rng)), False
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.ndim:
        return _array(rng, value)
    if isinstance(value, np.ndarray):
        return _texts(rng, np.ravel(value).tolist())
    if isinstance(value, bool | np.bool_):
        return pick(rng, [0, 1, "yes", None, np.bool_(True), np.array([True, False]), 2]), False
    if isinstance(value, int | np.integer):
        return pick(rng, [*INTS, np.int8(2), np.uint64(2), np.array(2), np.array([2]), [2]]), False
    if isinstance(value, float | np.floating):
        return pick(rng, [*FLOATS, np.float32(0.3), np.array(0.3), np.array([0.3, 0.4])]), False
    if isinstance(value, str):
        return pick(rng, TEXTS), False
    if isinstance(value, pathlib.Path):
        return _path(rng, value), False
    if isinstance(value, dict):
        return _mapping(rng, value, others), False
    if isinstance(value, list | tuple):
        return _texts(rng, list(value))
    return (pick(rng, others) if len(others) and rng.random() < 0.5 else junk(rng)), False


def _array(rng, value):
    kind = rng.random()
    if kind < 0.25:
        return _layout(rng, value), True
    if kind < 0.5:
        return _shape(rng, value), False
    if kind < 0.8 and value.size:
        return _entries(rng, value), False
    return _type(rng, value), False


def _layout(rng, value):
    """Return the same numbers, otherwise laid out."""
    which = rng.integers(6)
    if which == 0:
        return np.asfortranarray(value)
    if which == 1:
        copy = value.copy()
        copy.setflags(write=False)
        return copy
    if which == 2:
        return value[::-1].copy()[::-1]  # negative strides
    if which == 3:
        return value.astype(value.dtype.newbyteorder(">"))
    if which == 4:
        padded = np.zeros((*value.shape[:-1], 2 * value.shape[-1]), value.dtype)
        padded[..., ::2] = value
        return padded[..., ::2]
    return value.tolist()


def _shape(rng, value):
    n = len(value)
    shapes = [
        lambda: value[:-1],
        lambda: value[:0],
        lambda: value[:1],
        lambda: value[None],
        lambda: value.ravel(),
        lambda: value[..., None],
        lambda: value[..., :0],
        lambda: value[..., :1],
        lambda: value.T,
        lambda: np.concatenate([value, value]),
        lambda: value[rng.integers(0, max(n, 1), n)],  # repeated rows
        lambda: np.array(5.0),
        lambda: [value.tolist()[:1], value.tolist()],  # ragged
        lambda: iter(value.tolist()),
    ]
    return pick(rng, shapes)()


def _entries(rng, value):
    if value.dtype.kind == "f":
        entry = pick(rng, [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30, -1e30, 1e-30, 2.0, 1e300])
    else:
        entry = pick(rng, [-1, 0, 1, 127, 10**6, 10**9, 2**62, -(2**62)])
        value = value.astype(np.int64)
    with np.errstate(all="ignore"):
        copy = value.astype(np.float64) if entry in (1e300,) else value.copy()
        where = rng.integers(4)
        if where == 0:
            copy[...] = entry
        elif where == 1:
            copy[rng.integers(len(copy))] = entry  # a row
        elif where == 2:
            copy.flat[rng.integers(copy.size)] = entry
        else:
            copy[...] = copy[0]  # all rows alike
    return copy


def _type(rng, value):
    with np.errstate(all="ignore"):
        return _typed(rng, value)


def _typed(rng, value):
    names = [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, object, str]
    names += [np.complex128, "S8", "M8[s]", np.longdouble]
    which = rng.integers(6)
    if which < 3:
        try:
            return value.astype(pick(rng, names))
        except (TypeError, ValueError):
            return value.astype(object)
    if which == 3:
        holes = value.astype(object)
        holes.flat[: holes.size // 2 + 1] = pick(rng, [None, "a", np.nan, object(), 10**30])
        return holes
    if which == 4:
        return np.ma.array(value, mask=rng.random(value.shape) < 0.3)
    if value.ndim == 2:
        return np.asmatrix(value)
    return set(value.ravel().tolist())


def _texts(rng, listed):
    listed = list(listed)
    at = int(rng.integers(len(listed))) if listed else 0
    changes = [
        lambda: (listed[:-1], False),
        lambda: ([], False),
        lambda: ([*listed, *listed[:1]], False),
        lambda: (
            [
                *listed[:at],
                pick(rng, [None, 3, -1, "", "a\0", "\ud800", 2.5, [], object()]),
                *listed[at + 1 :],
            ],
            False,
        ),
        lambda: ([listed], False),
        lambda: (str(listed), False),
        lambda: (iter(listed), False),
        lambda: (dict(enumerate(listed)), False),
        lambda: (tuple(listed), True),
        lambda: (np.array(listed, dtype=object), False),
        lambda: (None, False),
        lambda: ([str(value).encode("utf-8", "replace") for value in listed], False),
        lambda: (listed[::-1], False),
    ]
    return pick(rng, changes)()


def _mapping(rng, value, others):
    keys = list(value)
    if not keys or rng.random() < 0.3:
        return pick(rng, [{}, {3: 4}, {None: None}, [("a", 1)], {"a": object()}, {"x": {"y": {1}}}])
    key = pick(rng, keys)
    if rng.random() < 0.2:
        return {name: entry for name, entry in value.items() if name != key}
    if rng.random() < 0.1:
        return {**value, pick(rng, ["selected", "x", 3, "\ud800", ""]): value[key]}
    return {**value, key: broken(rng, value[key], others)[0]}


def _path(rng, path):
    folder = path.parent
    return pick(
        rng,
        [
            folder,
            folder / "missing" / "x",
            folder / "none.json",
            "",
            "\0",
            None,
            3,
            b"x",
            "x" * 5000,
            folder / "\ud800.txt",
            pathlib.Path("/dev/null"),
            path / "below",
            folder / "empty.bin",
        ],
    )
