"""What an earlier report holds on studies that are not trained here, so that a new report keeps it.

A fresh clone has the whole report, but no results. The earlier `points.csv` lists what that report was written from.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.report.published.reproduction import Results
from pipeline.system.errors import LabError
from pipeline.system.files import readable
from pipeline.system.formats import read_rows
from pipeline.system.wording import some

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
# The columns that identify a row of reproduction.csv.
PLACE = ("study", "backend", "quantity", "model.hidden_size", "optimizer.learning_rate", "place")
# Maximum number of studies to list in a message.
SOME = 5


@dataclass(frozen=True)
class Earlier:
    """The rows of an earlier report on what is not trained here.

    Attributes:
        points: rows of points.csv by study and backend.
        columns: the columns of points.csv, in their order.
        parity: rows of parity.csv by study, for studies of which a backend is not trained here.
        reproduction: rows of reproduction.csv by `PLACE`.
        timings: rows of timings.csv, which a fresh clone lacks.
    """

    points: Mapping[tuple[str, str], Rows] = field(default_factory=dict)
    columns: Sequence[str] = ()
    parity: Mapping[str, Rows] = field(default_factory=dict)
    reproduction: Mapping[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    timings: Rows = field(default_factory=list)

    @property
    def studies(self) -> list[str]:
        """The studies of which at least one backend is not trained here, in the order of the earlier report."""
        return list(dict.fromkeys(study for study, _ in self.points))

    def reproduced(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row of reproduction.csv, or the earlier one if only that was run."""
        if row["verdict"] != "not run":
            return row
        return self.reproduction.get(_place(row), row)


def read_earlier(reports: Path, results: Results) -> Earlier:
    """Read what a report holds on studies and backends that are not among the results; empty without a report.

    Raises:
        LabError: a table of the report cannot be read.
    """
    points: dict[tuple[str, str], Rows] = {}
    columns: list[str] = []
    for row in _read(reports / "points.csv", "study", "backend"):
        columns = list(row)
        if row["backend"] not in results.get(row["study"], {}):
            points.setdefault((row["study"], row["backend"]), []).append(row)
    if not points:
        return Earlier()
    missing = {study for study, _ in points}
    parity: dict[str, Rows] = {}
    for row in _read(reports / "parity.csv", "study"):
        if row["study"] in missing:
            parity.setdefault(row["study"], []).append(row)
    reproduction = {
        _place(row): row
        for row in _read(reports / "reproduction.csv", *PLACE)
        if (row["study"], row["backend"]) in points
    }
    timings: Rows = [
        row for row in _read(reports / "timings.csv", "study", "backend") if (row["study"], row["backend"]) in points
    ]
    return Earlier(points, columns, parity, reproduction, timings)


def warn_about_left(earlier: Earlier, results: Results, reports: Path) -> None:
    """Say what of the earlier report stays as it is, if anything."""
    if not earlier.points:
        return
    written = []
    whole = [study for study in results if study not in earlier.studies]
    if whole:
        written.append(f"the pages and rows of {some(whole, SOME)}")
    rows = [f"{study} ({backend})" for study in earlier.studies for backend in results.get(study, {})]
    if rows:
        written.append(f"the rows of {some(rows, SOME)}")
    left = [f"{study} ({backend})" for study, backend in earlier.points]
    study, backend = next(iter(earlier.points))
    command = f"python -m pipeline.train experiment={study}"
    if backend != "numpy":
        command += f" backend={backend}"
    # Not raised, because a report on part of the studies is useful too.
    warning = LabError(
        f"written: {' and '.join(written)}; left as they are: the rows of {some(left, SOME)}, which are not trained "
        f"here, the pages, pictures and curves of {some(earlier.studies, SOME)}, and README.md, parity.md and "
        f"published.md in {reports.name}/, which combine all studies",
        fix=f"train them: `{command} results=results/{study}/{backend}` trains one, "
        f"`make reproduce` all; or delete {reports.name}/points.csv to write the report without them",
    )
    log.warning(warning)


def _read(file: Path, *needed: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table of the report; none if it does not exist."""
    if not file.exists():
        return
    with readable(
        f"The report's table {file}",
        expected=f"a CSV file with the columns {', '.join(needed)} and others, which pipeline.compare wrote",
        fix="restore the file from git, or delete it to write the report from what is trained here",
    ):
        rows = list(read_rows(file.read_bytes()))
        if rows and not set(needed) <= set(rows[0]):
            raise ValueError(f"columns {', '.join(rows[0])}")
    yield from rows


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the values that identify a row of reproduction.csv, as CSV files have them."""
    return tuple("" if row.get(name) is None else str(row[name]) for name in PLACE)
