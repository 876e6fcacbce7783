"""The overview of the report, which links to a page for each study: see `study_page.py`.

Every sentence is computed. Studies and backends that were not run are marked as such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from pipeline.diagnosis.thresholds import GOAL
from pipeline.diagnosis.verdicts import MEANINGS, PROBLEMS
from pipeline.points.destination import PAGES
from pipeline.report.parity_page import parity_lines
from pipeline.report.published.page import reproduction_lines, statement_lines
from pipeline.report.published.reproduction import BACKENDS, Cell, Results
from pipeline.report.published.statements import Statement
from pipeline.report.study_page import untrained_words
from pipeline.studies.experiments import heading_of, ordered
from pipeline.studies.kinds import headline
from pipeline.system.wording import table

SUMMARY = "## Summary"
# Each page links to this heading: `study_page`.
TERMINOLOGY = "## Terminology"


def render(
    results: Results,
    cells: Sequence[Cell],
    statements: Sequence[Statement],
    recorded_runs: Mapping[str, str],
    by_hand: Collection[str] = (),
) -> str:
    """Write the overview as Markdown; `study_page` writes the pages that its table links to.

    Args:
        results: trained points by study and backend.
        cells: the published numbers, each with the reproduced one.
        statements: the published statements with their verdicts.
        recorded_runs: notes of recorded runs by file stem.
        by_hand: the studies among the results that were trained by hand.
    """
    lines = [
        "# What the learning rate and the hidden size do to training",
        "",
        "Written by `python -m pipeline.compare` from the trained points in the results folder. Every number and "
        "verdict is computed from them. The table links to a page for each study. [points.csv](points.csv) lists all "
        "points, [reproduction.csv](reproduction.csv) every published number next to the reproduced one. Seconds are "
        "training time; the time of a stack is divided evenly among its points. *The texts* are the four publications "
        "that the README of this project lists.",
        "",
        SUMMARY,
        "",
        *_summary(results, ordered(results)),
        "",
        *_by_hand(by_hand),
        TERMINOLOGY,
        "",
        *_legend(),
        "",
    ]
    trained = {study: results[study] for study in ordered(results) if study in results}
    lines += ["## NumPy compared with Keras", "", *parity_lines(trained), ""]
    lines += ["## Reproduction of the published numbers", "", *reproduction_lines(cells)]
    lines += ["## Qualitative claims in the texts", "", *statement_lines(statements), ""]
    for stem, note in recorded_runs.items():
        lines += [f"## Recorded: {stem}", ""]
        lines += ["A stored run, kept with the report; this pipeline run did not retrain it.", ""]
        lines += [f"![{stem}](recorded_{stem}.png)", ""]
        # The note is quoted. An empty line becomes `>`, without a trailing space.
        lines += [f"> {line}".rstrip() for line in note.splitlines()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def with_studies(overview: str, results: Results, by_hand: Collection[str]) -> str:
    """Return an earlier overview with lines for studies that were trained by hand, in the place of earlier ones.

    Args:
        overview: the earlier overview, as `render` wrote it; it stays as it is where its summary is missing.
        results: trained points by study and backend.
        by_hand: the studies among them that were trained by hand.
    """
    before, heading, rest = overview.partition(SUMMARY)
    own, end, after = rest.partition(TERMINOLOGY)
    if not heading or not end:
        return overview
    rows = _summary(results, by_hand)[2:]
    starts = tuple(row.partition("](")[0] for row in rows)
    kept = [line for line in own.splitlines() if line.startswith("|") and not line.startswith(starts)]
    lines = ["", "", *kept, *rows, "", *_by_hand(by_hand), ""]
    return before + heading + "\n".join(lines) + end + after


def _summary(results: Results, studies: Collection[str]) -> list[str]:
    """Return the table of these studies: question, and the answer of each backend in a line."""
    rows = [["study", "question", *BACKENDS]]
    for study in studies:
        backends = results.get(study, {})
        row = [f"[{study}]({PAGES}/{study}.md)", heading_of(study, backends)]
        for backend in BACKENDS:
            if backend in backends:
                row.append(headline(backends[backend]))
            else:
                row.append(untrained_words(backends))
        rows.append(row)
    return table(rows)


def _by_hand(studies: Collection[str]) -> Iterator[str]:
    """Say which studies of the table are not in the results folder, if there are any."""
    if studies:
        listed = ", ".join(sorted(studies))
        yield (
            f"Trained by hand, and not by DVC: {listed}. Of these, the table shows the newest sweep in `.points/` on "
            "each backend."
        )
        yield ""


def _legend() -> Iterator[str]:
    """Define the terms of a diagnosis, and name the problem in the texts that each diagnosis corresponds to."""
    yield (
        "The **baseline** is the loss of the best constant answer, which ignores the inputs. A point is judged against "
        "its group, the points of its study on one backend with the same model: it is near the best if at most "
        f"{GOAL:.0%} of the gap between the baseline and the best loss, or metric, are missing. "
        "`docs/diagnosis.md` has the rules and every threshold."
    )
    yield ""
    rows = [["diagnosis", "meaning"]]
    rows += [[verdict, meaning] for verdict, meaning in MEANINGS.items()]
    yield from table(rows)
    yield ""
    yield "The texts name three problems. Where the rate is too large, the problem is *slopes too big* in any case."
    yield ""
    diagnoses: dict[str, list[str]] = {}
    for diagnosis, problem in PROBLEMS.items():
        diagnoses.setdefault(problem, []).append(diagnosis)
    rows = [["problem in the texts", "diagnosis"]]
    rows += [[problem, ", ".join(names)] for problem, names in diagnoses.items() if problem != "none"]
    yield from table(rows)
