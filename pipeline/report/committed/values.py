"""The values in the files of a report, each by its place.

A value is a number, or one of the words that judge, in a file of the report that git keeps. In tables it is found by
its row and column; in pages by its sentence, of which the words between the values must be the same.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pipeline.diagnosis.verdicts import MEANINGS
from pipeline.report.earlier import PLACE

NUMBERS = "reproduction.csv"
SIZE, RATE = "model.hidden_size", "optimizer.learning_rate"
# The columns that identify a row of each table.
TABLES = {
    "points.csv": ("study", "backend", "name"),
    "parity.csv": ("study", "quantity", "kind"),
    NUMBERS: PLACE,
    "rounding.csv": ("study", "quantity", SIZE, RATE, "place"),
}
# The pages that are about all studies; those of single studies are in a folder.
PAGES = ("README.md", "parity.md", "published.md")
VERDICTS = (*MEANINGS, "reproduced", "within rounding", "differs", "holds")
# Not the digits within a name, such as layer_0 or float32.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?|nan|inf)(?![\w.]*\w)")
VALUE = re.compile(rf"{NUMBER.pattern}|\b(?:{'|'.join(VERDICTS)})\b")

# A value's place: its row and column, its key, or its sentence.
Place = tuple[str, ...]


def is_compared(file: str) -> bool:
    """Whether a file of the report has values that are computed; its path is relative to the folder of the report."""
    path = PurePosixPath(file)
    if len(path.parts) == 1:
        return file in TABLES or file in PAGES
    return (path.parts[0], path.suffix) in {("studies", ".md"), ("metrics", ".json")}


def study_of(file: str) -> str:
    """Return the study that a file of the report is about; empty if it is about all."""
    path = PurePosixPath(file)
    if path.parts[0] == "studies":
        return path.stem
    if path.parts[0] == "metrics":
        return path.parts[1]
    return ""


def values_of(file: str, text: str) -> dict[Place, str]:
    """Return the values in a file of the report by their places.

    Args:
        file: its path in the folder of the report.
        text: its content; empty if the file does not exist.
    """
    if not text:
        return {}
    if file in TABLES:
        return dict(_in_table(text, TABLES[file]))
    if file.endswith(".json"):
        return dict(_in_json(json.loads(text), ()))
    return dict(_in_page(text))


def _in_table(text: str, key: tuple[str, ...]) -> Iterator[tuple[Place, str]]:
    for row in csv.DictReader(io.StringIO(text, newline="")):
        own = tuple(row.get(name) or "" for name in key)
        yield from (((*own, column), value) for column, value in row.items() if value and column not in key)


def _in_json(content: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _in_json(value, (*place, name))
    else:
        yield place, str(content)


def _in_page(text: str) -> Iterator[tuple[Place, str]]:
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        words = VALUE.sub("#", line)
        # Rows of a table that are all numbers have the same words; their order tells them apart.
        seen[words] += 1
        for number, value in enumerate(VALUE.findall(line), start=1):
            yield (words, f"line {seen[words]} of this kind", f"value {number}"), value


def metric_of(file: str, place: Place) -> str:
    """Return what a number in a table is: the quantity of its row, or else its column or key."""
    key = TABLES.get(file, ())
    if "quantity" in key:
        return place[key.index("quantity")]
    return place[-1]


def number_in(text: str | None) -> float | None:
    """Return a value as a number; None if it is not a number, or is missing."""
    if text is None or not NUMBER.fullmatch(text):
        return None
    return float(text.replace(",", ""))
