"""Many writers to one tracking server: how much it takes, how long a call waits, whether anything is lost.

    python -m benchmarks.tracking_load [--writers 32] [--runs 2000] [--values 1000] [--uri URI] [--sweep] [--json FILE]

Without --uri it starts PostgreSQL and `python -m pipeline.server` on this machine, with PostgreSQL's own settings. A
server elsewhere is written to with the user and password of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, into
an experiment of its own. --sweep finds where more writers bring no more: 1 to 32 of them at 1, 2 and 4 workers.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import psutil

from benchmarks import machine
from benchmarks.load_check import check_list, check_runs
from benchmarks.load_writer import CREATE, KINDS, Load, Report, Written, credentials, prepare, write
from benchmarks.untracked import composed
from pipeline.system.cli import positive
from pipeline.system.errors import LabError
from pipeline.system.files import explained, write_file
from pipeline.system.processes import cores
from pipeline.tracking.server.checks import check_packages, without_password
from pipeline.tracking.tracker import Tracker
from tests.support.postgres import NEEDED, programs
from tests.support.team_server import TeamServer, team_server

WRITERS, WORKERS = (1, 2, 4, 8, 16, 32), (1, 2, 4)
SWEEP_RUNS = 160
SOME = 5
"""So many losses and reasons are named."""
Figures = dict[str, Any]


@contextmanager
def own_server(workers: int) -> Iterator[TeamServer]:
    """PostgreSQL and a tracking server on this machine, which the writers are let in at.

    Raises:
        LabError: there is no PostgreSQL, or the packages of a server are not installed.
    """
    if programs() is None:
        raise LabError("There is no server to write to.", expected=NEEDED, fix="install it, or name one: --uri URI")
    check_packages("a folder")
    with team_server(workers, settings=()) as server:
        os.environ.update(server.credentials)
        yield server


def prepare_load(uri: str, values: int) -> Load:
    """Make the experiment and the parent run; the config is that of a point of line_y2x.

    Raises:
        LabError: the server does not answer, or does not let us in.
    """
    study = f"load_{time.time_ns()}"
    config = composed("experiment=line_y2x", "tracking=server", f"tracking.uri={uri}", f"study={study}")
    parent = Tracker(config.tracking, study, Path()).start_run("load", {"lab.role": "sweep"})
    return Load(config, parent, values)


def write_all(load: Load, writers: int, runs: int) -> list[Report]:
    """Let writers, each a process, write at once.

    Raises:
        LabError: a writer could not begin.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.load_writer"])
    gate = context.Barrier(writers)
    with ProcessPoolExecutor(writers, context, prepare, (credentials(), gate)) as pool:
        asked = [pool.submit(write, load, range(first, runs, writers)) for first in range(writers)]
        try:
            return [one.result() for one in asked]
        except (BrokenBarrierError, BrokenProcessPool) as error:
            raise LabError(
                f"Not all of {writers} writers could begin.",
                received=type(error).__name__,
                fix="use fewer, or a machine with more memory",
            ) from None


