"""A data set from one's own file of rows: read, split, learned from, converted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline.config.data import FileData
from pipeline.data.checks import Rows
from pipeline.data.files.arrays import ArrayFile
from pipeline.data.files.parquet import ParquetFile
from pipeline.data.files.source import Source, no_rows
from pipeline.data.files.text import TextFile
from pipeline.data.leaks import check_leaks
from pipeline.data.prepared import Prepared
from pipeline.data.raw_files import joint_sha256, raw_file
from pipeline.data.selection import Selection, select
from pipeline.data.tables import Plan, check_labels, complete, kinds_of, parts_of, prepare_rows, split_of
from pipeline.system.errors import LabError
from pipeline.system.files import readable
from pipeline.system.project import expanded

TEXT = (".csv", ".tsv", ".tab", ".txt", ".csv.gz", ".tsv.gz", ".tab.gz", ".txt.gz")
FORMATS = ".csv, .tsv or .txt, also with .gz, .parquet, .npz or .npy"


def prepare_file(data: FileData, project: Path) -> Prepared:
    """Make the arrays of a file.

    Inputs are float64 (rows, features). Targets are int64 (rows,) for classes, float64 (rows, 1) of 0 and 1 for a
    binary task, and float64 (rows, outputs) for numbers.

    Args:
        data: the file, its columns, and what to make of them.
        project: the folder that relative paths start in.

    Raises:
        LabError: a file cannot be read, or nothing can be learned from its rows. The message names row and column.
    """
    paths = [located(data.path, "data.path", project)]
    if data.test_path is not None:
        paths.append(located(data.test_path, "data.test_path", project))
    with readable(str(paths[0]), expected=FORMATS, fix="correct data.path"):
        source = _source(paths[0], data)
        files = [raw_file(path, project) for path in paths]
    selection = select(data, source)
    plan = Plan(selection, data, data.task, data.missing, data.categories == "one_hot")
    rows, notes = complete(plan, _read(source, selection))
    check_labels(plan, rows)
    sides = split_of(plan, rows, tested=data.test_path is None)
    kinds = kinds_of(plan, rows, sides.train)
    parts = parts_of(rows, sides)
    if data.test_path is not None:
        text = [name for name, kind in kinds.items() if kind == "category"]
        parts["test"], dropped = complete(plan, _test_rows(data, paths[1], selection, text))
        notes += dropped
    check_leaks(rows, kinds, selection.targets, classes=data.task != "regression")
    # Not needed any more, and as large as the arrays that follow.
    del rows
    head = {"name": data.name, "source": data.path, "sha256": joint_sha256(files), "notes": tuple(notes)}
    arrays, description = prepare_rows(plan, parts, kinds, head)
    return Prepared(arrays, description, files)


def located(path: str, key: str, project: Path) -> Path:
    """Return the path of a file or folder that a config names.

    Raises:
        LabError: it does not exist, or it is empty.
    """
    found = project / expanded(path, key)
    if not found.exists():
        raise LabError(
            f"{found} does not exist.",
            expected=f"{key}: a path from the project's folder, or an absolute one",
            received=path,
            fix=f"correct {key}, or put the file there",
        )
    if found.is_file() and found.stat().st_size == 0:
        raise no_rows(found, "an empty file")
    return found


def _source(path: Path, data: FileData) -> Source:
    """Open a file by the end of its name.

    Raises:
        LabError: it is of another format, or damaged.
    """
    name = path.name.lower()
    if path.is_file() and name.endswith(TEXT):
        return TextFile(path, data.delimiter, data.decimal)
    if path.is_file() and name.endswith((".parquet", ".pq")):
        return ParquetFile(path)
    if path.is_file() and name.endswith((".npz", ".npy")):
        return ArrayFile(path)
    received = path.name
    if path.is_dir():
        received = f"the folder {path.name}"
    raise LabError(
        f"{path} is not a file of rows.",
        expected=FORMATS,
        received=received,
        fix="convert it, or use kind: images for a folder of images",
    )


def _read(source: Source, selection: Selection, text: Collection[str] = ()) -> Rows:
    """Read the selected columns of a file."""
    with readable(str(source.path), expected=FORMATS, fix="correct data.path"):
        return Rows(
            source.read(selection.columns, selection.labels, text), str(source.path), source.row, source.decimal
        )


def _test_rows(data: FileData, path: Path, selection: Selection, text: Collection[str]) -> Rows:
    """Read the file of test rows, whose columns must be those of the training rows.

    Args:
        data: the config.
        path: the file.
        selection: the columns of the training rows.
        text: the columns that are text there, and must be text here too.
    """
    with readable(str(path), expected=FORMATS, fix="correct data.test_path"):
        source = _source(path, data)
    missing = [name for name in selection.columns if name not in source.names]
    if missing:
        raise LabError(
            f"{path}, row 1: no column {missing[0]}, which the training rows have.",
            expected=f"the columns {', '.join(selection.columns)}",
            received=f"the columns {', '.join(source.names)}",
            fix="rename the column, or leave it out with exclude:",
        )
    return _read(source, selection, text)
