"""A page of the report on one study: question, picture, sentences, tables, and how it is run.

Every sentence is computed; what was not run is said to be not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.report.parity import parity_table
from pipeline.report.published.reproduction import BACKENDS
from pipeline.studies.grids import METRIC_NAMES, Backends, recorded
from pipeline.studies.kinds import NETWORKS, answers, study_kind
from pipeline.studies.questions import QUESTIONS
from pipeline.system.wording import table

PARITY = (
    "At each point that both trained, over its epochs. [The overview](../README.md#numpy-beside-keras) says where "
    "the two are not given the same computation."
)
Commands = Mapping[tuple[str, str], str]
"""What was typed to train a study on a backend."""


def study_page(study: str, backends: Backends, commands: Commands) -> str:
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


def _findings(study: str, backends: Backends) -> Iterator[str]:
    yield f"![{study}]({study}.png)"
    yield ""
    for sentence in _sentences(backends):
        yield f"- {sentence}"
    first = next(iter(backends.values()))
    kind = study_kind(first)
    if kind.single:
        return
    apart = parity_table({study: backends}, study)
    sections = [*kind.sections(first), ("NumPy beside Keras", [PARITY, "", *apart] if apart else [])]
    for heading, section in sections:
        if section:
            yield from ("", f"## {heading}", "", *section)
    count = sum(map(len, backends.values()))
    yield ""
    yield f"<details><summary>The {count} point{'s' if count > 1 else ''}</summary>"
    yield ""
    yield from _points_table(backends)
    yield ""
    yield "</details>"


def _how_to_run(study: str, backends: Backends, commands: Commands) -> Iterator[str]:
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


def untrained_words(backends: Backends) -> str:
    """What stands where a backend has not trained a study that others have trained, or none."""
    return next((study_kind(points).untrained for points in backends.values()), NETWORKS.untrained)


def _points_table(backends: Backends) -> list[str]:
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


def _sentences(backends: Backends) -> Iterator[str]:
    """What was trained, and what it says; what both backends say alike is said once."""
    for backend in BACKENDS:
        if backend not in backends and untrained_words(backends) == NETWORKS.untrained:
            yield f"{backend}: {NETWORKS.untrained}."
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
