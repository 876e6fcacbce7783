"""One command's points: trained in passes, written to their folders, mirrored to MLflow."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.data import Arrays, load
from pipeline.errors import LabError
from pipeline.files import explained, written_whole
from pipeline.history import History
from pipeline.mirror import Mirror
from pipeline.plots import point_figures, sweep_figures
from pipeline.points import Outcome, Point, PointFolder, folder_name, point_name, signature
from pipeline.progress import TrainingProgress, aligned
from pipeline.provenance import command, git_state, store_root
from pipeline.stacking import passes
from pipeline.tracking import Status, Tracker


@dataclass(frozen=True)
class Job:
    """A point to train."""

    config: Config
    overrides: list[str]
    name: str
    signature: str
    arrays: Arrays


@dataclass
class Run:
    """A job that is being trained: its folder, its MLflow run, its history."""

    job: Job
    folder: PointFolder
    run_id: str
    history: History


class Sweep:
    """Trains the points of one command and keeps the books.

    Args:
        project: folder that holds data/ and results/.
        first: config of the first point: study, backend, tracking and results are its.
        total: how many points the command has, where that is known; one alone gets no parent run.

    Raises:
        LabError: the data is not there, or MLflow's store cannot be opened.
    """

    def __init__(self, project: Path, first: Config, total: int | None) -> None:
        self.project, self.first, self.total = project, first, total
        self.tags = git_state(project) | {"command": command(), "study": first.study, "backend": first.backend.name}
        self._arrays: dict[str, Arrays] = {}
        self._load(first)  # data that is not there is told before a run is opened
        self.tracker = Tracker(first.tracking, first.study, store_root(project))
        self.parent = None
        if total != 1:
            name = f"{first.study} {first.backend.name}"
            self.parent = self.tracker.start_run(name, None, self.tags | {"lab.role": "sweep"})
        self.jobs: dict[str, Job] = {}
        self.points: dict[str, Point] = {}
        self.errors: dict[str, LabError] = {}
        self.interrupted = False

    def train_all(self, requests: Sequence[tuple[Config, list[str]]]) -> list[Outcome | None]:
        """Train points; those of one shape in one pass. Points with the same signature train once.

        Returns:
            Outcomes in the order asked for; None for a point that failed, which `finish` tells.
        """
        asked = [self._job(config, overrides) for config, overrides in requests]
        fresh = [job for job in asked if self.jobs.setdefault(job.signature, job) is job]
        try:
            for members in passes([(job.config, job.arrays) for job in fresh]):
                self._train_pass([fresh[place] for place in members])
        except KeyboardInterrupt:
            self.interrupted = True
            raise
        points = [self.points.get(job.signature) for job in asked]
        return [None if point is None else point.outcome for point in points]

    def finish(self) -> None:
        """Complete the parent run, gather the results, print the table.

        Raises:
            LabError: naming every point that failed.
        """
        points = [self.points[key] for key in self.jobs if key in self.points]
        problems = [f"{self.jobs[key].name} failed. {error}" for key, error in self.errors.items()]
        complete = len(points) == len(self.jobs) > 0
        status: Status = "FINISHED" if complete else "KILLED" if self.interrupted else "FAILED"
        try:
            if complete and self.first.results is not None:
                self._gather(self.project / self.first.results)
        except LabError as error:
            status = "FAILED"
            problems.append(str(error))
        try:
            if self.parent is not None:
                self._close_parent(self.parent, points, status)
        except LabError as error:
            problems.append(str(error))
        if self.interrupted:
            print(f"{self.first.study}: runs that were under way are marked KILLED", file=sys.stderr)
        if points:
            print(_table(points), flush=True)
        if problems:
            raise LabError("\n".join(dict.fromkeys(problems)))

    def _close_parent(self, run_id: str, points: Sequence[Point], status: Status) -> None:
        try:
            if points and not self.interrupted:
                self.tracker.log_figures(run_id, sweep_figures(points))
                self.tracker.log_values(run_id, {"points": len(points)} | _extremes(points))
        finally:
            self.tracker.end_run(run_id, status)

    def _load(self, config: Config) -> Arrays:
        key = config.data.model_dump_json() + config.dtype
        if key not in self._arrays:
            self._arrays = {key: load(config.data, config.dtype, self.project)}
        return self._arrays[key]

    def _job(self, config: Config, overrides: list[str]) -> Job:
        arrays = self._load(config)
        name = point_name(config, overrides)
        if config.backend.name != self.first.backend.name:
            name += f" backend={config.backend.name}"
        return Job(config, overrides, name, signature(config, arrays.checksums), arrays)

    def _train_pass(self, jobs: Sequence[Job]) -> None:
        runs: list[Run] = []
        try:
            for job in jobs:
                runs.append(self._open(job))
            progress = TrainingProgress(self._label(jobs), jobs[0].config.training.epochs)
            try:
                with Mirror(self.tracker, [(run.history, run.folder, run.run_id) for run in runs]) as mirror:
                    _train(runs, progress)
            finally:
                progress.close()
            outcomes = [self._complete(run) for run in runs]
            mirror.raise_error()
            for run, outcome in zip(runs, outcomes, strict=True):
                self._log(run, outcome)
        except LabError as error:
            self.errors |= {job.signature: error for job in jobs if job.signature not in self.points}
        finally:
            status: Status = "KILLED" if isinstance(sys.exception(), KeyboardInterrupt) else "FAILED"
            for run in runs:
                if run.job.signature not in self.points:
                    run.folder.discard()
                    with suppress(LabError):  # a server that has gone cannot be told, and was told of already
                        self.tracker.end_run(run.run_id, status)

    def _label(self, jobs: Sequence[Job]) -> str:
        first = len(self.points) + len(self.errors) + 1
        study = f"{self.first.study} {self.first.backend.name}"
        if self.total == 1:
            return f"{study}: {jobs[0].name}"
        total = f" of {self.total}" if self.total else ""
        if len(jobs) == 1:
            return f"{study}: point {first}{total} ({jobs[0].name})"
        return f"{study}: points {first}-{first + len(jobs) - 1}{total}"

    def _open(self, job: Job) -> Run:
        """Start the point's folder and its run."""
        folder = PointFolder(store_root(self.project), job.signature)
        folder.write_json("config.json", job.config.model_dump(mode="json"))
        tags = self.tags | {"backend": job.config.backend.name, "signature": job.signature}
        tags |= {"overrides": " ".join(job.overrides)}
        tags |= {f"data.{name}": checksum for name, checksum in job.arrays.checksums.items()}
        folder.write_json("run.json", tags)
        run_id = self.tracker.start_run(job.name, self.parent, tags | {"lab.role": "point"})
        self.tracker.log_config(run_id, job.config)
        return Run(job, folder, run_id, History())

    def _complete(self, run: Run) -> Outcome:
        """Write the rest of the point's folder and put it in its place."""
        outcome = run.folder.write_history(run.history)
        with explained(run.folder.path):
            for name, figure in point_figures(run.job.config, run.history):
                figure.savefig(run.folder.path / "plots" / f"{name}.png")
        run.folder.complete()
        return outcome

    def _log(self, run: Run, outcome: Outcome) -> None:
        """Write the rest of the point's MLflow run from its folder."""
        self.tracker.log_outcome(run.run_id, outcome)
        self.tracker.log_folder(run.run_id, run.folder.final)
        self.tracker.end_run(run.run_id, "FINISHED")
        self.points[run.job.signature] = Point(run.job.name, run.folder.final, run.job.config, run.history, outcome)

    def _gather(self, destination: Path) -> None:
        """Copy all points to a results folder, written beside and renamed into place."""
        if destination.exists() and any(destination.iterdir()) and not (destination / "sweep.json").exists():
            raise LabError(
                f"{destination} is not a results folder.",
                expected="a folder that an earlier sweep wrote, or one that does not exist",
                received="a folder with other things in it",
                fix="name another folder: results=results/STUDY/BACKEND",
            )
        rows = []
        with explained(destination), written_whole(destination) as new:
            for key, job in self.jobs.items():
                shutil.copytree(self.points[key].folder, new / folder_name(job.name))
                rows.append({"name": job.name, "folder": folder_name(job.name), "signature": key})
            description = {key: self.tags[key] for key in ("study", "backend", "command")} | {"points": rows}
            (new / "sweep.json").write_text(json.dumps(description, indent=2) + "\n")


