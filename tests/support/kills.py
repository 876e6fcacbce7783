"""A real pipeline that is killed repeatedly must give the same results as an undisturbed one.

    python -m tests.support.kills [--kills 25] [--seed 1]

In a project of its own (a small image data set behind a slow web server, one study on both backends, `dvc repro`) the
whole process group is killed with SIGKILL at random moments of a chosen phase: while data is fetched or prepared, while
NumPy or Keras trains, while plots are drawn, while MLflow is written. The same command is run again each time. The
final results are compared with an undisturbed project's: weights, histories, tables, outcomes, MLflow's runs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from mlflow import MlflowClient

from pipeline.config.data import IDX_ROLES
from pipeline.points.reading import read_point
from pipeline.tracking.store import store_uri
from tests.support.once import copy_of_the_project
from tests.support.swept import artifact_names, full_name

STUDY = """\
# @package _global_
defaults:
  - override /data: small_images
study: small_images
model:
  hidden_size: 48
training:
  epochs: 120
  batch_size: 256
recording:
  snapshots: 4
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      optimizer.learning_rate: 0.001,0.01
"""
STAGES = """\
stages:
  fetch:
    cmd: {python} -m pipeline.fetch data=small_images
    outs: [data/raw/small_images]
  prepare:
    cmd: {python} -m pipeline.prepare data=small_images
    deps: [data/raw/small_images]
    outs: [data/prepared/small_images]
  train:
    matrix:
      backend: [numpy, keras]
    cmd: >-
      {python} -m pipeline.train experiment=small_images backend=${{item.backend}}
      results=results/small_images/${{item.backend}}
    deps: [data/prepared/small_images]
    outs:
      - results/small_images/${{item.backend}}
