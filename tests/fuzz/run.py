"""Calls every public callable with right and broken values, and says how each call ended.

    python -m tests.fuzz.run --count 20000        # prints counts, and every failure
    python -m tests.fuzz.run --only 137           # one input again, with its traceback

A process of its own, because a crash would take the tests with it: the number of the input stands
in the log before each call.
"""

from __future__ import annotations

import argparse
import ast
import faulthandler
import functools
import json
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.exceptions import NotFittedError

import clip_al
from clip_al.errors import ClipAlError
from tests.fuzz.targets import TARGETS
from tests.fuzz.values import broken
from tests.fuzz.world import World

SEED = 15
LONGEST_S = 60.0
MEMORY = 6 * 2**30  # beyond what the libraries map
OURS = str(Path(clip_al.__file__).parent)


def inputs(world, index):
    """Return the name, the call and what of its values says something else, for one input.

    Below 0 the inputs are those of each target in turn, with nothing broken.
    """
    if index < 0:
        name = list(TARGETS)[-1 - index]
        return name, TARGETS[name].make(world, np.random.default_rng((SEED, -index))), [], True
    rng = np.random.default_rng((SEED, index))
    names = [name for name, target in TARGETS.items() for _ in range(target.weight)]
    # A stride that shares no divisor with most lengths: neighbours are of different targets.
    name = names[(index * 7919) % len(names)]
    call = TARGETS[name].make(world, rng)
    changed, says_same = [], True
    keys = [(part, key) for part in (call.settings, call.arguments) for key in part]
    n_changes = int(rng.choice(3, p=[0.25, 0.55, 0.2])) if keys else 0
    for _ in range(n_changes):
        part, key = keys[rng.integers(len(keys))]
        value, same = broken(rng, part[key], world.others)
        if key in call.small and isinstance(value, int | float) and not abs(value) <= 3:
            continue  # right, and long
        part[key] = value
        changed.append(key)
        says_same &= same
    return name, call, changed, says_same


def content(value):
    """Return what is compared before and after a call: bytes of arrays, parts of containers."""
    if isinstance(value, np.ndarray):
        return (
            value.dtype.str,
            value.shape,
            value.tobytes() if value.dtype != object else repr(value),
        )
    if isinstance(value, list | tuple):
        return [content(part) for part in value]
    if isinstance(value, dict):
        return [(repr(key), content(part)) for key, part in value.items()]
    for names in (("ids", "similarities"), ("sum_v", "count_v"), ("data", "indices", "indptr")):
        if all(isinstance(getattr(value, name, None), np.ndarray) for name in names):
            return [content(getattr(value, name)) for name in names]
    return None


def same(one, other):
    """Return whether two results are equal, up to rounding."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape:
            return False
        if one.dtype.kind in "fc":
            return bool(np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True))
        return bool((one == other).all())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "fingerprint") and hasattr(one, "indices"):
        return bool(np.array_equal(one.indices, other.indices))
    if isinstance(one, float):
        return one == other or abs(one - other) < 1e-4 or (one != one and other != other)
    return True


@functools.cache
def raises_of(path):
    """Return the lines of a module that an explicit raise covers."""
    tree = ast.parse(Path(path).read_text())
    spans = [
        (node.lineno, node.end_lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise)
    ]
    return {line for first, last in spans for line in range(first, last + 1)}


def outcome_of_error(error):
    """Return how a call ended that raised; "FAILED" unless the error is ours.

    Ours is what derives from `ClipAlError`; scikit-learn's `NotFittedError`, which the
    documentation names; a TypeError or ValueError that a `raise` of ours raised.
    """
    if isinstance(error, ClipAlError):
        return "our error"
    if isinstance(error, NotFittedError):
        return "not fitted"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    explicit = frame.filename.startswith(OURS) and frame.lineno in raises_of(frame.filename)
    if isinstance(error, TypeError | ValueError) and explicit:
        return "our error"
    return "FAILED"


def attempt(world, index):
    """Call once, twice where nothing is broken; return name, outcome and what is to be said."""
    name, call, changed, says_same = inputs(world, index)
    before = content([call.settings, call.arguments])
    try:
        result = call.run(call.settings, call.arguments)
    except Exception as error:
        outcome = outcome_of_error(error)
        why = "".join(traceback.format_exception(error))
        if says_same and outcome != "FAILED" and not call.may_refuse:
            outcome, why = "FAILED", f"right values were refused\n{why}"
        return name, outcome, why, changed
    if content([call.settings, call.arguments]) != before:
        return name, "FAILED", "an input was modified", changed
    try:
        call.check(result)
        if says_same and call.repeats:
            _, again, _, _ = inputs(world, index)
            assert same(result, again.run(again.settings, again.arguments)), "another answer"
    except Exception as error:
        return name, "FAILED", "".join(traceback.format_exception(error)), changed
    return name, "right" if says_same else "right although changed", "", changed


def run(numbers, log, report):
    """Run some inputs; return counts by outcome and by target, and report failures at once."""
    world = World()
    os.chdir(world.folder)  # a broken path is a relative one: what it makes is not left here
    counts, by_target = Counter(), {name: Counter() for name in TARGETS}
    for index in numbers:
        os.write(log, f"{index}\n".encode())
        faulthandler.dump_traceback_later(LONGEST_S, exit=True)
        started = time.perf_counter()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            name, outcome, why, changed = attempt(world, index)
        counts[outcome] += 1
        by_target[name][outcome] += 1
        by_target[name]["seconds"] += time.perf_counter() - started
        if outcome == "FAILED":
            report({"index": index, "target": name, "changed": changed, "why": why})
    faulthandler.cancel_dump_traceback_later()
    return counts, by_target


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument(
        "--log", default=os.devnull, help="the number of each input before its call"
    )
    parser.add_argument("--report", default=os.devnull, help="JSON lines: failures, then counts")
    options = parser.parse_args()
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    whole = range(-1, -1 - len(TARGETS), -1) if options.start == 0 else ()
    numbers = [*whole, *range(options.start, options.start + options.count)]
    with Path(options.report).open("w", buffering=1) as lines:

        def report(failure):
            print(*failure.values(), sep="\n", flush=True)
            lines.write(json.dumps(failure) + "\n")

        counts, by_target = run(numbers if options.only is None else [options.only], log, report)
        lines.write(json.dumps({"counts": counts, "targets": by_target}) + "\n")
    print(f"{sum(counts.values())} inputs:", dict(sorted(counts.items())))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
