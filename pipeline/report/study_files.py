"""Writes the files of the report on one study: its page, its picture, and what DVC's metrics and plots read."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.drawing.layout import write_png
from pipeline.report.rows import NO_CURVES, curve_rows, study_metrics
from pipeline.report.study_page import Trained, study_page
from pipeline.studies.kinds import study_figure
from pipeline.system.files import write_file


def write_page(study: str, trained: Trained, pages: Path, stays: bool) -> None:
    """Write the page of a study, and its picture if it was trained.

    Args:
        study: the name of the study.
        trained: what was trained of all studies.
        pages: the folder of the pages.
        stays: whether a page and a picture that are there already stay as they are.
    """
    page = pages / f"{study}.md"
    picture = pages / f"{study}.png"
    backends = trained.results.get(study, {})
    if not (stays and page.exists()):
        text = study_page(study, backends, trained.commands, study in trained.by_hand)
        write_file(page, partial(write_text, text=text))
    if backends and not (stays and picture.exists()):
        write_png(picture, study_figure(study, backends))


def write_dvc_files(study: str, trained: Trained, reports: Path, stays: bool) -> None:
    """Write the best values of a trained study on each backend, and its curves.

    Args:
        study: the name of the study.
        trained: what was trained of all studies.
        reports: the folder of the report.
        stays: whether curves that are there already stay as they are.
    """
    curves = reports / "curves" / f"{study}.csv"
    metrics = reports / "metrics" / study
    curves.parent.mkdir(exist_ok=True)
    metrics.mkdir(parents=True, exist_ok=True)
    backends = trained.results[study]
    if not (stays and curves.exists()):
        rows = curve_rows(backends)
        columns = list(next(iter(rows), NO_CURVES))
        write_file(curves, partial(write_table, rows=rows, columns=columns))
    for backend, points in backends.items():
        text = json.dumps(study_metrics(points), indent=2) + "\n"
        write_file(metrics / f"{backend}.json", partial(write_text, text=text))


def write_text(file: Path, text: str) -> None:
    """Write a text in UTF-8."""
    file.write_text(text, encoding="utf-8")


def write_table(file: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV with these columns; what a row lacks stays empty."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
