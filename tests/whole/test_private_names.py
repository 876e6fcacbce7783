"""Private names of other libraries that we use: they exist in the versions installed, each in one module of ours.

When one of these tests fails after an upgrade, change the module that it names, and then the bound in pyproject.toml.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib import metadata

import pytest

from pipeline.system.project import PROJECT
from tests.support.services import missing

PAGE = (PROJECT / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| ([\w-]+) \| `([\w/]+\.py)` \| (.*?) \|", PAGE, re.MULTILINE)
TABLE = {library: (module, re.findall(r"`([\w.]+)`", names)) for library, module, names in ROWS}


def test_hydra_still_has_what_the_sweeper_overrides() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    assert callable(BasicSweeper._parse_config)
    assert callable(BasicSweeper.validate_batch_is_legal)


def test_keras_still_has_what_our_optimizers_read_and_override() -> None:
    import keras

    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([keras.Variable([1.0])])
    assert [name for name in TABLE["keras"][1] if not hasattr(optimizer, name)] == []


def test_mlflow_still_has_what_deletes_runs_for_good() -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking import MlflowClient
    from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

    assert hasattr(MlflowClient("http://127.0.0.1:1")._tracking_client, "store")
    assert callable(SqlAlchemyStore._hard_delete_run)
    assert callable(SqlAlchemyStore._hard_delete_logged_model)
    assert callable(get_artifact_repository)
    assert callable(warn_dependency_requirement_mismatches)


def test_submitit_still_has_what_asks_the_queue() -> None:
    if importlib.util.find_spec("submitit") is None:
        missing("the packages of the extra cluster (make cluster)")
    from submitit.slurm.slurm import SlurmInfoWatcher

    watcher = SlurmInfoWatcher()
    assert [name for name in TABLE["submitit"][1] if not hasattr(watcher, name)] == []


def test_the_table_in_docs_has_these_libraries() -> None:
    assert list(TABLE) == ["hydra-core", "keras", "mlflow", "submitit"]


@pytest.mark.parametrize("library", TABLE)
def test_a_private_name_is_used_in_one_module(library: str) -> None:
    module, names = TABLE[library]
    sources = {
        file.relative_to(PROJECT).as_posix(): file.read_text()
        for folder in ("pipeline", "hydra_plugins")
        for file in (PROJECT / folder).rglob("*.py")
    }
    for name in names:
        assert [path for path, text in sources.items() if re.search(rf"\b{re.escape(name)}\b", text)] == [module], name


@pytest.mark.parametrize("library", TABLE)
def test_a_library_is_bounded_at_its_next_minor_version(library: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    [bound] = [re.search(r"<([\d.]+)", entry) for entry in asked if re.match(rf"{library}\b(?!-)", entry)]
    assert bound is not None
    try:
        major, minor = metadata.version(library).split(".")[:2]
    except metadata.PackageNotFoundError:
        missing(f"{library} (make cluster)")
    assert bound.group(1) == f"{major}.{int(minor) + 1}"
