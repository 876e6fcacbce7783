"""Functions for which MLflow has no public API. Its private names are used only in this module.

docs/architecture.md lists them; tests/whole/test_private_names.py fails when an upgrade moves one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def hard_delete_run(client: MlflowClient, run_id: str) -> None:
    """Permanently delete a run of the local store, whose artifacts are already deleted.

    `MlflowClient.delete_run` is only a soft delete, and `mlflow gc` would also purge deleted runs of all other
    experiments. This function does the same as `mlflow gc` for one run.
    """
    client._tracking_client.store._hard_delete_run(run_id)


def hard_delete_model(client: MlflowClient, model_id: str) -> None:
    """Permanently delete a model of the local store, whose artifacts are already deleted."""
    client._tracking_client.store._hard_delete_logged_model(model_id)


def delete_on_server(client: MlflowClient, address: str, folder: str) -> None:
    """Delete a folder of the artifacts at an address on a server.

    Not for artifacts on this machine: MLflow decodes their path twice, and would delete another one if it contains %20.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(address, tracking_uri=client.tracking_uri)
    repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]


def list_packages() -> None:
    """Have MLflow list the installed packages now (0.5 s), which it otherwise does when it writes its first model."""
    # A version of MLflow without this function lists them later, when it writes its first model.
    with suppress(ImportError):
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        warn_dependency_requirement_mismatches(["numpy"])
