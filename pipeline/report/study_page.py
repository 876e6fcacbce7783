"""A page of the report on one study: question, picture, sentences, tables, and how to run it.

Every sentence is computed. Backends that were not run are marked as such.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pipeline.points.point import Point
from pipeline.report.parity_page import parity_table
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.studies.compared_rows import compared_rows
from pipeline.studies.experiments import heading_of, read_experiment
from pipeline.studies.grids import METRIC_NAMES, PointsByBackend, recorded
from pipeline.studies.kinds import NETWORKS, answers, study_kind
from pipeline.studies.knobs import RATE, SIZE, Knob
from pipeline.system.wording import table

PARITY = (
    "For each point trained on both backends, over all its epochs. [The overview]"
    "(../README.md#numpy-compared-with-keras) lists the points where the two backends do not run the same computation."
)
# The command line that trained each study on each backend.
Commands = Mapping[tuple[str, str], str]
BY_HAND = (
    "Trained by hand: DVC has not trained this study, so this shows the newest sweep in `.points/` on each backend. "
    "With a line in `conf/pipeline.yaml`, which `make study` writes, `dvc repro` trains it."
)


class Trained(NamedTuple):
    """What a report is written from.

    Attributes:
        results: trained points by study and backend.
        commands: the commands that trained them, by study and backend.
        by_hand: the studies among them that are not in a results folder, but were trained by hand.
    """

    results: Results
    commands: Commands = MappingProxyType({})
    by_hand: Collection[str] = ()


def study_page(study: str, backends: PointsByBackend, commands: Commands, by_hand: bool = False) -> str:
    """Write the page of a study as Markdown. Its picture, STUDY.png, is next to it; the overview is one folder above.

    Args:
        study: the name of the study.
        backends: its points by backend; empty if it was not run.
        commands: the command lines by study and backend. For a backend without one, the page shows the default
            command, which trains the study in `conf/experiment/`.
        by_hand: whether the points are those of a sweep that was trained by hand.
    """
    lines = [f"# {study}", "", "[All studies](../README.md), [terminology](../README.md#terminology)"]
    heading = heading_of(study, backends)
    if heading:
        lines += ["", heading]
    if by_hand:
        lines += ["", BY_HAND]
    lines.append("")
    if backends:
        lines += _findings(study, backends)
    else:
        lines.append("Not run.")
    lines += ["", "## How to run it", "", *_how_to_run(study, backends, commands)]
    return "\n".join(lines) + "\n"


def _findings(study: str, backends: PointsByBackend) -> Iterator[str]:
    """Write the picture, the sentences, the tables of the study's kind, and all points."""
    yield f"![{study}]({study}.png)"
    yield ""
    first = next(iter(backends.values()))
    for sentence in (*_sentences(backends), compared_rows(first)):
        if sentence:
            yield f"- {sentence}"
    kind = study_kind(first)
    # The sentences of such a kind, for instance maps, describe each point completely, so there is no table of points.
    if kind.single:
        return
    differences = parity_table({study: backends}, study)
    parity_section = []
    if differences:
        parity_section = [PARITY, "", *differences]
    for heading, section in (*kind.sections(first), ("NumPy compared with Keras", parity_section)):
        if section:
            yield from ("", f"## {heading}", "", *section)
    count = sum(map(len, backends.values()))
    # Collapsed, because a grid has hundreds of points. Markdown inside HTML needs the empty lines.
    yield ""
    yield f"<details><summary>{_all_points(count)}</summary>"
    yield ""
    yield from _points_table(backends)
    yield ""
    yield "</details>"


def _all_points(count: int) -> str:
    if count == 1:
        return "The point"
    return f"All {count} points"


def _counted(number: int, noun: str) -> str:
    return f"{number} {_plural(noun, number)}"


def _plural(noun: str, number: int) -> str:
    if number == 1:
        return noun
    return f"{noun}s"


def _how_to_run(study: str, backends: PointsByBackend, commands: Commands) -> Iterator[str]:
    """Write the commands that trained the points on this page, and the command that generates it."""
    yield "```sh"
    # A study that was not run is shown with the command for the first backend only.
    for backend in backends or BACKENDS[:1]:
        own = f"python -m pipeline.train experiment={study} backend={backend} results=results/{study}/{backend}"
        yield commands.get((study, backend)) or own
    yield "python -m pipeline.compare"
    yield "```"
    if read_experiment(study) is not None:
        yield ""
        yield f"The grid is defined in `conf/experiment/{study}.yaml`."


def untrained_words(backends: PointsByBackend) -> str:
    """Return the text shown if a backend has not trained a study.

    Args:
        backends: the study's points on the other backends, if any; their kind decides the text.
    """
    return next((study_kind(points).untrained for points in backends.values()), NETWORKS.untrained)


def _points_table(backends: PointsByBackend) -> list[str]:
    points = [point for members in backends.values() for point in members]
    metrics = [name for name in METRIC_NAMES if recorded(points, name)]
    knobs = [Knob(RATE, ())]
    if any(point.hidden_size is not None for point in points):
        knobs.append(Knob(SIZE, ()))
    first = next(iter(backends.values()))
    knobs += study_kind(first).further(first)
    headings = ["point", "backend", *(knob.name for knob in knobs), "diagnosis"]
    headings += [METRIC_NAMES[name] for name in metrics]
    rows = [[*headings, "seconds", "evidence"]]
    rows += [_point_row(point, metrics, knobs) for point in points]
    # Names that hold only the settings in these columns would repeat them, so their column is omitted.
    if all(len(point.name.split()) <= len(knobs) for point in points):
        rows = [row[1:] for row in rows]
    return table(rows)


def _point_row(point: Point, metrics: Sequence[str], knobs: Sequence[Knob]) -> list[str]:
    row = [f"`{point.name}`", point.config.backend.name]
    row += [_setting(point, knob) for knob in knobs]
    row.append(point.diagnosis.label)
    for name in metrics:
        # The last finite metrics of a diverged point are not a result; its diagnosis describes it.
        if point.diverged or name not in point.outcome.final:
            row.append("")
        else:
            row.append(f"{point.outcome.final[name]:.4g}")
    return [*row, f"{point.outcome.seconds:.2f}", point.diagnosis.evidence]


def _setting(point: Point, knob: Knob) -> str:
    value = knob.of(point)
    if knob.key == SIZE and value is None:
        return ""
    return knob.text(value)


def _sentences(backends: PointsByBackend) -> Iterator[str]:
    """Describe the trained points and their results. Sentences common to both backends are given once."""
    for backend in BACKENDS:
        # A kind that only NumPy trains is not missing on Keras.
        if backend not in backends and untrained_words(backends) == NETWORKS.untrained:
            yield f"{backend}: {NETWORKS.untrained}."
    by_sentence: dict[str, list[str]] = {}
    for backend, points in backends.items():
        epochs = sorted({point.config.training.epochs for point in points})
        listed = ", ".join(f"{number:,}" for number in epochs)
        trained = f"{_counted(len(points), 'point')}, trained for {listed} {_plural('epoch', epochs[-1])}."
        for sentence in (trained, *answers(points)):
            by_sentence.setdefault(sentence, []).append(backend)
    for sentence, names in by_sentence.items():
        yield f"{', '.join(names)}: {sentence}"
    (first, mine), *others = backends.items()
    for second, theirs in others:
        labels = {point.name: point.diagnosis.label for point in theirs}
        for point in mine:
            label = point.diagnosis.label
            if labels.get(point.name, label) != label:
                yield f"`{point.name}`: {first} {label}, {second} {labels[point.name]}."
