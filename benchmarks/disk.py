"""What is on disk after training, and how often: `python -m benchmarks.disk [FOLDER]`, the project's folder by default.

Content is unique if no other file has the same bytes. Files that are names of one file take its space once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.system.files import file_sha256
from pipeline.system.project import PROJECT
from pipeline.system.wording import aligned

PLACES = (".points", "results", ".dvc/cache", "mlruns")
MEGABYTE = 1e6


class Used(NamedTuple):
    """What files take: their names, the files behind them, the bytes of these, and those of different content."""

    names: int
    files: int
    used: int
    unique: int


def used(folders: Iterable[Path]) -> Used:
    """Look at all files below folders; those that do not exist are empty."""
    names = 0
    files: dict[tuple[int, int], Path] = {}
    for file in (file for folder in folders for file in folder.rglob("*")):
        if file.is_file():
            names += 1
            found = file.stat()
            files.setdefault((found.st_dev, found.st_ino), file)
    sizes = [file.stat().st_size for file in files.values()]
    contents = {file_sha256(file): size for file, size in zip(files.values(), sizes, strict=True)}
    return Used(names, len(files), sum(sizes), sum(contents.values()))


def rows(project: Path) -> Iterator[list[str]]:
    """Yield the rows of the table: each place alone, and all of them together."""
    yield ["folder", "names", "files", "MB", "MB of unique content", "times as much"]
    places = {place: [project / place] for place in PLACES}
    places["all"] = [folder for folders in places.values() for folder in folders]
    for place, folders in places.items():
        found = used(folders)
        ratio = ""
        if found.unique:
            ratio = f"{found.used / found.unique:.2f}"
        sizes = [f"{size / MEGABYTE:,.1f}" for size in (found.used, found.unique)]
        yield [place, f"{found.names:,}", f"{found.files:,}", *sizes, ratio]


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    print(aligned(list(rows(Path(*arguments[:1]) if arguments else PROJECT))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
