"""What is said of the report in the working tree beside that of git's HEAD."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.report.committed.summary import compare_with_committed
from pipeline.system.errors import DamagedError

HEAD = "study,backend,name,outcome,final/train/loss\r\n"
ROWS = {"bits": "bits,numpy,rate=1,finished,0.1234\r\n", "lines": "lines,numpy,rate=1,finished,0.5678\r\n"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a committed report on two studies, of which only `bits` is trained."""
    reports = tmp_path / "reports"
    (reports / "studies").mkdir(parents=True)
    (reports / "points.csv").write_bytes("".join([HEAD, *ROWS.values()]).encode())
    for study in ROWS:
        (reports / "studies" / f"{study}.md").write_text(f"# {study}\n\nLowest loss 0.123 at rate 1.\n")
        (reports / "studies" / f"{study}.png").write_bytes(b"picture")
    (tmp_path / "results" / "bits" / "numpy").mkdir(parents=True)
    (tmp_path / "results" / "bits" / "numpy" / "sweep.json").write_text("{}")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "pipeline.yaml").write_text("# a comment\nprofile: full # another\n")
    (tmp_path / ".gitattributes").write_text("*.csv -text\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    commit(tmp_path)
    return tmp_path


def commit(project: Path) -> None:
    """Commit the report as it is."""
    user = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    for arguments in (
        ["add", "conf", "reports", ".gitattributes"],
        [*user, "commit", "--quiet", "--message", "report"],
    ):
        subprocess.run(["git", "-C", str(project), *arguments], check=True)


def said(project: Path) -> list[str]:
    lines = compare_with_committed(project / "results", project / "reports", project / "conf")
    return "\n".join(lines).splitlines()


def test_a_report_that_is_as_committed_came_out_again(project: Path) -> None:
    assert said(project) == [
        "of 4 committed values 4 came out again as printed",
        "pictures of studies: 1 of 1 have the same bytes",
        "left out, because they are not trained here: lines",
    ]
    assert (project / "reports" / "differences.csv").read_text().splitlines() == [
        "file,place,committed,now,relative,why"
    ]


def test_what_differs_is_listed_with_how_far_and_why(project: Path) -> None:
    reports = project / "reports"
    changed = (reports / "points.csv").read_text().replace("0.1234", "0.1235").replace("finished", "diverged", 1)
    (reports / "points.csv").write_text(changed)
    (reports / "studies" / "bits.md").write_text("# bits\n\nLowest loss 0.143 at rate 1.\n")
    (reports / "studies" / "bits.png").write_bytes(b"another")
    first, reasons, _, head, further, flipped, listed, pictures, _ = said(project)
    assert first == "of 4 committed values 2 came out again as printed (1 of them to one unit of the last digit)"
    assert reasons == "the others: 1 chaotic: diverged point; 1 differ"
    assert head.split() == ["file", "value", "committed", "now", "why"]
    assert further.split()[-6:] == ["0.123", "0.143", "differs", "by", "16", "%"]
    # What is explained comes last.
    assert " ".join(flipped.split()) == (
        "points.csv bits numpy rate=1 outcome finished diverged chaotic: diverged point"
    )
    assert listed == "all of them: reports/differences.csv"
    assert pictures == "pictures of studies: 0 of 1 have the same bytes"


def test_a_page_that_is_gone_has_no_value_that_came_out_again(project: Path) -> None:
    (project / "reports" / "studies" / "bits.md").unlink()
    assert said(project)[0] == "of 4 committed values 2 came out again as printed"


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_report_that_cannot_be_read_is_named(project: Path, content: bytes) -> None:
    file = project / "reports" / "metrics" / "bits" / "numpy.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"points": 1}')
    commit(project)
    file.write_bytes(content)
    with pytest.raises(DamagedError, match="The report in"):
        said(project)


def test_studies_that_were_cut_short_are_not_compared_with_whole_ones(project: Path) -> None:
    lists = project / "conf" / "pipeline.yaml"
    lists.write_text(lists.read_text().replace("full", "small"))
    assert said(project) == [
        "not compared with the committed report: its profile is full, and conf/pipeline.yaml has small",
        "to train with the profile full again: make reproduce PROFILE=full",
        "to bring back only what is committed: git checkout conf/pipeline.yaml dvc.lock reports",
    ]
    assert not (project / "reports" / "differences.csv").exists()
    lists.unlink()
    assert said(project)[0] == "of 4 committed values 4 came out again as printed"


@pytest.mark.parametrize("content", [b"", b"\xff\n"])
def test_a_committed_table_without_values_has_none_to_compare(project: Path, content: bytes) -> None:
    table = project / "reports" / "points.csv"
    whole = table.read_bytes()
    table.write_bytes(content)
    commit(project)
    table.write_bytes(whole)
    assert said(project)[0] == "of 2 committed values 2 came out again as printed"


@pytest.mark.parametrize("missing", [".git", "reports"])
def test_without_a_committed_report_it_says_so(project: Path, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The folder of temporary files may lie in a repository.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    shutil.rmtree(project / missing)
    (line,) = said(project)
    assert line == "nothing to compare with: git has no committed report in reports/ (a downloaded zip has no git)"
