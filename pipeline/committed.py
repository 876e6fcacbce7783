"""Say which values of the committed report came out again, and list the others.

`python -m pipeline.committed [results=DIR] [reports=DIR]`; `make reproduce` ends with it. The committed report is that
of git's HEAD. Only values of studies that have results here are compared: all others are still the committed ones.
Where conf/pipeline.yaml has another profile than in HEAD, nothing is: one of the two reports was cut short.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.committed")

import csv
import io
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from pipeline.config.reading import read_folder
from pipeline.report.committed import EXPLAINED, Comparison, Difference, compare_reports, is_compared, study_of
from pipeline.system import cli
from pipeline.system.files import explained, readable, write_file
from pipeline.system.project import CONF, PROJECT
from pipeline.system.wording import aligned, counted, shortened, some

# How many differences are shown; the file has all of them.
MOST = 30
# How many studies are named.
SOME = 5
LONGEST = 50
LONGEST_VALUE = 25
DIFFERENCES = "differences.csv"
# The profile of the studies that DVC trains, as `make reproduce PROFILE=small` writes it.
LISTS = "pipeline.yaml"
PROFILE = re.compile(r"^profile: *(\S+)", re.MULTILINE)


def committed_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder as git's HEAD has them, by their paths in it; empty without git or a commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "archive", "--format=tar", "HEAD", "."],  # noqa: S607 - the user's own git
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    files = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                files[member.name.removeprefix("./")] = stream.read()
    return files


def compare_with_committed(config: DictConfig) -> None:
    """Compare the report with the committed one, print a summary, and write the list of the differences."""
    results, reports = (read_folder(config, key, PROJECT) for key in ("results", "reports"))
    committed = {}
    if reports.exists():
        committed = committed_files(reports)
    if not any(is_compared(file) for file in committed):
        print(f"nothing to compare with: git has no committed report in {reports.name}/ (a downloaded zip has no git)")
        return
    profiles = _profiles(CONF)
    if profiles is not None:
        print("\n".join(_other_profile(*profiles)))
        return
    trained = {folder.parent.parent.name for folder in results.glob("*/*/sweep.json")}
    left = {study for file in committed if (study := study_of(file))} - trained
    texts = {file: content.decode(errors="replace") for file, content in committed.items() if is_compared(file)}
    before = _of_trained(texts, left)
    now = {}
    write_again = "run python -m pipeline.compare, which writes it again"
    with readable(f"The report in {reports}", expected="files that pipeline.compare wrote", fix=write_again):
        for file in before:
            if (reports / file).exists():
                now[file] = (reports / file).read_bytes().decode()
        comparison = compare_reports(before, now)
    with explained(reports / DIFFERENCES):
        write_file(reports / DIFFERENCES, lambda file: _write(file, comparison.differences))
    pictures = [file for file in committed if file.endswith(".png") and study_of(file) in trained]
    same = [file for file in pictures if _has(reports / file, committed[file])]
    print("\n".join(summary(comparison, f"{reports.name}/{DIFFERENCES}")))
    if pictures:
        print(f"pictures of studies: {len(same)} of {len(pictures)} have the same bytes")
    if left:
        print(f"left out, because they are not trained here: {some(sorted(left), SOME)}")


def _profiles(conf: Path) -> tuple[str, str] | None:
    """Return the profile in conf/pipeline.yaml and that in git's HEAD; None if they are the same, or one is missing."""
    file = conf / LISTS
    if not file.exists():
        return None
    with readable(f"conf/{LISTS}", expected="the settings for `dvc repro`", fix=f"restore conf/{LISTS} from git"):
        texts = (file.read_bytes(), committed_files(conf).get(LISTS, b""))
    now, before = (PROFILE.search(text.decode(errors="replace")) for text in texts)
    if now is None or before is None or now[1] == before[1]:
        return None
    return now[1], before[1]


def _other_profile(now: str, before: str) -> list[str]:
    """Return what is printed in place of a comparison: why there is none, and how to return."""
    return [
        f"not compared with the committed report: its profile is {before}, and conf/pipeline.yaml has {now}",
        f"to train with the profile {before} again: make reproduce PROFILE={before}",
        "to bring back only what is committed: git checkout conf/pipeline.yaml dvc.lock reports",
    ]


def _of_trained(files: Mapping[str, str], left: set[str]) -> dict[str, str]:
    """Return the files without those, and without rows of tables, that are about studies that are not trained here."""
    kept = {}
    for file, text in files.items():
        if study_of(file) in left:
            continue
        if file.endswith(".csv"):
            lines = text.splitlines(keepends=True)
            rows = [row for row in lines[1:] if row.partition(",")[0] not in left]
            text = "".join([*lines[:1], *rows])
        # The pages on all studies stay the committed ones if one of them is not trained here.
        if not (left and file.endswith(".md") and not study_of(file)):
            kept[file] = text
    return kept


def _has(file: Path, content: bytes) -> bool:
    return file.exists() and file.read_bytes() == content


def summary(comparison: Comparison, listed: str) -> list[str]:
    """Return the lines that a user reads.

    Args:
        comparison: what came out again.
        listed: the file that lists all differences.
    """
    again = comparison.same + comparison.last_digit
    line = f"of {comparison.values:,} committed values {again:,} came out again as printed"
    if comparison.last_digit:
        line += f" ({comparison.last_digit:,} of them to one unit of the last digit)"
    lines = [line]
    if not comparison.differences:
        return lines
    reasons = Counter("differ" if one.why.startswith("differs") else one.why for one in comparison.differences)
    lines.append(f"the others: {'; '.join(f'{count:,} {reason}' for reason, count in reasons.most_common())}")
    # What has no explanation comes first: of that, words that flipped, what is furthest off, and what is gone.
    furthest = sorted(comparison.differences, key=lambda one: (one.why in EXPLAINED, not one.now, -one.relative))
    rows = [["file", "value", "committed", "now", "why"]]
    for one in furthest[:MOST]:
        values = [shortened(text, LONGEST_VALUE) for text in (one.committed, one.now)]
        rows.append([one.file, shortened(one.place, LONGEST), *values, one.why])
    lines += ["", aligned(rows)]
    further = len(furthest) - MOST
    if further > 0:
        lines.append(f"and {counted(further, 'further value')}")
    lines.append(f"all of them: {listed}")
    return lines


def _write(file: Path, differences: Sequence[Difference]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([Difference._fields, *differences])


if __name__ == "__main__":
    sys.exit(cli.run(compare_with_committed, "committed"))
