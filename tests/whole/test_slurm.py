"""The SLURM that tests start: it runs jobs, reports their ends, survives its controller, and leaves nothing behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support import slurm as slurm_module
from tests.support.slurm import PROGRAMS, Slurm, one_node


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with one_node() as cluster:
        yield cluster


def submitted(slurm: Slurm, folder: Path, script: str) -> str:
    """Hand a job in, and return its id."""
    file = folder / "job.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    return slurm.typed("sbatch", "--parsable", f"--chdir={folder}", f"--output={folder}/out", str(file)).strip()


@pytest.mark.parametrize(("script", "state"), [("hostname > ran", "COMPLETED"), ("touch ran; exit 3", "FAILED")])
def test_a_job_runs_and_its_state_comes_back(slurm: Slurm, tmp_path: Path, script: str, state: str) -> None:
    job = submitted(slurm, tmp_path, script)
    slurm.wait_for(lambda: job not in slurm.unfinished())
    assert slurm.states()[job] == state
    assert (tmp_path / "ran").exists()


def test_a_step_has_the_cpus_that_were_asked_for(slurm: Slurm, tmp_path: Path) -> None:
    job = submitted(slurm, tmp_path, "#SBATCH --cpus-per-task=3\nsrun sh -c 'echo $SLURM_CPUS_PER_TASK' > told")
    slurm.wait_for(lambda: job not in slurm.unfinished())
    assert (tmp_path / "told").read_text() == "3\n"


def test_a_job_that_is_cancelled_ends_with_all_that_it_started(slurm: Slurm, tmp_path: Path) -> None:
    job = submitted(slurm, tmp_path, "trap '' TERM\nsrun sh -c 'touch ran; sleep 1000' & wait; sleep 1000")
    slurm.wait_for((tmp_path / "ran").exists)
    slurm.typed("scancel", job)
    slurm.wait_for(lambda: job not in slurm.unfinished())
    assert slurm.states()[job] == "CANCELLED"
    slurm.wait_for(lambda: not [typed for typed in slurm.processes().values() if "1000" in typed])


def test_a_requeued_job_starts_again_under_its_id(slurm: Slurm, tmp_path: Path) -> None:
    job = submitted(
        slurm, tmp_path, 'echo "again ${SLURM_RESTART_COUNT:-0}" >> ran; [ "$SLURM_RESTART_COUNT" ] || sleep 1000'
    )
    slurm.wait_for((tmp_path / "ran").exists)
    slurm.typed("scontrol", "requeue", job)
    slurm.wait_for(lambda: slurm.states()[job] == "COMPLETED")
    assert (tmp_path / "ran").read_text() == "again 0\nagain 1\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_job_goes_on_while_the_controller_is_away(slurm: Slurm, tmp_path: Path, number: signal.Signals) -> None:
    job = submitted(slurm, tmp_path, "touch ran; until [ -e go ]; do sleep 0.1; done; touch done")
    slurm.wait_for((tmp_path / "ran").exists)
    started = time.time()
    if number == signal.SIGKILL:
        slurm.typed("scontrol", "update", f"jobid={job}", "comment=look")  # something to write down
        slurm.wait_for(lambda: slurm.saved() > started)
    slurm.end_controller(number)
    (tmp_path / "go").touch()
    slurm.wait_for((tmp_path / "done").exists)
    slurm.start_controller()
    slurm.wait_for(lambda: slurm.states()[job] == "COMPLETED")
    assert (tmp_path / "out").read_text() == ""


def test_it_listens_on_this_machine_alone(slurm: Slurm, tmp_path: Path) -> None:
    job = submitted(slurm, tmp_path, "srun sh -c 'touch ran; sleep 1000'")
    slurm.wait_for((tmp_path / "ran").exists)
    held = {}
    for process, (name, *_) in slurm.processes().items():
        with suppress(psutil.Error):  # one of an earlier job, which ends
            held[name] = process.net_connections("inet")
    slurm.typed("scancel", job)
    listening = {
        name: {one.laddr.ip for one in connections if one.status == "LISTEN"} for name, connections in held.items()
    }
    assert {name for name, addresses in listening.items() if addresses} >= {"slurmctld", "slurmd", "srun"}
    assert set().union(*listening.values()) == {"127.0.0.1"}


def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    with one_node() as slurm:
        running = submitted(slurm, tmp_path, "trap '' TERM\nsrun sh -c 'touch ran; sleep 1000'")
        slurm.wait_for((tmp_path / "ran").exists)
        waiting = submitted(slurm, tmp_path, "#SBATCH --cpus-per-task=4\ntouch never")
        assert slurm.unfinished() == sorted([running, waiting])
        names = {name for name, *_ in slurm.processes().values()}
        assert names >= {"munged", "slurmctld", "slurmd", "slurmstepd", "srun", "sleep"}
    assert slurm.processes() == {}
    assert not slurm.folder.exists()
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)], ids=["home", "CI"]
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("LAB_SERVICES", required)
    monkeypatch.setattr(slurm_module, "PATH", str(tmp_path))
    with pytest.raises(outcome, match=r"needs munged, slurmctld, .*Debian: slurm-wlm, munge"), one_node():
        pass


def test_a_daemon_that_ends_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in PROGRAMS:
        (tmp_path / name).write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("LAB_SERVICES", raising=False)
    monkeypatch.setattr(slurm_module, "PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"needs a SLURM that starts \(munged ended: no room\)"), one_node():
        pass
