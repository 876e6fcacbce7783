"""What the report says of NumPy compared with Keras: tables of differences, and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.config.schema import flatten
from pipeline.points.point import Point
from pipeline.report.digits import ROUNDING, difference_text
from pipeline.report.parity import Parity, at_common_epochs, pairs, parity, relative_differences
from pipeline.report.published.reproduction import BACKENDS, Results
from pipeline.system.wording import table

# Settings that differ between the backends but do not affect results.
IRRELEVANT_KEYS = ("backend.", "results", "tracking.")
# Metrics of single weights. The table omits them, because it compares entire arrays of weights.
SINGLE_WEIGHTS = ("weights/weight", "weights/bias", "weights/layer_")


def parity_lines(results: Results) -> list[str]:
    """Write the section on the two backends as Markdown: differences, and config differences."""
    compared = {study: rows for study in results if (rows := parity(results, study))}
    if not compared:
        return ["No point was trained by both backends."]
    both = {study: pairs(results, study) for study in compared}
    # Differences are meaningless if the configs ask for different computations, such as finite differences on one
    # backend and backpropagation on the other. Such studies get a sentence instead of a column.
    comparable = {
        study: rows
        for study, rows in compared.items()
        if any(not _config_differences(one, other) for one, other in both[study])
    }
    lines = [
        "The largest difference between the two backends over all points of a study and all recorded epochs; in "
        "parentheses, the largest relative difference (relative to the larger value). Diverged points are compared "
        "only up to the epoch at which they diverged, and weights at the last snapshot that both backends took. `at "
        "most`: a difference of rounding alone, of which only the size is the same on another processor. "
        "[parity.csv](parity.csv) lists the point and the epoch of each difference.",
        "",
    ]
    if comparable:
        lines += [*table(_difference_rows(comparable)), ""]
    sentences = [f"- {sentence}" for study in compared for sentence in _sentences(study, both[study])]
    if sentences:
        lines += [*sentences, ""]
    lines += [
        "The largest difference in training loss, for the points that both backends trained. How long they trained is "
        "in `timings.csv` in this folder, which git does not keep: it is another time on every machine.",
        "",
    ]
    return lines + table(_loss_rows(compared, both))


def _difference_rows(rows: Mapping[str, Sequence[Parity]]) -> list[list[str]]:
    """Return a header, and a row for each quantity with a column for each study."""
    values = {(row.study, row.quantity, row.kind): row for members in rows.values() for row in members}
    names = dict.fromkeys(quantity for _, quantity, kind in values if kind == "absolute")
    shown = [name for name in names if not name.startswith(SINGLE_WEIGHTS)]
    # Metrics first, then weights; the sort keeps the order within both.
    shown.sort(key=lambda name: name.startswith("layer"))
    lines = [["", *rows]]
    for name in shown:
        cells = [
            _difference_cell(values.get((study, name, "absolute")), values.get((study, name, "relative")))
            for study in rows
        ]
        lines.append([name, *cells])
    return lines


def _difference_cell(absolute: Parity | None, relative: Parity | None) -> str:
    if absolute is None:
        return ""
    text = difference_text(absolute.value, absolute.relative)
    if relative is None or absolute.value == 0:
        return text
    return f"{text} ({difference_text(relative.value, relative.value)})"


def _config_differences(one: Point, other: Point) -> list[str]:
    """List the settings that affect results and differ between the two backends."""
    theirs = dict(flatten(other.config))
    return [
        f"{key} is {value} on NumPy and {theirs.get(key)} on Keras"
        for key, value in flatten(one.config)
        if not key.startswith(IRRELEVANT_KEYS) and value != theirs.get(key)
    ]


def _sentences(study: str, both: Sequence[tuple[Point, Point]]) -> Iterator[str]:
    """Yield the points whose computations are not comparable, and the points that diverged on only one backend."""
    found: dict[str, list[str]] = {}
    for one, other in both:
        for difference in _config_differences(one, other):
            found.setdefault(difference, []).append(f"`{one.name}`")
    subject = study
    if all(_config_differences(one, other) for one, other in both):
        subject = f"{study} is not in the table"
    for difference, names in found.items():
        affected = "every point"
        if len(names) < len(both):
            affected = ", ".join(names)
        yield f"{subject}: at {affected}, {difference}, so the computations are not comparable."
    for one, other in both:
        if one.diverged != other.diverged:
            yield f"{study}: `{one.name}` {_ended(one)} on NumPy and {_ended(other)} on Keras."


def _ended(point: Point) -> str:
    outcome = point.outcome
    if outcome.diverged_step is None:
        return f"stayed finite for {outcome.epochs:,} epochs"
    return f"diverged after {outcome.diverged_step:,} updates"


def _loss_rows(compared: Mapping[str, Sequence[Parity]], both: Mapping[str, Sequence[object]]) -> list[list[str]]:
    """Return a header, and a row for each study: its largest difference in training loss."""
    lines = [["study", "points", "largest difference at", "training loss, numpy and keras"]]
    for study, rows in compared.items():
        by_kind = {(row.quantity, row.kind): row for row in rows}
        loss = by_kind.get(("train/loss", "absolute"))
        position = ""
        losses = ""
        if loss is not None and loss.relative >= ROUNDING:
            position = f"`{loss.point}`, epoch {loss.epoch:,}"
            losses = f"{loss.numpy:.4g} and {loss.keras:.4g}"
        lines.append([study, str(len(both[study])), position, losses])
    return lines


def parity_table(results: Results, study: str) -> list[str]:
    """Write the differences between the backends at each point of a study as a Markdown table.

    Each row has the largest relative difference in training loss over the epochs that both recorded, and the loss of
    each backend at the last of these epochs.

    Returns:
        The lines of the table; empty if no point was trained by both backends.
    """
    rows = [["point", "largest relative difference in training loss", "at epoch", *BACKENDS]]
    for one, other in pairs(results, study):
        epochs, mine, theirs = at_common_epochs(one, other, "train/loss")
        if not len(epochs):
            continue
        differences = relative_differences(mine, theirs)
        worst = int(np.argmax(differences))
        largest = float(differences[worst])
        epoch = ""
        if largest >= ROUNDING:
            epoch = f"{epochs[worst]:,}"
        text = difference_text(largest, largest)
        rows.append([f"`{one.name}`", text, epoch, f"{mine[-1]:.4g}", f"{theirs[-1]:.4g}"])
    if len(rows) == 1:
        return []
    return table(rows)
