"""A page of the report on one study."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.points.point import Point
from pipeline.report.study_page import study_page
from pipeline.studies.experiments import ordered, question_of
from pipeline.studies.kinds import answers, headline
from pipeline.studies.knobs import layout
from pipeline.studies.reach import judged_together
from pipeline.studies.verdict_sentences import counted_verdicts, verdict_sentence
from tests.support.ended import ended
from tests.support.trained import sweep

LINE = ("experiment=line_y3x", "recording.snapshots=2", "training.epochs=20")
RATES = [[f"optimizer.learning_rate={rate}"] for rate in (0.01, 0.1)]
METHODS = ("experiment=methods_three_bits", "training.epochs=20", "optimizer.learning_rate=10")


@pytest.fixture(scope="module")
def both() -> dict[str, list[Point]]:
    """The same points under both names, so that there is nothing in which the backends differ."""
    return {backend: sweep([*LINE, f"backend={backend}"], RATES) for backend in ("numpy", "keras")}


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)


def test_a_page_has_everything_on_its_study_in_order(both: dict[str, list[Point]]) -> None:
    page = study_page("line_y3x", both, {})
    positions = [
        page.index(part)
        for part in (
            "# line_y3x\n",
            "(../README.md)",
            "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
            "\n**",
            "![line_y3x](line_y3x.png)",
            *(f": {sentence}" for sentence in answers(both["numpy"])),
            "\n## NumPy compared with Keras\n",
            "\n## How it was measured\n",
            "<details><summary>All 4 points</summary>",
            "\n## How to run it\n",
        )
    ]
    assert positions == sorted(positions)
    assert headings(page) == ["line_y3x", "NumPy compared with Keras", "How it was measured", "How to run it"]
    assert page.endswith("`conf/experiment/line_y3x.yaml`.\n")


def test_what_is_said_of_both_backends_is_said_once(both: dict[str, list[Point]]) -> None:
    page = study_page("line_y3x", {"numpy": both["numpy"], "keras": both["numpy"]}, {})
    assert "- numpy, keras: 2 points, trained for 20 epochs." in page
    for sentence in answers(both["numpy"]):
        # The answer above the picture may be one of them.
        assert page.partition("![")[2].count(sentence) == 1


@pytest.mark.parametrize(
    ("typed", "points", "column"),
    [
        (METHODS, [["optimizer=sgd"], ["optimizer=momentum"]], "optimizer"),
        (
            ("experiment=three_bits", "training.epochs=5", "feature=plain"),
            [["feature=tanh"], ["feature=he"]],
            "feature",
        ),
    ],
)
def test_each_row_of_the_table_says_what_its_point_was(
    typed: tuple[str, ...], points: list[list[str]], column: str
) -> None:
    page = study_page("study", {"numpy": sweep(typed, points)}, {})
    [head, _, *rows] = [line for line in page.partition("<details>")[2].splitlines() if line.startswith("|")]
    place = [cell.strip() for cell in head.split("|")].index(column)
    assert [row.split("|")[place].strip() for row in rows] == [point[0].partition("=")[2] for point in points]


def test_the_commands_are_those_that_trained_it(both: dict[str, list[Point]]) -> None:
    typed = "python -m pipeline.train experiment=line_y3x training.epochs=20"
    page = study_page("line_y3x", both, {("line_y3x", "numpy"): typed, ("line_y3x", "keras"): ""})
    assert re.findall(r"```sh\n(.*?)```", page, re.DOTALL) == [
        f"{typed}\n"
        "python -m pipeline.train experiment=line_y3x backend=keras results=results/line_y3x/keras\n"
        "python -m pipeline.compare\n"
    ]


@pytest.mark.parametrize("study", ordered({}))
def test_a_study_that_was_not_run_says_so_and_how_it_is_run(study: str) -> None:
    page = study_page(study, {}, {})
    assert (question_of(study, {}) or "no question") in page
    assert "\nNot run.\n" in page
    assert "![" not in page
    run = f"python -m pipeline.train experiment={study} backend=numpy results=results/{study}/numpy\n"
    assert f"```sh\n{run}python -m pipeline.compare\n```" in page


def test_a_backend_that_is_missing_is_reported() -> None:
    page = study_page("three_bits", {"numpy": sweep(["experiment=three_bits", "training.epochs=5"], RATES)}, {})
    assert "- keras: not run." in page
    assert "- numpy: rates 0.01 and 0.1 are too slow." in page
    assert "NumPy compared with Keras" not in headings(page)


def test_a_study_of_ones_own_has_no_question_and_no_file(both: dict[str, list[Point]]) -> None:
    page = study_page("momentum", {"numpy": both["numpy"]}, {})
    assert page.startswith("# momentum\n\n[All studies](../README.md)")
    assert "\nNo question is written down; the points differ in `optimizer.learning_rate`, on line_y3x.\n" in page
    assert "conf/experiment" not in page
    alone = study_page("momentum", {"numpy": both["numpy"][:1]}, {})
    assert "\nOne training on line_y3x, without a question.\n" in alone


def test_what_points_differ_in_is_what_their_figures_show() -> None:
    own = ["optimizer=momentum", "recording.metrics_every=2"]
    points = sweep([*LINE, "training.epochs=4", "optimizer.learning_rate=0.1"], [["optimizer=sgd"], own])
    # The momentum comes with the method, and what was recorded changes no number.
    page = study_page("method", {"numpy": points}, {})
    assert "\nNo question is written down; the points differ in `optimizer.name`, on line_y3x.\n" in page
    seeds = sweep([*LINE, "training.epochs=4"], [["seed=1"], ["seed=2"]])
    assert "the points differ in `seed`, on line_y3x." in study_page("seeds", {"numpy": seeds}, {})


def test_a_question_from_the_command_line_heads_the_page() -> None:
    asked = [*LINE, "study=momentum", "question='How much, and why?'"]
    points = sweep(asked, RATES)
    assert [point.name for point in points] == ["learning_rate=0.01", "learning_rate=0.1"]
    page = study_page("momentum", {"numpy": points}, {})
    assert "\nHow much, and why?\n" in page
    # Points that were first trained for another study do not bring its question.
    assert question_of("other", {"numpy": points}) is None


def test_a_study_that_was_trained_by_hand_says_so(both: dict[str, list[Point]]) -> None:
    page = study_page("momentum", {"numpy": both["numpy"]}, {}, by_hand=True)
    assert "\nTrained by hand: DVC has not trained this study" in page
    assert "Trained by hand" not in study_page("momentum", {"numpy": both["numpy"]}, {})


def test_a_study_of_methods_has_their_usable_rates_and_their_formulas() -> None:
    points = sweep(METHODS, [["optimizer=sgd"], ["optimizer=lion"]])
    page = study_page("methods_three_bits", {"numpy": points}, {})
    assert headings(page) == [
        "methods_three_bits",
        "Usable rates",
        "The methods",
        "How it was measured",
        "How to run it",
    ]
    rates, methods = page.split("\n## The methods\n")
    assert re.findall(r"^\| (sgd|lion) \|", rates, re.MULTILINE) == ["sgd", "lion"]
    assert re.findall(r"^\| `(\w+)` \|", methods.split("<details>")[0], re.MULTILINE) == ["sgd", "lion"]
    assert not re.search(r"\n\n\n", page)


def test_the_answer_is_one_line_above_the_picture_and_begins_in_bold(both: dict[str, list[Point]]) -> None:
    page = study_page("line_y3x", both, {})
    answer = page.partition("\n![")[0].splitlines()[-1]
    assert re.fullmatch(r"\*\*[A-Z].*?\.\*\* [A-Z].*\.", answer)
    first = headline(both["numpy"]).partition(";")[0]
    assert answer.casefold().startswith(f"**{first.casefold()}.**")


# Losses of one study: for each hidden size, the losses of each seed at each of three rates. Infinity: it diverged.
LOSSES = st.lists(
    st.lists(st.lists(st.sampled_from((0.0, 0.1, 0.12, 0.4, 1.0, math.inf)), min_size=3, max_size=3), min_size=1),
    min_size=1,
    max_size=4,
)


# Three sizes whose sets of best rates differ.
SEVERAL_SIZES = [[[0.4, 0.1, 0.12], [0.4, 0.12, 0.1]], [[0.4, 0.4, 0.1]] * 2, [[0.1, 0.4, 1.0]] * 2]


def made_up(losses: list[list[list[float]]]) -> list[Point]:
    """The points of a study that nobody trained, judged as those of a study are."""
    points = []
    for size, by_seed in enumerate(losses, start=4):
        for seed, by_rate in enumerate(by_seed[:3]):
            for rate, loss in zip((0.1, 1, 10), by_rate, strict=True):
                points.append(
                    ended(loss, f"optimizer.learning_rate={rate}", f"model.hidden_size={size}", f"seed={seed}")
                )
    return judged_together(points)


@settings(max_examples=8)
@given(LOSSES, LOSSES, st.sampled_from((("numpy",), ("keras",), ("numpy", "keras"))))
@example(SEVERAL_SIZES, SEVERAL_SIZES[:1], ("numpy", "keras"))
def test_a_page_has_at_most_five_sentences(
    one: list[list[list[float]]], other: list[list[list[float]]], names: tuple[str, ...]
) -> None:
    backends = dict(zip(names, (made_up(one), made_up(other)), strict=False))
    said = study_page("three_bits", backends, {}).partition("\n![")[2].partition("\n## ")[0]
    sentences = re.findall(r"^- (.*)$", said, re.MULTILINE)
    assert 1 <= len(sentences) <= 5
    assert {name for sentence in sentences for name in sentence.partition(": ")[0].split(", ")} == set(names)
    points = backends[names[0]]
    # How training went at each rate, or how often where that is too long.
    verdicts = (verdict_sentence(points, layout(points)), counted_verdicts(points))
    assert any(sentence.partition(": ")[2].rstrip(".") in verdicts for sentence in sentences)


def test_points_that_only_the_other_backend_trained_are_told_if_they_diverged() -> None:
    numpy = made_up(SEVERAL_SIZES)
    keras = [ended(math.inf, f"optimizer.learning_rate={rate}", "backend=keras") for rate in range(20, 33)]
    page = study_page("three_bits", {"numpy": numpy, "keras": judged_together(keras)}, {})
    section = page.partition("## NumPy compared with Keras\n")[2].partition("\n## ")[0]
    assert "Of the points that only keras trained, 13 diverged:\n\n- `learning_rate=20 hidden_size=4`: " in section
    assert "- 3 further points: see the table of points." in section
