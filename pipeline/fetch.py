"""Download the raw files of a data set to data/raw/NAME, and verify them.

    python -m pipeline.fetch [data=NAME] [data.local_dir=PATH]

The sources of IDX files in conf/data/NAME.yaml are tried in order. The four unpacked files must have the checksums
given there, whichever source they come from. A file of one's own, and what scikit-learn brings, need not be fetched.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.fetch")

import hashlib
import logging
import sys
import time
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.data import DescribedData, IdxData, IdxFile, LibraryData
from pipeline.config.reading import read_data
from pipeline.data.raw.checks import RAW, mismatch
from pipeline.data.raw.download import SourceError
from pipeline.data.raw.keras_files import fetch_library
from pipeline.data.raw.sources import read_file, read_source
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import atomic_folder, explained, file_sha256, scratch_beside
from pipeline.system.project import PROJECT, expanded

# When this runs as a command, __name__ is __main__, which is not below `pipeline`.
log = logging.getLogger("pipeline.fetch")


def fetch_idx(data: IdxData, project: Path) -> Path:
    """Put the four raw files into data/raw/NAME, unless they are there already.

    Args:
        data: names, checksums and sources.
        project: folder that contains data/.

    Returns:
        The folder with the four verified files.

    Raises:
        LabError: no source has the files, a local file has another checksum, or the folder cannot be written.
    """
    folder = project / RAW / data.name
    started = time.monotonic()
    with explained(folder):
        # A file that was damaged later does not match either; then all four are fetched again.
        if all(_matches(folder / file.name, file) for file in data.files.values()):
            print(f"{data.name}: already in {folder}, checksums OK")
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        if data.local_dir:
            contents = _from_local_dir(data, expanded(data.local_dir, "data.local_dir"))
        else:
            contents = _from_sources(data, folder.parent)
        # All four files are in memory and verified by now, so the folder appears with all of them or not at all.
        with atomic_folder(folder) as new:
            for role, file in data.files.items():
                (new / file.name).write_bytes(contents[role])
    for role, file in data.files.items():
        print(f"  {file.name}: {len(contents[role]):,} bytes")
    print(f"{data.name}: in {folder}, checksums OK, {time.monotonic() - started:.1f} s")
    return folder


def _matches(path: Path, file: IdxFile) -> bool:
    return path.is_file() and file_sha256(path) == file.sha256


def _from_local_dir(data: IdxData, folder: Path) -> dict[str, bytes]:
    """Read the four files, plain or gzipped, from the user's folder, and return their contents by role.

    Raises:
        LabError: a file is missing, cannot be read or has another checksum.
    """
    print(f"reading {data.name} from {folder}", flush=True)
    contents = {}
    for role, file in data.files.items():
        path = folder / file.name
        if not path.exists():
            path = folder / f"{file.name}.gz"
        try:
            contents[role] = read_file(path)
            problem = mismatch(contents[role], file)
        except FileNotFoundError:
            raise _not_all_four(data, folder, file) from None
        except OSError as error:
            # Otherwise `explained`, around all of this, would report that the folder cannot be written.
            raise LabError(
                f"{path} cannot be read: {error.strerror}.", fix="check the file and its permissions"
            ) from None
        except SourceError as error:
            # A damaged gzip file has no content that could be compared.
            problem = str(error)
        if problem:
            received = problem
            if role in contents:
                received = hashlib.sha256(contents[role]).hexdigest()
            raise LabError(
                f"{path} is not the file that conf/data/{data.name}.yaml names ({problem.split(': SHA-256')[0]}).",
                expected=f"SHA-256 {file.sha256} of the unpacked file",
                received=received,
                fix="download the file again, or omit data.local_dir to fetch it from its sources",
            )
    return contents


def _not_all_four(data: IdxData, folder: Path, missing: IdxFile) -> LabError:
    received = "neither"
    if not folder.is_dir():
        received = "no such folder"
    return LabError(
        f"data.local_dir={folder} does not contain all four files.",
        expected=f"{missing.name} or {missing.name}.gz",
        received=received,
        fix="give the folder that contains " + ", ".join(file.name for file in data.files.values()),
    )


def _from_sources(data: IdxData, parent: Path) -> dict[str, bytes]:
    """Read the four files from the first source whose files match, and return their contents by role.

    Raises:
        LabError: no source has them; the message gives the reason for each.
    """
    reasons = []
    for source in data.sources:
        print(f"fetching {data.name} from {source.kind} {source.location}", flush=True)
        try:
            with scratch_beside(parent / f"{data.name}.download") as scratch:
                contents = read_source(source, scratch)
            # An outdated mirror or the login page of a network must not end the search, so it counts as an error too.
            for role, file in data.files.items():
                problem = mismatch(contents[role], file)
                if problem:
                    raise SourceError(problem)
        except SourceError as error:
            log.warning(f"  not used: {error}")
            reasons.append(f"  {source.kind} {source.location}: {error}")
        else:
            return contents
    files = ", ".join(file.name for file in data.files.values())
    raise LabError(
        "\n".join([f"{data.name} could not be fetched from any of its {len(data.sources)} sources.", *reasons]),
        fix=f"check the network, or download {files} (plain or .gz) yourself and give their folder: "
        f"python -m pipeline.fetch data={data.name} data.local_dir=PATH",
    )


def fetch(data: IdxData | DescribedData, project: Path) -> None:
    """Download what a data set needs, or say that it needs nothing.

    Raises:
        LabError: a download failed, or cannot be written.
    """
    if isinstance(data, IdxData):
        fetch_idx(data, project)
    elif isinstance(data, LibraryData) and data.is_downloaded:
        fetch_library(data, project)
    elif isinstance(data, LibraryData):
        print(f"{data.name}: nothing to fetch, {data.source} is installed")
    else:
        print(f"{data.name}: nothing to fetch, {data.path} is on this machine")


def task(config: DictConfig) -> None:
    """Fetch the selected data set into the project folder: the task that Hydra calls."""
    fetch(read_data(config, "fetch"), PROJECT)


if __name__ == "__main__":
    sys.exit(cli.run(task, "data_stages"))
