"""The overview of the report, which links to a page for each study: see `study_page.py`.

Every sentence is computed. Studies and backends that were not run are marked as such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline.diagnosis.thresholds import GOAL, NOISE
from pipeline.diagnosis.verdicts import MEANINGS, PROBLEMS
from pipeline.points.destination import PAGES
from pipeline.report.breaking_page import BREAKING_PAGE
from pipeline.report.combined_pages import PARITY_PAGE, PUBLISHED_PAGE
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.report.study_page import untrained_words
from pipeline.studies.experiments import heading_of, ordered
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.kinds import NETWORKS, headline
from pipeline.system.wording import paragraph, table

SUMMARY = "## Summary"
# Each page links to this heading: `study_page`.
TERMINOLOGY = "## Terminology"


def render(results: Results, by_hand: Collection[str] = ()) -> str:
    """Write the overview as Markdown; `study_page` and `combined_pages` write the pages that it links to.

    Args:
        results: trained points by study and backend.
        by_hand: the studies among the results that were trained by hand.
    """
    lines = [
        "# What the learning rate and the hidden size do to training",
        "",
        "A question and its answer for each study; the name leads to its page, with a picture, the evidence and the "
        "command that trains it ([how to read it](#how-to-read-it)). Written by `python -m pipeline.compare` from the "
        "trained points: every number and sentence is computed from them.",
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
        "## How to read it",
        "",
        *_reading(),
        "## Further pages",
        "",
        f"- [The published texts]({PUBLISHED_PAGE}): the four texts, and how closely their numbers and statements are "
        "reproduced",
        f"- [Where training breaks]({BREAKING_PAGE}): the rates predicted from the curvature beside those seen",
        f"- [NumPy compared with Keras]({PARITY_PAGE}): the largest difference in every metric and weight",
        "- [points.csv](points.csv): all points; [reproduction.csv](reproduction.csv): every published number next to "
        "the reproduced one; [parity.csv](parity.csv): every difference between the backends",
        "",
    ]
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
    """Return the table of these studies: the question, its answer on the first backend, and what it was trained on."""
    rows = [["study", "question", "answer", "trained on"]]
    for study in studies:
        backends = results.get(study, {})
        answer = ""
        for backend in BACKENDS:
            if backend in backends and not answer:
                answer = paragraph([headline(backends[backend])])
        rows.append([f"[{study}]({PAGES}/{study}.md)", heading_of(study, backends), answer, _trained_on(backends)])
    return table(rows)


def _trained_on(backends: PointsByBackend) -> str:
    """Return the backends that a study was trained on: `numpy, keras`, `NumPy only`, or `numpy; keras: not run`."""
    missing = [backend for backend in BACKENDS if backend not in backends]
    if not missing or not backends:
        return ", ".join(backends) or NETWORKS.untrained
    words = untrained_words(backends)
    if words != NETWORKS.untrained:
        return words
    return f"{', '.join(backends)}; {', '.join(missing)}: {words}"


def _reading() -> Iterator[str]:
    """Say how numbers and pictures are read."""
    yield (
        "`0.976 ± 0.003 (5)` is the mean of 5 seeds and half the width of its 95 % interval (Student's t): each seed "
        "has other initial weights and another order of the rows. With *one seed*, how much of a difference is luck is "
        "unknown. Points that *cannot be told apart* differ by no more than seeds do. How long each point trained is "
        "in `timings.csv`, which `make reproduce` writes beside this file and git does not keep."
    )
    yield ""
    yield (
        "In the pictures, a band around a curve and a bar through a point are such intervals; a frame or a black edge "
        "marks what cannot be told from the best; in a heat map, dark is good. What else a picture needs is written "
        "below its title."
    )
    yield ""


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
        f"{GOAL:.0%} of the gap between the baseline and the best loss, or metric, are missing, or no more than noise "
        f"explains: {NOISE:g} standard deviations over seeds, or standard errors of the rows that judge. A cause in "
        "parentheses says what else is wrong. "
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
