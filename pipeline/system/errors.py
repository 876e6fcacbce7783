"""The one exception that is a message to the person at the keyboard."""

import re

CREDENTIALS = re.compile(r"://[^/\s@]+@")
"""The user and password of an address. They belong in none, but a message may have to do with one where they are."""


class LabError(Exception):
    """Something a user can cause and can fix.

    Entry points print it as one message, without a traceback, and exit with 1. Users and passwords of addresses are
    left out of it.

    Args:
        happened: what went wrong, as a sentence.
        expected: what would have been right.
        received: what was found instead.
        fix: what to do now.
    """

    def __init__(self, happened: str, *, expected: str = "", received: str = "", fix: str = "") -> None:
        self.happened, self.received = happened, received
        lines = [happened]
        lines += [f"  expected: {expected}"] if expected else []
        lines += [f"  received: {received}"] if received else []
        lines += [f"  to do:    {fix}"] if fix else []
        super().__init__(CREDENTIALS.sub("://...@", "\n".join(lines)))


class DamagedError(LabError):
    """A file is missing, cut short, changed or of another kind: what it held has to be made or fetched again."""


class EngineError(LabError):
    """The engine of a launcher did not bring back every unit: a worker was lost, or it cannot be reached."""
