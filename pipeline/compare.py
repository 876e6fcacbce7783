"""Generate the report from all results.

`python -m pipeline.compare [results=DIR] [published=DIR] [reports=DIR]`
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.compare")

import csv
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipeline.config.reading import read_folder
from pipeline.drawing.layout import write_png
from pipeline.points.destination import PAGES, check_reports
from pipeline.points.results import read_commands, read_results, warn_about_missing
from pipeline.report.earlier import Earlier, read_earlier, warn_about_left
from pipeline.report.overview import ordered, render
from pipeline.report.parity import Parity
from pipeline.report.published.page import verdict_table
from pipeline.report.published.recorded import read_recorded
from pipeline.report.published.reproduction import Cell, Results, cells
from pipeline.report.published.statements import statements
from pipeline.report.published.tables import read_spreads
from pipeline.report.rows import (
    REPRODUCTION_COLUMNS,
    curve_rows,
    parity_rows,
    points_rows,
    reproduction_rows,
    study_metrics,
)
from pipeline.report.study_page import Commands, study_page
from pipeline.studies.kinds import study_figure
from pipeline.studies.study_pictures import recorded_figure
from pipeline.system import cli
from pipeline.system.files import atomic_folder, explained, readable, write_file
from pipeline.system.project import PROJECT
from pipeline.system.wording import aligned


def write_report(results: Results, published: Path, reports: Path, commands: Commands | None = None) -> list[Cell]:
    """Write the overview (README.md), a page and a picture for each study, and the tables.

    Rows of an earlier report on what is not trained here are kept, and so are the pages, pictures and curves of studies
    of which a backend is not trained here. The overview combines all studies, so it is then left as it is. Otherwise no
    page is left for a study that is neither known nor trained.

    Args:
        results: trained points by study and backend.
        published: the folder with the published numbers.
        reports: the folder to write to; its `recorded` and `rounding.csv` are read.
        commands: the commands that trained the points, by study and backend.

    Returns:
        The published numbers with the reproduced ones, for a summary.

    Raises:
        LabError: the published numbers or a stored run cannot be read, or the folder cannot be written.
    """
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
        write_file(reports / "points.csv", partial(_write_table, rows=rows, columns=columns))
        numbers = [earlier.reproduced(row) for row in reproduction_rows(found, said)]
        write_file(reports / "reproduction.csv", partial(_write_table, rows=numbers, columns=REPRODUCTION_COLUMNS))
        differences = parity_rows(results, earlier)
        write_file(reports / "parity.csv", partial(_write_table, rows=differences, columns=Parity._fields))
        _write_dvc_files(results, earlier, reports)
        for stem, run in runs.items():
            write_png(reports / f"recorded_{stem}.png", recorded_figure(f"{stem} (recorded)", run))
        _write_pages(results, earlier, reports, commands or {})
        overview = reports / "README.md"
        if not (earlier.points and overview.exists()):
            write_file(overview, partial(_write_text, text=render(results, found, said, notes)))
    warn_about_left(earlier, results, reports)
    return found


def _write_pages(results: Results, earlier: Earlier, reports: Path, commands: Commands) -> None:
    """Write the pages and pictures of studies. Those of studies that are not wholly trained here stay as they are."""
    old = reports / PAGES
    with atomic_folder(old) as pages:
        if earlier.points and old.exists():
            shutil.copytree(old, pages, dirs_exist_ok=True)
        for study in ordered(results):
            page = pages / f"{study}.md"
            picture = pages / f"{study}.png"
            # Both compare the backends.
            stays = study not in results or study in earlier.studies
            if not (stays and page.exists()):
                _write_text(page, study_page(study, results.get(study, {}), commands))
            if study in results and not (stays and picture.exists()):
                write_png(picture, study_figure(study, results[study]))


def _write_dvc_files(results: Results, earlier: Earlier, reports: Path) -> None:
    """Write the files that `dvc plots show` and `dvc metrics show` read.

    The curves of a study that is not wholly trained here stay as they are.
    """
    (reports / "curves").mkdir(exist_ok=True)
    (reports / "metrics").mkdir(exist_ok=True)
    for study, backends in results.items():
        file = reports / "curves" / f"{study}.csv"
        curves = curve_rows(backends)
        # A map has no curves.
        if curves and not (study in earlier.studies and file.exists()):
            write_file(file, partial(_write_table, rows=curves, columns=list(curves[0])))
        for backend, points in backends.items():
            text = json.dumps(study_metrics(points), indent=2) + "\n"
            write_file(reports / "metrics" / f"{study}-{backend}.json", partial(_write_text, text=text))


def _note(file: Path) -> str:
    """Read the note on a stored run, which the report quotes."""
    if not file.exists():
        return "There are no notes on how this was run."
    with readable(str(file), expected="text in UTF-8", fix="restore the file from git, or delete it"):
        return file.read_text(encoding="utf-8")


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _write_table(file: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def compare(config: DictConfig) -> None:
    """Generate the report, and print a summary and its location."""
    results, published, reports = (read_folder(config, key, PROJECT) for key in ("results", "published", "reports"))
    check_reports(reports, PROJECT)
    trained = read_results(results)
    warn_about_missing(PROJECT, results)
    found = write_report(trained, published, reports, read_commands(results))
    print(aligned(verdict_table(found)))
    print(f"\nreport: {os.path.relpath(reports / 'README.md')}")


if __name__ == "__main__":
    sys.exit(cli.run(compare, "compare"))
