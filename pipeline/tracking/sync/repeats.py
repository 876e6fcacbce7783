"""The runs of points with several seeds: below the run of the sweep, each with the runs of its seeds below it.

They are made and filled when the sweep ends, from the results on disk; until then, the seeds are directly below the
sweep. A run belongs to its seeds: with more of them another run takes its place, because MLflow cannot take back the
values of a curve.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.points.point import POINTS, Point
from pipeline.points.reading import read_attempt, read_own_point, read_run, read_signed
from pipeline.points.repeats import SPLIT_SEED, keys_of_points, seeds_of, split_anew
from pipeline.points.sweep_record import SweepRecord
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.failures import Failures, Parts
from pipeline.system.own_folder import with_own_folder
from pipeline.tracking.ownership import CLONE, OWNER, drop, heartbeat, is_ours
from pipeline.tracking.pages.labels import POINT_NAME, SEED, Labels, settings_of
from pipeline.tracking.pages.presentation import DIAGNOSIS, NONE_YET, NOTE, RESULT, RUN_NAME, point_tags
from pipeline.tracking.pages.repeats import (
    diagnosis_of,
    mean_curves,
    outcome_of_seeds,
    repeat_values,
    repeats_note,
    result_of,
)
from pipeline.tracking.pages.views import NEWEST, REPEATED
from pipeline.tracking.pages.views import SEED as SHOWN_AS_SEED
from pipeline.tracking.sync.placement import PARENT
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.sync.seeds import ASKED, ATTEMPTS, BACKEND, COMPLETE, KEY, SEEDS, RepeatedPoint, Seed
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.tracking.tracker import Status, Tracker

# The parts that make a run complete.
CONTENT = {"parameters", "curves", "metrics", "description"}


class RepeatedPoints:
    """Keeps the runs of the points of a sweep that have several seeds.

    Args:
        root: folder that holds .points/.
        owner: the process that trains, from `processes.owner`.
        check: called after a part failed; raises UnavailableError if all others would fail too.

    Attributes:
        judged: returns points by signature, each judged against the others of its sweep.
    """

    def __init__(self, root: Path, owner: str, check: Callable[[], None]) -> None:
        self.judged: Callable[[], Mapping[str, Point]] = dict
        self._root = root
        self._owner = owner
        self._check = check
        # By what the seeds of a point share: the parts of its run, its short name, and the run if it was written.
        self._parts: dict[str, Parts] = {}
        self._names: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        # What failed of single seeds.
        self._failures = Failures(check)

    def errors(self) -> dict[str, LabError]:
        """Return the parts that could not be sent, each with its error."""
        return self._failures.errors | {
            f"the {part} of the seeds of {self._names[key]}": error
            for key, parts in self._parts.items()
            for part, error in parts.errors.items()
        }

    def forget_if_deleted(self, tracker: Tracker) -> bool:
        """Forget the runs that failed and were deleted in MLflow, so that others are made; return whether any were."""
        failed = {key: run_id for key, run_id in self._runs.items() if self._parts[key].errors}
        deleted = [key for key, run_id in failed.items() if not tracker.has_run(run_id)]
        for key in deleted:
            del self._runs[key]
            self._parts[key].forget()
        return bool(deleted)

    def send(
        self, tracker: Tracker, ended: SweepRecord, points: Sequence[PointSync], shown: Labels, tags: Mapping[str, str]
    ) -> None:
        """Make, fill and close the run of each point with at least two complete seeds, and move its seeds below it.

        Args:
            tracker: the tracker of the experiment.
            ended: the final record of the sweep.
            points: the points that this sweep sends.
            shown: the labels of its points.
            tags: the tags that place a run of this sweep.
        """
        groups = self._groups(ended, points)
        if not groups:
            return
        # One search for all of them.
        runs = tracker.runs()
        for key, seeds in groups.items():
            full_name = " ".join("=".join(one) for one in settings_of(seeds[0].name) if one[0] != SEED)
            config = next(seed.sync.folder.config for seed in seeds if seed.sync is not None)
            if config is None:
                continue
            names = point_tags(full_name, config, shown)
            # Not the backend of the sweep, which may have points on both.
            placement = {**tags, **names, BACKEND: config.backend.name, ASKED: str(ended.when)}
            repeated = RepeatedPoint(key, placement[RUN_NAME], seeds, placement)
            self._names[key] = repeated.name
            parts = self._parts.setdefault(key, Parts(self._check))
            with parts.apart("run"):
                self._send_one(tracker, ended, repeated, runs, parts)

    def _groups(self, ended: SweepRecord, points: Sequence[PointSync]) -> dict[str, list[Seed]]:
        """Return the complete seeds of each point of which this sweep sends a seed, by what they share."""
        own = {point.attempt.signature: point for point in points if point.ours}
        signed: list[dict[str, Any]] = []
        found: list[Seed] = []
        for one in ended.points:
            folder = self._root / POINTS / one.signature
            with self._failures.apart(f"the share of {one.name} in the mean"):
                content = read_signed(folder)
                attempt = read_attempt(folder)
                if content is not None and attempt is not None:
                    signed.append(content)
                    found.append(Seed(one.name, one.signature, attempt, own.get(one.signature)))
        groups: dict[str, list[Seed]] = {}
        for key, seed in zip(keys_of_points(signed), found, strict=True):
            groups.setdefault(key, []).append(seed)
        sent = {key for key, seeds in groups.items() if any(seed.sync is not None for seed in seeds)}
        return {key: seeds for key, seeds in groups.items() if len(seeds) > 1 and key in sent}

    def _send_one(
        self, tracker: Tracker, ended: SweepRecord, repeated: RepeatedPoint, runs: Sequence[TrackedRun], parts: Parts
    ) -> None:
        """Bring the run of one point up to date."""
        clone = repeated.tags[CLONE]
        same = [run for run in runs if run.tags.get(KEY) == repeated.key and is_ours(tracker, run, clone)]
        whole = next((run for run in same if repeated.is_in(run)), None)
        points: Sequence[Point] = ()
        if whole is None:
            # Before the run is made: those that cannot be read are left out of it.
            repeated, points = self._read(repeated)
            if len(points) < 2:
                return
            whole = next((run for run in same if repeated.is_in(run)), None)
        if whole is None:
            run_id = self._write(tracker, ended, repeated, points, same, parts)
        else:
            run_id = whole.run_id
            # What an earlier try could not send, another command has.
            parts.forget()
            if any(whole.tags.get(key) != value for key, value in repeated.tags.items()):
                tracker.tag(run_id, repeated.tags)
        self._move(tracker, run_id, repeated, runs)
        with parts.apart("earlier runs"):
            for run in same:
                if run.run_id != run_id and repeated.replaces(run):
                    drop(tracker, run)

    def _read(self, repeated: RepeatedPoint) -> tuple[RepeatedPoint, list[Point]]:
        """Return the seeds of a point that can be read, each read as a point."""
        judged = self.judged()
        found: list[tuple[Seed, Point]] = []
        for seed in repeated.seeds:
            # A damaged point is reported by whoever sends it.
            with self._failures.apart(f"the share of {seed.name} in the mean"), suppress(DamagedError):
                point = judged.get(seed.signature)
                if point is None:
                    point = read_own_point(self._root / POINTS / seed.signature, seed.name, seed.signature)
                found.append((seed, point))
        return replace(repeated, seeds=[seed for seed, _ in found]), [point for _, point in found]

    def _write(
        self,
        tracker: Tracker,
        ended: SweepRecord,
        repeated: RepeatedPoint,
        points: Sequence[Point],
        same: Sequence[TrackedRun],
        parts: Parts,
    ) -> str:
        """Write a run for the seeds, one that a command has begun or a new one, and return its id."""
        begun = next((run for run in same if run.tags.get(ATTEMPTS) == repeated.attempts), None)
        known = frozenset({SEED})
        if split_anew(seeds_of(point.config) for point in points):
            known |= {SPLIT_SEED}
        tags = {**repeated.tags, **heartbeat(), OWNER: self._owner}
        if begun is not None:
            run_id = begun.run_id
            known |= begun.params
            tracker.reopen_run(run_id, tags)
        else:
            tags = {
                RESULT: NONE_YET,
                DIAGNOSIS: NONE_YET,
                "outcome": NONE_YET,
                "study": ended.study,
                BACKEND: repeated.tags[BACKEND],
                **tags,
                "lab.role": REPEATED,
                KEY: repeated.key,
                SEEDS: repeated.numbers,
                ATTEMPTS: repeated.attempts,
            }
            run_id = tracker.start_run(repeated.name, tags, ended.started)
        # What was written to another run is not in this one.
        if self._runs.get(repeated.key, run_id) != run_id:
            parts.forget()
        self._runs[repeated.key] = run_id
        self._fill(tracker, run_id, repeated, points, known, parts)
        return run_id

    def _fill(
        self,
        tracker: Tracker,
        run_id: str,
        repeated: RepeatedPoint,
        points: Sequence[Point],
        known: Collection[str],
        parts: Parts,
    ) -> None:
        """Write everything about the seeds to the run, except parameters that are known, and close it in any case."""
        # Taken from the points and not from the clock, so that writing the run twice gives the same run.
        times = [metric.timestamp for point in points for metric in point.history.metrics]
        ended = max(times, default=int(repeated.tags[ASKED]))

        def description() -> None:
            run = read_run(points[0].folder)
            overrides: Sequence[str] = ()
            command = ""
            if run is not None:
                overrides = run.overrides
                command = run.tags.get("command", "")
            note = repeats_note(repeated.tags[POINT_NAME], points, overrides)
            notes = {
                RESULT: result_of(points),
                DIAGNOSIS: diagnosis_of(points),
                "outcome": outcome_of_seeds(points),
                NOTE: with_own_folder(note, shlex.split(command)),
            }
            tracker.tag(run_id, notes)

        # The metrics come last: MLflow's comparison page opens with the metric that was logged first.
        parts.do("parameters", lambda: tracker.log_config(run_id, points[0].config, known))
        parts.do("curves", lambda: tracker.log_metrics(run_id, mean_curves(points)))
        parts.do("metrics", lambda: tracker.log_values(run_id, repeat_values(points), ended))
        parts.do("description", description)
        with parts.apart("status"):
            status: Status = "FAILED"
            # Half a record must not read as a whole one.
            if not parts.errors.keys() & CONTENT:
                status = "FINISHED"
                tracker.tag(run_id, {COMPLETE: repeated.attempts})
            tracker.end_run(run_id, status, ended)

    def _move(self, tracker: Tracker, run_id: str, repeated: RepeatedPoint, runs: Sequence[TrackedRun]) -> None:
        """Show the seeds that this sweep sends below the run of their point."""
        tags = {PARENT: run_id}
        if repeated.tags[NEWEST] == "true":
            tags[NEWEST] = SHOWN_AS_SEED
        known = {run.run_id: run.tags for run in runs}
        for seed in repeated.seeds:
            if seed.sync is None or seed.sync.run_id is None:
                continue
            now = known.get(seed.sync.run_id, {})
            with self._failures.apart(f"the place of {seed.name}"):
                if any(now.get(key) != value for key, value in tags.items()):
                    tracker.tag(seed.sync.run_id, tags)
