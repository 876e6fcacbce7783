"""The report in words and tables. Every sentence is computed; what was not run is said to be not run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.plot_data import cell_metric, grid, rates, recorded
from pipeline.plots import METRIC_NAMES
from pipeline.points import Point
from pipeline.reproduction import BACKENDS, Cell, Results
from pipeline.statements import Statement

QUESTIONS = {
    "line_y2x": "Fit y = 2x with one weight and one bias: which rates reach 2, which run away?",
    "line_y3x": "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
    "two_bits": "Two weights and one sigmoid: what does the whole error surface look like, and the way down it?",
    "three_bits": "Seven rates, six orders of magnitude apart, and two hidden sizes: which rate ends lowest?",
    "thirteen_lines": "The 13-line network as it stands, rate 0.5 and four hidden units: where does it end?",
    "mnist": "A 784-1000-10 network under Adam at three rates: how smoothly does each learn, and how far?",
    "mnist_grid": "Does the best rate move with the hidden size?",
}
"""Each study's question, in the order of the report."""

WORST = 8


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
    ]
    for study in ordered(results):
        lines += [f"## {study}", "", *_study(study, results.get(study, {})), ""]
    for stem, note in recorded_runs.items():
        lines += [f"## Recorded: {stem}", "", "A recorded run: kept with the report, not run by this pipeline run.", ""]
        lines += [f"![{stem}](recorded_{stem}.png)", "", *(f"> {line}".rstrip() for line in note.splitlines()), ""]
    lines += ["## Reproduction of the printed numbers", "", *_reproduction(cells)]
    lines += ["## What the texts say in words", "", *_statements(statements)]
    return "\n".join(lines).rstrip() + "\n"


def digits_table(cells: Sequence[Cell]) -> list[list[str]]:
    """How many cells agree on how many digits: a header, then quantity, digits and a count for each backend.

    Full agreement first, then rising numbers of digits that are missing, then counts that are off and what was not run.
    """
    counts = Counter((cell.quantity, _agreement(cell), cell.backend) for cell in cells)
    rows = [["quantity", "digits that agree", *BACKENDS]]
    for kind in dict.fromkeys(cell.quantity for cell in cells):
        members = sorted((cell for cell in cells if cell.quantity == kind), key=_missing_digits)
        for agreement in dict.fromkeys(map(_agreement, members)):
            rows.append([kind, agreement, *(str(counts[kind, agreement, backend]) for backend in BACKENDS)])
    return rows


def _agreement(cell: Cell) -> str:
    return f"{cell.digits} of {cell.printed_digits}" if cell.digits.isdigit() else cell.digits


