"""What each launcher takes: the seconds of a study, by workers, and what a point costs beside its training.

    python -m benchmarks.launchers [--rounds 3] [--only joblib ray] [--backend keras] [--json FILE]

Each command is a process of its own in a project where nothing was trained; MLflow is the local store. What a launcher
adds is told by a study that trains next to nothing: with one point, the start; with 24, what each further one takes.
SLURM is started for it on this machine, Ray by the command itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.commands import TRAIN, in_fresh_project, needs_mnist
from benchmarks.measuring import NotMeasured
from pipeline.system.errors import LabError
from pipeline.system.files import explained, write_file
from tests.support.slurm import one_node

STUDY = ("experiment=mnist_grid",)
SMALL = ("-m", "experiment=line_y2x", "training.epochs=1", "gradient=backpropagation")
POINTS = 24
LAUNCHERS = (("stacked", 1), ("joblib", 1), ("joblib", 2), ("ray", 1), ("ray", 2), ("slurm", 1), ("slurm", 2))


def measure(launcher: str, workers: int, backend: str, rounds: int) -> dict[str, Any]:
    """Medians of whole commands, in seconds, and what follows from them."""
    chosen = [f"hydra/launcher={launcher}", f"backend={backend}"]
    chosen += [] if launcher == "stacked" else [f"hydra.launcher.workers={workers}"]
    small = [*TRAIN, *SMALL, "optimizer.learning_rate=0.01", *chosen]
    one, many, study = ([] for _ in range(3))
    for _ in range(rounds):
        one.append(in_fresh_project([*small, "seed=1"]))
        many.append(in_fresh_project([*small, f"seed=range(1,{POINTS + 1})"]))
        study.append(in_fresh_project([*TRAIN, *STUDY, *chosen]))
    seconds = {"start": statistics.median(one), "many": statistics.median(many), "study": statistics.median(study)}
    return {
        "launcher": launcher,
        "workers": workers,
        "study_seconds": round(seconds["study"], 1),
        "one_point_seconds": round(seconds["start"], 1),
        "further_point_milliseconds": round(1000 * (seconds["many"] - seconds["start"]) / (POINTS - 1)),
    }


@contextmanager
def engine(launcher: str) -> Iterator[None]:
    """What a launcher needs to run."""
    with one_node() if launcher == "slurm" else nullcontext() as slurm:
        before = dict(os.environ)
        os.environ.update(slurm.environment if slurm is not None else {})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def main(arguments: Sequence[str] | None = None) -> int:
    """What the command line calls; 1 where something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.launchers", description="Measure launchers.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted({name for name, _ in LAUNCHERS}))
    parser.add_argument("--backend", choices=["numpy", "keras"], default="numpy")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    told: list[dict[str, Any]] = []
    print("| launcher | workers | mnist_grid, s | one point, s | each further point, ms |", flush=True)
    print("| --- | --- | --- | --- | --- |", flush=True)
    try:
        needs_mnist()
        for launcher, workers in LAUNCHERS:
            if given.only is None or launcher in given.only:
                with engine(launcher):
                    told.append(measure(launcher, workers, given.backend, given.rounds))
                print(f"| {' | '.join(str(value) for value in told[-1].values())} |", flush=True)
        if given.json is not None:
            text = json.dumps(
                {"machine": machine.described(), "versions": machine.versions(), "launchers": told}, indent=2
            )
            with explained(given.json):
                write_file(given.json, lambda file: file.write_text(text + "\n", encoding="utf-8"))
    except (LabError, NotMeasured) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
