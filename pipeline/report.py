"""The report in words and tables. Every sentence is computed; what was not run is said to be not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.answers import QUESTIONS, answers, headline
from pipeline.diagnosis import GOAL, PROBLEMS, diagnose
from pipeline.parity import parity_lines
from pipeline.plot_data import recorded
from pipeline.plots import METRIC_NAMES
from pipeline.points import Point
from pipeline.reproduction import BACKENDS, Cell, Results
from pipeline.reproduction_report import reproduction_lines, statement_lines, table
from pipeline.statements import Statement
from pipeline.variant_report import parity_table, variant_table
from pipeline.variants import knob


def ordered(results: Results) -> list[str]:
    """The known studies, then whatever else was trained."""
    return [*QUESTIONS, *sorted(set(results) - set(QUESTIONS))]


def render(
    results: Results, cells: Sequence[Cell], statements: Sequence[Statement], recorded_runs: Mapping[str, str]
) -> str:
    """The whole report as Markdown.

    Args:
        results: trained points by study and backend.
        cells: printed numbers and the ones seen.
        statements: printed statements and their verdicts.
        recorded_runs: notes of recorded runs by file stem.
    """
    lines = [
        "# What the learning rate and the hidden size do to training",
        "",
        "Written by `python -m pipeline.compare` from the trained points in the results folder; every number and "
        "verdict is computed from them. [points.csv](points.csv) has all points, "
        "[reproduction.csv](reproduction.csv) every printed number beside the one seen. "
        "Seconds are training time; points that trained in one pass share its time evenly.",
        "",
        *_in_short(results),
        "",
        *_legend(),
        "",
    ]
    for study in ordered(results):
        lines += [f"## {study}", "", *_study(study, results.get(study, {})), ""]
    for stem, note in recorded_runs.items():
        lines += [f"## Recorded: {stem}", "", "A recorded run: kept with the report, not run by this pipeline run.", ""]
        lines += [f"![{stem}](recorded_{stem}.png)", "", *(f"> {line}".rstrip() for line in note.splitlines()), ""]
    trained = {study: results[study] for study in ordered(results) if study in results}
    lines += ["## NumPy beside Keras", "", *parity_lines(trained), ""]
    lines += ["## Reproduction of the printed numbers", "", *reproduction_lines(cells)]
    lines += ["## What the texts say in words", "", *statement_lines(statements)]
    return "\n".join(lines).rstrip() + "\n"


def _in_short(results: Results) -> list[str]:
    rows = [["study", "asks", *BACKENDS]]
    for study in ordered(results):
        found = results.get(study, {})
        missing = "a map, NumPy only" if _is_map(found) else "NumPy only" if _is_curve(found) else "not run"
        said = [headline(found[backend]) if backend in found else missing for backend in BACKENDS]
        rows.append([f"[{study}](#{study})", QUESTIONS.get(study, ""), *said])
    return table(rows)


def _legend() -> Iterator[str]:
    """What the words of a diagnosis mean."""
    yield (
        "The **baseline** is the loss of the best constant answer, which ignores the inputs. A point has *converged* "
        f"where its loss is at most {GOAL:.0%} of that; otherwise it is *too slow* (still falling), *oscillating* (up "
        "and down), *stalled* (the gradient is nearly or exactly zero: by saturation, by rounding, or flat for another "
        "reason) or *diverged*. The texts name three problems:"
    )
    yield ""
    problems = dict.fromkeys(PROBLEMS.values())
    rows = [["the texts' problem", "diagnosis"]]
    rows += [[p, ", ".join(v for v, problem in PROBLEMS.items() if problem == p)] for p in problems if p != "none"]
    yield from table(rows)


def _study(study: str, backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    if study in QUESTIONS:
        yield QUESTIONS[study]
        yield ""
    if not backends:
        yield f"Not run. `python -m pipeline.train experiment={study} results=results/{study}/numpy` runs it."
        return
    yield f"![{study}]({study}.png)"
    yield ""
    for sentence in _sentences(backends):
        yield f"- {sentence}"
    if _is_map(backends):
        return
    yield ""
    first = next(iter(backends.values()))
    if knob(first) is not None:
        yield from variant_table(first)
        yield from parity_table({study: dict(backends)}, study)
        yield ""
    count = sum(map(len, backends.values()))
    yield f"<details><summary>The {count} point{'s' if count > 1 else ''}</summary>"
    yield ""
    yield from _points_table(backends)
    yield ""
    yield "</details>"


def _is_map(backends: Mapping[str, Sequence[Point]]) -> bool:
    """Whether a study is made of maps, which only NumPy trains, and whose picture says more than a table."""
    return any(point.config.grid is not None for points in backends.values() for point in points)


def _is_curve(backends: Mapping[str, Sequence[Point]]) -> bool:
    """Whether a study is of balls on a curve, which only NumPy lets roll."""
    return any(point.config.balls is not None for points in backends.values() for point in points)


def _points_table(backends: Mapping[str, Sequence[Point]]) -> list[str]:
    points = [point for members in backends.values() for point in members]
    metrics = [name for name in METRIC_NAMES if recorded(points, name)]
    sized = any(point.config.model.hidden_size is not None for point in points)
    rows = [["point", "backend", "rate", *(["hidden size"] if sized else []), "diagnosis",
             *(METRIC_NAMES[name] for name in metrics), "seconds", "evidence"]]  # fmt: skip
    for point in points:
        config, outcome = point.config, point.outcome
        finished, found = outcome.outcome == "finished", diagnose(config, point.history)
        values = [f"{outcome.final[name]:.4g}" if finished and name in outcome.final else "" for name in metrics]
        size = ["" if config.model.hidden_size is None else str(config.model.hidden_size)] if sized else []
        rows.append([f"`{point.name}`", config.backend.name, f"{config.optimizer.learning_rate:g}", *size,
                     found.label, *values, f"{outcome.seconds:.2f}", found.evidence])  # fmt: skip
    plain = all(len(point.name.split()) <= 1 + sized for point in points)
    return table([row[1:] for row in rows] if plain else rows)


def _sentences(backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    """What was trained, and what it says; what both backends say alike is said once."""
    for backend in BACKENDS:
        if backend not in backends and not _is_map(backends) and not _is_curve(backends):
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
        named = {point.name: diagnose(point.config, point.history).label for point in theirs}
        for point in mine:
            label = diagnose(point.config, point.history).label
            if named.get(point.name, label) != label:
                yield f"`{point.name}`: {first} {label}, {second} {named[point.name]}."
