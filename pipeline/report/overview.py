"""The overview of the report, which links to a page for each study: see `study_page.py`.

Every sentence is computed; what was not run is said to be not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.diagnosis.networks import GOAL
from pipeline.diagnosis.verdicts import PROBLEMS
from pipeline.report.parity import parity_lines
from pipeline.report.published.page import reproduction_lines, statement_lines
from pipeline.report.published.reproduction import BACKENDS, Cell, Results
from pipeline.report.published.statements import Statement
from pipeline.report.study_page import untrained_words
from pipeline.studies.kinds import headline
from pipeline.studies.questions import PAGES, QUESTIONS
from pipeline.system.wording import table


def ordered(results: Results) -> list[str]:
    """The known studies, then whatever else was trained."""
    return [*QUESTIONS, *sorted(set(results) - set(QUESTIONS))]


def render(
    results: Results, cells: Sequence[Cell], statements: Sequence[Statement], recorded_runs: Mapping[str, str]
) -> str:
    """The overview as Markdown; the pages that its table links to are `study_page`'s.

    Args:
        results: trained points by study and backend.
        cells: printed numbers and the ones seen.
        statements: printed statements and their verdicts.
        recorded_runs: notes of recorded runs by file stem.
    """
    lines = [
        "# What the learning rate and the hidden size do to training",
        "",
        "Written by `python -m pipeline.compare` from the trained points in the results folder; every number and "
        "verdict is computed from them. The table links to a page for each study. [points.csv](points.csv) has all "
        "points, [reproduction.csv](reproduction.csv) every printed number beside the one seen. "
        "Seconds are training time; points that trained as one stack share its time evenly.",
        "",
        "## In short",
        "",
        *_in_short(results),
        "",
        "## What the words mean",
        "",
        *_legend(),
        "",
    ]
    trained = {study: results[study] for study in ordered(results) if study in results}
    lines += ["## NumPy beside Keras", "", *parity_lines(trained), ""]
    lines += ["## Reproduction of the printed numbers", "", *reproduction_lines(cells)]
    lines += ["## What the texts say in words", "", *statement_lines(statements), ""]
    for stem, note in recorded_runs.items():
        lines += [f"## Recorded: {stem}", "", "A recorded run: kept with the report, not run by this pipeline run.", ""]
        lines += [f"![{stem}](recorded_{stem}.png)", "", *(f"> {line}".rstrip() for line in note.splitlines()), ""]
    return "\n".join(lines).rstrip() + "\n"


def _in_short(results: Results) -> list[str]:
    rows = [["study", "asks", *BACKENDS]]
    for study in ordered(results):
        found = results.get(study, {})
        untrained = untrained_words(found)
        said = [headline(found[backend]) if backend in found else untrained for backend in BACKENDS]
        rows.append([f"[{study}]({PAGES}/{study}.md)", QUESTIONS.get(study, ""), *said])
    return table(rows)


def _legend() -> Iterator[str]:
    """What the words of a diagnosis mean."""
    yield (
        "The **baseline** is the loss of the best constant answer, which ignores the inputs. A point has *converged* "
        f"where its loss is at most {GOAL:.0%} of that; otherwise it is *too slow* (still falling), *oscillating* (up "
        "and down), *stalled* (the gradient is nearly or exactly zero: by saturation, by rounding, or flat for another "
        "reason) or *diverged*. The texts name three problems:"
    )
    yield ""
    problems = dict.fromkeys(PROBLEMS.values())
    rows = [["the texts' problem", "diagnosis"]]
    rows += [[p, ", ".join(v for v, problem in PROBLEMS.items() if problem == p)] for p in problems if p != "none"]
    yield from table(rows)
