"""The descriptions of runs and experiments in MLflow, in Markdown: the answer, how to run it again, the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pipeline.diagnosis.verdicts import PROBLEMS, Diagnosis
from pipeline.points.point import Point
from pipeline.studies.kinds import answers
from pipeline.studies.questions import PAGES, QUESTIONS

# Options that do not belong in the command that runs a point again.
NOT_REPEATED = {"results", "dry_run", "force"}


def point_note(study: str, found: Diagnosis, overrides: Sequence[str], figures: str | None) -> str:
    """Describe a point: its diagnosis with the evidence, and how to run it again.

    Args:
        study: name of the experiment.
        found: the diagnosis of the point.
        overrides: Hydra's overrides that the point was trained with.
        figures: link to the figures of its sweep in the UI; None for a single point.
    """
    diagnosis = f"**{found.label}**: {found.evidence}."
    # Maps and range tests have no such problem, so they are not in PROBLEMS.
    problem = PROBLEMS.get(found.verdict, "none")
    if problem != "none":
        diagnosis += f" The published texts call this *{problem}*."
    repeated = [override for override in overrides if override.split("=")[0] not in NOT_REPEATED]
    command = shlex.join(["python", "-m", "pipeline.train", *repeated])
    return "\n\n".join([diagnosis, f"Run it again: `{command}`", _links(study, figures)])


def sweep_note(study: str, answer: str, points: Sequence[Point], command: str, figures: str) -> str:
    """Describe a sweep: the answer in one line, then sentence by sentence, and how to run it again."""
    sentences = "\n".join(f"- {sentence}" for sentence in answers(points))
    return "\n\n".join([f"**{answer}**", sentences, f"Run it again: `{command}`", _links(study, figures)])


def experiment_note(study: str, headlines: Mapping[str, str]) -> str:
    """Describe an experiment: the question, the answer of each backend, and how to run it.

    Args:
        study: name of the experiment.
        headlines: answers in one line, by backend.
    """
    # In reverse, so that NumPy comes before Keras as everywhere else.
    listed = "\n".join(f"- {backend}: {answer}" for backend, answer in sorted(headlines.items(), reverse=True))
    # A study of a user's own has neither a question nor a page in the report.
    if study not in QUESTIONS:
        return listed
    run = f"Run it: `python -m pipeline.train experiment={study}`"
    return "\n\n".join([QUESTIONS[study], listed, run, _links(study, None)])


def _links(study: str, figures: str | None) -> str:
    """Return the last line of a description: where to find the figures and the report, if there are any."""
    links = []
    if figures:
        links.append(f"[Figures of all points]({figures}).")
    if study in QUESTIONS:
        links.append(f"Report: `reports/{PAGES}/{study}.md`")
    return " ".join(links)
