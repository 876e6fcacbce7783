"""The points of a command: what each is, and where it stands."""

from __future__ import annotations

import sys
import time
import uuid
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

State = Literal["to run", "to continue", "done", "training", "complete", "failed", "killed"]


@dataclass(eq=False)
class Job:
    """A point that a command asks for.

    Attributes:
        config, overrides: what it is, and how that was said.
        name: what it is called.
        signature: what it is known by.
        folder: where it is trained.
        knobs: what distinguishes it, by short names.
        state: where it stands; `done` before the command, `complete` by it.
        run: the attempt at it that this command makes or has found; None: none yet.
        history: filled while it trains.
        checkpoint: where its training goes on from.
        point: the trained point, once there is one.
        goes_on: whether this command has begun it, though it is to be trained again.
        error: why it failed, or why what was there of it cannot be used.
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
        """How many epochs it had trained before this command."""
        return self.checkpoint.epoch if self.checkpoint else 0

    def look(self) -> None:
        """See what an earlier command left of the point; nothing is changed.

        A folder that is not what was written counts as not there, and `error` says so. One that this machine does not
        let be read may be whole: the point fails, and nothing is trained in its place.
        """
        self.error, self.point = None, None
        if self.folder.final.exists():
            try:
                self.point = read_own_point(self.folder.final, self.name, self.signature)
            except DamagedError as error:
                self.error = error
            except LabError as error:
                self.error, self.state = error, "failed"
                return
        if self.point is not None:
            self.state = "done"
        else:
            self.state = "to continue" if self.folder.has_begun() else "to run"

    def adopt(self) -> None:
        """Look again, as the holder of the lock; move a complete folder into the store where that is all it needs."""
        self.look()
        if self.state == "to continue" and self.folder.is_sealed():
            try:
                read_own_point(self.folder.path, self.name, self.signature)
            except DamagedError:
                return  # it goes on from its checkpoint
            except LabError as error:
                self.fail(error)
                return
            self.folder.put_in_place()
            self.look()

    def open(self, signed: str, tags: dict[str, str], owner: str, anew: bool) -> None:
        """Go on with the point's folder, or begin it.

        An attempt that goes on keeps its id and its start; one that begins anew gets its own.

        Args:
            signed: the text that the signature is of.
            tags: command, git commit, data checksums.
            owner: this process.
            anew: begin, whatever there is.

        Raises:
            LabError: the folder cannot be written, or what it holds cannot be read though it may be whole.
        """
        self.checkpoint, self.error, self.point = None, None, None
        if not anew:
            path = self.folder.path
            try:
                with readable(f"The checkpoint in {path}", expected="one of this point", fix="begin anew"):
                    if self.folder.has_begun() and signed_in(path) != self.signature:
                        raise ValueError("signed.json is that of another point")
                    self.checkpoint = self.folder.resume()
            except DamagedError as error:
                print(f"{self.name} begins anew: its checkpoint cannot be read ({error.received})", file=sys.stderr)
                anew = True
        before = None if anew else read_run(self.folder.path)
        if self.checkpoint is None:
            self.folder.begin()
        self.history = self.checkpoint.history if self.checkpoint else History()
        run = Run(
            name=self.name,
            overrides=self.overrides,
            tags=tags,
            attempt=before.attempt if before else uuid.uuid4().hex,
            started=before.started if before else time.time_ns() // 1_000_000,
            owner=owner,
        )
        self.folder.write_text("signed.json", signed)
        self.folder.write_json("config.json", self.config.model_dump(mode="json"))
        self.folder.write_json("run.json", asdict(run))
        self.run, self.state = run, "training"

    def fail(self, error: LabError) -> None:
        """Note that the point failed, unless it is complete; in its folder too, if it has begun."""
        if self.state in ("done", "complete"):
            return
        self.error, self.state = error, "failed"
        if self.run is not None:
            with suppress(LabError):  # a full disk may be why it failed
                self.folder.write_error(self.run.attempt, str(error))


def summary(jobs: Sequence[Job], repeated: int) -> str:
    """What a command is going to do, for instance `14 points: 7 done, 2 to continue, 5 to run`."""
    counts = [(state, sum(job.state == state for job in jobs)) for state in ("done", "to continue", "to run")]
    parts = [f"{count} {state}" for state, count in counts if count]
    twice = f" ({repeated} more asked for twice)" if repeated else ""
    return f"{len(jobs)} point{'s' if len(jobs) != 1 else ''}{twice}: {', '.join(parts)}"
