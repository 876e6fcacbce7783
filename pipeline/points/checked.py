"""The index of the complete points that a command has trained, or read and found whole, in `.points/.checked.json`.

A point whose files have not changed since need not be read again to know that it is done.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.points.job import Job
from pipeline.points.point import POINTS
from pipeline.system.files import short_hash, tree_state, write_file
from pipeline.system.project import PROJECT

CHECKED = ".checked.json"
# The packages that decide whether a point can be read: another version may refuse what this one accepts.
READERS = ("points", "config")
# The state of the folder of each point, and of the code that has read it, by signature.
INDEX = TypeAdapter(dict[str, str])


class CheckedPoints:
    """Finds the states of jobs, and keeps an index of the points that are done.

    The index saves time only: one that cannot be read counts as empty, and one that cannot be written is not written.

    Args:
        root: folder that holds .points/.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / POINTS / CHECKED
        modules = [file for package in READERS for file in (PROJECT / "pipeline" / package).rglob("[!.]*.py")]
        self._code = short_hash(b"".join(file.read_bytes() for file in sorted(modules)))
        self._states: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self._states = INDEX.validate_json(self._file.read_bytes(), strict=True)
        self._changed = False

    def look(self, job: Job, read: bool) -> None:
        """Set the state of a job as `Job.look` does.

        Args:
            job: the job.
            read: whether to read a point that is done also if that is known from the index.
        """
        state = self._state(job)
        if state and self._states.get(job.signature) == state and not read:
            job.state = "done"
            return
        job.look()
        if job.state == "done":
            self._add(job, state)

    def add(self, job: Job) -> None:
        """Add a point that this command has trained."""
        self._add(job, self._state(job))

    def _add(self, job: Job, state: str) -> None:
        if state and self._states.get(job.signature) != state:
            self._states[job.signature] = state
            self._changed = True

    def _state(self, job: Job) -> str:
        """Return the state of a point's folder and of the code; an empty string if the folder does not exist."""
        # What is wrong with a folder, `Job.look` says.
        with suppress(OSError):
            if job.folder.final.exists():
                return f"{self._code} {tree_state(job.folder.final)}"
        return ""

    def save(self) -> None:
        """Write the index, if there is anything new."""
        if self._changed:
            with suppress(OSError):
                write_file(self._file, lambda file: file.write_text(json.dumps(self._states), encoding="utf-8"))
