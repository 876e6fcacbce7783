from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import cast

import pytest
from omegaconf import DictConfig, OmegaConf

from pipeline.compare import compare, read_trained, write_report
from pipeline.data.arrays import Arrays
from pipeline.points.point import Point
from pipeline.points.results import read_commands, read_results
from pipeline.report.combined_pages import published_page
from pipeline.report.earlier import Earlier
from pipeline.report.published.reproduction import cells
from pipeline.report.rows import points_rows
from pipeline.report.study_page import Trained, study_page
from pipeline.studies.experiments import ordered, read_experiments
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT
from tests.support.hostile import refuses_without_results
from tests.support.links import broken_links, links
from tests.support.maps import map_point
from tests.support.trained import sweep, write_results

PUBLISHED = PROJECT / "published"
STUDIES = ordered({})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_images: Arrays) -> Path:
    """Three studies, small; line_y3x by both backends' gradients, so that rate 1 diverges in one of them."""
    root: Path = tmp_path_factory.mktemp("lab") / "results"
    rates = [[f"optimizer.learning_rate={rate}"] for rate in ("0.01", "0.1", "1")]
    line = ["experiment=line_y3x", "training.epochs=60"]
    write_results(root, "line_y3x", "numpy", sweep(line, rates))
    write_results(root, "line_y3x", "keras", sweep([*line, "backend=keras"], rates))
    grid = [[f"optimizer.learning_rate={rate}", f"model.hidden_size={size}"] for rate in (0.1, 10) for size in (4, 32)]
    write_results(root, "three_bits", "numpy", sweep(["experiment=three_bits", "training.epochs=40"], grid))
    mine = ["experiment=mnist", "model.hidden_size=8", "training.epochs=2", "training.batch_size=20"]
    write_results(root, "my_study", "numpy", sweep(mine, [["optimizer.learning_rate=0.01"]], tiny_images))
    return root


def judged(results: Path) -> dict[str, dict[str, list[Point]]]:
    """What the command reports: each point is judged against the others."""
    read = read_trained(results, by_hand=False).results
    return {study: {backend: list(points) for backend, points in read[study].items()} for study in read}


