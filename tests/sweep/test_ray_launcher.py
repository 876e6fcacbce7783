"""The launcher with Ray: two nodes on this machine, which lose workers, each other, the command, and share no disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster_runs import (
    checkpoints,
    ended_with,
    finish,
    go_on,
    make_lab,
    processes_in,
    run,
    start,
    the_same,
    training_processes,
    until,
)
from tests.support.flaky_server import mlflow_server
from tests.support.ray_cluster import QUIET, RayCluster, ray_cluster
from tests.support.swept import statuses

pytestmark = pytest.mark.slow
RAY = ("hydra/launcher=ray", "hydra.launcher.workers=2")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as started:
        yield started


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = make_lab(tmp_path_factory.mktemp("calm"))
    run(lab)
    return lab


def on(cluster: RayCluster) -> tuple[str, ...]:
    return (*RAY, f"hydra.launcher.engine.ray.init.address={cluster.address}")


def test_a_worker_and_a_node_are_killed(calm: Path, tmp_path: Path, cluster: RayCluster) -> None:
    lab = make_lab(tmp_path, held=True)
    cluster.start_node()
    cluster.start_node()
    command = start(lab, *on(cluster))
    with ended_with(command):
        until(lambda: checkpoints(lab))
        first = training_processes(lab)[0]
        first.send_signal(signal.SIGKILL)
        until(lambda: training_processes(lab) and first not in training_processes(lab))
        cluster.kill_node(1)
        go_on(lab)
        told = finish(lab, command)
    the_same(lab, calm)
    assert "going on after" in told
    until(lambda: processes_in(lab) == [])


def test_the_command_is_killed_and_then_the_whole_cluster(calm: Path, tmp_path: Path, cluster: RayCluster) -> None:
    lab = make_lab(tmp_path, held=True)
    cluster.start_node(cpus=2)
    command = start(lab, *on(cluster))
    with ended_with(command):
        until(lambda: checkpoints(lab))
    until(lambda: training_processes(lab) == [])  # Ray ends the workers of a command that has gone
    command = start(lab, *on(cluster))
    with ended_with(command):
        until(lambda: training_processes(lab))
        command.send_signal(signal.SIGTERM)
        assert command.wait() == 130
    assert "RUNNING" not in statuses(lab, "three_bits").values()
    until(lambda: training_processes(lab) == [])
    command = start(lab, *on(cluster))
    with ended_with(command):
        until(lambda: training_processes(lab))
        cluster.kill_node(0)
        command.wait()
    assert command.returncode != 0  # Ray ends a process whose cluster has gone
    go_on(lab)
    run(lab)  # and on this machine alone
    the_same(lab, calm)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a node its own disk")
def test_nodes_share_no_disk(calm: Path, tmp_path: Path, cluster: RayCluster) -> None:
    lab, nodes = make_lab(tmp_path / "lab"), [make_lab(tmp_path / f"node_{number}", held=True) for number in range(2)]
    for node in nodes:  # their workers wait for this file, under the path that they see it by
        module = node / "pipeline" / "sweep" / "pacing.py"
        module.write_text(module.read_text().replace(str(node), str(lab)))
    cluster.start_node(cpus=0)
    for node in nodes:
        cluster.start_node(own_disk={lab: node})
    (tmp_path / "server").mkdir()
    with mlflow_server(tmp_path / "server") as port:
        uri = f"http://127.0.0.1:{port}"
        server = ("tracking=server", f"tracking.uri={uri}", "hydra.launcher.shared_disk=false")
        command = start(lab, *on(cluster), *server)
        with ended_with(command):
            until(lambda: len([*(tmp_path / "server" / "a").glob("**/checkpoint")]) == len(nodes))
            cluster.kill_node(1)
            go_on(nodes[1])
            told = finish(lab, command)
        the_same(lab, calm, uri)
    assert "going on after" in told
    assert not any((tmp_path / "server" / "a").glob("**/checkpoint/*.zip"))


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    lab = make_lab(tmp_path)
    command = start(lab, *RAY, "hydra.launcher.engine.ray.init.address=127.0.0.1:1")
    assert command.wait() == 1
    told = (lab / "command.log").read_text()
    assert "error: The Ray cluster does not answer." in told
    assert "Traceback" not in told
    assert not list((lab / ".points").glob("[!.]*"))
