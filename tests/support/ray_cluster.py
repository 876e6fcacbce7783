"""A Ray cluster of node processes on this machine, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.support.cluster_runs import until
from tests.support.flaky_server import free_port
from tests.support.services import missing

QUIET = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "2",
    "RAY_health_check_period_ms": "500",  # a lost node is noticed after two seconds
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""Environment of Ray's processes and commands: no token in the home folder, and shorter timeouts."""


class RayCluster:
    """Nodes of one processor each; the first is the head.

    Args:
        folder: folder for Ray's files.

    Attributes:
        address: address of the head node.
        nodes: processes of the nodes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start_node(self, own_disk: Mapping[Path, Path] | None = None) -> None:
        """Start one more node, and wait until it has joined.

        Args:
            own_disk: folders that it sees instead of others, by the paths of those; needs root.
        """
        place = ["--address", self.address] if self.nodes else ["--head", "--port", str(self.port)]
        place += [] if self.nodes else ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        typed = [sys.executable, "-m", "ray.scripts.scripts", "start", *place, "--num-cpus", "1"]
        typed += ["--node-ip-address", "127.0.0.1", "--block", "--disable-usage-stats"]
        if own_disk:
            mounts = [f"mount --bind '{own}' '{other}'" for other, own in own_disk.items()]
            typed = ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh", *typed]
        log = self.folder / f"node_{len(self.nodes)}.log"
        with log.open("wb") as stream:
            self.nodes.append(
                subprocess.Popen(
                    typed, stdout=stream, stderr=stream, env=os.environ | QUIET, start_new_session=True, cwd=self.folder
                )
            )
        until(lambda: "Ray runtime started" in log.read_text() or self.nodes[-1].poll() is not None)
        if self.nodes[-1].poll() is not None:
            raise RuntimeError(log.read_text()[-3000:])

    def kill_node(self, number: int) -> None:
        """Kill all processes of a node, as if its machine were lost."""
        node = self.nodes[number]
        with suppress(psutil.NoSuchProcess):
            family = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(family, timeout=30)
        node.wait()


def require_ray() -> None:
    """Skip or fail the test where Ray or Hydra's launcher for it is not installed."""
    if find_spec("ray") is None or find_spec("hydra_plugins.hydra_ray_launcher") is None:
        missing("the packages of the extra cluster (make cluster)")


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Yield a cluster without nodes, and end its nodes afterwards. Its folder has a short path, for Ray's sockets."""
    require_ray()
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    cluster = RayCluster(folder)
    try:
        yield cluster
    finally:
        for number in range(len(cluster.nodes)):
            cluster.kill_node(number)
        shutil.rmtree(folder, ignore_errors=True)
