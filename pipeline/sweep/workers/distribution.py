"""A sweep's points on workers: cut into units, handed to an engine, and looked at when they are back.

The engine is a launcher of Hydra's: joblib, Ray or SLURM distributes the units, and a worker trains each of them
(worker.py). What a worker leaves is in the points' folders, on a disk that all share, or comes home through MLflow.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any, Protocol

from omegaconf import DictConfig

from pipeline.config import Tracking
from pipeline.points.folder import read_run
from pipeline.points.job import Job
from pipeline.points.sweep_record import SweepRecord
from pipeline.sweep.grouping import units
from pipeline.sweep.training import POLL_SECONDS, PassTraining
from pipeline.sweep.workers.worker import place_of, train_unit
from pipeline.system.errors import EngineError, LabError
from pipeline.system.files import written
from pipeline.system.terminal import TrainingProgress

ATTEMPTS = 3
"""How often units are handed out, where an engine loses some of them."""
NETWORK_SECONDS = 60.0
"""How long a folder is waited for that a worker has written: a network disk shows it to others a while later."""


Replaced = Mapping[str, list[str | None]]
"""By signature, of points that are trained again: which attempts at them were there before, complete and begun."""


class Engine(Protocol):
    """What runs units: see hydra_plugins/cluster_launcher.py.

    Attributes:
        name: joblib, ray or slurm.
        workers: how many units it runs at the same time.
        shared_disk: whether the workers see this project's folder.
    """

    name: str
    workers: int
    shared_disk: bool

    def run(self, task: Callable[[DictConfig], Any], parcels: Sequence[str]) -> list[Any]:
        """Call a task on workers, each time with another parcel as the key `unit` of its config; returns the returns.

        Raises:
            EngineError: some of the calls did not come back.
        """


def distribute(engine: Engine, sweep: SweepRecord, jobs: Sequence[Job], training: PassTraining) -> None:
    """Let workers train points; what becomes of each is kept in its job.

    Args:
        engine: see there.
        sweep: what the command is.
        jobs: not done yet.
        training: that of this process, which has the data.
    """
    if engine.shared_disk:
        _until_back(engine, sweep, jobs, training)
        return
    if sweep.tracking["name"] != "server":
        raise LabError(
            "Points cannot come home.",
            expected="tracking=server, through which nodes without a shared disk send what they have trained",
            received=f"hydra.launcher.shared_disk=false with tracking={sweep.tracking['name']}",
            fix="add tracking=server tracking.uri=ADDRESS, or hydra.launcher.shared_disk=true",
        )
    with _claimed(jobs):
        away = [job for job in jobs if job.state != "done"]
        # what a command left that was killed
        for error in _bring_home(sweep, [job for job in away if not job.config.force], training, {}).values():
            print(error, file=sys.stderr, flush=True)
        for job in away:
            _settle(job, {}, {job.signature: _attempts(job)} if job.config.force else {})
        try:
            _until_back(engine, sweep, [job for job in away if job.state != "complete"], training)
        finally:
            _close_runs(sweep, [job for job in away if job.state != "complete"], training)


def _until_back(engine: Engine, sweep: SweepRecord, jobs: Sequence[Job], training: PassTraining) -> None:
    """Hand out units, and again what an engine lost of them."""
    left = list(jobs)
    replaced = {job.signature: _attempts(job) for job in jobs if job.config.force}
    for attempt in range(ATTEMPTS):
        if not left:
            return
        problem = _hand_out(engine, sweep, left, training, replaced)
        left = [job for job in left if job.state not in ("complete", "failed")]
        if left and attempt + 1 < ATTEMPTS:
            why = problem or "Their workers were stopped."
            print(f"{len(left)} points are handed out again. {why}", file=sys.stderr, flush=True)
    for job in left:
        job.fail(problem or _lost(job, engine))


def _hand_out(
    engine: Engine,
    sweep: SweepRecord,
    jobs: Sequence[Job],
    training: PassTraining,
    replaced: Replaced,
) -> EngineError | None:
    """Cut points into units and run these once.

    Args:
        engine, sweep, jobs, training: see `distribute`.
        replaced: of points that are trained again.

    Returns:
        What the engine had to say, if it lost some.
    """
    numbers = {point["signature"]: number for number, point in enumerate(sweep.points, 1)}
    grouped = units([(job.config, training.load(job.config)) for job in jobs], engine.workers)
    common = {
        "sweep": asdict(replace(sweep, points=[])),
        "total": len(sweep.points),
        "project": str(training.project) if engine.shared_disk else None,
        "home": place_of(training.root),
        "tags": dict(training.tags),
    }
    parcels = []
    for places in grouped:
        points = [
            {
                "number": numbers[job.signature],
                "config": job.config.model_dump(mode="json"),
                "overrides": job.overrides,
                "signature": job.signature,
                "replaced": replaced.get(job.signature, []),
            }
            for job in (jobs[place] for place in places)
        ]
        parcels.append(base64.b64encode(zlib.compress(json.dumps({**common, "points": points}).encode())).decode())
    which = f"{len(parcels)} unit{'s' if len(parcels) > 1 else ''} for {engine.workers} workers"
    print(f"{sweep.name}: {len(jobs)} points in {which}, by {engine.name}", file=sys.stderr, flush=True)
    reports: dict[str, dict[str, Any]] = {}
    problem = None
    try:
        with _counting(f"{sweep.name}, {engine.name}", jobs):
            for told in engine.run(train_unit, parcels):
                reports |= {point["signature"]: point for point in told}
    except EngineError as error:
        problem = error
    finally:
        if not engine.shared_disk:
            states = {sign: report["state"] for sign, report in reports.items()}
            trained = [job for job in jobs if problem or states.get(job.signature) in ("done", "complete")]
            for signature, reason in _bring_home(sweep, trained, training, replaced).items():
                reports.setdefault(signature, {})["error"] = str(reason)
        give_up = time.monotonic() + NETWORK_SECONDS
        for job in jobs:
            report = reports.get(job.signature, {})
            told = engine.shared_disk and report.get("state") in ("done", "complete")
            while told and not job.folder.final.exists() and time.monotonic() < give_up:
                list(job.folder.final.parent.iterdir())  # NFS looks anew
                time.sleep(POLL_SECONDS)
            _settle(job, report, replaced)
    return problem


def _attempts(job: Job) -> list[str | None]:
    """Which attempts at a point are there: the complete one, and the one that was begun."""
    return [read_run(folder).get("attempt") for folder in (job.folder.final, job.folder.path)]


def _settle(job: Job, report: dict[str, Any], replaced: Replaced) -> None:
    """See what has become of a point."""
    told = report.get("state")
    job.look()
    new = _attempts(job)[0] not in replaced.get(job.signature, [])
    if job.state == "done" and not new:  # that it was trained before is not what was asked for
        job.state, job.point = "to run", None
    if report.get("error") is None and job.state == "done":
        job.run, job.state = read_run(job.folder.final), "complete"
        return
    job.run = read_run(job.folder.path)  # so that MLflow hears how it ended, if it has begun
    if report.get("error") is not None:
        job.error, job.state = LabError(report["error"]), "failed"
    elif told == "killed" or job.run:
        job.state = "training"  # which the end of the command makes killed, or failed


def _lost(job: Job, engine: Engine) -> LabError:
    return LabError(
        f"{job.name} was not brought back.",
        expected=f"its folder {job.folder.final}, which a worker of {engine.name} writes",
        received="none" + (", though the worker is done" if engine.shared_disk else ""),
        fix="run the same command again; where nodes have disks of their own, hydra.launcher.shared_disk=false",
    )


@contextmanager
def _claimed(jobs: Sequence[Job]) -> Iterator[None]:
    """Claim points for this home while others train them; those that another command finishes meanwhile are done."""
    held: list[Job] = []
    told = False
    try:
        for job in sorted(jobs, key=lambda job: job.signature):  # two commands that claim in one order both get on
            while not job.folder.claim():
                if not told:
                    told = True
                    print(f"waiting for points that another command trains: {job.name} ...", file=sys.stderr)
                time.sleep(POLL_SECONDS)
            held.append(job)
            if not job.config.force:
                job.adopt()
                job.run = read_run(job.folder.final) if job.state == "done" else job.run
        yield
    finally:
        for job in held:
            job.folder.release()


def _bring_home(
    sweep: SweepRecord, jobs: Sequence[Job], training: PassTraining, replaced: Replaced
) -> dict[str, LabError]:
    """Fetch points that MLflow has; returns by signature why some could not be fetched."""
    from pipeline.tracking.tracker import Tracker
    from pipeline.tracking.transfer import fetch_point

    errors: dict[str, LabError] = {}
    if jobs:
        try:
            tracker = Tracker(Tracking(**sweep.tracking), sweep.study, training.root)
        except LabError as error:
            return {job.signature: error for job in jobs}
        for job in jobs:
            try:
                fetch_point(tracker, job, but=replaced.get(job.signature, [None])[0])
            except LabError as error:
                errors[job.signature] = error
    return errors


def _close_runs(sweep: SweepRecord, jobs: Sequence[Job], training: PassTraining) -> None:
    """Let runs read KILLED whose workers are lost: nothing here tells of them. What MLflow does not take stays."""
    from pipeline.tracking.tracker import Tracker

    with suppress(LabError):
        tracker = Tracker(Tracking(**sweep.tracking), sweep.study, training.root) if jobs else None
        for run in [run for job in jobs if tracker for run in tracker.runs(job.signature) if run.status == "RUNNING"]:
            if tracker is not None:
                tracker.end_run(run.run_id, "KILLED")


@contextmanager
def _counting(label: str, jobs: Sequence[Job]) -> Iterator[None]:
    """Show how many points are in their place here, while workers train."""
    progress = TrainingProgress(label, len(jobs), unit="point")
    files = [job.folder.final / "run.json" for job in jobs]
    before = [written(file) for file in files]
    over = threading.Event()

    def count() -> None:
        while not over.wait(1.0):
            progress(sum(written(file) != time for file, time in zip(files, before, strict=True)))

    watcher = threading.Thread(target=count, name="points", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        progress.close()
