"""The exceptions that end as a message to the user, without a traceback."""

import errno
import re

# The user and password in an address. No address should contain them, but an error message may be about one that does.
CREDENTIALS = re.compile(r"://[^/\s@]+@")


class LabError(Exception):
    """An error that the user has caused and can fix.

    Entry points print it as one message, without a traceback, and exit with 1. Users and passwords in addresses are
    removed from the message.

    Args:
        happened: the problem, as a sentence.
        expected: the value or state that was expected.
        received: the value or state that was found instead.
        fix: the next step for the user.

    Example:
        >>> print(LabError("The port is taken.", received="5000", fix="add PORT=5001"))
        The port is taken.
          received: 5000
          to do:    add PORT=5001
    """

    def __init__(self, happened: str, *, expected: str = "", received: str = "", fix: str = "") -> None:
        self.happened = happened
        self.received = received
        details = {"expected:": expected, "received:": received, "to do:": fix}
        lines = [happened, *(f"  {label:<9} {text}" for label, text in details.items() if text)]
        super().__init__(CREDENTIALS.sub("://...@", "\n".join(lines)))


class DamagedError(LabError):
    """A file is missing, truncated, changed or of the wrong type: it has to be made or downloaded again."""


class EngineError(LabError):
    """The engine of a launcher did not return every unit: a worker was lost, or the engine is unreachable."""


def unexpected(error: BaseException) -> LabError:
    """Describe an exception without a message of its own, such as a bug of ours, for the record of what it ended."""
    return LabError(
        "An unexpected error ended it.",
        received=f"{type(error).__name__}: {error}".rstrip(": "),
        fix="run the same command again; if that does not help, report the traceback",
    )


def remedy(error: OSError) -> str:
    """Return what to do about a file or folder that cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
        return "name another place: there is already a file, or a folder, of this name"
    if error.errno == errno.ENAMETOOLONG:
        return "choose a shorter name"
    return "free some disk space or fix the permissions, then run the same command again"
