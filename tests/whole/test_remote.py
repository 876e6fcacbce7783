"""Results shared through a DVC remote: runs the commands of deploy/remote.md."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipeline import rebuild, train
from pipeline.sweep.command import TrainCommand
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.damage import rewrite
from tests.support.flaky_server import free_port
from tests.support.links import broken_links
from tests.support.s3 import Endpoint, s3_endpoint
from tests.support.team import all_runs, clone, make_team, team_environment, typed

pytestmark = pytest.mark.slow
PAGE = PROJECT / "deploy" / "remote.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
FOLDER, SET_UP, KEYS, LOCAL_KEYS, PUSH, COLLEAGUE, ONE_STUDY, THE_REST, ANOTHER_PLACE, FROM_THERE, GARBAGE = BLOCKS
UP_TO_DATE = [
    "curve_restarts numpy: 1 point, up to date",
    "line_y2x keras: 3 points, up to date",
    "line_y2x numpy: 3 points, up to date",
]


@dataclass(frozen=True)
class Trained:
    """A lab in git that was trained, and has no remote yet; not to be changed."""

    lab: Path
    environment: dict[str, str]

    def copy(self, folder: Path) -> Path:
        """The lab and its origin, in another folder, without MLflow."""
        shutil.copytree(self.lab.parent / "lab.git", folder / "lab.git")
        return Path(
            shutil.copytree(self.lab, folder / "owner", ignore=shutil.ignore_patterns("mlflow.db", "artifacts"))
        )


@dataclass(frozen=True)
class Shared:
    """What the page's commands have come to: a remote in S3, who pushed to it, and a colleague who pulled.

    Attributes:
        fill_in: puts our own addresses and keys in the place of the page's.
        told: what the colleague's commands printed.
    """

    owner: Path
    colleague: Path
    endpoint: Endpoint
    environment: dict[str, str]
    fill_in: Callable[[str], str]
    told: str

    @property
    def origin(self) -> Path:
        return self.owner.parent / "lab.git"

    @property
    def keys(self) -> dict[str, str]:
        """The environment of somebody who may use the remote."""
        return self.environment | self.endpoint.credentials


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Trained:
    folder = tmp_path_factory.mktemp("team")
    environment = team_environment(folder)
    lab = make_team(folder, environment)
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    typed("dvc repro", lab, environment)
    return Trained(lab, environment)


@pytest.fixture(scope="module")
def shared(trained: Trained, tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    owner, environment = trained.copy(folder), trained.environment
    with s3_endpoint(folder) as endpoint:
        ours = {
            "https://git.example.org/lab.git": str(folder / "lab.git"),
            "https://s3.example.org": endpoint.url,
            r"\bKEY\b": endpoint.credentials["AWS_ACCESS_KEY_ID"],
            r"\bSECRET\b": endpoint.credentials["AWS_SECRET_ACCESS_KEY"],
            # A store that is ready: making one takes seconds.
            r"^(cd lab)$": rf"\1; cp {empty_store} mlruns/mlflow.db",
        }

        def fill_in(script: str) -> str:
            for example, own in ours.items():
                script = re.sub(example, own, script, flags=re.MULTILINE)
            return script

        typed(fill_in(SET_UP), owner, environment)
        typed(fill_in(KEYS) + PUSH, owner, environment)
        told = typed(fill_in(COLLEAGUE), folder, environment | endpoint.credentials).stdout
        yield Shared(owner, folder / "lab", endpoint, environment, fill_in, told)


@pytest.fixture(scope="module")
def pushed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lab, its origin, and the store that all was pushed to; not to be changed."""
    folder = tmp_path_factory.mktemp("pushed")
    owner = trained.copy(folder)
    typed(f"{FOLDER.replace('/srv/lab', '../store')}git add .dvc/config; {PUSH}", owner, trained.environment)
    return folder


