"""Points that were found whole are not read again while their files stay the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.points import checked
from pipeline.points.checked import CHECKED, CheckedPoints
from pipeline.points.job import Job
from tests.points.test_jobs import complete
from tests.points.test_jobs import job as new_job


def look(root: Path, job: Job, read: bool = False) -> tuple[str, bool]:
    """Return the state of a job as a new command finds it, and whether it has read the point."""
    job.state = "to run"
    job.point = None
    index = CheckedPoints(root)
    index.look(job, read)
    index.save()
    return job.state, job.point is not None


def test_a_point_is_read_once(tmp_path: Path) -> None:
    job = complete(tmp_path)
    assert look(tmp_path, job) == ("done", True)
    assert look(tmp_path, job) == ("done", False)
    assert look(tmp_path, job, read=True) == ("done", True)


@pytest.mark.parametrize("name", ["weights.npz", "SHA256SUMS", "outcome.json"])
def test_a_file_that_has_changed_is_read(tmp_path: Path, name: str) -> None:
    job = complete(tmp_path)
    look(tmp_path, job)
    (job.folder.final / name).write_bytes(b"damaged")
    assert look(tmp_path, job) == ("to run", False)
    assert job.error is not None
    (job.folder.final / name).unlink()
    assert look(tmp_path, job) == ("to run", False)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_index_counts_as_empty(tmp_path: Path, damaged: bytes) -> None:
    job = complete(tmp_path)
    look(tmp_path, job)
    (tmp_path / ".points" / CHECKED).write_bytes(damaged)
    assert look(tmp_path, job) == ("done", True)


def test_nothing_is_written_without_points(tmp_path: Path) -> None:
    job = new_job(tmp_path)
    assert look(tmp_path, job) == ("to run", False)
    assert not (tmp_path / ".points").exists()


def test_another_version_of_the_code_that_reads_points_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "code" / "pipeline" / "points" / "reading.py"
    reader.parent.mkdir(parents=True)
    reader.write_text("accepts old points\n")
    monkeypatch.setattr(checked, "PROJECT", tmp_path / "code")
    job = complete(tmp_path)
    look(tmp_path, job)
    assert look(tmp_path, job) == ("done", False)
    reader.write_text("refuses old points\n")
    assert look(tmp_path, job) == ("done", True)


def test_a_point_that_was_just_trained_need_not_be_read(tmp_path: Path) -> None:
    job = complete(tmp_path)
    index = CheckedPoints(tmp_path)
    index.add(job)
    index.save()
    assert look(tmp_path, job) == ("done", False)


def test_a_point_that_is_gone_is_not_in_the_index(tmp_path: Path) -> None:
    index = CheckedPoints(tmp_path)
    index.add(new_job(tmp_path))
    index.save()
    assert not (tmp_path / ".points").exists()
