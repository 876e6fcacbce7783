"""A project as a team uses it: some of this repository's own stages, cut down, in git, with a remote to push to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from pipeline.system.project import PROJECT
from pipeline.tracking.store import store_uri
from tests.support.once import copy_of_the_project
from tests.support.swept import artifact_names, full_name

STAGES = ("code", "shared", "train_numpy", "train_keras", "shared_pages", "page", "rounding", "compare")
ID = r"[0-9a-f]{32}|(?<=/experiments/)\d+"
OWN_TAGS = ("lab.clone", "lab.owner", "lab.heartbeat", "mlflow.parentRunId", "mlflow.user")
"""Tags about the writer of a run, and about its parent run."""


def team_environment(folder: Path) -> dict[str, str]:
    """Return the environment of one machine's programs: no keys, a name for git, and DVC's site cache in a folder."""
    foreign = ("AWS_", "DVC_", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    (folder / "home").mkdir(exist_ok=True)
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),  # no keys, and only the settings of git from here
        "DVC_SITE_CACHE_DIR": str(folder / "dvc_notes"),
        "GIT_AUTHOR_NAME": "team",
        "GIT_AUTHOR_EMAIL": "team@localhost",
        "GIT_COMMITTER_NAME": "team",
        "GIT_COMMITTER_EMAIL": "team@localhost",
    }


def typed(
    script: str, where: Path, environment: dict[str, str], fails: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a script in a shell up to the first command that fails, and check whether one fails as expected."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=where, env=environment, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done


def make_team(folder: Path, environment: dict[str, str]) -> Path:
    """Make a project in git before any training, with its origin next to it, and return its folder."""
    lab = folder / "trained"
    copy_of_the_project(lab, "published", "reports/recorded")
    for name in (".gitignore", ".dvcignore", ".dvc/.gitignore", "mlruns/.gitkeep"):
        (lab / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, lab / name)
    (lab / ".dvc" / "config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    _cut(lab)
    typed(
        "git init --quiet --bare --initial-branch=main ../lab.git; git init --quiet --initial-branch=main; "
        "git remote add origin ../lab.git; git add .; git commit --quiet -m 'A lab'; git push --quiet -u origin main",
        lab,
        environment,
    )
    return lab


def _cut(lab: Path) -> None:
    """Give a project the stages of this repository, cut down to a point and two sweeps, one with Keras.

    Keras trains in one process, where there is one for each core, and its points have no models in MLflow: each process
    that trains or writes models of Keras imports TensorFlow, which takes six seconds.
    """
    everything = yaml.safe_load((PROJECT / "dvc.yaml").read_text())
    stages = {name: everything["stages"][name] for name in STAGES}
    stages["train_keras"]["do"]["cmd"] += " hydra.launcher.workers=1 recording.models=none"
    (lab / "dvc.yaml").write_text(yaml.safe_dump({"vars": everything["vars"], "stages": stages}, sort_keys=False))
    both = {"line_y2x": "conf/data/line_y2x.yaml"}
    studies = both | {"curve_restarts": "conf/data/curve_five_minima.yaml"}
    lists = {
        "profile": "small",
        "on_numpy": studies,
        "on_keras": both,
        "pages": studies,
        "code": {"examples": "examples"},
    }
    (lab / "conf" / "pipeline.yaml").write_text(yaml.safe_dump(lists))


def clone(origin: Path, lab: Path, environment: dict[str, str]) -> Path:
    """Make another clone, without results, and return its folder."""
    typed(f"git clone --quiet {origin} {lab}", origin.parent, environment)
    return lab


def all_runs(lab: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the content of all runs in MLflow, including times but without ids, by study, backend and name."""
    client = MlflowClient(store_uri(lab))
    told: dict[tuple[str, str, str], dict[str, Any]] = {}
    for experiment in client.search_experiments():
        runs = client.search_runs([experiment.experiment_id])
        names = {run.info.run_id: full_name(run) for run in runs}
        for run in runs:
            run_id, tags = run.info.run_id, run.data.tags
            key = (experiment.name, tags["backend"], names[run_id])
            assert key not in told
            told[key] = {
                "status": run.info.status,
                "when": (run.info.start_time, run.info.end_time),
                "parent": names.get(tags.get("mlflow.parentRunId", "")),
                "params": run.data.params,
                "tags": {name: re.sub(ID, "ID", tags[name]) for name in tags if name not in OWN_TAGS},
                "metrics": {
                    name: sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, name))
                    for name in run.data.metrics
                },
                "artifacts": artifact_names(client, run_id),
            }
    return told
