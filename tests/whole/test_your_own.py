"""docs/your-own.md, word by word: each file that it shows is written, each command is run, in the order of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system.project import PROJECT
from tests.support.once import copy_of_the_project
from tests.support.prepared_images import write_prepared

PAGE = (PROJECT / "docs" / "your-own.md").read_text()
# What a block is written in, and its lines; a file is named in its first comment that ends with a suffix.
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
# Fewer rates and epochs in the place of the page's: each takes seconds, above all on Keras.
CUT = {
    "logspace(0.001,1,4)": "logspace(0.01,1,2)",
    "  epochs: 10\n": "  epochs: 3\n",
    "training.epochs=5 ": "training.epochs=2 ",
    "optimizer.learning_rate=0.001,0.01 ": "optimizer.learning_rate=0.01 ",
}
FILE = re.compile(r"^# (\S+\.(?:yaml|py))$", re.MULTILINE)


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Path:
    """A copy of the project as a person has it who types the commands, without git, and small images for MNIST."""
    lab = copy_of_the_project(tmp_path / "lab", "published")
    shutil.copy(PROJECT / "Makefile", lab)
    stages = (PROJECT / "dvc.yaml").read_text()
    # One process, which imports TensorFlow once, where there is one for each core.
    (lab / "dvc.yaml").write_text(
        stages.replace(" hydra/launcher=joblib", " hydra/launcher=joblib hydra.launcher.workers=1")
    )
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    write_prepared(lab, "mnist")
    return lab


def run(command: str, project: Path) -> str:
    """Type a command in a project, with the programs of this environment, and return what it prints."""
    venv = Path(sys.executable).parent.parent
    if command.startswith("make "):
        # The environment is there already, wherever it is.
        command += f" VENV={venv} -o {venv}/.installed"
    path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=project, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def rows_of(output: str) -> list[str]:
    """Return the rows of the table of points that a training prints: they begin with a number, the rate or the size."""
    return re.findall(r"^[\d.]+  .*$", output.partition("\n\n")[0], re.MULTILINE)


def cut(block: str) -> str:
    """Put fewer values in the place of those of the page."""
    for shown, less in CUT.items():
        block = block.replace(shown, less)
    return block


def written(block: str, project: Path) -> Path:
    """Write the file that a block shows, cut, and return its path."""
    [name] = FILE.findall(block)
    file = project / str(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(cut(block))
    return file


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_leads_from_a_csv_to_an_answer_and_to_a_model(project: Path) -> None:
    assert all(shown in PAGE for shown in CUT)
    run("dvc init --no-scm --quiet", project)
    told: dict[str, str] = {}
    for language, block in BLOCKS:
        if language != "sh":
            written(block, project)
            continue
        for command in block.splitlines():
            told[command.split(" --")[0]] = run(cut(command), project)
    assert len(told) == 7

    prepared, question, trained, page, repro, own, convnet = told.values()
    assert "train_inputs: 1,280 x 15" in prepared
    assert "validation_inputs: 320 x 15" in prepared
    assert "note: currency is constant" in prepared
    assert "customers: data/prepared/customers" in (project / "conf" / "pipeline.yaml").read_text()
    assert "conf/experiment/customers.yaml" in question
    assert len(rows_of(trained)) == 4
    # Each with three seeds.
    assert all(row.count("(3)") == 2 for row in rows_of(trained))
    assert "customers.md" in page

    report = (project / "reports" / "studies" / "customers.md").read_text()
    assert "Which rates tell who leaves, and do more units help?" in report
    # DVC has trained it on both backends since then.
    assert "page@customers" in repro
    for backend in ("numpy", "keras"):
        assert re.search(rf"- .*{backend}.*: .*the highest validation accuracy .* 0\.8", report)
        assert len(re.findall(rf"^\| {backend} \|", report, re.MULTILINE)) == 4
    assert (project / "reports" / "studies" / "customers.png").stat().st_size > 10_000

    assert re.search(r"units .*validation accuracy", own)
    assert len(rows_of(own)) == 2
    assert len(rows_of(convnet)) == 2


def test_every_block_of_the_page_is_a_file_or_a_command() -> None:
    for language, block in BLOCKS:
        assert language in ("sh", "yaml", "python")
        assert language == "sh" or len(FILE.findall(block)) == 1
