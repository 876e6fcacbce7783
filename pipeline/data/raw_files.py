"""The raw files that prepared arrays were made from, and whether they have changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.data import DescribedData, ImageData
from pipeline.data.prepared_folder import prepare_command
from pipeline.system.errors import LabError
from pipeline.system.files import file_sha256, modified_ns
from pipeline.system.project import expanded
from pipeline.system.wording import some

# How many files a message lists.
MOST_NAMED = 5
IMAGES = (".png", ".jpg", ".jpeg")


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
    return RawFile(_shown(path, project), path.stat().st_size, file_sha256(path))


def _shown(path: Path, project: Path) -> str:
    if path.is_relative_to(project):
        return path.relative_to(project).as_posix()
    return path.as_posix()


def images_in(folder: Path) -> list[Path]:
    """Return the images below a folder with a folder for each class, in the order of their names."""
    return [
        file
        for kind in sorted(folder.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for file in sorted(kind.iterdir())
        if file.suffix.lower() in IMAGES and not file.name.startswith(".") and file.is_file()
    ]


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
    # Those of a further split are written with all others.
    further = prepared.parent.name != data.name
    fix = prepare_command(data, further)
    config = data.model_dump(mode="json")
    # Arrays that were not made by pipeline.prepare may say nothing of it.
    if not isinstance(prepared_with, dict):
        prepared_with = config
    for key, value in config.items():
        if prepared_with.get(key) != value:
            keys = "data keys"
            if further or key == "split_seed":
                keys = "data keys, repeats and repeats_split"
            raise LabError(
                f"The data set {data.name} was prepared with other settings.",
                expected=f"{key}: {json.dumps(value)}",
                received=f"{key}: {json.dumps(prepared_with.get(key))}",
                fix=f"{prepare_command(data)}, with the same {keys} as here",
            )
    if isinstance(data, ImageData):
        _check_listing(data, files, project, fix)
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


def _check_listing(data: ImageData, files: Sequence[RawFile], project: Path, fix: str) -> None:
    """Refuse folders whose images are not those that were prepared; a folder that is gone or empty does not count."""
    known = {file.path for file in files}
    for key, path in (("data.path", data.path), ("data.test_path", data.test_path)):
        if path is None:
            continue
        folder = project / expanded(path, key)
        if not folder.is_dir():
            continue
        found = {_shown(file, project) for file in images_in(folder)}
        start = f"{_shown(folder, project)}/"
        gone = {file for file in known if file.startswith(start)} - found
        if found and (found - known or gone):
            raise LabError(
                f"{folder} has other images than when the data set {data.name} was prepared.",
                expected=f"{len(known):,} images",
                received=some([*_signed("+", found - known), *_signed("-", gone)], MOST_NAMED),
                fix=f"{fix}; its new rows are other points",
            )


def _signed(sign: str, files: Collection[str]) -> list[str]:
    return [f"{sign} {file}" for file in sorted(files)]


def _is_same(file: RawFile, path: Path, prepared: Path) -> bool:
    if not path.is_file():
        return True
    if path.stat().st_size == file.size and modified_ns(path) <= modified_ns(prepared):
        return True
    return file_sha256(path) == file.sha256


def joint_sha256(files: Sequence[RawFile]) -> str:
    """Return the checksum of one file, or of the checksums of several, wherever they are."""
    if len(files) == 1:
        return files[0].sha256
    listed = "".join(f"{file.sha256}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()
