"""What MLflow shows above a run and an experiment, as Markdown: the answer, the command to run it again, the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pipeline.diagnosis.verdicts import PROBLEMS, Diagnosis
from pipeline.points.point import Point
from pipeline.studies.kinds import answers
from pipeline.studies.questions import PAGES, QUESTIONS

NOT_TYPED_AGAIN = {"results", "dry_run", "force"}
"""What does not belong to the command that runs a point again."""


def point_note(study: str, found: Diagnosis, overrides: Sequence[str], figures: str | None) -> str:
    """A point's: its diagnosis with the evidence, and how it is run again.

    Args:
        study: name of the experiment.
        found: the point's diagnosis.
        overrides: what it was asked for with, in Hydra's words.
        figures: address of its sweep's figures in the UI; None for a point alone.
    """
    problem = PROBLEMS.get(found.verdict, "none")
    named = f" The texts call it *{problem}*." if problem != "none" else ""
    asked = [one for one in overrides if one.split("=")[0] not in NOT_TYPED_AGAIN]
    return "\n\n".join([
        f"**{found.label}**: {found.evidence}.{named}",
        f"Run it again: `{shlex.join(['python', '-m', 'pipeline.train', *asked])}`",
        _where(study, figures),
    ])  # fmt: skip


def sweep_note(study: str, answer: str, points: Sequence[Point], command: str, figures: str) -> str:
    """A sweep's: the answer in a line, and then sentence by sentence."""
    said = [f"- {sentence}" for sentence in answers(points)]
    return "\n\n".join([f"**{answer}**", "\n".join(said), f"Run it again: `{command}`", _where(study, figures)])


def experiment_note(study: str, headlines: Mapping[str, str]) -> str:
    """An experiment's: the question, each backend's answer, how to run it.

    Args:
        study: name of the experiment.
        headlines: answers in a line, by backend.
    """
    lines = [QUESTIONS[study]] if study in QUESTIONS else []
    lines += ["\n".join(f"- {backend}: {answer}" for backend, answer in sorted(headlines.items(), reverse=True))]
    run = [f"Run it: `python -m pipeline.train experiment={study}`", _where(study, None)] if study in QUESTIONS else []
    return "\n\n".join([*lines, *run])


def _where(study: str, figures: str | None) -> str:
    seen = f"[Figures over all points]({figures}). " if figures else ""
    return f"{seen}Report: `reports/{PAGES}/{study}.md`" if study in QUESTIONS else seen.strip()