def _missing_digits(cell: Cell) -> tuple[float, int]:
    if cell.digits.isdigit() and cell.printed_digits is not None:
        return cell.printed_digits - int(cell.digits), -cell.printed_digits
    return {"exact": 0.0, "not exact": 1.0}.get(cell.digits, math.inf), 0


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def _study(study: str, backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    if study in QUESTIONS:
        yield QUESTIONS[study]
        yield ""
    if not backends:
        yield f"Not run. `python -m pipeline.train experiment={study} results=results/{study}/numpy` runs it."
        return
    yield f"![{study}]({study}.png)"
    yield ""
    yield from _points_table(backends)
    yield ""
    for sentence in _sentences(backends):
        yield f"- {sentence}"


def _points_table(backends: Mapping[str, Sequence[Point]]) -> list[str]:
    points = [point for members in backends.values() for point in members]
    metrics = [name for name in METRIC_NAMES if recorded(points, name)]
    sized = any(point.config.model.hidden_size is not None for point in points)
    rows = [["point", "backend", "rate", *(["hidden size"] if sized else []), "outcome",
             *(METRIC_NAMES[name] for name in metrics), "seconds"]]  # fmt: skip
    for point in points:
        config, outcome = point.config, point.outcome
        finished = outcome.outcome == "finished"
        values = [f"{outcome.final[name]:.4g}" if finished and name in outcome.final else "" for name in metrics]
        size = ["" if config.model.hidden_size is None else str(config.model.hidden_size)] if sized else []
        rows.append([f"`{point.name}`", config.backend.name, f"{config.optimizer.learning_rate:g}", *size,
                     _outcome(point), *values, f"{outcome.seconds:.2f}"])  # fmt: skip
    plain = all(len(point.name.split()) <= 1 + sized for point in points)
    return _table([row[1:] for row in rows] if plain else rows)


def _outcome(point: Point) -> str:
    outcome = point.outcome
    if outcome.diverged_step is None:
        return "finished"
    last = "" if outcome.last_finite_loss is None else f", last finite loss {outcome.last_finite_loss:.3g}"
    return f"diverged after {outcome.diverged_step:,} updates{last}"


def _sentences(backends: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    for backend in BACKENDS:
        if backend not in backends:
            yield f"{backend}: not run."
    for backend, points in backends.items():
        epochs = sorted({point.config.training.epochs for point in points})
        count = f"{len(points)} point{'s' if len(points) > 1 else ''}"
        asked = ", ".join(f"{number:,}" for number in epochs)
        lost = [point for point in points if point.outcome.outcome == "diverged"]
        ends = "" if lost else "; none diverged"
        yield f"{backend}: {count}, {asked} epoch{'s' if epochs[-1] > 1 else ''}{ends}."
        yield from (f"{backend}: `{point.name}` {_outcome(point)}." for point in lost)
        yield from (f"{backend}: {sentence}" for sentence in _best_rates(points))
    if len(backends) > 1:
        first, second, *_ = backends
        yield from _parity(first, backends[first], second, backends[second])


def _best_rates(points: Sequence[Point]) -> Iterator[str]:
    """For each hidden size the rate that ends best, where there are several rates."""
    if len(rates(points)) < 2:
        return
    metric = cell_metric(points)
    cells, accuracy = grid(points, metric), metric.endswith("accuracy")
    best: dict[int | None, float] = {}
    for size, values in zip(cells.sizes, cells.values, strict=True):
        ends = {rate: value for rate, value in zip(cells.rates, values.tolist(), strict=True) if math.isfinite(value)}
        if not ends:
            continue
        best[size] = (max if accuracy else min)(ends, key=lambda rate: ends[rate])
        where = "" if size is None else f" for hidden size {size}"
        yield f"the best rate{where} is {best[size]:g}, {METRIC_NAMES[metric]} {ends[best[size]]:.4g}."
    if len(best) > 1:
        same = len(set(best.values())) == 1
        yield (
            "the best rate is the same for every hidden size." if same else "the best rate moves with the hidden size."
        )


def _parity(first: str, mine: Sequence[Point], second: str, theirs: Sequence[Point]) -> Iterator[str]:
    """How far two backends are apart on the points that both trained."""
    metric, others = cell_metric(mine), {point.name: point for point in theirs}
    pairs = [(point, others[point.name]) for point in mine if point.name in others]
    for one, other in pairs:
        if one.outcome.outcome != other.outcome.outcome:
            yield f"`{one.name}`: {first} {one.outcome.outcome}, {second} {other.outcome.outcome}."
    ends = [
        (one.outcome.final[metric], other.outcome.final[metric], one.name)
        for one, other in pairs
        if one.outcome.outcome == other.outcome.outcome == "finished"
        and metric in one.outcome.final
        and metric in other.outcome.final
    ]
    if ends:
        mine_ends, their_ends, name = max(ends, key=lambda end: _gap(end[0], end[1]))
        gap = _gap(mine_ends, their_ends)
        where = f"differs most at `{name}`: {mine_ends:.6g} against {their_ends:.6g}, relative difference {gap:.2g}"
        yield f"{first} and {second}: the final {METRIC_NAMES[metric]} {where if gap else 'is equal on every point'}."


def _gap(one: float, other: float) -> float:
    """The difference of two numbers relative to the larger one."""
    return abs(one - other) / max(abs(one), abs(other)) if one != other else 0.0


def _reproduction(cells: Sequence[Cell]) -> Iterator[str]:
    yield (
        "How many printed numbers agree on how many significant digits, floor(-log10(relative difference)), at most as "
        "many as the text prints: 12 for errors, 8 decimals for weights, 2 decimals for weights after one epoch. "
        "A count is exact or not."
    )
    yield ""
    yield from _table(digits_table(cells))
    yield ""
    for backend in BACKENDS:
        seen = [cell for cell in cells if cell.backend == backend and cell.value is not None]
        if not seen:
            yield f"{backend}: not run."
            yield ""
            continue
        off = sorted((cell for cell in seen if not cell.agrees), key=lambda cell: -(cell.relative_difference or 0))
        yield f"{backend}: {len(seen) - len(off)} of {len(seen)} numbers agree on every printed digit, or exactly."
        yield ""
        if off:
            yield "The furthest off:" if len(off) > WORST else "The others:"
            yield ""
            yield from _table([CELL_HEAD, *map(_cell_row, off[:WORST])])
            yield ""


CELL_HEAD = ["study", "quantity", "hidden size", "rate", "where", "seen", "printed", "relative difference", "digits"]


def _cell_row(cell: Cell) -> list[str]:
    size = "" if cell.hidden_size is None else str(cell.hidden_size)
    return [cell.study, cell.quantity, size, f"{cell.learning_rate:g}", cell.place, f"{cell.value:.12g}",
            f"{cell.published:.12g}", f"{cell.relative_difference:.2g}", _agreement(cell)]  # fmt: skip


def _statements(statements: Sequence[Statement]) -> list[str]:
    rows = [["study", "the text says", "judged by", "backend", "verdict", "seen"]]
    order = list(dict.fromkeys((one.study, one.text) for one in statements))
    for one in sorted(statements, key=lambda one: order.index((one.study, one.text))):
        rows.append([one.study, one.text, one.rule, one.backend, one.verdict, one.seen])
    return _table(rows)
