"""Say how the best rate moves along a knob: by how many decades it shifts, or with which power it grows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from pipeline.points.point import Point
from pipeline.studies.certainty import unknown_of
from pipeline.studies.statistics.intervals import plus_minus
from pipeline.studies.transfer.best_rates import Best, best_rates, shift_in_decades, shift_over_seeds
from pipeline.studies.transfer.powers import LEAST_VALUES, exponent, holds_over, peak, usable, within
from pipeline.studies.transfer.rows import Law, Transfer
from pipeline.system.wording import listed, table

# If the best rate shifts by less than this many decades, half a step of the study's grid, it counts as unchanged.
UNCHANGED = 0.25


def transfer_sentences(row: Transfer, points: Sequence[Point]) -> list[str]:
    """Return how the best rate moves along the knob for each group, and how many seeds say so."""
    found = best_rates(row, points)
    seeds = [count for along in found.values() for best in along for count in best.seeds]
    several = min(seeds, default=1) > 1
    sentences: list[str] = []
    for name, along in found.items():
        if row.laws:
            sentences += _power(row, name, along)
        else:
            sentences.append(f"{name}: {_subject(several)} {_shift(along)}: {_listing(along)}.")
    return [*sentences, *_edges(row, found), _seeds(seeds, several)]


def _subject(several: bool) -> str:
    if several:
        return "the best rate"
    return "the rate with the lowest loss"


def _seeds(seeds: Sequence[int], several: bool) -> str:
    """Say over how many seeds the losses are means."""
    if not several:
        return f"{unknown_of(seeds)}."
    if min(seeds) == max(seeds):
        return f"each loss is the mean over {max(seeds)} seeds."
    return f"each loss is the mean over {min(seeds)} to {max(seeds)} seeds."


def _shift(along: Sequence[Best]) -> str:
    """Say whether the best rate shifts, as far as the seeds agree."""
    decades = shift_in_decades(along)
    over_seeds = shift_over_seeds(along)
    if not math.isfinite(decades):
        return "cannot be compared"
    text = f"{decades:+.1f} decades"
    unsure = 0.0
    if over_seeds.half_width is not None:
        decades = over_seeds.mean
        unsure = over_seeds.half_width
        text = f"{plus_minus(decades, unsure)} decades"
    least = abs(decades) - unsure
    most = abs(decades) + unsure
    if most < UNCHANGED:
        return f"hardly shifts ({text})"
    if least >= UNCHANGED:
        return f"shifts ({text})"
    if least > 0:
        return f"shifts, perhaps by less than {UNCHANGED:g} decades ({text})"
    return f"may shift, which these seeds do not tell ({text})"


def _power(row: Transfer, name: str, along: Sequence[Best]) -> Iterator[str]:
    """Yield with which power of the knob the best rate grows, and where the laws hold."""
    known = usable(along)
    if len(known) < LEAST_VALUES:
        have = f"only {len(known)} of {len(along)} {row.name}s have a best rate inside of the grid"
        yield f"{name}: the power is unknown, because {have}: {_listing(along)}."
        return
    overall = exponent(known)
    power = f"the best rate goes with the {row.name} to the power {overall.number} from {_span(known)}"
    yield f"{name}: {power}{_beyond(known)}: {_listing(along)}."
    if overall.interval is not None:
        yield f"{name}: {', '.join(_law(row, law, known) for law in row.laws)}."


def _beyond(known: Sequence[Best]) -> str:
    """Return the power from the value with the largest best rate on, if that is neither the first nor the last."""
    highest = peak(known)
    if highest is None:
        return ""
    rest = known[highest:]
    return f", but {exponent(rest).number} from {_span(rest)}"


def _law(row: Transfer, law: Law, known: Sequence[Best]) -> str:
    """Say whether a law lies within the interval of the exponent, and where it holds."""
    where = holds_over(law, known)
    named = f"{law.name} (power {law.power:g})"
    if len(where) == len(known):
        return f"{named} holds over all of them"
    text = f"{named} lies outside of the interval"
    if within(law, exponent(known)):
        text = f"{named} lies within the interval, though not between all neighbours"
    if not where:
        return f"{text} and holds over no {LEAST_VALUES} neighbouring {row.name}s"
    return f"{text} and holds from {_span(where)} ({exponent(where).number})"


def _edges(row: Transfer, found: Mapping[str, Sequence[Best]]) -> Iterator[str]:
    """Yield where a power leaves values out because their best rate is at an edge of the grid."""
    if not row.laws:
        return
    for name, along in found.items():
        values = [f"{best.value:,}" for best in along if best.at_the_edge]
        if values:
            yield f"{name} at {listed(values)}: the best rate is at the edge of the grid, and one beyond may be better."


def _listing(along: Sequence[Best]) -> str:
    return ", ".join(_rate_at(best) for best in along)


def _rate_at(best: Best) -> str:
    """Return the best rate at a value of the knob, which does not exist if every rate diverged."""
    if math.isnan(best.rate):
        return f"none at {best.value:,} (every rate diverged)"
    return f"{best.rate:.2g} at {best.value:,}"


def _span(along: Sequence[Best]) -> str:
    return f"{along[0].value:,} to {along[-1].value:,}"


def step_table(row: Transfer, points: Sequence[Point]) -> list[str]:
    """Return a table of the power between neighbouring values of the knob, with a column for each group."""
    found = {name: usable(along) for name, along in best_rates(row, points).items()}
    powers: dict[str, dict[str, str]] = {}
    for name, along in found.items():
        for pair in pairwise(along):
            powers.setdefault(_span(pair), {})[name] = exponent(pair).number
    rows = [[span, *(own.get(name, "") for name in found)] for span, own in powers.items()]
    return table([[row.name, *found], *rows])
