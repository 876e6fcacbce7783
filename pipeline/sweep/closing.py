"""The lines that end a command: what its points answer, what diverged and why, and what to type next."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from pipeline.config.schema import Config
from pipeline.points.point import Point
from pipeline.studies.grids import by_backend
from pipeline.studies.kinds import headline, kind_of
from pipeline.studies.knobs import layout
from pipeline.system.processes import command
from pipeline.system.wording import listed, shortened

TRAIN = "python -m pipeline.train"
# A longer command is not repeated.
LONGEST = 100
# Enough to tell rates apart that differ by more than their noise, and cheap enough to be tried first.
REPEATS = "repeats=5"
INDENT = "  "
# A value may be a list or a path.
LONGEST_VALUE = 40
# The data of one's own, which has no place in the report before it is asked for.
OWN_DATA = ("file", "library", "images")


def closing_lines(points: Sequence[Point], width: int | None = None) -> str:
    """Return what a command says below its table.

    Args:
        points: the points that are complete, at least one.
        width: number of columns of the terminal; None: there is no terminal, and lines are not wrapped.
    """
    lines = [*_answers(points), *_next(points)]
    if width is None:
        return "\n".join(lines)
    # A command stays on one line, as long as it may be, so that it can be copied.
    wrapped = [[line] if line.startswith(INDENT) else textwrap.wrap(line, width) for line in lines]
    return "\n".join(line for lines in wrapped for line in lines)


def _answers(points: Sequence[Point]) -> list[str]:
    """Return the answer of each backend, and the first point that diverged with the reason."""
    if len(points) == 1:
        return [_sentence(str(points[0].diagnosis))]
    backends = by_backend(points)
    lines = []
    for name, members in backends.items():
        answer = _sentence(headline(members))
        if len(backends) > 1:
            answer = f"{name}: {answer}"
        lines.append(f"{answer}{_diverged(members)}")
    return lines


def _diverged(points: Sequence[Point]) -> str:
    """Say how many points diverged, which is the smallest rate that did, and why; empty if none did."""
    diverged = [point for point in points if point.diagnosis.verdict == "diverged"]
    if not diverged:
        return ""
    first = min(diverged, key=lambda point: (point.learning_rate, point.outcome.diverged_step or 0))
    shown = layout(points)
    names = [shortened(knob.said(knob.of(first)), LONGEST_VALUE) for knob in shown.knobs]
    place = listed(names or [f"seed {first.config.seed}"])
    return f" Diverged: {len(diverged)} of {len(points)}, first at {place}: {first.diagnosis.evidence}."


def _next(points: Sequence[Point]) -> list[str]:
    """Return what to type next; a command that trains has a line of its own."""
    config = points[0].config
    look = "Next: `make ui` shows the runs in MLflow."
    if config.data.kind in OWN_DATA and config.results is not None:
        look = f"Next: `python -m pipeline.compare study={config.study}` writes the study's page."
    # The noise of a single point has nothing to be compared with.
    if len(points) == 1 or len({point.config.seed for point in points}) > 1 or not _is_random(config):
        return [look]
    typed = command()
    if typed.startswith(TRAIN) and "repeats=" not in typed and len(typed) <= LONGEST:
        return [f"{look} One seed does not show the noise, five do:", f"{INDENT}{typed} {REPEATS}"]
    return [f"{look} One seed does not show the noise, the same command with {REPEATS} does."]


def _is_random(config: Config) -> bool:
    """Whether another seed would give another result."""
    if not kind_of(config).networks:
        return False
    drawn = getattr(config.model, "initializer", None) != "constant"
    return drawn or config.training.batch_size is not None


def _sentence(text: str) -> str:
    """Return a text that ends with a full stop."""
    return f"{text.rstrip('.')}."
