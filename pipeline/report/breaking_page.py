"""The page of the report on where training breaks: the predicted rates beside those seen, over all studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.points.destination import PAGES
from pipeline.report.published.reproduction import Results
from pipeline.studies.breaking import HEADING, ONLY, Network, curvature_text, fails_text, networks
from pipeline.studies.experiments import ordered
from pipeline.system.wording import table, three_digits

BREAKING_PAGE = "breaking_rates.md"


class Row(NamedTuple):
    """A network of a study."""

    study: str
    network: Network


def breaking_lines(results: Results) -> list[str]:
    """Write the predicted and the seen breaking rates of all studies as Markdown."""
    rows = list(_rows(results))
    if not rows:
        return ["Nothing was predicted: `python -m pipeline.predict experiment=three_bits` does."]
    return [
        "The predicted rate follows from the curvature of the loss at the initial weights, before any training; "
        "`docs/curvature.md` has the formulas. Training breaks where a recorded loss is more than 1 % above its start. "
        "That lies between two rates of the grid, or was bisected. With minibatches the loss is that of validation or "
        "test rows after each epoch, so that nothing is seen of what rises and falls within one.",
        "",
        "## How far off the prediction is",
        "",
        "The ratio is the rate seen over the predicted one. Of two rates of a grid it takes the geometric mean, so "
        "that a grid of decades leaves a factor of three open. *Inside*: networks whose prediction lies between the "
        "two.",
        "",
        *table(list(_summary(rows))),
        "",
        "## All networks",
        "",
        *table([_HEAD, *map(_cells, rows)]),
    ]


def _rows(results: Results) -> Iterator[Row]:
    """Yield the networks with a prediction, on the first backend of each study."""
    for study in ordered(results):
        backends = results.get(study, {})
        for points in list(backends.values())[:1]:
            yield from (Row(study, network) for network in networks(points) if network.predicted is not None)


def _summary(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield a header, and a row for each method, on full batches and on minibatches."""
    yield [
        "method",
        "gradient of",
        "networks",
        "inside",
        "ratio: median (quartiles)",
        "broke at no rate",
        "broke at each",
    ]
    groups: dict[tuple[bool, str], list[Network]] = {}
    for _, network in rows:
        groups.setdefault((network.found[0].batches, network.found[0].method), []).append(network)
    everything = {False: "all methods", True: "all methods"}
    for batches, name in [*sorted(groups), *everything.items()]:
        members = groups.get((batches, name))
        if members is None:
            members = [network for key, found in groups.items() if key[0] == batches for network in found]
        if members:
            yield _summed(name, batches, members)


def _summed(name: str, batches: bool, members: Sequence[Network]) -> list[str]:
    ratios = [network.seen / network.predicted for network in members if network.seen and network.predicted]
    text = ""
    if ratios:
        low, middle, high = map(three_digits, np.quantile(ratios, [0.25, 0.5, 0.75]).tolist())
        text = middle
        if len(ratios) > 1:
            text += f" ({low} to {high})"
    rows = "all rows"
    if batches:
        rows = "minibatches"
    inside = sum(network.is_inside for network in members)
    never = sum(network.never_broke for network in members)
    always = sum(network.always_broke for network in members)
    return [name, rows, str(len(members)), str(inside), text, str(never), str(always)]


_HEAD = ["study", "network", "method", "curvature L", HEADING, "ratio", "training fails from"]


def _cells(row: Row) -> list[str]:
    network = row.network
    ratio = ""
    if network.seen and network.predicted:
        ratio = three_digits(network.seen / network.predicted)
    link = f"[{row.study}]({PAGES}/{row.study}.md)"
    method = network.found[0].method
    return [link, network.name or ONLY, method, curvature_text(network), network.text, ratio, fails_text(network)]
