"""Generate the report from all results, or the page of one study.

`python -m pipeline.compare [study=NAME] [results=DIR] [published=DIR] [reports=DIR] [pages=false] [by_hand=false]`

`python -m pipeline.compare committed=true [results=DIR] [reports=DIR]` writes no page: it says which values of the
report in git's HEAD came out again, and lists the others in differences.csv. `make reproduce` ends with it.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.compare")

import os
import shutil
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_folder
from pipeline.drawing.layout import write_png
from pipeline.points.breaking_rates import BreakingRate, Key, file_by_hand, file_for, read_breaking_rates
from pipeline.points.by_hand import read_sweep_points, sweeps_by_hand
from pipeline.points.destination import PAGES, check_reports
from pipeline.points.point import POINTS, Point
from pipeline.points.results import find_results, locked_results, no_results, read_commands, warn_about_missing
from pipeline.report.breaking_page import BREAKING_PAGE
from pipeline.report.combined_pages import PARITY_PAGE, PUBLISHED_PAGE, breaking_page, parity_page, published_page
from pipeline.report.committed.summary import compare_with_committed
from pipeline.report.earlier import Earlier, read_earlier, warn_about_left
from pipeline.report.overview import render, with_studies
from pipeline.report.parity import Parity
from pipeline.report.published.page import verdict_table
from pipeline.report.published.recorded import read_recorded
from pipeline.report.published.reproduction import Cell, cells
from pipeline.report.published.statements import statements
from pipeline.report.published.tables import read_spreads
from pipeline.report.rows import (
    REPRODUCTION_COLUMNS,
    TIMING_COLUMNS,
    parity_rows,
    points_rows,
    reproduction_rows,
    timing_rows,
)
from pipeline.report.study_files import write_dvc_files, write_page, write_table, write_text
from pipeline.report.study_page import Trained
from pipeline.studies.breaking import with_breaking_rates
from pipeline.studies.experiments import as_the_file_says, ordered, read_experiments
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.reach import judged_together
from pipeline.studies.study_pictures import recorded_figure
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import atomic_folder, explained, readable, write_file
from pipeline.system.hints import nearest_option
from pipeline.system.last_line import doing
from pipeline.system.project import CONF, PROJECT, store_root
from pipeline.system.wording import aligned


def write_report(trained: Trained, published: Path, reports: Path, pages: bool = True) -> list[Cell]:
    """Write the pages and tables that combine all studies, and a page and a picture for each study.

    Rows of an earlier report on what is not trained here are kept, and so are the pages, pictures and curves of studies
    of which a backend is not trained here. The pages that combine all studies then stay too; the overview only gets
    lines for those that were trained by hand. Otherwise no page is left for a study that is neither known nor trained.

    Args:
        trained: the trained points.
        published: the folder with the published numbers.
        reports: the folder to write to; its `recorded` and `rounding.csv` are read.
        pages: whether to write what is about a single trained study too: its page, picture, curves, and values for DVC.

    Returns:
        The published numbers with the reproduced ones, for a summary.

    Raises:
        LabError: the published numbers or a stored run cannot be read, or the folder cannot be written.
    """
    results = trained.results
    with explained(reports):
        reports.mkdir(parents=True, exist_ok=True)
    # All inputs are read before anything is written, so that an unreadable file leaves the old report intact.
    runs = {file.stem: read_recorded(file) for file in sorted((reports / "recorded").glob("*.csv"))}
    long_mnist = next((run for stem, run in runs.items() if stem.startswith("mnist")), None)
    earlier = read_earlier(reports, results)
    found = cells(results, published, read_spreads(reports / "rounding.csv"))
    said = statements(results, long_mnist)
    notes = {stem: _note(reports / "recorded" / f"{stem}.md") for stem in runs}
    with explained(reports):
        rows = points_rows(results, earlier)
        # Points have different metrics; the table has all of them as columns, in the order of first appearance.
        columns = list(dict.fromkeys([*earlier.columns, *(key for row in rows for key in row)]))
        write_file(reports / "points.csv", partial(write_table, rows=rows, columns=columns))
        numbers = [earlier.reproduced(row) for row in reproduction_rows(found, said)]
        write_file(reports / "reproduction.csv", partial(write_table, rows=numbers, columns=REPRODUCTION_COLUMNS))
        differences = parity_rows(results, earlier)
        write_file(reports / "parity.csv", partial(write_table, rows=differences, columns=Parity._fields))
        timings = timing_rows(results, earlier)
        write_file(reports / "timings.csv", partial(write_table, rows=timings, columns=TIMING_COLUMNS))
        for stem, run in runs.items():
            write_png(reports / f"recorded_{stem}.png", recorded_figure(f"{stem} (recorded)", run))
        if pages:
            _write_studies(trained, earlier, reports)
        else:
            _write_untrained(trained, reports / PAGES)
        overview = reports / "README.md"
        if not (earlier.points and overview.exists()):
            write_file(overview, partial(write_text, text=render(results, trained.by_hand)))
            write_file(reports / BREAKING_PAGE, partial(write_text, text=breaking_page(results)))
            write_file(reports / PARITY_PAGE, partial(write_text, text=parity_page(results)))
            write_file(reports / PUBLISHED_PAGE, partial(write_text, text=published_page(found, said, notes)))
        elif trained.by_hand:
            text = with_studies(_read(overview), results, trained.by_hand)
            write_file(overview, partial(write_text, text=text))
    warn_about_left(earlier, results, reports)
    return found


def write_study(study: str, trained: Trained, reports: Path) -> None:
    """Write what the report has on one trained study: its page and picture, its curves, and its values for DVC.

    If a backend is in an earlier report, but not trained here, then a page, a picture and curves that are there stay.

    Args:
        study: the name of the study.
        trained: the trained points, at least those of the study.
        reports: the folder of the report.

    Raises:
        LabError: an earlier report cannot be read, or the folder cannot be written.
    """
    stays = study in read_earlier(reports, trained.results).studies
    with explained(reports):
        (reports / PAGES).mkdir(parents=True, exist_ok=True)
        write_dvc_files(study, trained, reports, stays)
        write_page(study, trained, reports / PAGES, stays)


def _write_studies(trained: Trained, earlier: Earlier, reports: Path) -> None:
    """Write what is about a single study. Pages of studies that are not wholly trained here stay as they are."""
    for study in trained.results:
        write_dvc_files(study, trained, reports, study in earlier.studies)
    old = reports / PAGES
    known = ordered(trained.results)
    with atomic_folder(old) as pages, doing("writing pages", len(known)) as step:
        if earlier.points and old.exists():
            shutil.copytree(old, pages, dirs_exist_ok=True)
        for number, study in enumerate(known, start=1):
            # Page and picture compare the backends.
            write_page(study, trained, pages, study not in trained.results or study in earlier.studies)
            step.count(number, len(known))


def _write_untrained(trained: Trained, pages: Path) -> None:
    """Write the missing pages of studies that have only a file, so that the links of the overview lead somewhere."""
    pages.mkdir(exist_ok=True)
    for study in ordered(trained.results):
        if study not in trained.results:
            write_page(study, trained, pages, stays=True)


def _note(file: Path) -> str:
    """Read the note on a stored run, which the report quotes."""
    if not file.exists():
        return "There are no notes on how this was run."
    return _read(file)


def _read(file: Path) -> str:
    with readable(str(file), expected="text in UTF-8", fix="restore the file from git, or delete it"):
        return file.read_text(encoding="utf-8")


def read_trained(results: Path, by_hand: bool, study: str | None = None) -> Trained:
    """Read what was trained: the results folders and, of studies that DVC does not train, the newest sweeps by hand.

    Args:
        results: the parent folder of the results folders.
        by_hand: whether to read what was trained by hand.
        study: the only study to read; None: all.

    Raises:
        LabError: nothing was trained, or some of it cannot be read.
    """
    found: dict[str, dict[str, list[Point]]] = {}
    for name, backends in find_results(results, study).items():
        found[name] = _as_shown(name, backends, read_breaking_rates(file_for(results / name / "numpy")))
    commands = read_commands(results)
    if not by_hand:
        return Trained(found, commands)
    root = store_root(PROJECT)
    # A study that is in dvc.lock has its results elsewhere: dvc pull fetches them. What was tried by hand must not
    # replace them.
    of_dvc = {folder.parent.name for folder in locked_results(PROJECT, results)}
    names: set[str] = set()
    for sweep in sweeps_by_hand(root, {*found, *of_dvc}, read_experiments()):
        if study not in (None, sweep.study):
            continue
        points = read_sweep_points(root, sweep)
        if points:
            rates = read_breaking_rates(file_by_hand(sweep.study, root / POINTS))
            found.setdefault(sweep.study, {}).update(_as_shown(sweep.study, {sweep.backend: points}, rates))
            commands[sweep.study, sweep.backend] = sweep.command
            names.add(sweep.study)
    return Trained(found, commands, sorted(names))


def _as_shown(study: str, backends: PointsByBackend, rates: Mapping[Key, BreakingRate]) -> dict[str, list[Point]]:
    """Return the points of a study with what its file says about the report, each judged against the others.

    What was predicted for their networks is added.
    """
    as_said = as_the_file_says(study, backends)
    return {backend: with_breaking_rates(judged_together(points), rates) for backend, points in as_said.items()}


def compare(config: DictConfig) -> None:
    """Generate the report or one page of it, and print a summary and its location; or compare it with git's HEAD."""
    results, published, reports = (read_folder(config, key, PROJECT) for key in ("results", "published", "reports"))
    if _switch(config, "committed"):
        print("\n".join(compare_with_committed(results, reports, CONF)))
        return
    check_reports(reports, PROJECT)
    by_hand, pages = (_switch(config, key) for key in ("by_hand", "pages"))
    study = config["study"]
    if study is not None:
        with doing("reading points"):
            trained = read_trained(results, by_hand, str(study))
        if study not in trained.results:
            raise _not_trained(str(study), read_trained(results, by_hand).results)
        with doing(f"writing the page of {study}"):
            write_study(str(study), trained, reports)
        print(f"page: {os.path.relpath(reports / PAGES / f'{study}.md')}")
        return
    with doing("reading points"):
        trained = read_trained(results, by_hand)
    if not trained.results:
        raise no_results(results)
    warn_about_missing(PROJECT, results)
    with doing("comparing with the published numbers"):
        found = write_report(trained, published, reports, pages)
    print(aligned(verdict_table(found)))
    print(f"\nreport: {os.path.relpath(reports / 'README.md')}")
    for name in trained.by_hand:
        print(f"trained by hand: {os.path.relpath(reports / PAGES / f'{name}.md')}")


def _switch(config: DictConfig, key: str) -> bool:
    value = config[key]
    if not isinstance(value, bool):
        raise LabError(f"Invalid {key}.", expected="true or false", received=repr(value), fix=f"{key}=false")
    return value


def _not_trained(study: str, known: Collection[str]) -> LabError:
    fix = f"train it: python -m pipeline.train experiment={study}"
    near = nearest_option(study, known)
    if near is not None:
        fix = f"did you mean study={near}?"
    return LabError(
        f"The study {study} has no trained points.",
        expected="a study with a results folder, or one that was trained by hand",
        received=", ".join(sorted(known)) or "no trained study",
        fix=fix,
    )


if __name__ == "__main__":
    sys.exit(cli.run(compare, "compare"))
