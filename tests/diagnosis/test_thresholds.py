"""Every threshold stands in one table, which the documentation shows."""

from __future__ import annotations

from pipeline.diagnosis import range_test, thresholds
from pipeline.diagnosis.thresholds import THRESHOLDS, threshold_rows
from pipeline.diagnosis.verdicts import MEANINGS, PROBLEMS
from pipeline.system.project import PROJECT
from pipeline.system.wording import table


def numbers_of(module: object) -> dict[str, float]:
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int | float)}


def test_every_number_of_a_diagnosis_is_in_the_table() -> None:
    expected = numbers_of(thresholds) | {f"range test: {name}": v for name, v in numbers_of(range_test).items()}
    assert {one.name: one.value for one in THRESHOLDS} == expected
    assert all(one.meaning.endswith(".") and one.reason.endswith(".") for one in THRESHOLDS)


def test_the_documentation_shows_the_table_and_every_verdict() -> None:
    page = (PROJECT / "docs" / "diagnosis.md").read_text()
    assert "\n".join(table(threshold_rows())) in page
    assert "\n".join(table([["verdict", "meaning"], *([one, said] for one, said in MEANINGS.items())])) in page
    assert set(MEANINGS) == set(PROBLEMS)
