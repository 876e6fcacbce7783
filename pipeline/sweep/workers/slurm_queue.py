"""How jobs of SLURM stand, asked of its queue.

submitit asks `sacct`, which needs accounting: on a cluster without it a job that was killed never ends for submitit,
and who waits for it waits for ever. `squeue` answers on every cluster. It forgets jobs some minutes after their end:
one that it does not list has ended.
"""

from __future__ import annotations

import subprocess
import sys
import time

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

SECONDS = 15
"""Between two questions, at most; the results of jobs are looked for each second beside that."""
END_SECONDS = 60.0
"""How long jobs that were cancelled are waited for; SLURM kills them after its KillWait, half a minute as it comes."""
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY REVOKED SPECIAL_EXIT TIMEOUT".split()  # noqa: SIM905 - a line
)


class QueueWatcher(SlurmInfoWatcher):
    """Knows the states of jobs from `squeue`; while the controller does not answer, nothing new."""

    def _make_command(self) -> list[str] | None:
        if not self._registered - self._finished:
            return None
        return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """The state of each job that has not ended, by its id."""
        text = string if isinstance(string, str) else string.decode()
        listed = dict(line.strip().split("|", 1) for line in text.splitlines() if "|" in line)
        found = {job: listed.get(job, "COMPLETED") for job in self._registered - self._finished}
        # submitit takes states that it does not know, such as SUSPENDED, for an end
        return {job: {"JobID": job, "State": state if state in ENDED else "RUNNING"} for job, state in found.items()}


def watch_queue() -> None:
    """Let submitit ask the queue from now on."""
    SlurmJob.watcher = QueueWatcher(delay_s=SECONDS)


def cancel_jobs() -> None:
    """End the jobs that were begun since and have not ended; what they train is kept at a checkpoint.

    They are waited for, as long as SLURM lets them end by themselves: until then they still write to MLflow, and what
    the command says there of how their runs ended must come last.
    """
    open_jobs = sorted(SlurmJob.watcher._registered - SlurmJob.watcher._finished)
    if not open_jobs:
        return
    done = subprocess.run(["scancel", "--quiet", *open_jobs], check=False)  # noqa: S607 - the cluster's own
    if done.returncode == 0:
        print(f"waiting for {len(open_jobs)} jobs to end, which keep a checkpoint", file=sys.stderr, flush=True)
        give_up = time.monotonic() + END_SECONDS
        while _listed().intersection(open_jobs) and time.monotonic() < give_up:
            time.sleep(0.5)


def _listed() -> set[str]:
    """The jobs of this user that wait, run or end, as the queue lists them; none while it does not answer."""
    queue = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    return set(subprocess.run(queue, check=False, capture_output=True, text=True).stdout.split())
