"""What a user reads of the comparison with the committed report, and the file that lists what did not come out again.

Only values of studies that have results here are compared: all others are still the committed ones. Where
conf/pipeline.yaml has another profile than in git's HEAD, nothing is: one of the two reports was cut short.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.report.committed.comparison import EXPLAINED, Comparison, Difference, compare_reports
from pipeline.report.committed.head import committed_files, other_profile
from pipeline.report.committed.values import is_compared, study_of
from pipeline.system.files import explained, readable, write_file
from pipeline.system.wording import aligned, counted, shortened, some

# How many differences are shown; the file has all of them.
MOST = 30
# How many studies are named.
SOME = 5
LONGEST = 50
LONGEST_VALUE = 25
DIFFERENCES = "differences.csv"


def compare_with_committed(results: Path, reports: Path, conf: Path) -> list[str]:
    """Compare the report with that of git's HEAD, and write the list of the differences.

    Args:
        results: the parent folder of the results folders.
        reports: the folder of the report; nothing else in it is written.
        conf: the folder of the config, whose profile must be that of git's HEAD.

    Returns:
        The lines that a user reads.

    Raises:
        LabError: the report cannot be read, or the list cannot be written.
    """
    committed = {}
    if reports.exists():
        committed = committed_files(reports)
    if not any(is_compared(file) for file in committed):
        return [
            f"nothing to compare with: git has no committed report in {reports.name}/ (a downloaded zip has no git)"
        ]
    profiles = other_profile(conf)
    if profiles is not None:
        return _not_compared(*profiles)
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
    lines = _summary(comparison, f"{reports.name}/{DIFFERENCES}")
    pictures = [file for file in committed if file.endswith(".png") and study_of(file) in trained]
    same = [file for file in pictures if _has(reports / file, committed[file])]
    if pictures:
        lines.append(f"pictures of studies: {len(same)} of {len(pictures)} have the same bytes")
    if left:
        lines.append(f"left out, because they are not trained here: {some(sorted(left), SOME)}")
    return lines


def _not_compared(now: str, before: str) -> list[str]:
    """Return what a user reads in place of a comparison: why there is none, and how to return."""
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


def _summary(comparison: Comparison, listed: str) -> list[str]:
    """Return what a user reads of a comparison.

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
