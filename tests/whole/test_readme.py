"""Every command in the README and in docs/ works: run here as it is printed, or by .ci/run, which has a network."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import IO, Any

import mlflow.pyfunc
import pytest
from pandas import DataFrame
from pandas.testing import assert_frame_equal

from pipeline import rebuild, remove, ui
from pipeline.config.schema import Tracking
from pipeline.system.project import PROJECT
from pipeline.tracking.models import log_models
from pipeline.tracking.store import open_store
from pipeline.tracking.tracker import Tracker
from tests.support.flaky_server import free_port
from tests.support.hostile import Terminal
from tests.support.links import broken_links, links
from tests.support.prepared_images import write_prepared
from tests.support.raw_rows import described, people, prepared, trained_point
from tests.support.served import clean_environment, end, serving
from tests.support.swept import rates, swept

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
# The commands of this page are run in its order: test_your_own.py.
IN_ORDER = PROJECT / "docs" / "your-own.md"
BLOCKS = [
    block for page in PAGES if page != IN_ORDER for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
]
COMMANDS = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines()))
BY_CI = [
    "make reproduce",
    "make try",
    "make test",
    "make study NAME=bits DATA=three_bits",
    "dvc repro page@bits",
    "make faults",
    "python -m pipeline.fetch data=fashion_mnist",
    "python -m pipeline.prepare data=fashion_mnist",
    "python -m pipeline.train data=fashion_mnist",
    "python -m pipeline.train experiment=three_bits",
    "python -m pipeline.train experiment=mnist backend=keras training.epochs=5",
    "python -m pipeline.train experiment=line_y3x dtype=float64",
    "python -m pipeline.train experiment=two_bits force=true",
    "make cluster",
    "python -m pipeline.train experiment=mnist_grid hydra/launcher=joblib",
    "python -m pipeline.train experiment=mnist_grid backend=keras repeats=1 training.epochs=1 hydra/launcher=ray",
    "python -m pipeline.train experiment=trainability_map grid.x.logspace.start=20 grid.x.logspace.stop=80",
    "python -m pipeline.train experiment=curve_restarts",
    "python -m pipeline.train experiment=curve_restarts 'data.expression=\"sin(3 * x) + 0.1 * x**2\"' optimizer=adam",
    "python -m pipeline.train experiment=curve_divergence data=curve_points",
    "python -m pipeline.train experiment=lr_range_test results=results/lr_range_test/numpy",
    "python -m pipeline.suggest",
    "python -m pipeline.train experiment=lr_range_check optimizer.learning_rate=$(python -m pipeline.suggest)",
    "dvc metrics show",
    "dvc plots show",
    "dvc exp run -S 'conf/experiment/three_bits.yaml:training.epochs=30000'",
    "dvc params diff",
    "dvc metrics diff",
    "dvc exp run --queue -S 'conf/experiment/three_bits.yaml:training.epochs=1000,2000' train_numpy@three_bits",
    "dvc exp run --run-all",
    "dvc exp run -S \"conf/experiment/three_bits.yaml:hydra.sweeper.params={optimizer.learning_rate: '1,10', "
    'model.hidden_size: 4}" train_numpy@three_bits',
    "dvc exp show",
]
TRAINING = [line for line in COMMANDS if line.startswith("python -m pipeline.train ") and line not in BY_CI]
PREDICTIONS = [line for line in COMMANDS if line.startswith("python -m pipeline.predict ")]
OF_A_FILE = "python -m pipeline.train experiment=momentum"
UI = [line for line in COMMANDS if line.startswith("make ui")]
PREDICTED = [line for line in COMMANDS if "mlflow models predict" in line]
SERVED = [line for line in COMMANDS if "mlflow models serve" in line or line.startswith("curl ")]
AFTERWARDS = ["python -m pipeline.rebuild", "python -m pipeline.remove study=three_bits"]


@pytest.fixture
def project(lab: Path, empty_store: Path) -> Path:
    """A copy of the project with the README's own experiment, made-up images in the place of real ones, and a store."""
    (lab / "mlruns").mkdir()
    shutil.copy(empty_store, lab / "mlruns" / "mlflow.db")
    for name in ("mnist", "fashion_mnist"):
        write_prepared(lab, name)
    [example] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    [file] = re.findall(r"# (conf/experiment/\w+\.yaml)", example)
    (lab / file).write_text(example)
    return lab


@pytest.mark.parametrize("page", [*PAGES, *(PROJECT / "deploy").glob("*.md")], ids=lambda page: page.name)
def test_what_a_page_shows_and_links_to_exists(page: Path) -> None:
    assert broken_links(page) == []
    assert "@@" not in page.read_text()


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(PROJECT / link.partition("#")[0]).resolve() for link in links(PAGES[0])}
    assert set(PAGES[1:]) <= reached


