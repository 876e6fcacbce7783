"""The index of the complete points that a command has read and found whole, in `.points/.checked.json`.

A point whose files have not changed since need not be read again to know that it is done.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.points.job import Job
from pipeline.points.point import POINTS
from pipeline.system.files import tree_state, write_file

CHECKED = ".checked.json"
# The state of the folder of each point, by signature.
INDEX = TypeAdapter(dict[str, str])


class CheckedPoints:
    """Finds the states of jobs, and keeps an index of the points that are done.

    The index saves time only: one that cannot be read counts as empty, and one that cannot be written is not written.

    Args:
        root: folder that holds .points/.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / POINTS / CHECKED
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
        state = ""
        # What is wrong with a folder, `Job.look` says.
        with suppress(OSError):
            if job.folder.final.exists():
                state = tree_state(job.folder.final)
        if state and self._states.get(job.signature) == state and not read:
            job.state = "done"
            return
        job.look()
        if job.state == "done" and self._states.get(job.signature) != state:
            self._states[job.signature] = state
            self._changed = True

    def save(self) -> None:
        """Write the index, if there is anything new."""
        if self._changed:
            with suppress(OSError):
                write_file(self._file, lambda file: file.write_text(json.dumps(self._states), encoding="utf-8"))
