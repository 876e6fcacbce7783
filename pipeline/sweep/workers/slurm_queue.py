"""Query the states of SLURM jobs with `squeue`.

submitit asks `sacct`, which needs accounting. On a cluster without it, submitit never learns that a job was killed, and
waits for it forever. `squeue` answers on every cluster. It forgets jobs some minutes after their end, so a job that it
does not list has ended.
"""

from __future__ import annotations

import logging
import subprocess
import time

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from pipeline.system.wording import counted

log = logging.getLogger(__name__)

# Maximum time between two calls of squeue. Independently of it, submitit looks for the results of jobs every second.
QUERY_SECONDS = 15
# How long to wait for jobs that were cancelled. SLURM kills them after its KillWait, 30 s by default.
END_SECONDS = 60.0
# The states in which a job does not run any more and will not run again.
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY REVOKED SPECIAL_EXIT TIMEOUT".split()  # noqa: SIM905 - a line
)


class QueueWatcher(SlurmInfoWatcher):
    """Reads the states of jobs from `squeue`. If the controller does not answer, the last states are kept."""

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return the state of each job that has not ended, by its id, from the output of `squeue`."""
        if isinstance(string, bytes):
            string = string.decode()
        listed = dict(line.strip().split("|", 1) for line in string.splitlines() if "|" in line)
        # COMPLETED stands for any end: submitit then looks for the result, and finds out if there is none.
        found = {job: listed.get(job, "COMPLETED") for job in self._registered - self._finished}
        # submitit treats every state that it does not know, such as SUSPENDED, as an end.
        return {job: {"JobID": job, "State": state if state in ENDED else "RUNNING"} for job, state in found.items()}


def watch_queue() -> None:
    """Make submitit query the queue from now on."""
    SlurmJob.watcher = QueueWatcher(delay_s=QUERY_SECONDS)


def cancel_jobs() -> None:
    """Cancel the jobs of this process that have not ended, and wait until they have saved a checkpoint and ended."""
    open_jobs = sorted(SlurmJob.watcher._registered - SlurmJob.watcher._finished)
    if not open_jobs:
        return
    done = subprocess.run(["scancel", "--quiet", *open_jobs], check=False)  # noqa: S607 - the cluster's own
    if done.returncode == 0:
        log.info(f"waiting for {counted(len(open_jobs), 'job')} to save a checkpoint and end")
        # Until they end, the jobs write to MLflow. What this command writes there about the end of their runs must
        # come after that.
        give_up = time.monotonic() + END_SECONDS
        while _listed().intersection(open_jobs) and time.monotonic() < give_up:
            time.sleep(0.5)


def _listed() -> set[str]:
    """Return the user's jobs that the queue lists as pending, running or ending; none if it does not answer."""
    queue = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    return set(subprocess.run(queue, check=False, capture_output=True, text=True).stdout.split())