def with_folder(pushed: Path, tmp_path: Path, environment: dict[str, str]) -> tuple[Path, Path]:
    """A copy of it: the lab, and a colleague's clone, which share the folder that everything was pushed to."""
    copy = shutil.copytree(pushed, tmp_path / "copy")
    typed("git remote set-url origin ../lab.git", copy / "owner", environment)
    return copy / "owner", clone(copy / "lab.git", copy / "colleague", environment)


def attempts(folder: Path, pattern: str) -> dict[str, tuple[str, int]]:
    """Of each training by its point: the id that it got when it began, and when that was."""
    runs = {file.parent.name: json.loads(file.read_text()) for file in folder.glob(pattern)}
    return {name: (run["attempt"], run["started"]) for name, run in runs.items()}


def rebuilt(lab: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """Do in this process what `python -m pipeline.rebuild` does, and return its lines, and what is missing.

    As a process, it is run by the blocks of the page.
    """
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.rebuild.PROJECT", lab)
        rebuild.task(OmegaConf.create({"tracking": {"name": "local", "uri": None}, "results": "results"}))
    told = capsys.readouterr()
    return sorted(told.out.splitlines()), told.err


def contents(lab: Path) -> dict[Path, bytes]:
    """The files of all results, by their path in the lab."""
    return {file.relative_to(lab): file.read_bytes() for file in lab.glob("results/**/*") if file.is_file()}


def stored(lab: Path, file: str) -> str:
    """The name that a file of a lab has in a remote."""
    digest = md5((lab / file).read_bytes(), usedforsecurity=False).hexdigest()
    return f"files/md5/{digest[:2]}/{digest[2:]}"


# --- what the colleague has


def test_a_colleague_has_the_same_runs(trained: Trained, shared: Shared) -> None:
    here, there = all_runs(trained.lab), all_runs(shared.colleague)
    assert len(here) == 9  # seven points, and two sweeps
    assert {run["status"] for run in there.values()} == {"FINISHED"}
    assert there == here
    written = re.findall(r"(\d) points?, (\d) written", shared.told)
    assert sorted(written) == [("1", "1"), ("3", "3"), ("3", "3")]


def test_a_colleague_has_trained_nothing(trained: Trained, shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    begun = attempts(trained.lab, ".points/*/run.json")
    assert len(begun) == 7
    assert "Data and pipelines are up to date." in shared.told
    assert "Running stage" not in typed("dvc repro", shared.colleague, shared.environment).stdout
    assert rebuilt(shared.colleague, capsys) == (UP_TO_DATE, "")
    assert attempts(shared.colleague, ".points/*/run.json") == begun


def test_a_colleague_who_trains_what_is_there_gets_no_other_runs(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has imported MLflow already."""
    before = all_runs(shared.colleague)
    monkeypatch.chdir(shared.colleague)
    monkeypatch.setattr("pipeline.sweep.command.PROJECT", shared.colleague)
    monkeypatch.setattr("pipeline.tracking.sync.process.launch", lambda first: None)
    line = "train experiment=line_y2x backend=numpy profile=small results=results/line_y2x/numpy"
    monkeypatch.setattr(sys, "argv", line.split())
    # The results record how they were asked for.
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", train.__spec__)
    command = TrainCommand()
    assert cli.run(command.train_point, "config", command.finish) == 0
    assert "3 points: 3 done" in capsys.readouterr().err
    assert all_runs(shared.colleague) == before


def test_the_report_is_the_same_to_the_byte(trained: Trained, shared: Shared) -> None:
    for file in ("reports/README.md", "reports/points.csv", "reports/studies/line_y2x.png"):
        (shared.colleague / file).unlink()
    assert "skipped:" not in typed("python -m pipeline.compare", shared.colleague, shared.environment).stderr
    assert typed("git status --porcelain", shared.colleague, shared.environment).stdout == ""
    for file in ("points.csv", "parity.csv", "README.md", "studies/line_y2x.png", "curves/line_y2x.csv"):
        assert (shared.colleague / "reports" / file).read_bytes() == (trained.lab / "reports" / file).read_bytes()


def test_no_key_gets_into_the_repository(shared: Shared) -> None:
    typed(shared.fill_in(LOCAL_KEYS), shared.owner, shared.environment)
    in_the_remote = typed("dvc status --cloud", shared.owner, shared.environment).stdout
    assert "Cache and remote 'team' are in sync." in in_the_remote
    committed = typed("git add .; git grep --cached . .dvc", shared.owner, shared.environment).stdout
    assert shared.endpoint.url in committed
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert shared.endpoint.credentials[name] not in committed


# --- a part of it


def test_one_study_alone_gives_its_runs_and_says_what_is_not_there(
    trained: Trained, pushed: Path, tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, colleague = with_folder(pushed, tmp_path, trained.environment)
    shutil.copy(empty_store, colleague / "mlruns" / "mlflow.db")
    done = typed(ONE_STUDY + "python -m pipeline.compare", colleague, trained.environment)
    assert "line_y2x numpy: 3 points, 3 written" in done.stdout
    missing = "2 of 3 results folders listed in dvc.lock are missing: results/curve_restarts/numpy, results/line_y2x/k"
    assert done.stderr.count(missing) == 2
    everything = all_runs(trained.lab)
    assert all_runs(colleague) == {key: run for key, run in everything.items() if key[:2] == ("line_y2x", "numpy")}
    refused = typed("dvc pull", colleague, trained.environment, fails=True).stderr
    assert "reports/curves" in refused
    assert "--force" in refused
    typed(THE_REST, colleague, trained.environment)
    (colleague / "results" / "line_y2x" / "keras" / "sweep.json").unlink()
    sent, told = rebuilt(colleague, capsys)
    assert sent == ["curve_restarts numpy: 1 point, 1 written", UP_TO_DATE[2]]
    assert "1 of 3 results folders listed in dvc.lock are missing: results/line_y2x/keras\n" in told
    assert all_runs(colleague) == {key: run for key, run in everything.items() if key[1] == "numpy"}
    (colleague / "results" / "line_y2x" / "numpy" / "learning_rate=0.1" / "run.json").unlink()
    with pytest.raises(LabError) as unread:
        rebuilt(colleague, capsys)
    assert "learning_rate=0.1 cannot be read" in str(unread.value)
    assert "retrain the point, or restore it with dvc pull (deploy/remote.md)" in str(unread.value)
    shutil.rmtree(colleague / "results" / "line_y2x" / "numpy" / "learning_rate=0.1")
    typed("dvc pull", colleague, trained.environment)
    assert attempts(colleague, "results/*/*/*/run.json") == attempts(owner, "results/*/*/*/run.json")


def test_where_nothing_comes_our_commands_say_what_is_missing(
    shared: Shared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = clone(shared.origin, tmp_path / "lab", shared.environment)
    nobody = f"http://127.0.0.1:{free_port()}"
    for change, wrong, said in (
        ("true", {"AWS_SECRET_ACCESS_KEY": "another"}, "Forbidden"),
        (f"dvc remote modify --local team endpointurl {nobody}", {}, "Could not connect to the endpoint URL"),
    ):
        typed(change, lab, shared.environment)
        told = typed("dvc pull", lab, shared.keys | wrong, fails=True).stderr
        assert said in told
        assert said in PAGE.read_text()
    sent, missing = rebuilt(lab, capsys)
    assert sent == ["nothing to write to this store"]
    assert "3 of 3 results folders listed in dvc.lock are missing" in missing
    told = typed("python -m pipeline.compare", lab, shared.environment, fails=True).stderr
    assert told.startswith("error: There are no results in ")
    assert told.count("error: ") == 1
    assert "dvc pull" in told
    assert typed("git status --porcelain", lab, shared.environment).stdout == ""


def test_dvc_without_its_s3_part_says_what_the_page_says(shared: Shared, tmp_path: Path) -> None:
    hidden = tmp_path / "dvc_s3" / "__init__.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ModuleNotFoundError(\"No module named 'dvc_s3'\", name='dvc_s3')\n")
    told = typed("dvc push", shared.owner, shared.keys | {"PYTHONPATH": str(tmp_path)}, fails=True).stderr
    words = "s3 is supported, but requires 'dvc-s3' to be installed"
    assert words in told
    assert words in PAGE.read_text().replace("\n", " ")


# --- damage


def test_a_damaged_object_that_dvc_takes_is_found_by_our_commands(
    trained: Trained, pushed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner, colleague = with_folder(pushed, tmp_path, trained.environment)
    damaged = owner.parent / "store" / stored(owner, "results/line_y2x/numpy/learning_rate=0.1/weights.npz")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.chmod(0o644)
    rewrite(damaged, content)
    # The rest would only be written: that is seen above.
    typed("dvc pull train_numpy@line_y2x", colleague, trained.environment)
    words = "weights.npz is not the file that was written: its SHA-256 differs"
    with pytest.raises(LabError, match=words):
        rebuilt(colleague, capsys)
    told = typed("python -m pipeline.compare", colleague, trained.environment, fails=True).stderr
    assert told.count("error: ") == 1
    assert words in told
    assert typed("git status --porcelain", colleague, trained.environment).stdout == ""


def test_a_damaged_object_that_dvc_refuses_is_pulled_from_another_place(shared: Shared, tmp_path: Path) -> None:
    lab = clone(shared.origin, tmp_path / "lab", shared.environment)
    client, bucket = shared.endpoint.client(), shared.endpoint.bucket
    key = f"results/{stored(shared.owner, 'results/line_y2x/keras/learning_rate=0.1/weights.npz')}"
    content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    client.put_object(Bucket=bucket, Key=key, Body=content[:-1] + b"?")
    told = typed("dvc pull", lab, shared.keys, fails=True).stderr
    assert "results/line_y2x/keras" in told
    # What `rebuild` and `compare` make of a part: above.
    assert {path.relative_to(lab / "results").as_posix() for path in lab.glob("results/*/*")} == {
        "curve_restarts/numpy",
        "line_y2x/numpy",
    }
    typed(shared.fill_in(ANOTHER_PLACE), shared.owner, shared.keys)
    typed(FROM_THERE, lab, shared.keys)
    assert len(contents(lab)) > 10
    assert contents(lab) == contents(shared.owner)
    assert typed("git status --porcelain", lab, shared.environment).stdout == ""
    client.put_object(Bucket=bucket, Key=key, Body=content)


# --- garbage


def test_garbage_is_what_no_commit_of_any_branch_needs(trained: Trained, pushed: Path, tmp_path: Path) -> None:
    owner, colleague = with_folder(pushed, tmp_path, trained.environment)
    store = owner.parent / "store"
    before = {path for path in store.rglob("*") if path.is_file()}
    kept = store / pushed_change(colleague, trained.environment)
    nobody = md5(b"nobody's", usedforsecurity=False).hexdigest()
    forgotten = store / "files" / "md5" / nobody[:2] / nobody[2:]
    forgotten.parent.mkdir(exist_ok=True)
    forgotten.write_bytes(b"nobody's")
    assert str(forgotten) in typed(GARBAGE, owner, trained.environment).stdout
    assert forgotten.exists()
    typed(GARBAGE.replace("--dry", "--force"), owner, trained.environment)
    assert {path for path in store.rglob("*") if path.is_file()} == before | {kept}


def pushed_change(lab: Path, environment: dict[str, str]) -> str:
    """Push another content of an output, which only a branch has. Returns its name in the remote."""
    (lab / "data").mkdir(exist_ok=True)
    (lab / "data" / "shared_pages.txt").write_text("a branch's")
    then = "git commit --quiet -am 'Try it'; git push --quiet origin HEAD:trial"
    typed(f"dvc commit --force shared_pages; dvc push data/shared_pages.txt; {then}", lab, environment)
    return stored(lab, "data/shared_pages.txt")


# --- the page


def test_what_the_page_links_to_is_there() -> None:
    assert broken_links(PAGE) == []
    assert f"({PAGE.relative_to(PROJECT)})" in (PROJECT / "pipeline" / "points" / "results.py").read_text()
