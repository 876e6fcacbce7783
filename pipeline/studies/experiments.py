"""The files in conf/experiment/: each is a study, with its question and its place in the report.

A trained point has both in its own config. The file comes first where there is one, because a question that is worded
better later is meant for the points that are trained already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.config.schema import Report
from pipeline.points.point import Point
from pipeline.studies.grids import PointsByBackend
from pipeline.studies.knobs import SEED, layout
from pipeline.system.files import readable
from pipeline.system.project import CONF
from pipeline.system.wording import some

# The C loader is ten times as fast, but some builds of PyYAML lack it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Maximum number of keys to list in place of a question.
MOST_KEYS = 4


class Experiment(BaseModel):
    """What the report needs of the file of a study; all else in it is for training.

    Attributes:
        study: the name of the study, which is also that of its file.
        question: what it asks, in one sentence.
        report: how its points are compared and shown.
    """

    study: str | None = None
    question: str | None = None
    report: Report = Report()


def read_experiment(study: str, conf: Path = CONF) -> Experiment | None:
    """Read the file of a study; None if it has none.

    A file that sets another study than its name says is a variation of that study, and no study of its own.

    Raises:
        DamagedError: it is not YAML, or its question or its section `report` cannot be used.
        LabError: it cannot be read for another reason.
    """
    file = conf / "experiment" / f"{study}.yaml"
    if not file.exists():
        return None
    with readable(
        f"The experiment conf/experiment/{file.name}",
        expected="a mapping in YAML; its question is a text, and report.order a whole number",
        fix=f"fix conf/experiment/{file.name}, or restore it from git",
    ):
        content = file.read_text(encoding="utf-8")
        try:
            experiment = Experiment.model_validate(yaml.load(content, LOADER))  # noqa: S506 - both loaders are safe
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(str(error)) from None
    if experiment.study != study:
        return None
    return experiment


def read_experiments(conf: Path = CONF) -> dict[str, Experiment]:
    """Read the files of all studies, by study.

    Raises:
        LabError: one of them cannot be read.
    """
    found = {}
    for file in sorted((conf / "experiment").glob("*.yaml")):
        experiment = read_experiment(file.stem, conf)
        if experiment is not None:
            found[file.stem] = experiment
    return found


def question_of(study: str, backends: PointsByBackend, conf: Path = CONF) -> str | None:
    """Return the question of a study: that of its file, or without a file that of its points, if they have one.

    Args:
        study: the name of the study.
        backends: its points by backend; none if it was not trained.
        conf: the folder of the configs.

    Raises:
        LabError: the file cannot be read.
    """
    experiment = read_experiment(study, conf)
    if experiment is not None and experiment.question:
        return experiment.question
    # A point that was first trained for another study has that study's question.
    own = (point for points in backends.values() for point in points if point.config.study == study)
    return next((point.config.question for point in own), None)


def as_the_file_says(study: str, backends: PointsByBackend, conf: Path = CONF) -> dict[str, list[Point]]:
    """Return the points of a study with what its file says about the report; what it leaves open stays.

    Args:
        study: the name of the study.
        backends: its points by backend.
        conf: the folder of the configs.

    Raises:
        LabError: the file cannot be read.
    """
    experiment = read_experiment(study, conf)
    written: dict[str, Any] = {}
    if experiment is not None:
        written = {key: getattr(experiment.report, key) for key in experiment.report.model_fields_set}
    return {backend: [_reported(point, written) for point in points] for backend, points in backends.items()}


def _reported(point: Point, written: Mapping[str, Any]) -> Point:
    report = point.config.report.model_copy(update=written)
    return replace(point, config=point.config.model_copy(update={"report": report}))


def ordered(results: Mapping[str, PointsByBackend], further: Iterable[str] = (), conf: Path = CONF) -> list[str]:
    """List all studies that have a file, points or are named, by `report.order`, and by name where that is the same.

    Args:
        results: trained points by study and backend; a study without a file has its order in their configs.
        further: names of other studies, whose points are not here.
        conf: the folder of the configs.

    Raises:
        LabError: a file cannot be read.
    """
    orders = dict.fromkeys(further, Report().order)
    for study, backends in results.items():
        found = (point.config.report.order for points in backends.values() for point in points)
        orders[study] = next(found, Report().order)
    for study, experiment in read_experiments(conf).items():
        orders[study] = experiment.report.order
    return sorted(orders, key=lambda study: (orders[study], study))


def heading_of(study: str, backends: PointsByBackend, conf: Path = CONF) -> str:
    """Return what heads the page of a study: its question, or without one what its points differ in.

    Empty for a study without a question that was not trained.

    Raises:
        LabError: the file of the study cannot be read.
    """
    question = question_of(study, backends, conf)
    points = next(iter(backends.values()), [])
    if question is not None or not points:
        return question or ""
    data = points[0].config.data.name
    if len(points) == 1:
        return f"One training on {data}, without a question."
    shown = layout(points)
    varied = [knob.key for knob in shown.knobs]
    if len(shown.seeds) > 1:
        varied.append(SEED)
    if not varied:
        return f"{len(points)} trainings on {data}, without a question."
    listed = some([f"`{key}`" for key in varied], MOST_KEYS)
    return f"No question is written down; the points differ in {listed}, on {data}."
