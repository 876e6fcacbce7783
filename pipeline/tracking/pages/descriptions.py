"""The descriptions of runs and experiments in MLflow, in Markdown: the answer, the rerun command, the report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pipeline.diagnosis.verdicts import Diagnosis
from pipeline.points.destination import PAGES
from pipeline.points.point import Point
from pipeline.studies.experiments import question_of, read_experiment
from pipeline.studies.grids import by_backend
from pipeline.studies.kinds import answers, headline

# Overrides to omit from the rerun command.
NOT_REPEATED = {"results", "dry_run", "force", "breaking_rate", "budget"}


def point_note(
    study: str, found: Diagnosis, overrides: Sequence[str], figures: str | None, data: Sequence[str] = ()
) -> str:
    """Return the description of a point: its diagnosis, the evidence and the rerun command.

    Args:
        study: name of the experiment.
        found: the diagnosis of the point.
        overrides: the point's Hydra overrides.
        figures: link to the figures of its sweep in the UI; None for a single point.
        data: what a person should know about its data, one sentence each.
    """
    diagnosis = f"**{found.label}**: {found.evidence}."
    if found.problem != "none":
        diagnosis += f" The published texts call this *{found.problem}*."
    repeated = [override for override in overrides if override.split("=")[0] not in NOT_REPEATED]
    command = shlex.join(["python", "-m", "pipeline.train", *repeated])
    parts = [diagnosis, f"Run it again: `{command}`", _links(study, figures)]
    if data:
        parts.insert(1, f"Data: {' '.join(data)}")
    return "\n\n".join(parts)


def sweep_note(study: str, points: Sequence[Point], command: str, figures: str) -> str:
    """Return the description of a sweep: its question, each backend's answer and details, and the rerun command."""
    backends = by_backend(points)
    lines = []
    for backend, members in backends.items():
        answer = headline(members)
        if len(backends) > 1:
            answer = f"{backend}: {answer}"
        lines += [f"**{answer}**", "\n".join(f"- {sentence}" for sentence in answers(members))]
    lines += [f"Run it again: `{command}`", _links(study, figures)]
    question = question_of(study, {"": points})
    if question is not None:
        lines.insert(0, question)
    return "\n\n".join(lines)


def experiment_note(study: str, question: str | None, headlines: Mapping[str, str]) -> str:
    """Return the description of an experiment: the question, each backend's answer, and how to run it.

    Args:
        study: name of the experiment.
        question: what it asks; None if nobody has said.
        headlines: one-line answers, by backend.
    """
    # In reverse order, so that NumPy comes before Keras as everywhere else.
    listed = "\n".join(f"- {backend}: {answer}" for backend, answer in sorted(headlines.items(), reverse=True))
    lines = [listed]
    if question is not None:
        lines.insert(0, question)
    # Each run has its own command. That of the experiment needs a file.
    if read_experiment(study) is not None:
        lines += [f"Run it: `python -m pipeline.train experiment={study}`", _links(study, None)]
    return "\n\n".join(lines)


def _links(study: str, figures: str | None) -> str:
    """Return the last line of a description: links to the figures and the report, if there are any."""
    links = []
    if figures:
        links.append(f"[Figures of all points]({figures}).")
    if read_experiment(study) is not None:
        links.append(f"Report: `reports/{PAGES}/{study}.md`")
    return " ".join(links)
