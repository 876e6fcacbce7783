"""Say with which warm-up each rate trains, and what it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.points.point import Point
from pipeline.studies.certainty import ONE_SEED
from pipeline.studies.statistics.intervals import Estimate
from pipeline.studies.variants.variants import TARGET, loss_rows, target
from pipeline.studies.warm_ups.warm_ups import (
    BREAKING,
    CURVATURE,
    WarmUp,
    breaking_rate,
    may_fail,
    shortest,
    told,
    warm_ups,
)
from pipeline.system.wording import counted, listed, table


def warm_up_sentences(points: Sequence[Point]) -> list[str]:
    """Return a sentence on the shortest warm-ups and how sure they are, and one for each rate."""
    start = breaking_rate(points)
    found = warm_ups(points)
    rates = [f"{_rate(rate, start)} {_trains(along)}{_curvature(along)}." for rate, along in found.items()]
    return [_in_short(points, found), *rates]


def _in_short(points: Sequence[Point], found: Mapping[float, Sequence[WarmUp]]) -> str:
    """Name the shortest warm-up of all rates, and how many seeds may fail all the same."""
    by_length: dict[str, list[str]] = {}
    for rate, along in found.items():
        by_length.setdefault(_length(shortest(along)), []).append(f"{rate:g}")
    parts = [f"{_plural(rates)} {length}" for length, rates in by_length.items()]
    seeds = len({point.config.seed for point in points})
    sure = f"where all of {seeds} seeds train, up to {may_fail(seeds):.0%} of others may not: 95 % bound"
    if seeds == 1:
        sure = ONE_SEED
    return f"{', '.join(parts)} ({sure})."


def _plural(rates: Sequence[str]) -> str:
    if len(rates) == 1:
        return f"at rate {rates[0]}"
    return f"at rates {listed(rates)}"


def _length(found: WarmUp | None) -> str:
    """Return the length of a warm-up in words."""
    if found is None:
        return "no warm-up of the grid trains"
    if found.share == 0:
        return "training needs no warm-up"
    return f"a warm-up over {found.share:g} of the updates is needed"


def _rate(rate: float, start: Estimate) -> str:
    """Name a rate, as a multiple of the breaking rate at the start if that is known."""
    # A curvature that is not finite allows a rate of 0.
    if not start.values or not start.mean > 0:
        return f"rate {rate:g}"
    return f"rate {rate:g}, {rate / start.mean:.2g} times the breaking rate {start.number} at the start,"


def _trains(along: Sequence[WarmUp]) -> str:
    """Say with which warm-up a rate trains."""
    found = shortest(along)
    if found is None:
        return f"trains with no warm-up of the grid ({_seeds(along[-1])} at {along[-1].share:g} of the updates)"
    text = f"needs a warm-up of {found.share:g} of the updates (loss {found.loss.number}"
    if found.share == 0:
        text = f"trains without a warm-up (loss {found.loss.number}"
    beside = [*list(_shorter(along, found)), *_longer(along, found)]
    return f"{text}{''.join(f', {part}' for part in beside)})"


def _shorter(along: Sequence[WarmUp], found: WarmUp) -> Iterator[str]:
    """Yield how many seeds train with the next shorter warm-up."""
    before = [warm_up for warm_up in along if warm_up.share < found.share]
    if before:
        yield f"{_seeds(before[-1])} at {before[-1].share:g}"


def _longer(along: Sequence[WarmUp], found: WarmUp) -> Iterator[str]:
    """Yield the longer warm-ups that do not train."""
    failed = [warm_up for warm_up in along if warm_up.share > found.share and not warm_up.trains]
    if failed:
        yield f"but not {listed([f'{warm_up.share:g}' for warm_up in failed])}"


def _seeds(warm_up: WarmUp) -> str:
    return f"{warm_up.trained} of {counted(len(warm_up.points), 'seed')}"


def _curvature(along: Sequence[WarmUp]) -> str:
    """Say how the curvature changes, and which rates it allows; empty if none was recorded."""
    warm_up = told(along)
    start = warm_up.at_the_start(CURVATURE)
    after = warm_up.afterwards(CURVATURE)
    allowed = warm_up.afterwards(BREAKING)
    if not start.values:
        return ""
    when = "after it"
    if warm_up.share == 0:
        when = "after an epoch"
    if not after.values:
        return f"; the curvature is {start.number} at the start, and unknown {when}"
    text = f"; the curvature is {start.number} at the start and {after.number} {when}"
    if warm_up.trains and allowed.values:
        text += f", which allows {allowed.number}"
    return text


def what_trains(points: Sequence[Point]) -> str:
    """Return the sentence on what counts as training."""
    wanted = f"a {loss_rows(points)} loss of {target(points[0]):.2g} or less"
    return f"A warm-up trains where each seed ends at {wanted}, {TARGET:.0%} of the baseline."


def warm_up_table(points: Sequence[Point]) -> list[str]:
    """Return a table of all rates and warm-ups: how many seeds train, and the curvature before and after."""
    head = [
        "rate",
        "warm-up",
        "seeds that train",
        "loss",
        "curvature at the start",
        "after the warm-up",
        "allowed rate",
    ]
    rows = [head]
    for along in warm_ups(points).values():
        for warm_up in along:
            numbers = (
                warm_up.loss,
                warm_up.at_the_start(CURVATURE),
                warm_up.afterwards(CURVATURE),
                warm_up.afterwards(BREAKING),
            )
            trained = f"{warm_up.trained} of {len(warm_up.points)}"
            rows.append([f"{warm_up.rate:g}", f"{warm_up.share:g}", trained, *map(_cell, numbers)])
    return table(rows)


def _cell(found: Estimate) -> str:
    """Return a number of a table; a dash if no seed has one."""
    if not found.values:
        return "-"
    return found.text
