"""Commands typed in an unusual way or place: by path, without the environment, in a zip, in a checkout with CRLF."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.data.arrays import load
from pipeline.points.identity import signature
from pipeline.system.project import PROJECT
from tests.support.once import copy_of_the_project
from tests.support.trained import config

COMMANDS = [file.stem for file in sorted((PROJECT / "pipeline").glob("*.py")) if file.stem != "__init__"]


def refusal(*typed: str, folder: Path = PROJECT) -> str:
    """Type something that is refused with exit code 1 and a single line, and return the line."""
    done = subprocess.run([sys.executable, *typed], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_run_by_its_path_says_what_to_type(name: str) -> None:
    assert refusal(f"pipeline/{name}.py").endswith(f"type: python -m pipeline.{name}\n")
    # Without the packages too.
    assert refusal("-S", f"{name}.py", folder=PROJECT / "pipeline").endswith(f"type: python -m pipeline.{name}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_without_the_environment_a_command_says_how_to_get_it(name: str) -> None:
    line = refusal("-S", "-m", f"pipeline.{name}")
    assert sys.executable in line
    assert line.endswith("type: make .venv/.installed && source .venv/bin/activate\n")


def with_crlf(folder: Path) -> None:
    for file in [*folder.rglob("*.py"), *folder.rglob("*.yaml")]:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


SIGNATURES = """
import json, sys
from hydra import compose, initialize_config_dir
from pipeline.data.arrays import load
from pipeline.points.identity import signature
from pipeline.sweep import composed
from pipeline.system.project import CONF, PROJECT
signatures = []
for overrides in json.loads(sys.argv[1]):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = composed.read_asked(compose("config", overrides), [], predicts=False)
    signatures.append(signature(config, load(config.data, config.dtype, PROJECT).checksums))
print(json.dumps(signatures), composed.__file__)
"""


def test_a_checkout_with_crlf_has_the_same_signatures(tmp_path: Path) -> None:
    grid = [["experiment=line_y2x"], ["experiment=two_bits"], ["experiment=two_bits", "backend=keras"]]
    lab = copy_of_the_project(tmp_path)
    with_crlf(lab)
    done = subprocess.run(
        [sys.executable, "-c", SIGNATURES, json.dumps(grid)], cwd=lab, capture_output=True, text=True, check=True,
        timeout=120,
    )  # fmt: skip
    signatures, file = done.stdout.rsplit(" ", 1)
    assert Path(file.strip()).is_relative_to(lab)
    configs = [config(*overrides) for overrides in grid]
    assert json.loads(signatures) == [signature(one, load(one.data, one.dtype, PROJECT).checksums) for one in configs]


def test_git_checks_files_out_with_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    files = {
        "Makefile": b"a:\n",
        "pipeline/a.py": b"a = 1\n",
        "reports/a.csv": b"a,b\r\n",
        "reports/a.png": b"\x89\r\n\0\n",
    }
    for name, content in files.items():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_bytes(content)
    shutil.copy(PROJECT / ".gitattributes", origin)

    def git(*arguments: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.autocrlf=true"]
        subprocess.run(["git", *names, *arguments], cwd=origin, check=True, timeout=60, capture_output=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    git("clone", "--quiet", ".", str(tmp_path / "clone"))
    assert {name: (tmp_path / "clone" / name).read_bytes() for name in files} == files


@pytest.mark.slow
def test_a_zip_without_git_is_reproduced(tmp_path: Path) -> None:
    lab = copy_of_the_project(tmp_path / "lab")
    shutil.copy(PROJECT / "Makefile", lab)
    (lab / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc" / "config", lab / ".dvc")
    (lab / "dvc.yaml").write_text("stages:\n  one:\n    cmd: echo trained >made.txt\n    outs: [made.txt]\n")
    typed = ["make", "reproduce", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed"]
    # So that the repository of a parent folder, if there is one, is not found.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    done = subprocess.run(typed, cwd=lab, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (lab / "made.txt").read_text() == "trained\n"