def check_all(load: Load, reports: Sequence[Report]) -> Figures:
    """Read everything back, with a process for each core, and say what is lost or there twice."""
    written: list[Written] = [one for report in reports for one in report.written]
    parts = [written[first::64] for first in range(64)]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(max(2, cores()), context, prepare, (credentials(),)) as pool:
        found = list(pool.map(check_runs, [load] * len(parts), parts))
    found.append(check_list(load, written, sum(report.errors[CREATE] for report in reports)))
    lost, double = ([text for one in found for text in getattr(one, name)] for name in ("lost", "double"))
    return {
        "runs_read": len(written),
        "values_read": sum(one.values for one in found),
        "lost": len(lost),
        "double": len(double),
        "examples": [*lost[:SOME], *double[:SOME]],
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of all is not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def summed_up(load: Load, reports: Sequence[Report]) -> Figures:
    """Throughput of complete runs, and how long each kind of call took, in milliseconds."""
    seconds = max(report.ended for report in reports) - min(report.began for report in reports)
    complete = sum(one.done[-1:] == [KINDS[-1]] for report in reports for one in report.written)
    errors, reasons = Counter[str](), Counter[str]()
    for report in reports:
        errors.update(report.errors)
        reasons.update(report.reasons)
    calls: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        took = [1000 * second for report in reports for second in report.seconds.get(kind, [])]
        if took:
            shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
            calls[kind] = {"calls": len(took), "errors": errors[kind]}
            calls[kind] |= {name: round(percentile(took, share), 1) for name, share in shares.items()}
    return {
        "writers": len(reports),
        "runs": complete,
        "seconds": round(seconds, 2),
        "runs_per_second": round(complete / seconds, 2),
        "values_per_second": round(complete * load.values / seconds),
        "errors": errors.total(),
        "reasons": dict(reasons.most_common(SOME)),
        "processor_seconds": {"writers": round(sum(report.processor for report in reports), 2)},
        "calls": calls,
    }


def measure(uri: str, writers: int, runs: int, values: int, server: TeamServer | None) -> Figures:
    """Write, read back, and say what it came to.

    Args:
        uri: of the server.
        writers: how many processes write at the same time.
        runs: how many runs they write together.
        values: how many values each run has.
        server: where it is ours; its processor time and its database are looked at too.

    Raises:
        LabError: the server does not answer, or a writer could not begin.
    """
    load = prepare_load(uri, values)
    before = None if server is None else (_processor_seconds(server), _database_bytes(server))
    reports = write_all(load, writers, runs)
    figures = summed_up(load, reports)
    if server is not None and before is not None:
        figures["processor_seconds"]["server"] = round(_processor_seconds(server) - before[0], 2)
        created = sum(len(report.written) for report in reports)
        figures["database_bytes_per_run"] = round((_database_bytes(server) - before[1]) / max(1, created))
    return figures | {"read_back": check_all(load, reports)}


def _processor_seconds(server: TeamServer) -> float:
    """What the server's own processes have computed, without PostgreSQL's."""
    processes = psutil.Process(server.process.pid).children(recursive=True)
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def _database_bytes(server: TeamServer) -> int:
    import sqlalchemy

    address, password = without_password(server.database)
    engine = sqlalchemy.create_engine(address, connect_args={"password": password})
    try:
        with engine.connect() as connection:
            return int(connection.execute(sqlalchemy.text("SELECT pg_database_size(current_database())")).scalar_one())
    finally:
        engine.dispose()


def described(figures: Figures) -> str:
    """The figures of one load as a table."""
    lines = [
        f"{figures['runs']} runs by {figures['writers']} writers in {figures['seconds']} s: "
        f"{figures['runs_per_second']} runs/s, {figures['values_per_second']} values/s, {figures['errors']} errors",
        "",
        "| call | calls | errors | p50 ms | p95 ms | p99 ms | max ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, told in figures["calls"].items():
        lines.append(f"| {kind} | {' | '.join(str(told[name]) for name in told)} |")
    read = figures["read_back"]
    computed = ", ".join(f"{name} {seconds} s" for name, seconds in figures["processor_seconds"].items())
    lines += ["", f"computed: {computed}"]
    if "database_bytes_per_run" in figures:
        lines.append(f"PostgreSQL: {figures['database_bytes_per_run']} bytes for each run")
    amount = f"{read['runs_read']} runs, {read['values_read']} values"
    lines.append(f"read back: {amount}; {read['lost']} lost, {read['double']} double")
    lines += [f"  {text}" for text in (*read["examples"], *figures["reasons"])]
    return "\n".join(lines)


def sweep(runs: int, values: int) -> list[Figures]:
    """Load servers of 1, 2 and 4 workers with 1 to 32 writers, a line for each.

    Raises:
        LabError: a server cannot be started.
    """
    print("| workers | writers | runs/s | values/s | values p50 ms | p95 ms | errors | lost | double |", flush=True)
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    told = []
    for workers in WORKERS:
        with own_server(workers) as server:
            for writers in WRITERS:
                figures = measure(server.uri, writers, max(runs, writers), values, server) | {"workers": workers}
                told.append(figures)
                call, read = figures["calls"]["values"], figures["read_back"]
                row = [workers, writers, figures["runs_per_second"], figures["values_per_second"], call["p50"]]
                row += [call["p95"], figures["errors"], read["lost"], read["double"]]
                print(f"| {' | '.join(map(str, row))} |", flush=True)
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """What the command line calls.

    Returns:
        0 nothing was lost and nothing failed; 1 something was, or it could not be measured.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking_load", description="Load a tracking server.")
    parser.add_argument("--writers", type=positive, default=32, help="how many write at once (32)")
    parser.add_argument("--runs", type=positive, help=f"how many runs they write (2000; {SWEEP_RUNS} in a sweep)")
    parser.add_argument("--values", "--points", type=positive, default=1000, help="metric values of a run (1000)")
    parser.add_argument("--workers", type=positive, default=cores(), help="of our own server (the cores)")
    parser.add_argument("--uri", help="a server that runs already")
    parser.add_argument("--sweep", action="store_true", help="1 to 32 writers at 1, 2 and 4 workers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(arguments)
    if given.sweep and given.uri:
        parser.error("--sweep starts servers of its own, and takes no --uri")
    try:
        if given.sweep:
            told = sweep(given.runs or SWEEP_RUNS, given.values)
        elif given.uri:
            told = [measure(given.uri, given.writers, given.runs or 2000, given.values, None)]
        else:
            with own_server(given.workers) as server:
                figures = measure(server.uri, given.writers, given.runs or 2000, given.values, server)
            told = [figures | {"workers": given.workers}]
        if not given.sweep:
            print(described(told[0]), flush=True)
        if given.json is not None:
            text = json.dumps({"machine": machine.described(), "versions": machine.versions(), "loads": told}, indent=2)
            with explained(given.json):
                write_file(given.json, lambda file: file.write_text(text + "\n", encoding="utf-8"))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    failed = sum(one["errors"] + one["read_back"]["lost"] + one["read_back"]["double"] for one in told)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
