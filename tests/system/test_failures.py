"""Items that are tried each on its own: what fails is kept, grouped by its cause, and an error of ours says so."""

from __future__ import annotations

import errno
import os

import pytest

from pipeline.system.errors import BugError, LabError, UnavailableError, explain
from pipeline.system.failures import Failures, Parts
from pipeline.system.remedies import remedy


def test_items_with_one_cause_are_one_message() -> None:
    failures = Failures()
    for name in "abcde":
        with failures.apart(name):
            if name != "c":
                raise LabError("Too long.", received="a name", fix="shorten it")
    assert failures.messages("failed") == [
        "a, b, d and 1 more failed. Too long.\n  received: a name\n  to do:    shorten it"
    ]


def test_errors_of_ours_with_one_origin_are_one_message_with_its_traceback() -> None:
    failures = Failures()
    for name in "ab":
        with failures.apart(name):
            raise ValueError(f"of {name}")
    (message,) = failures.messages("failed")
    assert message.startswith("a, b failed. This is an error of this program, not of your command or your files.\n")
    assert message.count("Traceback") == 1
    assert message.endswith("ValueError: of a")


def test_an_item_that_succeeds_later_has_no_error() -> None:
    failures = Failures()
    with failures.apart("a"):
        raise LabError("No.")
    with failures.apart("a"):
        pass
    assert failures.errors == {}


def test_what_everything_depends_on_is_not_kept_with_an_item() -> None:
    failures = Failures()
    with pytest.raises(UnavailableError), failures.apart("a"):
        raise UnavailableError("Away.")

    def away() -> None:
        raise UnavailableError("Away.")

    with pytest.raises(UnavailableError), Failures(away).apart("a"):
        raise LabError("No.")


def test_only_the_parts_that_failed_are_done_again() -> None:
    parts = Parts()
    done: list[str] = []

    def fail() -> None:
        done.append("b")
        if done.count("b") == 1:
            raise ValueError("once")

    for _ in range(3):
        parts.do("a", lambda: done.append("a"))
        parts.do("b", fail)
    assert done == ["a", "b", "b"]
    assert parts.errors == {}


def test_an_error_of_ours_hides_passwords() -> None:
    try:
        raise ValueError("no answer from http://anna:sesame@host/")
    except ValueError as error:
        explained = explain(error)
    assert isinstance(explained, BugError)
    assert "sesame" not in str(explained)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some disk space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "read-only"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EDQUOT, "quota"),
        (errno.EPIPE, "fix the error above"),
    ],
)
def test_an_error_of_the_system_has_its_own_remedy(number: int, words: str) -> None:
    assert words in remedy(OSError(number, os.strerror(number)))
    assert number == errno.ENOSPC or "disk space" not in remedy(OSError(number, os.strerror(number)))
