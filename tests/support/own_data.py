"""Small files of rows for the tests of data of one's own, prepared in a project folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.data import FileData
from pipeline.data.arrays import Arrays, load
from pipeline.prepare import prepare


def file_data(path: str | Path, **settings: Any) -> FileData:
    """The config of a file, for a target y of numbers, without validation rows, unless `settings` say otherwise."""
    given: dict[str, Any] = {"kind": "file", "name": "own", "path": str(path), "target": "y", "task": "regression"}
    return FileData.model_validate({**given, "validation_share": 0, **settings})


def prepared(project: Path, content: str | bytes, suffix: str = ".csv", **settings: Any) -> Arrays:
    """Write a file, prepare it, and read its arrays as training does, in float64."""
    file = project / f"own{suffix}"
    if isinstance(content, str):
        content = content.encode()
    file.write_bytes(content)
    data = file_data(file.name, **settings)
    prepare(data, project)
    return load(data, "float64", project)
