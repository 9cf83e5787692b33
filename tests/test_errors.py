"""Tests of `clip_al.errors`."""

from __future__ import annotations

import pickle

import pytest

from clip_al import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidInputError, ValueError),
        (errors.InvalidTypeError, TypeError),
        (errors.ModelMismatchError, ValueError),
        (errors.MissingDependencyError, ImportError),
        (errors.UnreadableImageError, ValueError),
    ],
)
def test_errors_are_ours_and_the_builtin(error, builtin):
    assert issubclass(error, errors.ClipAlError)
    assert issubclass(error, builtin)


def test_skipping_is_a_warning_and_no_error():
    assert issubclass(errors.SkippedImagesWarning, UserWarning)
    assert not issubclass(errors.SkippedImagesWarning, errors.ClipAlError)


def test_unreadable_images_are_named_with_the_remedy():
    error = errors.UnreadableImageError([("a.jpg", "truncated"), ("b.png", "empty")], "Fix them.")
    assert str(error) == (
        "Every image must be readable; 2 are not: a.jpg (truncated), b.png (empty). Fix them."
    )
    assert error.failures == [("a.jpg", "truncated"), ("b.png", "empty")]


def test_unreadable_images_keep_their_own_list():
    failures = [("a.jpg", "truncated")]
    error = errors.UnreadableImageError(failures, "Fix it.")
    failures.clear()
    assert error.failures == [("a.jpg", "truncated")]


def test_unreadable_images_survive_a_pickle():
    error = errors.UnreadableImageError([("a.jpg", "truncated")], "Fix it.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.UnreadableImageError
    assert (copy.failures, copy.remedy, str(copy)) == (error.failures, error.remedy, str(error))


@pytest.mark.parametrize(("n", "ending"), [(10, "9 (bad)."), (11, "9 (bad) and 1 more.")])
def test_only_the_first_failures_are_named(n, ending):
    text = errors.describe_failures([(str(i), "bad") for i in range(n)])
    assert text.startswith(f"Every image must be readable; {n} are not: 0 (bad), 1 (bad)")
    assert text.endswith(ending)


def test_the_limit_of_named_failures_can_be_set():
    text = errors.describe_failures([("a", "bad"), ("b", "bad"), ("c", "bad")], limit=1)
    assert text == "Every image must be readable; 3 are not: a (bad) and 2 more."
