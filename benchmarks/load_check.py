"""Whether a tracking server has what it said it has: each run, value, parameter, tag and artifact, and none twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import requests
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from benchmarks.load_writer import (
    ARTIFACT,
    ARTIFACT_NAME,
    END,
    NAMES,
    PARAMETERS,
    TAGS,
    VALUES,
    Load,
    Written,
    artifact_of,
    tags_of,
    values_of,
)
from pipeline.config.schema import flatten
from pipeline.tracking.causes import CREDENTIALS
from pipeline.tracking.tracker import NOT_PARAMS

READ_SECONDS = 120


@dataclass
class Findings:
    """What reading back came to.

    Attributes:
        values: how many were read.
        lost, double: what is not there though the server had said so, and what is there twice; in words.
    """

    values: int = 0
    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)


def check_runs(load: Load, written: Sequence[Written]) -> Findings:
    """Read runs back and compare them with what was written. A read that fails is tried again."""
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "5"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(READ_SECONDS)
    client, findings = MlflowClient(str(load.config.tracking.uri)), Findings()
    for one in written:
        try:
            _check(client, load, one, findings)
        except (MlflowException, OSError) as error:
            findings.lost.append(f"run {one.number}: {str(error).splitlines()[0]}")
    return findings


def _check(client: MlflowClient, load: Load, one: Written, findings: Findings) -> None:
    run: Run = client.get_run(one.run_id)
    if END in one.done and run.info.status != "FINISHED":
        findings.lost.append(f"the end of run {one.number}")
    wanted = {key for key, _ in flatten(load.config)} - NOT_PARAMS
    if PARAMETERS in one.done and not wanted <= set(run.data.params):
        findings.lost.append(f"parameters of run {one.number}")
    if TAGS in one.done and not tags_of(one.number).items() <= run.data.tags.items():
        findings.lost.append(f"tags of run {one.number}")
    if VALUES in one.done:
        _check_values(client, load, one, findings)
    if ARTIFACT in one.done and _artifact(load, run) != artifact_of(one.number):
        findings.lost.append(f"the artifact of run {one.number}")


def _artifact(load: Load, run: Run) -> bytes | None:
    """The artifact as the server hands it out, in one request where MLflow's client makes five."""
    place = str(run.info.artifact_uri).removeprefix("mlflow-artifacts:/")
    address = f"{load.config.tracking.uri}/api/2.0/mlflow-artifacts/artifacts/{place}/{ARTIFACT_NAME}"
    user, password = (os.environ.get(name, "") for name in CREDENTIALS)
    auth = (user, password) if user else None
    answer = requests.get(address, auth=auth, timeout=READ_SECONDS)
    return answer.content if answer.ok else None


def _check_values(client: MlflowClient, load: Load, one: Written, findings: Findings) -> None:
    wanted = values_of(one.number, load.values)
    for name in NAMES[: load.values]:
        found = [(m.step, m.timestamp, m.value) for m in client.get_metric_history(one.run_id, name)]
        findings.values += len(found)
        lost = {(m.step, m.timestamp, m.value) for m in wanted if m.name == name} - set(found)
        if lost:
            findings.lost.append(f"{len(lost)} values of {name} of run {one.number}")
        if len(found) > len(set(found)) or len(found) > sum(m.name == name for m in wanted):
            findings.double.append(f"values of {name} of run {one.number}")


def check_list(load: Load, written: Sequence[Written], unanswered: int) -> Findings:
    """See that the server lists each run once, and no others.

    Args:
        load: what was written.
        written: all that were.
        unanswered: how many calls for a new run failed; the server may have made it all the same.
    """
    client, findings = MlflowClient(str(load.config.tracking.uri)), Findings()
    experiment = client.get_experiment_by_name(load.config.study)
    listed: list[str] = []
    token = None
    while experiment is not None:
        page = client.search_runs(
            [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{load.parent}'", max_results=1000,
            page_token=token,
        )  # fmt: skip
        listed += [run.info.run_id for run in page]
        token = page.token
        if not token:
            break
    known = {one.run_id for one in written}
    findings.lost += [f"run {one.number}" for one in written if one.run_id not in listed]
    more = len(listed) - len(known & set(listed)) - unanswered
    if more > 0:
        findings.double.append(f"{more} runs that nobody asked for")
    return findings
