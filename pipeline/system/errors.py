"""The exceptions that end as a message to the user, without a traceback."""

import re
import traceback

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

    @property
    def cause(self) -> str:
        """The same text for errors that have the same cause and therefore the same remedy."""
        return str(self)


class DamagedError(LabError):
    """A file is missing, truncated, changed or of the wrong type: it has to be made or downloaded again."""


class EngineError(LabError):
    """The engine of a launcher did not return every unit: a worker was lost, or the engine is unreachable."""


class UnavailableError(LabError):
    """A store or a server cannot be used at all now, whatever is sent to it; a later try may succeed."""


class BugError(LabError):
    """An exception that this program should not have raised; the message ends with its traceback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            "This is an error of this program, not of your command or your files.",
            received=f"{type(error).__name__}: {error}",
            fix="report it with the traceback that follows",
        )
        self._trace = CREDENTIALS.sub("://...@", "".join(traceback.format_exception(error)).rstrip())
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        self._cause = f"{type(error).__name__} {[(one.filename, one.lineno) for one in frame]}"

    @property
    def cause(self) -> str:
        """The type of the exception and the line that raised it: its text may differ from point to point."""
        return self._cause

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self._trace}"


def explain(error: BaseException) -> LabError:
    """Return an error as a message for the user: a `LabError` as it is, any other as an error of this program."""
    if isinstance(error, LabError):
        return error
    if isinstance(error, MemoryError):
        fix = "end other programs, or use a machine with more memory"
        return LabError("Out of memory.", received=str(error), fix=fix)
    return BugError(error)
