"""How targets are registered: a name, and how it is called with right values."""

from __future__ import annotations

from clip_al import errors
from tests.fuzz.calls import Call, Target
from tests.fuzz.world import N

TARGETS: dict[str, Target] = {}
SMALL = frozenset({"epochs", "max_iter", "hidden", "n_splits", "patience", "step_size", "n"})


def target(name, weight=4):
    """Register how a name is called."""

    def register(make):
        assert name not in TARGETS, name
        TARGETS[name] = Target(make, weight)
        return make

    return register


def function(name, called, arguments, check=lambda result: None, weight=4, **options):
    """Register a function whose arguments are all passed by name."""
    TARGETS[name] = Target(
        lambda w, rng: Call(
            lambda s, a: called(**a), {}, arguments(w, rng), check, SMALL, **options
        ),
        weight,
    )


def method(name, cls, settings, arguments, check=lambda result: None, weight=4, **options):
    """Register a method of an object that is made anew, whose settings are broken as well."""
    called = name.split(".")[1]
    TARGETS[name] = Target(
        lambda w, rng: Call(
            lambda s, a: getattr(cls(**s), called)(**a),
            settings(w, rng),
            arguments(w, rng),
            check,
            SMALL,
            **options,
        ),
        weight,
    )


def of(name, make, arguments, check=lambda result: None, weight=4, **options):
    """Register a method of an object of the world, which is right."""
    called = name.split(".")[1]

    def build(w, rng):
        return Call(
            lambda s, a: getattr(make(w), called)(**a),
            {},
            arguments(w, rng),
            check,
            SMALL,
            **options,
        )

    TARGETS[name] = Target(build, weight)


def size(rng):
    return int(rng.choice([2, 3, 7, N]))


def some(rng, **optional):
    """Keep each optional argument half of the time."""
    return {name: value for name, value in optional.items() if rng.random() < 0.5}


def rows(rng, n=N):
    return rng.permutation(n)[: int(rng.integers(1, n + 1))]


def add(one, other):
    """Add, where a class that does not know the other says so as Python wants."""
    result = type(one).__add__(one, other)
    if result is NotImplemented:
        raise errors.InvalidTypeError("not added")
    return result
