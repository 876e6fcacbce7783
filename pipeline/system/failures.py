"""Try each item of some work on its own: what fails is kept with its cause, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from pipeline.system.errors import LabError, UnavailableError, explain
from pipeline.system.wording import some

# Maximum number of items to name with each cause.
MOST_NAMED = 3
# Guards one item: `Failures.apart`, or `together`.
Apart = Callable[[str], AbstractContextManager[None]]
# Does one item: `Parts.do`, or `at_once`.
Do = Callable[[str, Callable[[], object]], None]


def together(_item: str) -> AbstractContextManager[None]:
    """Guard nothing: the first error is raised."""
    return nullcontext()


def at_once(_item: str, action: Callable[[], object]) -> None:
    """Do an item unguarded: its error is raised."""
    action()


class Failures:
    """The items that failed, each with its error.

    Args:
        check: called after each failure; raises UnavailableError if all other items would fail too.

    Example:
        >>> failures = Failures()
        >>> for name, figure in figures:
        ...     with failures.apart(f"the figure {name}"):
        ...         write_png(folder / f"{name}.png", figure)
        >>> failures.messages("could not be drawn")
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.errors: dict[str, LabError] = {}
        # How often something has failed.
        self.count = 0
        self._check = check

    def apart(self, item: str) -> AbstractContextManager[None, bool]:
        """Keep the error that the block raises, of any class; an item that succeeds loses its earlier error.

        Raises:
            UnavailableError: raised by the block or by `check`.
        """
        # The type of `contextmanager` does not say that errors end here.
        return self._guarded(item)  # type: ignore[return-value]

    @contextmanager
    def _guarded(self, item: str) -> Iterator[None]:
        try:
            yield
        except UnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - an error of our own must not stop the other items either
            self._check()
            self.count += 1
            self.errors[item] = explain(error)
        else:
            self.errors.pop(item, None)

    def messages(self, failed: str) -> list[str]:
        """Return a message for each cause, which names its items; `failed` is the predicate of the sentence."""
        items: dict[str, list[str]] = {}
        first: dict[str, LabError] = {}
        for item, error in self.errors.items():
            items.setdefault(error.cause, []).append(item)
            first.setdefault(error.cause, error)
        messages = []
        for cause, named in items.items():
            messages.append(f"{some(named, MOST_NAMED)} {failed}. {first[cause]}")
        return messages


class Parts(Failures):
    """The parts of one item, each done once: a later try does only those that failed."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        super().__init__(check)
        self._done: set[str] = set()

    def do(self, part: str, action: Callable[[], object]) -> None:
        """Do a part unless it is done; its error is kept.

        Raises:
            UnavailableError: as `apart`.
        """
        if part in self._done:
            return
        with self.apart(part):
            before = self.count
            action()
            # Some of what a part consists of may have failed, each kept on its own.
            if self.count == before:
                self._done.add(part)

    def forget(self) -> None:
        """Do all parts again."""
        self._done.clear()
        self.errors.clear()