def test_every_link_of_the_report_leads_somewhere() -> None:
    pages = sorted((PROJECT / "reports").rglob("*.md"))
    assert PROJECT / "reports" / "README.md" in pages
    assert {str(page.relative_to(PROJECT)): found for page in pages if (found := broken_links(page))} == {}


def test_the_glossary_explains_at_most_sixteen_terms() -> None:
    section = (PROJECT / "docs" / "architecture.md").read_text().partition("## Glossary")[2].partition("\n## ")[0]
    terms = re.findall(r"^\| ([\w ]+) \| (.+) \|$", section, re.MULTILINE)[1:]
    assert 10 <= len(terms) <= 16
    assert all(len(meaning) > 30 for _, meaning in terms)


def test_links_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "# What it is, and why\n[a](page.md#what-it-is-and-why) [b](#nothing) ![c](no.png)\n"
    )
    assert broken_links(tmp_path / "page.md") == ["#nothing", "no.png"]


def test_no_command_is_left_out() -> None:
    assert len(TRAINING) >= 3
    assert OF_A_FILE in TRAINING
    assert len([command for command in COMMANDS if command.startswith("python -m pipeline.train ")]) >= 8
    assert sorted(COMMANDS) == sorted([*BY_CI, *TRAINING, *PREDICTIONS, *AFTERWARDS, *UI, *PREDICTED, *SERVED])


