"""A page of the report on one study: question, picture, sentences, tables, and how it is run.

Every sentence is computed; what was not run is said to be not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.drawing.plot_data import recorded
from pipeline.points.point import Point
from pipeline.report.published.reproduction import BACKENDS
from pipeline.studies.answers import QUESTIONS, answers
from pipeline.studies.explanations import explanation
from pipeline.studies.network_figures import METRIC_NAMES
from pipeline.studies.variants.table import parity_table, variant_table
from pipeline.system.wording import table

PARITY = (
    "At each point that both trained, over its epochs. [The overview](../README.md#numpy-beside-keras) says where "
    "the two are not given the same computation."
)
Commands = Mapping[tuple[str, str], str]
"""What was typed to train a study on a backend."""


def study_page(study: str, backends: Mapping[str, Sequence[Point]], commands: Commands) -> str:
    """The page of a study as Markdown. Its picture, STUDY.png, lies beside it, the overview a folder above.

    Args:
        study: its name.
        backends: its points by backend; none where it was not run.
        commands: where a backend has none, the page names the one that trains the study as `conf/experiment/` has it.
    """
    lines = [f"# {study}", "", "[All studies](../README.md), [what the words mean](../README.md#what-the-words-mean)"]
    lines += ["", QUESTIONS[study]] if study in QUESTIONS else []
    lines += ["", *(_findings(study, backends) if backends else ["Not run."])]
    return "\n".join([*lines, "", "## How to run it", "", *_how_to_run(study, backends, commands)]) + "\n"


def _findings(study: str, backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    yield f"![{study}]({study}.png)"
    yield ""
    for sentence in _sentences(backends):
        yield f"- {sentence}"
    if is_map(backends):
        return
    first = next(iter(backends.values()))
    apart = parity_table({study: backends}, study)
    for heading, section in (
        ("Usable rates", list(variant_table(first))),
        explanation(first),
        ("NumPy beside Keras", [PARITY, "", *apart] if apart else []),
    ):
        if section:
            yield from ("", f"## {heading}", "", *section)
    count = sum(map(len, backends.values()))
    yield ""
    yield f"<details><summary>The {count} point{'s' if count > 1 else ''}</summary>"
    yield ""
    yield from _points_table(backends)
    yield ""
    yield "</details>"


def _how_to_run(study: str, backends: Mapping[str, Sequence[Point]], commands: Commands) -> Iterator[str]:
    """The commands that trained what the page shows, and the one that writes it."""
    yield "```sh"
    for backend in backends or BACKENDS[:1]:
        own = f"python -m pipeline.train experiment={study} backend={backend} results=results/{study}/{backend}"
        yield commands.get((study, backend)) or own
    yield "python -m pipeline.compare"
    yield "```"
    if study in QUESTIONS:
        yield ""
        yield f"The grid is written down in `conf/experiment/{study}.yaml`."


def is_map(backends: Mapping[str, Sequence[Point]]) -> bool:
    """Whether a study is made of maps, which only NumPy trains, and whose picture says more than a table."""
    return any(point.config.grid is not None for points in backends.values() for point in points)


def is_curve(backends: Mapping[str, Sequence[Point]]) -> bool:
    """Whether a study is of balls on a curve, which only NumPy lets roll."""
    return any(point.config.balls is not None for points in backends.values() for point in points)


def _points_table(backends: Mapping[str, Sequence[Point]]) -> list[str]:
    points = [point for members in backends.values() for point in members]
    metrics = [name for name in METRIC_NAMES if recorded(points, name)]
    sized = any(point.hidden_size is not None for point in points)
    rows = [["point", "backend", "rate", *(["hidden size"] if sized else []), "diagnosis",
             *(METRIC_NAMES[name] for name in metrics), "seconds", "evidence"]]  # fmt: skip
    for point in points:
        final = {} if point.diverged else point.outcome.final
        values = [f"{final[name]:.4g}" if name in final else "" for name in metrics]
        size = ["" if point.hidden_size is None else str(point.hidden_size)] if sized else []
        rows.append([f"`{point.name}`", point.config.backend.name, f"{point.learning_rate:g}", *size,
                     point.diagnosis.label, *values, f"{point.outcome.seconds:.2f}",
                     point.diagnosis.evidence])  # fmt: skip
    plain = all(len(point.name.split()) <= 1 + sized for point in points)
    return table([row[1:] for row in rows] if plain else rows)


def _sentences(backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    """What was trained, and what it says; what both backends say alike is said once."""
    for backend in BACKENDS:
        if backend not in backends and not is_map(backends) and not is_curve(backends):
            yield f"{backend}: not run."
    said: dict[str, list[str]] = {}
    for backend, points in backends.items():
        epochs = sorted({point.config.training.epochs for point in points})
        count = f"{len(points)} point{'s' if len(points) > 1 else ''}"
        asked = ", ".join(f"{number:,}" for number in epochs)
        for sentence in (f"{count}, {asked} epoch{'s' if epochs[-1] > 1 else ''}.", *answers(points)):
            said.setdefault(sentence, []).append(backend)
    for sentence, by in said.items():
        yield f"{', '.join(by)}: {sentence}"
    (first, mine), *others = backends.items()
    for second, theirs in others:
        named = {point.name: point.diagnosis.label for point in theirs}
        for point in mine:
            label = point.diagnosis.label
            if named.get(point.name, label) != label:
                yield f"`{point.name}`: {first} {label}, {second} {named[point.name]}."
