"""What MLflow can do, but has no public name for. All of its private names are used here and nowhere else.

docs/architecture.md lists them; tests/whole/test_private_names.py fails when an upgrade moves one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def hard_delete_run(client: MlflowClient, run_id: str) -> None:
    """Delete a run of the local store with its artifacts, for good.

    `MlflowClient.delete_run` only moves it to the bin, and `mlflow gc` also empties the bin of all other experiments.
    These are the steps of `mlflow gc`.
    """
    delete_artifacts(client, client.get_run(run_id).info.artifact_uri)
    client._tracking_client.store._hard_delete_run(run_id)


def hard_delete_model(client: MlflowClient, model_id: str, artifacts: str) -> None:
    """Delete a model of the local store with its artifacts, for good.

    Args:
        client: of the local store.
        model_id: the logged model.
        artifacts: the address of its artifacts.
    """
    delete_artifacts(client, artifacts)
    client._tracking_client.store._hard_delete_logged_model(model_id)


def delete_artifacts(client: MlflowClient, address: str, folder: str | None = None) -> None:
    """Delete the artifacts at an address, or one folder of them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(address, tracking_uri=client.tracking_uri)
    repository.delete_artifacts(folder)  # type: ignore[no-untyped-call]


def list_packages() -> None:
    """Let MLflow list the installed packages, which it otherwise does when it writes its first model (0.5 s)."""
    # A version of MLflow without this function lists them when it writes the first model.
    with suppress(ImportError):
        from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

        warn_dependency_requirement_mismatches(["numpy"])