def _train(runs: Sequence[Run], progress: TrainingProgress) -> None:
    configs, histories = [run.job.config for run in runs], [run.history for run in runs]
    if configs[0].backend.name == "keras":
        from pipeline.backends.keras.training import train
    else:
        from pipeline.backends.numpy.training import train
    train(configs, runs[0].job.arrays, histories, progress)


def _extremes(points: Sequence[Point]) -> dict[str, float]:
    """The best final value of every loss, error and accuracy among the points that did not diverge."""
    finals = [point.outcome.final for point in points if point.outcome.outcome == "finished"]
    extremes = {}
    for name in {name for final in finals for name in final}:
        values = [final[name] for final in finals if name in final]
        if name.endswith(("/loss", "/mean_absolute_error")):
            extremes[f"best/{name}"] = min(values)
        elif name.endswith("/accuracy"):
            extremes[f"best/{name}"] = max(values)
    return extremes


def _table(points: Sequence[Point]) -> str:
    """The points with their outcome, final metrics and seconds, for a terminal."""
    shown = [
        m for m in ("train/loss", "train/accuracy", "test/loss", "test/accuracy") if m in points[0].history.names()
    ]
    rows = [["point", "outcome", *shown, "seconds"]]
    for point in points:
        ended = point.outcome
        how = "finished" if ended.outcome == "finished" else f"diverged at update {ended.diverged_step}"
        finals = [f"{ended.final[name]:.5g}" if name in ended.final else "" for name in shown]
        rows.append([point.name, how, *finals, f"{ended.seconds:.1f}"])
    return aligned(rows)
