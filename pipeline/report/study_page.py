"""A page of the report on one study: question, answer, picture, sentences, tables, how to run it.

Every sentence is computed. Backends that were not run are marked as such.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pipeline.points.point import Point
from pipeline.points.repeats import seeds_of, split_anew
from pipeline.report.parity_page import parity_table
from pipeline.report.points_table import points_table
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.studies.breaking import breaking_section, breaking_sentences
from pipeline.studies.compared_rows import compared_rows
from pipeline.studies.experiments import heading_of, read_experiment
from pipeline.studies.grids import PointsByBackend, cell_metric, cells
from pipeline.studies.kinds import MOST_SENTENCES, NETWORKS, answers, headline, study_kind
from pipeline.studies.knobs import layout
from pipeline.system.wording import paragraph

PARITY = (
    "For each point trained on both backends, over all its epochs. [The page on both backends](../parity.md) lists the "
    "points where they do not run the same computation."
)
# Maximum number of points to name whose diagnosis differs between the backends, or that one backend alone has.
MOST_DIFFERING = 10
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
    """Write the answer, the picture, the sentences, the tables of the study's kind, and all points."""
    yield _answer(next(iter(backends.values())))
    yield ""
    yield f"![{study}]({study}.png)"
    yield ""
    first = next(iter(backends.values()))
    yield from (f"- {sentence}" for sentence in _sentences(backends))
    yield from (f"- {sentence}" for sentence in breaking_sentences(first))
    kind = study_kind(first)
    sections = [
        *kind.sections(first),
        *breaking_section(first),
        ("NumPy compared with Keras", _compared_backends(study, backends)),
    ]
    measured = [f"- {sentence}" for sentence in (*_measured(backends), compared_rows(first)) if sentence]
    for heading, section in (*sections, ("How it was measured", measured)):
        if section:
            yield from ("", f"## {heading}", "", *section)
    # The sentences of such a kind, for instance maps, describe each point completely, so there is no table of points.
    if kind.single:
        return
    count = sum(len(cells(members, layout(members), cell_metric(members))) for members in backends.values())
    # Collapsed, because a grid has hundreds of points. Markdown inside HTML needs the empty lines.
    yield ""
    yield f"<details><summary>{_all_points(count)}</summary>"
    yield ""
    yield from points_table(backends)
    yield ""
    yield "</details>"


def _answer(points: Sequence[Point]) -> str:
    """Return a study's answer in a line, its first part bold."""
    # A full stop without a space is a decimal point.
    first, *rest = re.split(r"[;.] ", headline(points).rstrip("."))
    return " ".join([f"**{paragraph([first])}.**", *(f"{paragraph([part])}." for part in rest)])


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


def _trained(points: Sequence[Point]) -> str:
    """Say how many points there are, those that differ only in the seed counted once."""
    found = cells(points, layout(points), cell_metric(points))
    seeds = {len(cell.points) for cell in found}
    text = _counted(len(found), "point")
    if len(seeds) > 1:
        text += f" of up to {max(seeds)} seeds"
    elif max(seeds) > 1:
        text += f" of {max(seeds)} seeds"
    if split_anew(seeds_of(point.config) for point in points):
        text += ", each seed with a split of the rows of its own"
    return text


def untrained_words(backends: PointsByBackend) -> str:
    """Return the text shown if a backend has not trained a study.

    Args:
        backends: the study's points on the other backends, if any; their kind decides the text.
    """
    return next((study_kind(points).untrained for points in backends.values()), NETWORKS.untrained)


def _sentences(backends: PointsByBackend) -> Iterator[str]:
    """Yield at most `MOST_SENTENCES` sentences on the results, each with the backends that it is true of.

    The first backend leaves room for one sentence of the other.
    """
    by_sentence: dict[str, list[str]] = {}
    for room, (backend, points) in enumerate(backends.items(), start=MOST_SENTENCES - len(backends) + 1):
        for sentence in answers(points):
            if sentence in by_sentence or len(by_sentence) < room or study_kind(points).single:
                by_sentence.setdefault(sentence, []).append(backend)
    for sentence, names in by_sentence.items():
        yield f"{', '.join(names)}: {sentence}"


def _measured(backends: PointsByBackend) -> Iterator[str]:
    """Yield how many points each backend trained, and for how long."""
    for backend in BACKENDS:
        # A kind that only NumPy trains is not missing on Keras.
        if backend not in backends and untrained_words(backends) == NETWORKS.untrained:
            yield f"{backend}: {NETWORKS.untrained}."
    by_sentence: dict[str, list[str]] = {}
    for backend, points in backends.items():
        epochs = sorted({point.config.training.epochs for point in points})
        listed = ", ".join(f"{number:,}" for number in epochs)
        sentence = f"{_trained(points)}, trained for {listed} {_plural('epoch', epochs[-1])}."
        by_sentence.setdefault(sentence, []).append(backend)
    for sentence, names in by_sentence.items():
        yield f"{', '.join(names)}: {sentence}"


def _compared_backends(study: str, backends: PointsByBackend) -> list[str]:
    """Return the differences between the backends, and the points to which they give different diagnoses."""
    lines = []
    differences = parity_table({study: backends}, study)
    if differences:
        lines += [PARITY, "", *differences]
    (first, mine), *others = backends.items()
    names = {point.name for point in mine}
    for second, theirs in others:
        labels = {point.name: point.diagnosis.label for point in theirs}
        differing = [point for point in mine if labels.get(point.name, point.diagnosis.label) != point.diagnosis.label]
        heading = f"The diagnosis differs at {len(differing)} of {_counted(len(names & set(labels)), 'point')}:"
        told = [f"`{one.name}`: {first} {one.diagnosis.label}, {second} {labels[one.name]}." for one in differing]
        lines += _named_points(heading, told)
        # The sentences above are mostly those of the first backend.
        alone = [f"`{one.name}`: {one.diagnosis.evidence}." for one in theirs if one.diverged and one.name not in names]
        lines += _named_points(f"Of the points that only {second} trained, {len(alone)} diverged:", alone)
    # The section begins with a text.
    return lines[not differences :]


def _named_points(heading: str, told: Sequence[str]) -> Iterator[str]:
    """Write a list of points below a heading, after an empty line; nothing without points."""
    if not told:
        return
    yield from ("", heading, "")
    yield from (f"- {one}" for one in told[:MOST_DIFFERING])
    further = len(told) - MOST_DIFFERING
    if further > 0:
        yield f"- {_counted(further, 'further point')}: see the table of points."
