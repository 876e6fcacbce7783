"""The points of a command: what each is, and where it stands."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.backends.shared.history import History
from pipeline.config.schema import Config
from pipeline.points.checkpoint import Checkpoint
from pipeline.points.folder import PointFolder, read_run
from pipeline.points.point import UNREADABLE, Point, read_point
from pipeline.system.errors import LabError
from pipeline.system.files import short_hash

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
        run: what run.json holds: name, overrides, tags, attempt, started, owner.
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
    run: dict[str, Any] = field(default_factory=dict)
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

        A folder that is not what was written counts as not there, and `error` says so.
        """
        self.error, self.point = None, None
        if self.folder.final.exists():
            try:
                self.point = read_own_point(self.folder.final, self.name, self.signature)
            except LabError as error:
                self.error = error
        if self.point is not None:
            self.state = "done"
        else:
            self.state = "to continue" if self.folder.has_begun() else "to run"

    def adopt(self) -> None:
        """Look again, as the holder of the claim; a folder that is only not in its place yet is put there."""
        self.look()
        if self.state == "to continue" and self.folder.is_sealed():
            try:
                read_own_point(self.folder.path, self.name, self.signature)
            except LabError:
                return  # it goes on from its checkpoint
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
            LabError: the folder cannot be written.
        """
        self.checkpoint, self.error, self.point = None, None, None
        if not anew:
            try:
                if self.folder.has_begun() and signed_in(self.folder.path) != self.signature:
                    raise ValueError("signed.json is that of another point")
                self.checkpoint = self.folder.resume()
            except (PermissionError, BlockingIOError, InterruptedError, TimeoutError) as error:
                raise LabError(f"{self.folder.path} cannot be read.", received=str(error), fix="mend that") from None
            except UNREADABLE as error:
                print(f"{self.name} begins anew: its checkpoint cannot be read ({error})", file=sys.stderr)
                anew = True
        before = {} if anew else read_run(self.folder.path)
        if self.checkpoint is None:
            self.folder.begin()
        self.history = self.checkpoint.history if self.checkpoint else History()
        run = {
            "name": self.name,
            "overrides": self.overrides,
            "tags": tags,
            "attempt": before.get("attempt", uuid.uuid4().hex),
            "started": before.get("started", time.time_ns() // 1_000_000),
            "owner": owner,
        }
        self.folder.write_text("signed.json", signed)
        self.folder.write_json("config.json", self.config.model_dump(mode="json"))
        self.folder.write_json("run.json", run)
        self.run, self.state = run, "training"

    def fail(self, error: LabError) -> None:
        """Note that the point failed, unless it is complete."""
        if self.state not in ("done", "complete"):
            self.error, self.state = error, "failed"


def signed_in(folder: Path) -> str:
    """The signature of the text that a point's folder says was signed; empty where there is none."""
    try:
        return short_hash((folder / "signed.json").read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        return ""


def read_own_point(folder: Path, name: str, signature: str) -> Point:
    """Read a trained point, and make sure that it is not another one that was put in its place, and has a run.json.

    Raises:
        LabError: it is another one, or it cannot be read.
    """
    point, received = read_point(folder, name), signed_in(folder)
    if received != signature:
        raise LabError(
            f"The trained point in {folder} is another one.",
            expected=f"a signed.json whose SHA-256 begins with {signature}",
            received=received,
            fix=f"delete {folder} and train it again",
        )
    if not read_run(folder):
        raise LabError(
            f"Nothing tells how the point in {folder} was trained.",
            expected="a run.json as training writes it",
            received="none, or another one",
            fix=f"delete {folder} and train it again",
        )
    return point


def summary(jobs: Sequence[Job], repeated: int) -> str:
    """What a command is going to do, for instance `14 points: 7 done, 2 to continue, 5 to run`."""
    counts = [(state, sum(job.state == state for job in jobs)) for state in ("done", "to continue", "to run")]
    parts = [f"{count} {state}" for state, count in counts if count]
    twice = f" ({repeated} more asked for twice)" if repeated else ""
    return f"{len(jobs)} point{'s' if len(jobs) != 1 else ''}{twice}: {', '.join(parts)}"
