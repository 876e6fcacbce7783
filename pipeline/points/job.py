"""The points that a command asks for, and the state of each."""

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
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder
from pipeline.points.point import Point
from pipeline.points.reading import Run, read_own_point, read_run, signed_in
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import readable

log = logging.getLogger(__name__)

State = Literal["to run", "to continue", "done", "training", "complete", "failed", "killed"]


@dataclass(eq=False)
class Job:
    """A point that a command asks for.

    Attributes:
        config: its composed config.
        overrides: the part of the command line that the config was composed from.
        name: its knobs in a line.
        signature: the hash of what decides its numbers.
        folder: the folder that it trains in.
        knobs: what distinguishes it from the other points, by short names.
        state: `done` if it was complete before the command, `complete` if the command completed it.
        run: the attempt that this command makes or has found; None until then.
        history: what is recorded while it trains.
        checkpoint: the checkpoint that its training continues from, if any.
        point: the trained point, once there is one.
        goes_on: whether this command has begun it already, so that `force=true` must not restart it.
        error: why it failed, or why an earlier result cannot be used.
    """

    config: Config
    overrides: list[str]
    name: str
    signature: str
    folder: PointFolder
    knobs: dict[str, str] = field(default_factory=dict)
    state: State = "to run"
    run: Run | None = None
    history: History = field(default_factory=History)
    checkpoint: Checkpoint | None = None
    point: Point | None = None
    goes_on: bool = False
    error: LabError | None = None

    @property
    def begun(self) -> int:
        """How many epochs the point had trained before this command."""
        if self.checkpoint is None:
            return 0
        return self.checkpoint.epoch

    def look(self) -> None:
        """Find out what an earlier command left of the point, without changing anything.

        A damaged folder counts as missing, and `error` says why. A folder that this machine cannot read may be intact:
        then the point fails, and nothing is trained in its place.
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
        elif self.folder.has_begun():
            self.state = "to continue"
        else:
            self.state = "to run"

    def adopt(self) -> None:
        """Look again, as the holder of the lock, and finish a folder that only has to be moved to its final path."""
        # The first look may be out of date: another process can have trained the point before the lock was free.
        self.look()
        if self.state == "to continue" and self.folder.is_sealed():
            try:
                read_own_point(self.folder.path, self.name, self.signature)
            except DamagedError:
                # Not an error of the point: it is trained again, from its checkpoint.
                return
            except LabError as error:
                self.fail(error)
                return
            self.folder.put_in_place()
            self.look()

    def open(self, signed: str, tags: dict[str, str], owner: str, restart: bool) -> None:
        """Continue in the point's folder, or begin a new one, and set the state to `training`.

        An attempt that continues keeps its id and its start time; one that restarts gets new ones.

        Args:
            signed: the text that the signature is the hash of.
            tags: command, git commit, data checksums.
            owner: the name of this process.
            restart: whether to train from the beginning, whatever the folder holds.

        Raises:
            LabError: the folder cannot be written, or its files may be intact but this machine cannot read them.
        """
        self.checkpoint = None
        self.error = None
        self.point = None
        if not restart:
            path = self.folder.path
            try:
                with readable(f"The checkpoint in {path}", expected="one of this point", fix="train from the start"):
                    if self.folder.has_begun() and signed_in(path) != self.signature:
                        raise ValueError("signed.json belongs to another point")
                    self.checkpoint = self.folder.resume()
            except DamagedError as error:
                log.warning(f"{self.name} starts again: its checkpoint cannot be read ({error.received})")
                restart = True

        attempt = uuid.uuid4().hex
        started = time.time_ns() // 1_000_000
        if not restart:
            # Read before `begin`, which deletes run.json. An attempt without a checkpoint keeps its id too, so that its
            # MLflow run is used and not a second one.
            earlier = read_run(self.folder.path)
            if earlier is not None:
                attempt = earlier.attempt
                started = earlier.started
        if self.checkpoint is None:
            self.folder.begin()
            self.history = History()
        else:
            self.history = self.checkpoint.history

        run = Run(self.name, self.overrides, tags, attempt, started, owner)
        self.folder.write_text("signed.json", signed)
        self.folder.write_json("config.json", self.config.model_dump(mode="json"))
        self.folder.write_json("run.json", asdict(run))
        self.run = run
        self.state = "training"

    def fail(self, error: LabError) -> None:
        """Record that the point failed, unless it is complete; also in its folder, if training has begun."""
        if self.state in ("done", "complete"):
            return
        self.error = error
        self.state = "failed"
        if self.run is not None:
            # A full disk may be why the point failed; its message must not be replaced by a second one.
            with suppress(LabError):
                self.folder.write_error(self.run.attempt, str(error))


def summary(jobs: Sequence[Job], repeated: int) -> str:
    """Say what a command is going to do, for instance `14 points: 7 done, 2 to continue, 5 to run`.

    Args:
        jobs: the points that the command asks for.
        repeated: how many further ones were left out, as the same point had been asked for before.
    """
    counts = Counter(job.state for job in jobs)
    states: tuple[State, ...] = ("done", "to continue", "to run")
    parts = [f"{counts[state]} {state}" for state in states if counts[state]]
    points = "1 point"
    if len(jobs) != 1:
        points = f"{len(jobs)} points"
    if repeated:
        points += f" ({repeated} more asked for twice)"
    return f"{points}: {', '.join(parts)}"
