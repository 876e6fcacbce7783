"""Training in an environment made for other programs gives what it gives in a clean one: numbers, pictures, records."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.once import copy_of_the_project
from tests.support.swept import in_mlflow, on_disk

STUDY = "line_y2x"
TYPED = (
    "-m",
    f"experiment={STUDY}",
    "training.epochs=3",
    "optimizer.learning_rate=0.1",
    "backend=keras,numpy",
)
STYLE = """\
lines.linewidth: 9
font.size: 30
axes.facecolor: red
axes.prop_cycle: cycler(color=['g'])
image.lut: 4
path.simplify: False
no such key: 1
"""
KERAS = {"backend": "jax", "floatx": "float16", "epsilon": 0.5, "image_data_format": "channels_first"}
NOWHERE = "http://127.0.0.1:9"


def hostile(folder: Path) -> dict[str, str]:
    """Return variables, and write the files of a home, that would stop, redirect or change a training."""
    home = folder / "home"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text(json.dumps(KERAS))
    (home / "matplotlibrc").write_text(STYLE)
    long = folder / ("t" * 90)
    long.mkdir()
    return {
        "HOME": str(home),
        "TMPDIR": str(long),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(home / "matplotlibrc"),
        "KERAS_HOME": str(home / ".keras"),
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2",
        "MLFLOW_ACTIVE_MODEL_ID": "m-1",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_EXPERIMENT_ID": "77",
        "MLFLOW_EXPERIMENT_NAME": "another",
        "MLFLOW_LOGGING_LEVEL": "DEBUG",
        "MLFLOW_REGISTRY_URI": NOWHERE,
        "MLFLOW_RUN_ID": "another",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "nobody",
        "MLFLOW_SQLALCHEMYSTORE_ECHO": "true",
        "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "nonsense",
        "MLFLOW_STATIC_PREFIX": "/elsewhere",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "false",
        "MLFLOW_TRACKING_URI": NOWHERE,
        "MLFLOW_TRUNCATE_LONG_VALUES": "false",
        "ALL_PROXY": NOWHERE,
        "http_proxy": NOWHERE,
        "https_proxy": NOWHERE,
        "COLUMNS": "20",
        "GIT_DIR": "/nowhere",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "7",
        "PYTHONIOENCODING": "ascii",
        "PYTHONWARNINGS": "error",
        "TZ": "Asia/Kathmandu",
    }


def train(lab: Path, environment: dict[str, str]) -> tuple[list[list[str]], str]:
    """Train both backends, and return the table on stdout without its last column, seconds, and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.train", *TYPED], cwd=lab, env=environment, capture_output=True, check=False
    )
    err = done.stderr.decode()
    assert done.returncode == 0, err
    assert "Traceback" not in err
    table = done.stdout.decode("ascii").partition("\n\n")[0]
    return [line.split()[:-1] for line in table.splitlines()], err


def pictures(lab: Path) -> Counter[str]:
    """Count the pictures in the folders of the points and in MLflow by their content."""
    files = [file for place in (".points", "mlruns") for file in (lab / place).rglob("*")]
    shown = [file for file in files if file.suffix in (".png", ".webp")]
    return Counter(hashlib.sha256(file.read_bytes()).hexdigest() for file in shown)


@pytest.mark.slow
def test_a_hostile_environment_changes_nothing(tmp_path: Path, empty_store: Path) -> None:
    clean = copy_of_the_project(tmp_path / "clean")
    (clean / "mlruns").mkdir()
    shutil.copy(empty_store, clean / "mlruns" / "mlflow.db")
    # Here the store too is made in the environment.
    lab = copy_of_the_project(tmp_path / "lab")
    (lab / "matplotlibrc").write_text(STYLE)
    table, _ = train(clean, dict(os.environ))
    other_table, _ = train(lab, os.environ | hostile(tmp_path))
    assert len(table) == 4
    assert other_table == table
    assert len(on_disk(clean)) == 2
    assert on_disk(lab) == on_disk(clean)
    assert len(pictures(clean)) > 10
    assert pictures(lab) == pictures(clean)
    assert len(in_mlflow(clean, STUDY)) == 3
    assert in_mlflow(lab, STUDY) == in_mlflow(clean, STUDY)