@pytest.mark.parametrize("command", UI)
def test_the_options_of_the_ui_are_what_a_page_says(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers themselves are started in test_ui.py, test_ui_proxy.py and test_browser.py."""
    asked = subprocess.run(["make", "-n", *shlex.split(command)[1:]], cwd=PROJECT, capture_output=True, text=True)
    # Within another make, it also names its directory.
    [line] = [line for line in asked.stdout.splitlines() if line.startswith("python -m pipeline.ui")]
    typed = shlex.split(line)
    served: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ui, "serve", lambda *arguments: served.append(arguments))
    monkeypatch.setattr(sys, "argv", typed[2:])
    assert ui.main() == 0
    ((_, port, _, proxy),) = served
    assert port == 5000
    assert (proxy is not None) == ("UI_PROXY" in command)


@pytest.mark.parametrize("command", BY_CI)
def test_ci_runs_it(command: str) -> None:
    script = (PROJECT / ".ci" / "run").read_text()
    typed = [re.sub(r" (VENV=|KILLS=|PROFILE=|--no-pager).*", "", line.strip()) for line in script.splitlines()]
    assert command in typed


@pytest.mark.parametrize("command", TRAINING)
def test_training_command(
    command: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process and without MLflow. As processes, .ci/run starts trainings and studies, none with `-m`.

    A study from a file that a person has written is also trained, as a process, in test_your_own.py.
    """
    # What the page puts into conf/ is there in the copy of the project only.
    own = ("--config-dir", str(project / "conf")) if command == OF_A_FILE else ()
    ended = Terminal(project, monkeypatch, capsys).train(*own, *shlex.split(command)[3:])
    assert ended.code == 0, ended.err
    if "dry_run=true" in command:
        assert ended.out.count("to run") == 14
        return
    assert list((project / ".points").glob("*/outcome.json"))
    assert re.search(r"^(learning rate .*)?verdict ", ended.out, re.MULTILINE)
    assert "\nNext: `make ui`" in ended.out
    if "hydra/sweeper=refine" in command:
        _ends_as_shown(ended.out, command)


def _ends_as_shown(out: str, command: str) -> None:
    """Check that a command ends with the lines that its page shows; numbers may differ as those of processors do."""
    page = (PROJECT / "docs" / "grids.md").read_text()
    [shown] = re.findall(rf"{re.escape(command)}\n```\n\n.*\n\n```\n(.*?)```", page, re.DOTALL)
    number = r"\d[\d.e+-]*"
    end = "\n".join(out.splitlines()[-len(shown.splitlines()) :]) + "\n"
    assert re.sub(number, "N", end) == re.sub(number, "N", shown)
    printed = [float(found) for found in re.findall(number, end)]
    assert printed == pytest.approx([float(found) for found in re.findall(number, shown)], rel=0.05)


@pytest.mark.parametrize("command", PREDICTIONS)
def test_prediction_command(
    command: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Terminal(project, monkeypatch, capsys).predict(*shlex.split(command)[3:])
    assert ended.code == 0, ended.err
    assert "no prediction" not in ended.out
    page = (PROJECT / "docs" / "curvature.md").read_text()
    shown = re.findall(rf"{re.escape(command)}\n```\n\n```\n(.*?)```", page, re.DOTALL)
    assert shown in ([], [ended.out])
    assert [path.name for path in project.glob(".points/*")] == [".breaking_rates"]


def test_a_page_shows_what_a_prediction_prints() -> None:
    page = (PROJECT / "docs" / "curvature.md").read_text()
    assert any(f"{command}\n```\n\n```\n" in page for command in PREDICTIONS)


@pytest.mark.usefixtures("sketched")
def test_what_can_be_done_with_trained_points(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process. As processes, the commands are run in test_rebuild.py and test_remove.py."""
    common = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=100")
    swept(project, rates("1", "10", common=common))  # what is typed for that, .ci/run types
    terminal, told = Terminal(project, monkeypatch, capsys), []
    for command, module in zip(AFTERWARDS, (rebuild, remove), strict=True):
        _, _, name, *arguments = shlex.split(command)
        assert name == module.__name__
        monkeypatch.setattr(module, "PROJECT", project)
        ended = terminal.type(module.task, name.removeprefix("pipeline."), lambda: None, *arguments)
        assert ended.code == 0, ended.err
        told.append(ended.out)
    assert told[0] == "three_bits numpy: 2 points, up to date\n"
    assert re.search(r"points +2 .*\n.*MLflow runs +3\n\nnothing deleted yet", told[1], re.DOTALL)
    assert len(list((project / ".points").glob("*/outcome.json"))) == 2


@pytest.mark.slow
def test_a_model_predicts_and_is_served(project: Path) -> None:
    data = prepared(project, "classification")
    point = trained_point(project, described(data, "optimizer.learning_rate=0.1", "training.batch_size=10"))
    client, experiment_id = open_store(Tracking(name="local", uri=None), "people", project)
    run_id = client.create_run(experiment_id).info.run_id
    log_models(client, experiment_id, run_id, point)
    model = next(one for one in client.search_logged_models([experiment_id]) if one.name == "final")
    rows = people(5).assign(age=[20, 30, 35, 40, 50])
    rows.to_csv(project / "new_rows.csv", index=False)
    expected = mlflow.pyfunc.load_model(model.artifact_location).predict(rows).to_dict("records")

    page = (PROJECT / "docs" / "comparing.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = f"{snippet}\nprint(predictions.to_json(orient='records', double_precision=15))"
    typed = [sys.executable, "-I", "-c", code.replace("MODEL_ID", model.model_id)]
    done = subprocess.run(typed, cwd=project, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_frame_equal(DataFrame(json.loads(done.stdout)), DataFrame(expected), check_dtype=False)

    known = clean_environment(MODEL_ID=model.model_id)
    (command,) = PREDICTED
    done = subprocess.run(["bash", "-c", command], cwd=project, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_frame_equal(DataFrame(json.loads(done.stdout)["predictions"]), DataFrame(expected), check_dtype=False)

    port = free_port()
    serve, command = [line.replace("5001", str(port)) for line in SERVED]
    with serving(serve, port, project, known):
        done = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answer = DataFrame(json.loads(done.stdout)["predictions"])
    (shown,) = re.findall(r"^\{\"predictions.*$", page, re.MULTILINE)
    assert_frame_equal(answer, DataFrame(json.loads(shown)["predictions"]), rtol=0, atol=0.01)


@pytest.mark.slow
def test_make_ui_answers(project: Path) -> None:
    shutil.copy(PROJECT / "Makefile", project)
    store = (project / "mlruns").rename(project / "elsewhere")
    venv = Path(sys.executable).parent.parent
    make = ["make", "ui", f"VENV={venv}", "-o", f"{venv}/.installed", "PORT=0"]
    without_runs = subprocess.run(make, cwd=project, capture_output=True, text=True)
    assert without_runs.returncode != 0
    assert "no runs yet" in without_runs.stderr
    store.rename(project / "mlruns")
    Tracker(Tracking(name="local", uri=None), "three_bits", project)
    server = subprocess.Popen(make, cwd=project, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        # `make ui` prints the links once the server answers, and nothing after that.
        [link] = re.findall(r"^three_bits +(http\S+)$", _until(server.stdout, "all studies"), re.MULTILINE)
        with urllib.request.urlopen(link, timeout=60) as answer:
            assert "MLflow" in answer.read().decode()
    finally:
        end(server)


def _until(lines: IO[str], last: str) -> str:
    """Return what is printed up to the line that starts with `last`, or up to the end of the process."""
    printed = ""
    for line in lines:
        printed += line
        if line.startswith(last):
            break
    return printed