"""
HOW_IT_WENT = ("seconds", "seconds_per_epoch", "points_in_stack")
Content = dict[str, bytes]


def image_files(rows: int = 5000) -> Content:
    """Return four IDX files of images that are easy to classify; a fifth of the labels are random, to keep errors."""
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 200, (10, 12, 12))
    files = {}
    for split, count in (("train", rows), ("test", rows // 5)):
        labels = generator.integers(0, 10, count)
        images = (centres[labels] + generator.integers(0, 56, (count, 12, 12))).astype(np.uint8)
        labels[: count // 5] = generator.integers(0, 10, count // 5)
        files[f"{split}_images"] = struct.pack(">HBB3I", 0, 8, 3, *images.shape) + images.tobytes()
        files[f"{split}_labels"] = struct.pack(">HBBI", 0, 8, 1, count) + labels.astype(np.uint8).tobytes()
    return files


@contextmanager
def slow_server(files: Content) -> Iterator[str]:
    """Serve the files on 127.0.0.1, gzipped, each in a quarter of a second, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = gzip.compress(files[self.path.strip("/").removesuffix(".gz")], 1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # the client was killed
                self._write(content)

        def _write(self, content: bytes) -> None:
            for start in range(0, len(content), len(content) // 5 + 1):
                time.sleep(0.05)
                self.wfile.write(content[start : start + len(content) // 5 + 1])

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def make_lab(folder: Path, files: Content, address: str) -> Path:
    """Make a project with the study, DVC, and a checkpoint every tenth of a second, so that training can resume."""
    copy_of_the_project(folder)
    module = folder / "pipeline" / "sweep" / "pacing.py"
    patched = module.read_text().replace("FIRST_SECONDS = 2.0", "FIRST_SECONDS = 0.1").replace("= 60\n", "= 3\n")
    module.write_text(patched)
    data = {
        "kind": "idx",
        "name": "small_images",
        "classes": 10,
        "local_dir": None,
        "files": {
            role: {"name": role, "sha256": hashlib.sha256(content).hexdigest()} for role, content in files.items()
        },
        "sources": [{"kind": "gzip_files", "location": address, "members": {role: f"{role}.gz" for role in IDX_ROLES}}],
    }
    (folder / "conf" / "data" / "small_images.yaml").write_text(yaml.safe_dump(data))
    (folder / "conf" / "experiment" / "small_images.yaml").write_text(STUDY)
    (folder / "dvc.yaml").write_text(STAGES.format(python=sys.executable))
    for command in (("init", "--no-scm", "-q"), ("config", "core.analytics", "false")):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, check=True)
    return folder


def repro(lab: Path) -> subprocess.Popen[bytes]:
    """Start `dvc repro` in a process group of its own; its output goes to repro.log."""
    with (lab / "repro.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"], cwd=lab, stdout=log, stderr=log, start_new_session=True
        )


def _training(lab: Path, backend: str, file: str) -> bool:
    """Return whether some point of a backend is in training and has already written a file."""
    for config in (lab / ".points").glob("*.training/config.json"):
        try:
            if json.loads(config.read_text())["backend"]["name"] == backend and (config.parent / file).exists():
                return True
        except (OSError, ValueError):
            continue
    return False


@dataclass(frozen=True)
class Phase:
    """A part of the pipeline: a check that it has begun, and the longest useful wait before a kill, in seconds."""

    name: str
    begun: Callable[[Path], bool]
    seconds: float


PHASES = (
    Phase("fetch", lambda lab: (lab / "data" / "raw").exists(), 1.2),
    Phase("prepare", lambda lab: (lab / "data" / "raw" / "small_images").exists(), 4.0),
    Phase("train numpy", lambda lab: _training(lab, "numpy", "metrics.csv"), 2.0),
    Phase("plot numpy", lambda lab: _training(lab, "numpy", "outcome.json"), 0.5),
    Phase("track numpy", lambda lab: any((lab / "mlruns" / "artifacts").glob("*/*/artifacts")), 1.0),
    Phase("train keras", lambda lab: _training(lab, "keras", "checkpoint.npz"), 3.0),
    Phase("plot keras", lambda lab: _training(lab, "keras", "outcome.json"), 0.5),
    Phase("track keras", lambda lab: len([*(lab / "mlruns" / "artifacts").glob("*/*/artifacts")]) > 3, 1.0),
)


def disturb(lab: Path, kills: int, chance: random.Random) -> Counter[str]:
    """Run `dvc repro` this many times, and kill it each time, in one phase after the other, unless it ends before.

    Returns:
        The number of kills by phase.
    """
    done: Counter[str] = Counter()
    for place in sorted(number * len(PHASES) // kills for number in range(kills)):
        process = repro(lab)
        while process.poll() is None and not any(phase.begun(lab) for phase in PHASES[place:]):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, PHASES[place].seconds))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            done[PHASES[place].name] += 1
        process.wait()
    return done


def finish(lab: Path) -> None:
    """Let `dvc repro` run to its end.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    if repro(lab).wait() != 0:
        raise RuntimeError((lab / "repro.log").read_text()[-3000:])


def differences(lab: Path, other: Path) -> list[str]:
    """Describe all differences between two projects, except times."""
    found = []
    for backend in ("numpy", "keras"):
        here, there = (_points(folder / "results" / "small_images" / backend) for folder in (lab, other))
        found += [f"{backend}: points {sorted(here)} and {sorted(there)}"] if set(here) != set(there) else []
        for name in here.keys() & there.keys():
            found += [f"{backend} {name}: {part}" for part in here[name] if here[name][part] != there[name][part]]
    here, there = _mlflow(lab), _mlflow(other)
    found += [f"MLflow: runs {sorted(here)} and {sorted(there)}"] if set(here) != set(there) else []
    for name in here.keys() & there.keys():
        found += [f"MLflow {name}: {part}" for part in here[name] if here[name][part] != there[name][part]]
    left = [*lab.glob(".points/*.training"), *lab.rglob("*.partial-*")]
    return found + [f"left behind: {path.relative_to(lab)}" for path in left]


def _points(results: Path) -> dict[str, dict[str, Any]]:
    """Return the comparable content of the points of a results folder."""
    points = {}
    for row in json.loads((results / "sweep.json").read_text())["points"]:
        point = read_point(results / row["folder"], row["name"])
        # Seconds differ, and so may the stack: if it was killed while it kept a checkpoint, its points resume singly.
        outcome = {key: value for key, value in vars(point.outcome).items() if key not in HOW_IT_WENT}
        points[row["name"]] = {
            "signature": row["signature"],
            "metrics": [(m.step, m.name, m.value) for m in point.history.metrics],
            "weights": {s: {n: a.tobytes() for n, a in w.items()} for s, w in point.history.snapshots.items()},
            "tables": point.history.tables,
            "outcome": outcome,
        }
    return points


def _mlflow(lab: Path) -> dict[str, dict[str, Any]]:
    """Return the comparable content of all runs of the study; a repeated name gets a suffix."""
    client = MlflowClient(store_uri(lab))
    experiment = client.get_experiment_by_name("small_images")
    if experiment is None:
        return {}
    runs: dict[str, dict[str, Any]] = {}
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: f"{run.data.tags['backend']}: {full_name(run)}" for run in found}
    for run in found:
        name, run_id = names[run.info.run_id], run.info.run_id
        while name in runs:
            name += " (again)"
        runs[name] = {
            "status": run.info.status,
            "params": run.data.params,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId", "")),
            "signature": run.data.tags.get("signature"),
            "metrics": {
                key: sorted((m.step, m.value) for m in client.get_metric_history(run_id, key))
                for key in run.data.metrics
                if not key.startswith("time/")
            },
            "artifacts": artifact_names(client, run_id),
        }
    return runs


def trial(folder: Path, kills: int, seed: int) -> tuple[Counter[str], int, list[str]]:
    """Compare projects that are killed, with this many kills in total, with an undisturbed one.

    Returns:
        The number of kills by phase, the number of times that training resumed, and all differences.
    """
    files, chance = image_files(), random.Random(seed)
    done: Counter[str] = Counter()
    found, went_on = [], 0
    with slow_server(files) as address:
        calm = make_lab(folder / "calm", files, address)
        finish(calm)
        while done.total() < kills:
            lab = make_lab(folder / f"killed_{done.total()}", files, address)
            done += disturb(lab, min(kills - done.total(), 2 * len(PHASES)), chance)
            finish(lab)
            went_on += (lab / "repro.log").read_text().count(" to continue")
            found += [f"{lab.name}: {difference}" for difference in differences(lab, calm)]
    return done, went_on, found


def main() -> int:
    """Print the number of kills by phase, and all differences."""
    parser = argparse.ArgumentParser(description="Kill the pipeline again and again; it must end as if nothing was.")
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done, went_on, found = trial(Path(folder), asked.kills, asked.seed)
    for phase in PHASES:
        print(f"{phase.name:12} killed {done[phase.name]} times")
    print(f"a training went on from its checkpoint {went_on} times")
    print(f"{done.total()} kills in {time.monotonic() - started:.0f} s; {len(found)} differences")
    for difference in found:
        print(difference)
    if not went_on:
        print("nothing was killed in training: that says little")
    return 1 if found or not went_on else 0


if __name__ == "__main__":
    sys.exit(main())
