"""The project's folder, and the version of its code."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from pipeline.system.project import CONF, PROJECT, code_state, store_root


def test_the_project_is_the_folder_that_holds_conf_and_the_package() -> None:
    assert (PROJECT / "pipeline" / "train.py").is_file()
    assert (CONF / "config.yaml").is_file()


def test_a_temporary_checkout_of_dvc_uses_the_store_of_its_project(tmp_path: Path) -> None:
    assert store_root(tmp_path / "lab" / ".dvc" / "tmp" / "exps" / "tmpab12") == tmp_path / "lab"
    assert store_root(tmp_path / "lab") == tmp_path / "lab"


def test_git_gives_commit_and_whether_files_have_changed(tmp_path: Path) -> None:
    assert code_state(tmp_path) == {}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert code_state(tmp_path) == {"mlflow.source.git.commit": head, "git.dirty": "false"}
    (tmp_path / "file").write_text("2")
    assert code_state(tmp_path)["git.dirty"] == "true"


def test_the_name_of_a_changed_file_may_have_another_encoding(tmp_path: Path) -> None:
    for arguments in (["init", "-q"], ["config", "core.quotePath", "false"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    (tmp_path / os.fsdecode(b"gr\xf6\xdfe")).touch()
    assert code_state(tmp_path) == {"git.dirty": "true"}


def test_the_lock_file_of_dvc_is_named_by_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_bytes(b"stages\n")
    assert code_state(tmp_path) == {"dvc.lock": hashlib.sha256(b"stages\n").hexdigest()}
