"""What a command printed when all of its points were done and in MLflow, to be printed again while nothing has changed.

Asked again, such a command would import MLflow, read every point, and find that nothing is left to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.config.schema import Config
from pipeline.points.destination import results_folder
from pipeline.points.job import Job
from pipeline.points.sweep_record import sweep_folder, sweep_key
from pipeline.sweep.jobs import JobMaker
from pipeline.sweep.plan import Plan, columns
from pipeline.system.files import short_hash, tree_state, write_file
from pipeline.system.processes import command
from pipeline.system.project import PROJECT
from pipeline.tracking.contents import contents

# Beside the folder of the sweep, which MLflow gets as it is.
SUFFIX = ".finished.json"


@dataclass(frozen=True)
class Finished:
    """The end of a command.

    Attributes:
        state: a hash of all that it depends on.
        text: what it printed.
        scores: the score of each point, by signature.
    """

    state: str
    text: str
    scores: dict[str, float]


CONTENT = TypeAdapter(Finished)


def scores_again(maker: JobMaker, requests: Sequence[tuple[Config, list[str]]]) -> list[float] | None:
    """Print again what a command with these points printed, and return their scores, if nothing has changed since.

    Args:
        maker: makes the jobs.
        requests: the config of each point, and the overrides typed for it.

    Returns:
        None if there is, or may be, something to do; then nothing is printed.

    Raises:
        LabError: the data of a point is missing; or Keras has no engine.
    """
    plan = Plan(maker, read=False)
    requested, new = plan.request(requests)
    found = _read(maker, new)
    if found is None:
        return None
    plan.keep()
    plan.announce(requested, new)
    print(found.text, flush=True)
    return [found.scores[job.signature] for job in requested]


def _read(maker: JobMaker, jobs: Sequence[Job]) -> Finished | None:
    if maker.first.force or any(job.state != "done" for job in jobs):
        return None
    file = _file(maker, jobs)
    with suppress(OSError, ValueError):
        found = CONTENT.validate_json(file.read_bytes(), strict=True)
        if found.state == _state(maker, jobs) and found.scores.keys() == {job.signature for job in jobs}:
            return found
    return None


def write_finished(
    maker: JobMaker, jobs: Sequence[Job], text: str, scores: Mapping[str, float], code: str | None
) -> None:
    """Keep what a command printed that has trained all of these points, and written them to MLflow.

    On a server, others may have changed them since, so nothing is kept then. A disk that is full costs only time.

    Args:
        maker: has made the jobs.
        jobs: all points of the command.
        text: what it printed.
        scores: the score of each point, by signature.
        code: what `code_files` returned when the command began. Nothing is kept if files have changed since: the text
            is then of other code than the next command runs.
    """
    with suppress(OSError):
        if code_files() != code:
            return
        state = _state(maker, jobs)
        if state is not None:
            content = json.dumps(asdict(Finished(state, text, dict(scores))))
            write_file(_file(maker, jobs), lambda file: file.write_text(content, encoding="utf-8"))


def code_files() -> str | None:
    """Return a hash of the program's files, by their sizes and modification times; None if they cannot be listed."""
    with suppress(OSError):
        return " ".join(tree_state(PROJECT / package) for package in ("pipeline", "hydra_plugins"))
    return None


def _folder(maker: JobMaker, jobs: Sequence[Job]) -> Path:
    first = maker.first
    members = [job.signature for job in jobs]
    return sweep_folder(maker.root, sweep_key(first.study, first.backend.name, first.tracking, members))


def _file(maker: JobMaker, jobs: Sequence[Job]) -> Path:
    folder = _folder(maker, jobs)
    return folder.with_name(f"{folder.name}{SUFFIX}")


def _state(maker: JobMaker, jobs: Sequence[Job]) -> str | None:
    """Return a hash of all that decides what a command does and prints; None if it cannot be told from the disk.

    Raises:
        OSError: a folder cannot be listed.
    """
    first = maker.first
    # An abandoned rerun of a point is still to be deleted.
    if first.tracking.uri is not None or any(job.folder.path.exists() for job in jobs):
        return None
    code = code_files()
    stored = contents(maker.root / "mlruns", first.study)
    if code is None or stored is None:
        return None
    results = ""
    if first.results is not None:
        results = tree_state(results_folder(first.results, maker.project))
    decides = {
        "code": code,
        # MLflow has absolute paths.
        "root": str(maker.root),
        "command": command(),
        "columns": columns(),
        "points": [[job.config.model_dump_json(), job.overrides, tree_state(job.folder.final)] for job in jobs],
        "sweep": tree_state(_folder(maker, jobs)),
        "results": results,
        "store": stored,
    }
    return short_hash(json.dumps(decides).encode())
