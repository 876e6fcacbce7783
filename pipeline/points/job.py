"""The points requested by a command, and their states.

    to run         nothing to resume from
    to continue    there is a checkpoint, or a sealed folder
    done           complete, but not trained by this command
    training       `open` was called
    complete       this command completed it
    failed         an error ended it, or its folder cannot be read
    killed         training was stopped before the end

`look` sets `to run`, `to continue` or `done`, and `failed` for a folder that cannot be read. `open` sets `training`;
the sweep then sets `complete` or `killed`; `fail` sets `failed`. A later command looks again, so that a failed or
killed point is trained again, if possible from its checkpoint.

An attempt is one training of a point from its first epoch. Resuming from a checkpoint continues the same attempt;
restarting begins a new one, with a new id and its own MLflow run.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.data.description import DataDescription
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder
from pipeline.points.point import Point
from pipeline.points.reading import DESCRIPTION, RunRecord, read_own_point, read_run, signed_in
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.failures import Failures
from pipeline.system.files import readable
from pipeline.system.wording import counted

log = logging.getLogger(__name__)

JobState = Literal["to run", "to continue", "done", "training", "complete", "failed", "killed"]


@dataclass(eq=False)
class Job:
    """A point requested by a command.

    Attributes:
        config: its composed config.
        overrides: the part of the command line that the config was composed from.
        name: its settings on one line.
        signature: the hash of everything that affects its results (identity.py).
        folder: the folder that it trains in.
        knobs: the settings that distinguish it from the other points, by short name.
        state: see the module's docstring.
        run: the attempt made or found by this command; None until then.
        history: everything recorded while it trains.
        checkpoint: the checkpoint that training resumes from, if any.
        point: the trained point, once it is complete.
        begun_by_command: whether this command has already begun to train it (on a worker that then failed); if so,
            `force=true` must not restart it.
        error: why it failed, or why its earlier results cannot be used.
        description: what its data is, if the config does not say it; set by `open`.
        undrawn: its figures that could not be drawn; the point is complete without them.
    """

    config: Config
    overrides: list[str]
    name: str
    signature: str
    folder: PointFolder
    knobs: dict[str, str] = field(default_factory=dict)
    state: JobState = "to run"
    run: RunRecord | None = None
    history: History = field(default_factory=History)
    checkpoint: Checkpoint | None = None
    point: Point | None = None
    begun_by_command: bool = False
    error: LabError | None = None
    description: DataDescription | None = None
    undrawn: Failures = field(default_factory=Failures)

    @property
    def begun(self) -> int:
        """The number of epochs that the point had trained before this command."""
        if self.checkpoint is None:
            return 0
        return self.checkpoint.epoch

    def look(self) -> None:
        """Set the state by the files of earlier commands, without changing anything on disk.

        A damaged folder is treated as missing, and sets `error`. A folder that this machine cannot read may be intact,
        so the point fails instead of being retrained.
        """
        self.error = None
        self.point = None
        if self.folder.final.exists():
            try:
                self.point = read_own_point(self.folder.final, self.name, self.signature)
            except DamagedError as error:
                self.error = error
            except LabError as error:
                self.error = error
                self.state = "failed"
                return
        if self.point is not None:
            self.state = "done"
        elif self.folder.can_resume():
            self.state = "to continue"
        else:
            self.state = "to run"

    def adopt(self) -> None:
        """Look again now that we hold the lock, and rename a sealed folder to its final path."""
        # The first look may be out of date: another process may have trained the point before we got the lock.
        self.look()
        if self.state == "to continue" and self.folder.is_sealed():
            try:
                read_own_point(self.folder.path, self.name, self.signature)
            except DamagedError:
                # The point does not fail: it is trained again from its checkpoint.
                return
            except LabError as error:
                self.fail(error)
                return
            self.folder.put_in_place()
            self.look()

    def open(
        self,
        signed: str,
        tags: dict[str, str],
        owner: str,
        restart: bool,
        description: DataDescription | None = None,
    ) -> None:
        """Resume from the point's folder, or create it, and set the state to `training`.

        A resumed attempt keeps its id and its start time; a new attempt gets new ones.

        Args:
            signed: the text that the signature is the hash of.
            tags: command, git commit, data checksums.
            owner: this process, from `processes.owner`.
            restart: whether to train from scratch even if there is a checkpoint.
            description: what the data is, if the config does not say it.

        Raises:
            LabError: the folder cannot be written, or cannot be read although it may be intact.
        """
        self.checkpoint = None
        self.error = None
        self.point = None
        if not restart:
            path = self.folder.path
            try:
                with readable(f"The checkpoint in {path}", expected="one of this point", fix="restart from scratch"):
                    if self.folder.can_resume() and signed_in(path) != self.signature:
                        raise ValueError("signed.json belongs to a different point")
                    self.checkpoint = self.folder.resume()
            except DamagedError as error:
                log.warning(f"{self.name} restarts from scratch: its checkpoint cannot be read ({error.received})")
                restart = True

        attempt = uuid.uuid4().hex
        started = time.time_ns() // 1_000_000
        if not restart:
            # Read before `begin`, which deletes run.json. An attempt that has no checkpoint yet keeps its id too, so
            # that its MLflow run is reused.
            earlier = read_run(self.folder.path)
            if earlier is not None:
                attempt = earlier.attempt
                started = earlier.started
        if self.checkpoint is None:
            self.folder.begin()
            self.history = History()
        else:
            self.history = self.checkpoint.history

        run = RunRecord(self.name, self.overrides, tags, attempt, started, owner)
        self.description = description
        if description is not None:
            # Before signed.json, with which `read_signed` reads it.
            self.folder.write_json(DESCRIPTION, description.model_dump(mode="json"))
        self.folder.write_text("signed.json", signed)
        self.folder.write_json("config.json", self.config.model_dump(mode="json"))
        self.folder.write_json("run.json", asdict(run))
        self.run = run
        self.state = "training"

    def fail(self, error: LabError) -> None:
        """Mark the point as failed unless it is complete, and record the error in its folder if training has begun."""
        if self.state in ("done", "complete"):
            return
        self.error = error
        self.state = "failed"
        if self.run is not None:
            # If a full disk is the cause, this fails too, and must not replace the original error.
            with suppress(LabError):
                self.folder.write_error(self.run.attempt, str(error))


def summary(jobs: Sequence[Job], repeated: int) -> str:
    """Return one line about the work of a command, for instance `14 points: 7 done, 2 to continue, 5 to run`.

    Args:
        jobs: the points requested by the command.
        repeated: number of skipped duplicates, which have the same signature as an earlier point of the command.
    """
    counts = Counter(job.state for job in jobs)
    states: tuple[JobState, ...] = ("done", "to continue", "to run")
    parts = [f"{counts[state]} {state}" for state in states if counts[state]]
    points = counted(len(jobs), "point")
    if repeated:
        points += f" ({repeated} duplicates skipped)"
    return f"{points}: {', '.join(parts)}"
