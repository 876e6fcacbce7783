"""Measure all benchmarks, or some: `make bench`, `python -m benchmarks [--only NAME ...] [--rounds 5] [--list]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    commands,
    gpu,
    growth,
    machine,
    mnist,
    peak_memory,
    small_networks,
    threads,
    toy_point,
    tracked_grids,
)
from benchmarks.measuring import measure
from benchmarks.report import HEAD, goal, growth_lines, render, row
from pipeline.system.cli import positive
from pipeline.system.errors import LabError
from pipeline.system.files import explained, write_file
from pipeline.system.project import PROJECT, code_state

REPORT = PROJECT / "reports" / "benchmarks.md"
# TensorFlow, once it is loaded, makes small NumPy calls take a tenth longer: small networks come before it.
ALL = [
    *small_networks.BENCHMARKS,
    *threads.BENCHMARKS,
    *mnist.BENCHMARKS,
    *gpu.BENCHMARKS,
    *commands.BENCHMARKS,
    *toy_point.BENCHMARKS,
    *tracked_grids.BENCHMARKS,
    *peak_memory.BENCHMARKS,
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table as it grows, and write the report if nothing was left out.

    Returns:
        0 done, 1 a command failed, 130 interrupted; a goal that is missed is no failure.
    """
    names = [*(benchmark.name for benchmark in ALL), growth.NAME]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Each figure beside its goal.")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these, and write no report")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each is measured (5)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, and stop")
    options = parser.parse_args(arguments)
    if options.list:
        for benchmark in ALL:
            print(f"{benchmark.name:<20} {goal(benchmark.goal):<8} {benchmark.what} / {benchmark.against}")
        print(f"{growth.NAME:<20} {'':<8} seconds and memory against {', '.join(s.what for s in growth.SERIES)}")
        return 0
    try:
        run(options.only or names, options.rounds, None if options.only else REPORT)
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: no report is written", file=sys.stderr)
        return 130
    return 0


def run(names: Sequence[str], rounds: int, report: Path | None) -> None:
    """Measure the benchmarks of these names.

    Args:
        names: in any order.
        rounds: how often each is measured, but for those that take long.
        report: file to write; None: only print.

    Raises:
        LabError: a command failed, or the report cannot be written.
    """
    started, busy = time.time(), os.getloadavg()[0]
    results, growths = [], []
    chosen = [benchmark for benchmark in ALL if benchmark.name in names]
    if chosen:
        print(HEAD, flush=True)
    for benchmark in chosen:
        results.append(measure(benchmark, rounds))
        print(row(results[-1]), flush=True)
    for series in growth.SERIES if growth.NAME in names else ():
        growths.append(growth.grow(series, rounds))
        print("\n".join(["", *growth_lines(growths[-1])]), flush=True)
    if report is None:
        return
    text = render(results, growths, machine.described(), machine.versions(), _when(started, busy))
    with explained(report):
        write_file(report, lambda file: file.write_text(text, encoding="utf-8"))
    print(f"\nwritten: {report}")


def _when(started: float, busy: float) -> dict[str, str]:
    """When the run began, how busy the machine was then, how long it took, and of what code it was."""
    code = code_state(PROJECT)
    changed = " with changes" if code.get("git.dirty") == "true" else ""
    return {
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(started)),
        "load when it began": f"{busy:.2f} (average of a minute; 0 is idle)",
        "took": f"{(time.time() - started) / 60:.0f} minutes",
        "commit": code.get("mlflow.source.git.commit", "none")[:12] + changed,
    }


if __name__ == "__main__":
    sys.exit(main())
