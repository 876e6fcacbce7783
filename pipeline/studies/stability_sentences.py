"""Say in sentences and tables whether the curvature reaches what the rate allows and stays there (stability.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.points.point import Point
from pipeline.studies.certainty import unknown_of
from pipeline.studies.explanations import Section
from pipeline.studies.networks import network_sections, network_sentences, verdict_counts
from pipeline.studies.stability import NEAR, Edge, by_networks, edge_of, line_formula
from pipeline.system.wording import counted, paragraph, some, table, three_digits

# A training with a smaller share of its records near the line has left it.
STAYS = 0.5
# Maximum number of networks, or of rates, that are named in a sentence.
MOST_NAMED = 4
PAPERS = (
    "Cohen et al. 2021 ([arXiv:2103.00065](https://arxiv.org/abs/2103.00065)) and 2022 "
    "([arXiv:2207.14484](https://arxiv.org/abs/2207.14484)) train mostly on images of CIFAR-10, in 2021 on 5,000. "
    "There the curvature rises to the line at nearly every rate that trains, and stays at it or just above it."
)


def stability_sentences(points: Sequence[Point]) -> Iterator[str]:
    """Yield whether the line is reached, how much of the rest is near it, what the loss does, and how sure that is."""
    yield from _edge_sentences(points)
    seeds = [len(members) for rates in by_networks(points).values() for members in rates.values()]
    if min(seeds) == 1:
        yield f"{unknown_of(seeds)}."
    yield from network_sentences(points)


def stability_headline(points: Sequence[Point]) -> str:
    """Return in how many trainings the line is reached, and how much of the rest is near it."""
    return paragraph(list(_edge_sentences(points))[:2]).rstrip(".")


def stability_numbers(points: Sequence[Point]) -> dict[str, float]:
    """Return the numbers of verdicts, of trainings that reach the line, and the mean share of records near it."""
    shares = [edge.share for edge in _reached(points)]
    numbers = verdict_counts(points) | {"line_reached": float(len(shares))}
    if shares:
        numbers["share_near_line"] = float(np.mean(shares))
    return numbers


def stability_sections(points: Sequence[Point]) -> list[Section]:
    """Return the table of shares, how the results compare with the papers, and the best rates."""
    rows = [["networks", "rate", "line", "reached by", "at epoch", "near the line from there on", "the loss rose",
             "loss there", "loss at the end"]]  # fmt: skip
    for name, rates in by_networks(points).items():
        rows += [[name, f"{rate:g}", *_row(members)] for rate, members in rates.items()]
    note = (
        f"Line: the curvature that the rate allows. Near it: within {NEAR:.0%} of it. Shares are means over the seeds "
        "that reach the line, with the smallest and the largest; so are epochs, rises and losses, without the mean."
    )
    shares = ("The curvature beside what the rate allows", [*table(rows), "", note])
    return [shares, ("What differs from the papers", _differences(points)), *network_sections(points)]


def _reached(points: Sequence[Point]) -> list[Edge]:
    """Return the edges of the points whose curvature reaches the line."""
    edges = [edge_of(point) for point in points]
    return [edge for edge in edges if edge.reached is not None]


def _edge_sentences(points: Sequence[Point]) -> Iterator[str]:
    edges = [edge_of(point) for point in points]
    largest = [float(edge.ratios.max()) for edge in edges if len(edge.ratios)]
    if not largest:
        yield "no curvature was recorded that a rate could be compared with."
        return
    allowed = f"what the rate allows ({_formulas(points)})"
    found = _reached(points)
    if not found:
        yield f"the curvature does not reach {allowed}: it is at most {max(largest):.0%} of that."
        return
    where = f"in {len(found)} of {counted(len(edges), 'training')}"
    # Such a rate is too large for the initial weights, and nothing has risen to its line.
    above = sum(edge.reached == 0 for edge in found)
    if above:
        where += f", in {above} of these from the first record on"
    ended = sum(point.diverged for point in points)
    if ended:
        where += f"; {ended} diverge in all"
    if len(edges) == 1:
        where = f"at epoch {_epoch(found[0]):,}"
    yield f"the curvature reaches {allowed} {where}."
    yield f"of the records from there on, these are within {NEAR:.0%} of it: {', '.join(_shares(points))}."
    yield from _leaving(points)
    yield _losses(found)


def _formulas(points: Sequence[Point]) -> str:
    """Return the line of each method: `2 / rate for sgd, 38 / rate for adam`."""
    methods = {point.config.optimizer.name: line_formula(point.config) for point in points}
    return ", ".join(f"{formula} for {name}" for name, formula in methods.items() if formula)


def _shares(points: Sequence[Point]) -> Iterator[str]:
    """Yield the mean share of the trainings of each network that reach the line, and the smallest and the largest."""
    networks = by_networks(points)
    for name, rates in list(networks.items())[:MOST_NAMED]:
        found = _reached([point for members in rates.values() for point in members])
        if found:
            yield f"{name} {_mean_share(found)} in {counted(len(found), 'training')}"
    if len(networks) > MOST_NAMED:
        yield f"{len(networks) - MOST_NAMED} more in the table"


def _mean_share(found: Sequence[Edge]) -> str:
    """Return the mean share of trainings that reach the line; of several also the smallest and the largest."""
    shares = [edge.share for edge in found]
    text = f"{np.mean(shares):.0%}"
    if len(shares) > 1:
        text += f" ({min(shares):.0%} to {max(shares):.0%})"
    return text


def _leaving(points: Sequence[Point]) -> Iterator[str]:
    """Yield the networks and rates at which the curvature leaves the line for most of the records."""
    left = {}
    for name, rates in by_networks(points).items():
        for rate, members in rates.items():
            leaving = [edge for edge in _reached(members) if edge.share < STAYS]
            if leaving:
                left[f"{name} at rate {rate:g} ({len(leaving)} of {len(members)})"] = len(leaving)
    if left:
        number = counted(sum(left.values()), "training")
        yield f"in {number} fewer than half of these records are near it: {some(list(left), MOST_NAMED)}."


def _losses(found: Sequence[Edge]) -> str:
    """Say in how many trainings the loss fell from where the line was reached, although it rose in between."""
    fell = [edge for edge in found if edge.fell]
    if not fell:
        return "the loss did not fall from there on."
    rises = [edge.rises for edge in fell if edge.rises]
    text = "from there on the loss fell"
    if len(found) > 1:
        text += f" in {len(fell)} of these {len(found)}"
    if not rises:
        return f"{text}, and did not rise from one record to the next."
    times = f"{_span(rises)} times"
    if len(found) > 1:
        times = f"{times} in {len(rises)} of them (median {np.median(rises):g})"
    return f"{text}, although it rose from one record to the next {times}."


def _row(members: Sequence[Point]) -> list[str]:
    """Return the cells of one network at one rate, behind its name and its rate."""
    edges = [edge_of(point) for point in members]
    lines = [float(edge.line[-1]) for edge in edges if len(edge.line)]
    found = [edge for edge in edges if edge.reached is not None]
    line = ""
    if lines:
        line = three_digits(lines[0])
    cells = [line, f"{len(found)} of {len(members)}"]
    if not found:
        return [*cells, "", "", "", "", ""]
    return [
        *cells,
        _span([_epoch(edge) for edge in found]),
        _mean_share(found),
        _span([edge.rises for edge in found]),
        _span([float(edge.losses[0]) for edge in found if len(edge.losses)]),
        _span([float(edge.losses[-1]) for edge in found if len(edge.losses)]),
    ]


def _differences(points: Sequence[Point]) -> list[str]:
    """Return what these trainings have in place of what the papers have, and how their curvatures compare."""
    first = points[0].config
    lines = [PAPERS, ""]
    methods = dict.fromkeys(point.config.optimizer.name for point in points)
    sizes = dict.fromkeys("-".join(map(str, _sizes(point))) for point in points)
    data = f"data={first.data.name}, loss={first.loss}, dtype={first.dtype}"
    lines.append(f"- Here: {data}; hidden sizes {', '.join(sizes)}; {first.training.epochs:,} updates.")
    for method in methods:
        members = [point for point in points if point.config.optimizer.name == method]
        found = _reached(members)
        if not found:
            lines.append(f"- {method}: the line is not reached; in the papers it is.")
            continue
        ratios = np.concatenate([edge.after for edge in found])
        low, middle, high = np.quantile(ratios, [0.05, 0.5, 0.95])
        stay = sum(edge.share >= STAYS for edge in found)
        lines.append(
            f"- {method}: from there on the median of the curvature is {middle:.3g} times the line, 90% of the "
            f"records are at {low:.3g} to {high:.3g} times. It stays near the line for most records in {stay} of "
            f"{counted(len(members), 'training')}, {len(members) - len(found)} do not reach it, and "
            f"{sum(point.diverged for point in members)} diverge."
        )
    return lines


def _sizes(point: Point) -> list[int]:
    """Return the sizes of the hidden layers that are known."""
    further = getattr(point.config.model, "further_hidden_sizes", ())
    return [size for size in (point.hidden_size, *further) if size is not None]


def _epoch(edge: Edge) -> int:
    """Return the epoch at which the line was reached."""
    return int(edge.steps[edge.reached or 0])


def _span(values: Sequence[float]) -> str:
    """Return the smallest and the largest value, or the only one; empty if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    texts = list(dict.fromkeys(three_digits(value) for value in (min(finite), max(finite))))
    return " to ".join(texts)
