"""Deletes runs and models with their artifacts.

In the local store, files are deleted only below the folder of its artifacts: a store that was copied by hand, or an
experiment for which a user chose another location, may name files elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.system.errors import LabError
from pipeline.tracking.internals import delete_on_server, hard_delete_model, hard_delete_run
from pipeline.tracking.location import local_path
from pipeline.tracking.models import all_models

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel


def delete_runs(client: MlflowClient, experiment_id: str, run_ids: Sequence[str], root: Path | None) -> bool:
    """Delete runs with their models and artifacts.

    Args:
        client: the client of the store.
        experiment_id: the experiment of the runs.
        run_ids: the runs.
        root: folder that holds all artifacts of the local store; None for a server.

    Returns:
        Whether they were deleted permanently. On a server they are only soft-deleted; purging must be done on its host.

    Raises:
        LabError: artifacts are not below `root`; then nothing is deleted.
    """
    models = _models(client, experiment_id, run_ids)
    if root is None:
        _delete_models(client, models, root)
        for run_id in run_ids:
            client.delete_run(run_id)
        return False
    # Everything is checked before anything is deleted.
    folders = {run_id: _folder(client.get_run(run_id).info.artifact_uri, root) for run_id in run_ids}
    for model in models:
        _folder(model.artifact_location, root)
    _delete_models(client, models, root)
    for run_id, folder in folders.items():
        _delete(folder)
        hard_delete_run(client, run_id)
    return True


def delete_models(client: MlflowClient, experiment_id: str, run_ids: Sequence[str], root: Path | None) -> None:
    """Delete the models of runs; in the local store also their artifacts, unless they are not below `root`."""
    _delete_models(client, _models(client, experiment_id, run_ids), root)


def delete_artifacts(client: MlflowClient, run_id: str, folder: str, root: Path | None) -> None:
    """Delete a folder of a run's artifacts.

    Raises:
        LabError: the artifacts are not below `root`.
    """
    address = client.get_run(run_id).info.artifact_uri
    if root is None:
        delete_on_server(client, address, folder)
    else:
        _delete(_folder(address, root) / folder)


def _models(client: MlflowClient, experiment_id: str, run_ids: Sequence[str]) -> list[LoggedModel]:
    return [model for model in all_models(client, experiment_id) if model.source_run_id in run_ids]


def _delete_models(client: MlflowClient, models: Sequence[LoggedModel], root: Path | None) -> None:
    for model in models:
        folder = None
        if root is not None:
            folder = _path_below(model.artifact_location, root)
        if folder is None:
            client.delete_logged_model(model.model_id)
        else:
            _delete(folder)
            hard_delete_model(client, model.model_id)


def _folder(address: str, root: Path) -> Path:
    """Return the folder of artifacts in the local store that are to be deleted.

    Raises:
        LabError: it is not below `root`.
    """
    folder = _path_below(address, root)
    if folder is None:
        raise LabError(
            "Nothing was deleted, because MLflow names artifacts outside of this project.",
            expected=f"artifacts in {root}",
            received=address,
            fix="if these may go too, delete their run in MLflow (make ui), then run "
            "mlflow gc --backend-store-uri sqlite:///mlruns/mlflow.db",
        )
    return folder


def _path_below(address: str, root: Path) -> Path | None:
    """Return the path that an address stands for if it is below `root`, after following links; otherwise None."""
    path = local_path(address)
    if path is None:
        return None
    real, real_root = path.resolve(), root.resolve()
    if real == real_root or not real.is_relative_to(real_root):
        return None
    return real


def _delete(folder: Path) -> None:
    """Delete a folder if it exists; in an incomplete copy of a project, it does not."""
    if folder.exists():
        shutil.rmtree(folder)
