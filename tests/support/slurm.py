"""SLURM on only this machine: munged, slurmctld and slurmd in a temporary folder, without cgroups and accounting."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.flaky_server import free_port
from tests.support.services import missing

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian has the daemons in /usr/sbin, which is not on every user's path."""
CPUS, MEGABYTES = 4, 32_000
"""Resources that the node reports, regardless of this machine's."""
START_SECONDS, JOB_SECONDS = 60.0, 180.0
CONFIG = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
ReturnToService=2
MessageTimeout=30
KillWait=1
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={megabytes} State=UNKNOWN
PartitionName=lab Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""cred_expire is the time that a requeued job waits before it starts, KillWait the time between SIGTERM and SIGKILL:
seconds instead of two minutes and half a minute."""


class SlurmError(Exception):
    """A daemon did not start."""


class Slurm:
    """A cluster of one node.

    Args:
        folder: folder of its files, which every user can read.

    Attributes:
        environment: variables that sbatch, squeue and other commands need to find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the daemons, and wait until the node accepts jobs.

        Raises:
            SlurmError: one of them ended, or did not answer.
        """
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        text = CONFIG.format(
            host=platform.node().split(".")[0],
            user=psutil.Process().username(),
            controller_port=free_port(),
            node_port=free_port(),
            folder=self.folder,
            cpus=CPUS,
            megabytes=MEGABYTES,
        )
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        files = {"key": key, "socket": self.folder / "munge.socket", "pid": self.folder / "munged.pid"}
        files |= {"log": self.folder / "munged.log", "seed": self.folder / "munge.seed"}
        names = {"key": "key-file", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
        self._launch("munged", "--foreground", *(f"--{names.get(name, name)}={file}" for name, file in files.items()))
        self._until(files["socket"].exists)
        self._launch("slurmctld", "-D")
        self._launch("slurmd", "-D")
        self._until(lambda: self.typed("sinfo", "--noheader", "--format=%T", check=False).strip() == "idle")

    def typed(self, *command: str, check: bool = True) -> str:
        """Run a command of SLURM, and return its output."""
        done = subprocess.run(
            command, env=os.environ | self.environment, check=False, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode != 0:
            raise SlurmError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return the state of every job that the controller knows, by id; the id of an array's element is like 3_0."""
        told = self.typed("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T").split()
        return dict(line.split("|") for line in told)

    def unfinished(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return sorted(self.typed("squeue", "--noheader", "--array", "--format=%i").split())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on jobs is true.

        Raises:
            SlurmError: it does not become true.
        """
        self._until(condition, JOB_SECONDS)

    def end_controller(self, number: signal.Signals) -> None:
        """End slurmctld. After SIGKILL it loses all changes since its last save, which it does about every 5 s."""
        self._end("slurmctld", number)

    def saved(self) -> float:
        """Return the time at which the controller last saved the state of its jobs, in seconds since 1970."""
        return (self.folder / "state" / "job_state").stat().st_mtime

    def start_controller(self) -> None:
        """Start slurmctld again, which resumes from its saved state, and wait until it answers."""
        self._launch("slurmctld", "-D")
        self._until(lambda: bool(self.typed("sinfo", "--noheader", check=False)))

    def processes(self) -> dict[psutil.Process, list[str]]:
        """Return all processes with this cluster's environment, including its daemons, and those that serve its jobs.

        Returns:
            The name and the command line of each process.
        """
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.name() == "slurmstepd":  # it has no environment, but a socket for each step of a job
                    ours = any(
                        str(held.laddr).startswith(f"{self.folder}/") for held in process.net_connections("unix")
                    )
                else:
                    ours = process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if ours:
                    found[process] = [process.name(), *process.cmdline()]
        return found

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until they have ended.

        Raises:
            SlurmError: they do not end.
        """
        self.typed("scancel", "--quiet", f"--user={psutil.Process().username()}")
        self._until(lambda: not self.unfinished())

    def stop(self) -> None:
        """Cancel all jobs and end the daemons; kill all remaining processes."""
        controller = self._daemons.get("slurmctld")
        if controller is not None and controller.poll() is None:
            with suppress(SlurmError, subprocess.TimeoutExpired):
                self.cancel_all()
        for name in ("slurmd", "slurmctld", "munged"):
            self._end(name, signal.SIGTERM)
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()

    def _launch(self, name: str, *arguments: str) -> None:
        path = shutil.which(name, path=PATH)
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [str(path), *arguments],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=os.environ | self.environment,
                start_new_session=True,  # Ctrl-C must reach only the tests, which end the daemons
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _until(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        give_up = time.monotonic() + seconds
        while not condition():
            for name, daemon in self._daemons.items():
                if daemon.poll() is not None:
                    raise SlurmError(f"{name} ended: {self._last_words(name)}")
            if time.monotonic() >= give_up:
                raise SlurmError(
                    f"what was waited for did not come: {self._last_words('slurmctld')} {self._last_words('slurmd')}"
                )
            time.sleep(0.2)  # a condition is often a command of SLURM, which takes 20 ms

    def _last_words(self, name: str) -> str:
        file = self.folder / f"{name}.out"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return " / ".join(lines[-3:])


@contextmanager
def one_node() -> Iterator[Slurm]:
    """Yield a cluster of one node that accepts jobs, and remove it afterwards. Skip the test if SLURM cannot run."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if absent:
        missing(f"{', '.join(absent)} (Debian: slurm-wlm, munge)")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:  # a socket's path must be short
        folder = Path(name)
        folder.chmod(0o755)  # munged requires a socket that every user can reach
        slurm = Slurm(folder)
        try:
            try:
                slurm.start()
            except SlurmError as error:
                missing(f"a SLURM that starts ({error})")
            yield slurm
        finally:
            slurm.stop()