def settings(**keys: object) -> DictConfig:
    """The config of the command, without what was trained by hand in this project."""
    loaded = OmegaConf.load(PROJECT / "conf" / "compare.yaml")
    own = {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
    return cast(DictConfig, OmegaConf.merge(loaded, {"by_hand": False}, own))


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def reports(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("reports") / "made" / "here"
    write_report(Trained(judged(results)), PUBLISHED, folder)
    return folder


def test_report_has_its_files_and_nothing_half_written(reports: Path) -> None:
    pages = [f"studies/{study}.md" for study in [*STUDIES, "my_study"]]
    written = sorted(str(file.relative_to(reports)) for file in reports.rglob("*") if file.is_file())
    assert [name for name in written if name not in pages] == [
        "README.md",
        "breaking_rates.md",
        "curves/line_y3x.csv",
        "curves/my_study.csv",
        "curves/three_bits.csv",
        "metrics/line_y3x/keras.json",
        "metrics/line_y3x/numpy.json",
        "metrics/my_study/numpy.json",
        "metrics/three_bits/numpy.json",
        "parity.csv",
        "parity.md",
        "points.csv",
        "published.md",
        "reproduction.csv",
        "studies/line_y3x.png",
        "studies/my_study.png",
        "studies/three_bits.png",
        "timings.csv",
    ]
    assert set(pages) <= set(written)
    for picture in reports.glob("studies/*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_points_table_has_every_point_under_config_names(results: Path, reports: Path) -> None:
    rows = table(reports / "points.csv")
    read = read_results(results)
    by_point = {(row["study"], row["backend"], row["name"]): row for row in rows}
    assert len(rows) == len(by_point) == 3 + 3 + 4 + 1
    for study, backends in read.items():
        for backend, points in backends.items():
            for point in points:
                row = by_point[study, backend, point.name]
                assert float(row["optimizer.learning_rate"]) == point.learning_rate
                assert row["model.hidden_size"] == str(point.hidden_size or "")
                for name in ("final/train/loss", "best/train/loss"):
                    value = getattr(point.outcome, name.partition("/")[0])["train/loss"]
                    assert row[name] == str(float(f"{value:.4g}"))
                assert row["outcome"] == point.outcome.outcome
    diverged = by_point["line_y3x", "keras", "learning_rate=1"]
    assert diverged["outcome"] == "diverged"
    assert int(diverged["diverged_step"]) > 0


def test_points_are_judged_against_the_others_of_their_study_and_backend(results: Path) -> None:
    found = judged(results)
    # Two rates of each of the two hidden sizes of three_bits.
    for study, together in (("line_y3x", 3), ("three_bits", 2), ("my_study", 1)):
        for points in found[study].values():
            assert {point.reach and point.reach.points for point in points} == {together}
    reached = {backend: points[0].reach for backend, points in found["line_y3x"].items()}
    assert reached["numpy"] != reached["keras"]


def test_reproduction_table_has_cells_and_statements(reports: Path) -> None:
    rows = table(reports / "reproduction.csv")
    first = [row for row in rows if row["quantity"] == "weight after one epoch" and row["backend"] == "numpy"]
    assert [(row["published"], row["digits"], row["printed_digits"]) for row in first] == [
        ("0.45", "2", "2"),
        ("4.5", "3", "3"),
        ("45.0", "4", "4"),
    ]
    said = [row for row in rows if row["quantity"] == "statement"]
    assert {row["backend"] for row in said} == {"numpy", "keras"}
    assert {row["verdict"] for row in said} <= {"holds", "differs", "not run"}


def test_the_overview_links_to_a_page_for_every_study_and_each_page_back(reports: Path) -> None:
    followed = links(reports / "README.md")
    pages = sorted((reports / "studies").glob("*.md"))
    assert {f"studies/{page.name}" for page in pages} == {f"studies/{study}.md" for study in [*STUDIES, "my_study"]}
    assert {f"studies/{page.name}" for page in pages} <= set(followed)
    assert {"parity.md", "published.md"} <= set(followed)
    for overview in ("README.md", "parity.md", "published.md"):
        assert broken_links(reports / overview) == []
    for name in ("parity.md", "published.md"):
        assert "README.md" in links(reports / name)
    for page in pages:
        assert "../README.md" in links(page)
        assert broken_links(page) == []


def only(results: Path, *studies: str) -> dict[str, dict[str, list[Point]]]:
    """A few studies, where a report of all, with its figures, is not needed."""
    read = judged(results)
    return {study: read[study] for study in studies}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_report_on_one_study_leaves_the_others(
    results: Path, reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(reports, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    write_report(Trained(only(results, "three_bits")), PUBLISHED, tmp_path)
    assert contents(tmp_path) == before
    # Anything else would change what is written of three_bits, and nothing more.
    (tmp_path / "studies" / "three_bits.md").write_text("an earlier page")
    table_before = [row for row in table(tmp_path / "points.csv") if row["study"] != "three_bits"]
    shorter = {"three_bits": {"numpy": only(results, "three_bits")["three_bits"]["numpy"][:2]}}
    write_report(Trained(shorter), PUBLISHED, tmp_path)
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} <= {
        "curves/three_bits.csv",
        "metrics/three_bits/numpy.json",
        "points.csv",
        "reproduction.csv",
        "studies/three_bits.md",
        "studies/three_bits.png",
        "timings.csv",
    }
    rows = table(tmp_path / "points.csv")
    assert [row for row in rows if row["study"] != "three_bits"] == table_before
    assert len([row for row in rows if row["study"] == "three_bits"]) == 2
    said = capsys.readouterr().err
    assert "written: the pages and rows of three_bits; left as they are: the rows of line_y3x (numpy)" in said
    assert "the pages, pictures and curves of line_y3x" in said
    assert "python -m pipeline.train experiment=line_y3x results=results/line_y3x/numpy" in said


def test_a_backend_that_is_not_trained_here_keeps_its_rows_and_the_pages_with_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = only(results, "line_y3x")
    write_report(Trained(both), PUBLISHED, tmp_path)
    before = contents(tmp_path)
    write_report(Trained({"line_y3x": {"numpy": both["line_y3x"]["numpy"]}}), PUBLISHED, tmp_path)
    assert contents(tmp_path) == before
    said = capsys.readouterr().err
    assert "written: the rows of line_y3x (numpy); left as they are: the rows of line_y3x (keras), which are" in said
    assert "the pages, pictures and curves of line_y3x, and " in said
    assert "python -m pipeline.train experiment=line_y3x backend=keras results=results/line_y3x/keras" in said
    shorter = {"line_y3x": {"numpy": both["line_y3x"]["numpy"][:2]}}
    write_report(Trained(shorter), PUBLISHED, tmp_path)
    after = contents(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert {"points.csv", "metrics/line_y3x/numpy.json"} <= changed
    tables = {"points.csv", "parity.csv", "reproduction.csv", "timings.csv"}
    assert changed <= {"metrics/line_y3x/numpy.json", *tables}
    write_report(Trained(both), PUBLISHED, tmp_path)
    assert contents(tmp_path) == before


def test_a_page_that_is_missing_is_written_from_what_is_trained_here(results: Path, tmp_path: Path) -> None:
    both = only(results, "line_y3x")
    write_report(Trained(both), PUBLISHED, tmp_path)
    before = contents(tmp_path)
    missing = ["studies/line_y3x.md", "studies/line_y3x.png", "curves/line_y3x.csv"]
    for name in missing:
        (tmp_path / name).unlink()
    write_report(Trained({"line_y3x": {"numpy": both["line_y3x"]["numpy"]}}), PUBLISHED, tmp_path)
    after = contents(tmp_path)
    assert {name: after[name] for name in before if name not in missing} == {
        name: before[name] for name in before if name not in missing
    }
    assert all((tmp_path / name).exists() for name in missing)


def test_without_its_earlier_points_a_report_is_written_anew(results: Path, tmp_path: Path) -> None:
    read = only(results, "three_bits", "my_study")
    write_report(Trained(read), PUBLISHED, tmp_path)
    assert (tmp_path / "studies" / "my_study.md").exists()
    del read["my_study"]
    (tmp_path / "points.csv").unlink()
    write_report(Trained(read), PUBLISHED, tmp_path)
    assert [file.name for file in (tmp_path / "studies").iterdir() if file.stem == "my_study"] == []
    assert (tmp_path / "studies" / "three_bits.md").exists()
    assert "my_study" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", ["points", "parity", "reproduction"])
def test_an_earlier_table_that_cannot_be_read_is_named_and_nothing_changes(
    results: Path, reports: Path, tmp_path: Path, name: str
) -> None:
    shutil.copytree(reports, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{name}.csv").write_text("<<<<<<< HEAD\nstudy,backend\n")
    before = contents(tmp_path)
    with pytest.raises(LabError, match=rf"The report's table .*{name}\.csv cannot be read"):
        write_report(Trained(only(results, "three_bits")), PUBLISHED, tmp_path)
    assert contents(tmp_path) == before


def test_pages_stay_as_they_are_where_new_ones_cannot_be_finished(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = only(results, "three_bits", "my_study")
    write_report(Trained(read), PUBLISHED, tmp_path)
    before = {file.name: file.read_bytes() for file in (tmp_path / "studies").iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.report.study_files.study_figure", full)
    with pytest.raises(LabError, match="No space left on device"):
        write_report(Trained({"three_bits": read["three_bits"]}), PUBLISHED, tmp_path)
    assert {file.name: file.read_bytes() for file in (tmp_path / "studies").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_pages_name_the_commands_that_sweep_json_holds(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "line_y3x", tmp_path / "results" / "line_y3x")
    file = tmp_path / "results" / "line_y3x" / "keras" / "sweep.json"
    sweep = json.loads(file.read_text())
    file.write_text(json.dumps(sweep | {"command": "python -m pipeline.train experiment=line_y3x training.epochs=60"}))
    assert read_commands(tmp_path / "results") == {
        ("line_y3x", "numpy"): "",
        ("line_y3x", "keras"): "python -m pipeline.train experiment=line_y3x training.epochs=60",
    }


def test_report_names_what_diverged_and_where_backends_part(results: Path, reports: Path) -> None:
    text = (reports / "studies" / "line_y3x.md").read_text()
    step = read_results(results)["line_y3x"]["keras"][2].outcome.diverged_step
    assert f"| keras | 1 | diverged |  |  | the loss was not a finite number after {step} updates" in text
    assert "- numpy: rates 0.01 and 0.1 converge; 1 stalls (rounding)." in text
    assert "- numpy: at rate 1, loss 1.47e+09" in text
    assert "- `learning_rate=1`: numpy stalled (rounding), keras diverged." in text


def test_best_rate_is_the_one_with_the_smallest_error(results: Path, reports: Path) -> None:
    points = read_results(results)["three_bits"]["numpy"]
    text = (reports / "studies" / "three_bits.md").read_text()
    said = next(line for line in text.splitlines() if "the lowest training mean absolute error is " in line)
    for size in (4, 32):
        best = min(
            (point for point in points if point.hidden_size == size),
            key=lambda point: point.outcome.final["train/mean_absolute_error"],
        )
        assert f"{best.outcome.final['train/mean_absolute_error']:.3g} for " in said
        assert f"at rate {best.learning_rate:g}" in said


def test_report_names_no_path_of_this_machine(reports: Path, results: Path) -> None:
    for file in (*reports.rglob("*.md"), *reports.glob("*.csv")):
        assert str(results) not in file.read_text()
        assert str(PROJECT) not in file.read_text()


def test_report_is_written_again_byte_for_byte(results: Path, reports: Path) -> None:
    before = {file: file.read_bytes() for file in reports.rglob("*") if file.is_file()}
    write_report(Trained(judged(results)), PUBLISHED, reports)
    assert {file: file.read_bytes() for file in reports.rglob("*") if file.is_file()} == before


def test_worst_cells_are_listed_with_both_numbers(results: Path) -> None:
    found = cells(read_results(results), PUBLISHED)
    worse = [
        cell._replace(value=0.4, relative_difference=0.2, digits="0") if cell.digits == "12" else cell for cell in found
    ]
    text = published_page(worse, [], {})
    changed = sum(cell.digits == "0" for cell in worse)
    assert changed == 4
    assert text.count("| 0.4 |") == changed
    assert "numpy: 3 of 7 numbers match (to every printed digit, or exactly for counts)." in text
    assert "keras: 3 of 3 numbers match" in text


def test_a_recorded_run_is_shown_as_recorded(results: Path, tmp_path: Path) -> None:
    (tmp_path / "recorded").mkdir()
    rows = "".join(f"{rate},{epoch},{3 / epoch},0.9,1,0.9\n" for rate in (0.0001, 0.01, 0.1) for epoch in (1, 2, 3))
    columns = "learning_rate,epoch,train/loss,train/accuracy,test/loss,test/accuracy\n"
    (tmp_path / "recorded" / "mnist_500_epochs.csv").write_text(columns + rows)
    (tmp_path / "recorded" / "mnist_500_epochs.md").write_text("Run on another machine.\n")
    write_report(Trained(only(results, "my_study")), PUBLISHED, tmp_path)
    text = (tmp_path / "published.md").read_text()
    assert "this pipeline run did not retrain it" in text
    assert "> Run on another machine." in text
    assert "![mnist_500_epochs](recorded_mnist_500_epochs.png)" in text
    assert (tmp_path / "recorded_mnist_500_epochs.png").exists()
    assert "| recorded | holds | 90.00% after 3 epochs |" in text


def test_no_results_says_which_command_makes_them(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no such folder(.|\n)*make reproduce"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(LabError, match=r"without a sweep\.json(.|\n)*python -m pipeline\.train experiment=three_bits"):
        read_results(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "metrics.csv", "weights.npz", "outcome.json"])
def test_a_point_that_is_cut_short_is_named(results: Path, tmp_path: Path, file: str) -> None:
    shutil.copytree(results / "line_y3x", tmp_path / "line_y3x")
    folder = tmp_path / "line_y3x" / "numpy" / "learning_rate=0.1"
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(LabError) as raised:
        read_results(tmp_path)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", '{"points": [{"name": "a"}]}'])
def test_a_broken_list_of_points_is_named(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "three_bits" / "numpy"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(content)
    with pytest.raises(LabError, match=r"sweep\.json cannot be read"):
        read_results(tmp_path)


def test_an_unfinished_copy_is_passed_over(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "line_y3x" / "numpy", tmp_path / "line_y3x" / "numpy")
    shutil.copytree(results / "line_y3x" / "numpy", tmp_path / "line_y3x" / ".numpy.partial")
    assert list(read_results(tmp_path)["line_y3x"]) == ["numpy"]


def test_reports_that_cannot_be_written_is_one_message(results: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        write_report(Trained(judged(results)), PUBLISHED, tmp_path / "file")


def test_a_failed_write_leaves_the_old_file(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = only(results, "my_study")
    write_report(Trained(read), PUBLISHED, tmp_path)
    before = (tmp_path / "points.csv").read_bytes()

    def full(self: object, row: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    with pytest.raises(LabError, match="No space left on device"):
        write_report(Trained(read), PUBLISHED, tmp_path)
    assert (tmp_path / "points.csv").read_bytes() == before
    assert not list(tmp_path.glob(".partial-*"))


def test_known_studies_come_first() -> None:
    assert STUDIES[:3] == ["line_y2x", "line_y3x", "two_bits"]
    assert STUDIES[-1] == "curve_basins"
    assert STUDIES.index("mnist_grid") < STUDIES.index("convnet") < STUDIES.index("curve_divergence")
    assert len(STUDIES) == len(read_experiments()) == 26
    assert ordered({"zebra": {}, "mnist": {}}, ["ant"]) == [*STUDIES, "ant", "zebra"]


def test_several_seeds_have_different_names(tmp_path: Path) -> None:
    grid = [["optimizer.learning_rate=0.1", f"seed={seed}"] for seed in (1, 2)]
    points: list[Point] = sweep(["experiment=two_bits", "training.epochs=5"], grid)
    read = {"two_bits": {"numpy": write_results(tmp_path / "results", "two_bits", "numpy", points)}}
    assert [row["name"] for row in points_rows(read, Earlier())] == [
        "learning_rate=0.1 seed=1",
        "learning_rate=0.1 seed=2",
    ]
    page = study_page("two_bits", read["two_bits"], {})
    # The seeds are one row of the page's table.
    assert "<summary>The point</summary>" in page
    assert "- numpy: over 2 seeds, the training mean absolute error is 0." in page
    assert "- numpy: 1 point of 2 seeds, trained for 5 epochs." in page


def test_command_says_where_the_report_is(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(settings(results=results, reports=tmp_path))
    printed = capsys.readouterr().out
    assert "README.md" in printed
    assert re.search(r"error +reproduced +4 +0\n", printed)
    assert (tmp_path / "README.md").exists()


def test_a_report_beside_the_committed_one_stays_as_it_is(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The folder of temporary files may lie in a repository.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "README.md").write_text("# an earlier report\n")
    compare(settings(committed=True, results=results, reports=tmp_path))
    assert capsys.readouterr().out.startswith("nothing to compare with: git has no committed report in ")
    assert contents(tmp_path) == {"README.md": b"# an earlier report\n"}


def test_entry_point_refuses_without_a_traceback_and_loads_nothing_heavy(tmp_path: Path) -> None:
    refuses_without_results("compare", tmp_path, "by_hand=false")


def test_a_page_is_written_alone_and_is_the_same_as_in_the_whole_report(
    results: Path, reports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(settings(study="line_y3x", results=results, reports=tmp_path))
    written = contents(tmp_path)
    assert set(written) == {
        "curves/line_y3x.csv",
        "metrics/line_y3x/keras.json",
        "metrics/line_y3x/numpy.json",
        "studies/line_y3x.md",
        "studies/line_y3x.png",
    }
    whole = contents(reports)
    assert written == {name: whole[name] for name in written}
    assert "studies/line_y3x.md" in capsys.readouterr().out


def test_pages_are_written_again_where_there_is_no_overview(results: Path, tmp_path: Path) -> None:
    for study in ("line_y3x", "line_y3x", "three_bits"):
        compare(settings(study=study, results=results, reports=tmp_path))
    assert {file.name for file in (tmp_path / "studies").glob("*.md")} == {"line_y3x.md", "three_bits.md"}


def test_pages_and_the_overview_together_are_the_whole_report(results: Path, reports: Path, tmp_path: Path) -> None:
    compare(settings(pages=False, results=results, reports=tmp_path))
    for study in read_results(results):
        compare(settings(study=study, results=results, reports=tmp_path))
    assert contents(tmp_path) == contents(reports)


def test_a_page_of_a_study_that_is_half_trained_here_stays(results: Path, tmp_path: Path) -> None:
    write_report(Trained(only(results, "line_y3x")), PUBLISHED, tmp_path / "reports")
    before = contents(tmp_path / "reports")
    shutil.copytree(results / "line_y3x" / "numpy", tmp_path / "results" / "line_y3x" / "numpy")
    compare(settings(study="line_y3x", results=tmp_path / "results", reports=tmp_path / "reports"))
    assert contents(tmp_path / "reports") == before


def test_a_study_that_was_not_trained_leads_to_the_one_that_was_meant(results: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"The study line_y3 has no trained points(.|\n)*did you mean study=line_y3x\?"):
        compare(settings(study="line_y3", results=results, reports=tmp_path))
    with pytest.raises(LabError, match=r"python -m pipeline\.train experiment=quite_another"):
        compare(settings(study="quite_another", results=results, reports=tmp_path))
    with pytest.raises(LabError, match=r"Invalid pages\."):
        compare(settings(pages="perhaps", results=results, reports=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_map_has_a_picture_and_a_sentence_and_is_not_missing_on_keras(tmp_path: Path) -> None:
    one = map_point()
    write_results(tmp_path / "results", "trainability_map", "numpy", [one])
    results = read_results(tmp_path / "results")
    write_report(Trained(results), PUBLISHED, tmp_path / "reports")
    page = (tmp_path / "reports" / "studies" / "trainability_map.md").read_text()
    assert "![trainability_map](trainability_map.png)" in page
    assert "of 63 points converge" in page
    assert "not run" not in page
    assert "<details>" not in page
    assert "NumPy only (map study)" in (tmp_path / "reports" / "README.md").read_text()
    assert (tmp_path / "reports" / "studies" / "trainability_map.png").exists()
    # DVC needs the file, and draws nothing of a table without rows.
    assert (tmp_path / "reports" / "curves" / "trainability_map.csv").read_text().count("\n") == 1
    (row,) = table(tmp_path / "reports" / "points.csv")
    assert (row["optimizer.learning_rate"], row["diagnosis"], row["final/map/points"]) == ("", "map", "63.0")
    metrics = json.loads((tmp_path / "reports" / "metrics" / "trainability_map" / "numpy.json").read_text())
    assert metrics["map/best_loss"] == pytest.approx(one.outcome.final["map/best_loss"], rel=1e-3)
    assert "converged" not in metrics
