"""The raw files that prepared arrays were made from, and whether they have changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.data import DescribedData
from pipeline.system.errors import LabError
from pipeline.system.files import file_sha256, modified_ns


@dataclass(frozen=True)
class RawFile:
    """One raw file: its path from the project's folder or absolute, its size in bytes, and its checksum."""

    path: str
    size: int
    sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return the entry of data.json."""
        return asdict(self)


def raw_file(path: Path, project: Path) -> RawFile:
    """Return what is remembered of a file.

    Raises:
        OSError: it cannot be read.
    """
    shown = path
    if path.is_relative_to(project):
        shown = path.relative_to(project)
    return RawFile(shown.as_posix(), path.stat().st_size, file_sha256(path))


def check_current(
    data: DescribedData, prepared_with: object, files: Sequence[RawFile], prepared: Path, project: Path
) -> None:
    """Refuse arrays that are not those of the config and the raw files as they are now.

    A file that no longer exists does not count: another machine may train on the arrays without it. A file of the same
    size that was last written before the arrays is taken to be the same, so that training does not read it again.

    Args:
        data: the config of the data set.
        prepared_with: the config that the arrays were prepared with.
        files: the files that they were prepared from; their paths start in `project`.
        prepared: data.json, which was written after the files had been read.
        project: the project's folder.

    Raises:
        LabError: the config or a file has changed.
    """
    fix = f"python -m pipeline.prepare data={data.name}"
    config = data.model_dump(mode="json")
    # Arrays that were not made by pipeline.prepare may say nothing of it.
    if not isinstance(prepared_with, dict):
        prepared_with = config
    for key, value in config.items():
        if prepared_with.get(key) != value:
            raise LabError(
                f"The data set {data.name} was prepared with other settings.",
                expected=f"{key}: {json.dumps(value)}",
                received=f"{key}: {json.dumps(prepared_with.get(key))}",
                fix=f"{fix}, with the same data keys as here",
            )
    for file in files:
        path = project / file.path
        if _is_same(file, path, prepared):
            continue
        raise LabError(
            f"{path} has changed since the data set {data.name} was prepared.",
            expected=f"SHA-256 {file.sha256}",
            received=file_sha256(path),
            fix=f"{fix}; its new rows are other points",
        )


def _is_same(file: RawFile, path: Path, prepared: Path) -> bool:
    if not path.is_file():
        return True
    if path.stat().st_size == file.size and modified_ns(path) <= modified_ns(prepared):
        return True
    return file_sha256(path) == file.sha256


def joint_sha256(files: Sequence[RawFile]) -> str:
    """Return the checksum of one file, or of the list of several in the format of `sha256sum`."""
    if len(files) == 1:
        return files[0].sha256
    listed = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()
