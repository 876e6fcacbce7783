"""The Markdown above runs and experiments."""

from __future__ import annotations

import pytest

from pipeline.points.point import Point
from pipeline.studies.kinds import answers, headline
from pipeline.tracking.pages.descriptions import experiment_note, point_note, sweep_note
from tests.support.trained import sweep


@pytest.fixture(scope="module")
def points() -> list[Point]:
    common = ("experiment=line_y3x", "recording.snapshots=2", "training.epochs=60")
    return sweep(common, [[f"optimizer.learning_rate={rate}"] for rate in (0.1, 1)])


def test_a_point_says_what_it_came_to_and_how_it_is_run_again(points: list[Point]) -> None:
    asked = ["optimizer.learning_rate=1", "experiment=line_y3x", "results=results/line_y3x/numpy", "force=true"]
    found = points[1].diagnosis
    note = point_note("line_y3x", found, asked, "#/figures")
    assert note.startswith(
        f"**stalled (rounding)**: {found.evidence}. The published texts call this *stuck in a minimum*."
    )
    assert "`python -m pipeline.train optimizer.learning_rate=1 experiment=line_y3x`" in note
    assert "[Figures of all points](#/figures)" in note
    assert "`reports/studies/line_y3x.md`" in note


def test_a_point_that_converged_is_no_problem(points: list[Point]) -> None:
    note = point_note("line_y3x", points[0].diagnosis, [], None)
    assert note.startswith("**converged**")
    assert "texts call this" not in note
    assert "Figures" not in note


def test_a_point_says_what_a_person_should_know_about_its_data(points: list[Point]) -> None:
    lines = point_note("line_y3x", points[0].diagnosis, [], None, ["The column x is constant.", "So is y."]).split(
        "\n\n"
    )
    assert lines[1] == "Data: The column x is constant. So is y."
    assert lines[2].startswith("Run it again")


def test_a_sweep_says_every_sentence(points: list[Point]) -> None:
    note = sweep_note("line_y3x", points, "python -m pipeline.train experiment=line_y3x", "#/figures")
    assert note.startswith(
        f"Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?\n\n**{headline(points)}**"
    )
    assert [line[2:] for line in note.splitlines() if line.startswith("- ")] == list(answers(points))
    assert "`python -m pipeline.train experiment=line_y3x`" in note


def test_an_experiment_says_both_backends_answers() -> None:
    note = experiment_note("three_bits", "Seven rates?", {"keras": "one", "numpy": "other"})
    assert note.startswith("Seven rates?\n\n- numpy: other")
    assert note.index("- numpy: other") < note.index("- keras: one")
    assert "`python -m pipeline.train experiment=three_bits`" in note


def test_a_study_of_ones_own_has_no_place_in_the_report() -> None:
    assert experiment_note("momentum", None, {"numpy": "other"}) == "- numpy: other"
    assert experiment_note("momentum", "How much?", {"numpy": "other"}) == "How much?\n\n- numpy: other"
