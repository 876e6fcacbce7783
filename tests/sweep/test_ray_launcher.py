"""The launcher with Ray: nodes on this machine that lose workers, other nodes or the command, and share no disk."""

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
    left_alone,
    make_lab,
    processes_in,
    run,
    start,
    the_same,
    training_processes,
    until,
)
from tests.support.flaky_server import server_thread
from tests.support.prepared_images import write_prepared
from tests.support.ray_cluster import QUIET, RayCluster, ray_cluster, require_ray
from tests.support.swept import on_disk, statuses

pytestmark = pytest.mark.slow
RAY = ("hydra/launcher=ray",)
# A model of one's own: two points of one epoch.
CONVNET = (
    "experiment=convnet",
    "training.epochs=1",
    "training.rows=32",
    "optimizer.learning_rate=0.01",
    "model.filters=1,2",
    "recording.figures=sweep",
    "recording.models=none",
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as started:
        yield started


@pytest.fixture
def calm(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    return left_alone(tmp_path_factory, empty_store)


def on(cluster: RayCluster, workers: int) -> tuple[str, ...]:
    return (*RAY, f"hydra.launcher.workers={workers}", f"hydra.launcher.engine.ray.init.address={cluster.address}")


def test_a_worker_the_command_and_the_whole_cluster_are_killed_and_the_same_command_goes_on(
    calm: Path, tmp_path: Path, empty_store: Path, cluster: RayCluster
) -> None:
    """One worker has all points, so that each time one process alone has to start."""
    lab = make_lab(tmp_path, empty_store, held=True)
    cluster.start_node()
    typed = on(cluster, workers=1)
    command = start(lab, *typed)
    with ended_with(command):
        until(lambda: checkpoints(lab))
        first = training_processes(lab)[0]
        first.send_signal(signal.SIGKILL)
        # Ray itself has tried the unit again.
        until(lambda: training_processes(lab) and first not in training_processes(lab))
    # Ray ends the workers of a command that has ended.
    until(lambda: training_processes(lab) == [])
    command = start(lab, *typed)
    with ended_with(command):
        until(lambda: training_processes(lab))
        command.send_signal(signal.SIGTERM)
        assert command.wait() == 130
    assert "RUNNING" not in statuses(lab, "three_bits").values()
    until(lambda: training_processes(lab) == [])
    command = start(lab, *typed)
    with ended_with(command):
        until(lambda: training_processes(lab))
        cluster.kill_node(0)
        command.wait()
    # Ray ends a process whose cluster has ended.
    assert command.returncode != 0
    go_on(lab)
    # Without the cluster, on this machine alone.
    output = run(lab)
    assert "resuming after" in output
    the_same(lab, calm)
    until(lambda: processes_in(lab) == [])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a node its own disk")
def test_nodes_share_no_disk_and_one_is_killed(
    calm: Path, tmp_path: Path, empty_store: Path, cluster: RayCluster
) -> None:
    lab = make_lab(tmp_path / "lab", empty_store)
    nodes = [make_lab(tmp_path / f"node_{number}", empty_store, held=True) for number in range(2)]
    # Their workers wait for the file `hold`, under the path by which they see it.
    for node in nodes:
        module = node / "pipeline" / "sweep" / "pacing.py"
        module.write_text(module.read_text().replace(str(node), str(lab)))
    for node in nodes:
        cluster.start_node(own_disk={lab: node})
    (tmp_path / "server").mkdir()
    with server_thread(tmp_path / "server", empty_store) as port:
        uri = f"http://127.0.0.1:{port}"
        server = ("tracking=server", f"tracking.uri={uri}", "hydra.launcher.shared_disk=false")
        command = start(lab, *on(cluster, workers=2), *server)
        with ended_with(command):
            until(lambda: len([*(tmp_path / "server" / "a").glob("**/checkpoint")]) == len(nodes))
            cluster.kill_node(1)
            go_on(nodes[0])
            output = finish(lab, command)
        the_same(lab, calm, uri)
    assert "resuming after" in output
    assert not any((tmp_path / "server" / "a").glob("**/checkpoint/*.zip"))


def test_a_cluster_that_does_not_answer_is_one_message(tmp_path: Path, empty_store: Path) -> None:
    require_ray()
    lab = make_lab(tmp_path, empty_store)
    command = start(lab, *RAY, "hydra.launcher.engine.ray.init.address=127.0.0.1:1")
    assert command.wait() == 1
    output = (lab / "command.log").read_text()
    assert "error: The Ray cluster does not answer." in output
    assert "Traceback" not in output
    assert not list((lab / ".points").glob("[!.]*"))


@pytest.mark.timeout(900)
def test_a_cluster_on_this_machine_needs_nothing_of_the_environment_and_finds_a_model_of_ones_own(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of the model is in the folder of the command, and both import TensorFlow."""
    require_ray()
    labs = {name: make_lab(tmp_path / name, empty_store) for name in ("alone", "with_ray")}

    def train(lab: Path, *launcher: str) -> None:
        write_prepared(lab, "mnist")
        command = start(lab, *launcher, study=CONVNET)
        with ended_with(command):
            finish(lab, command, 400)

    train(labs["alone"], "hydra/launcher=basic")
    # Too long for the sockets of Ray.
    folder = tmp_path / ("t" * 90)
    folder.mkdir()
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    # A cluster of another program, which has ended.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    train(labs["with_ray"], *RAY, "hydra.launcher.workers=1")
    assert len(on_disk(labs["alone"])) == 2
    the_same(labs["with_ray"], labs["alone"], study="convnet")
