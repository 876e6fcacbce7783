"""The pages of the report that combine all studies, besides the overview: the two backends, and the published texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.breaking_page import breaking_lines
from pipeline.report.parity_page import parity_lines
from pipeline.report.published.page import reproduction_lines, statement_lines
from pipeline.report.published.reproduction import Cell, Results
from pipeline.report.published.statements import Statement
from pipeline.studies.experiments import ordered

PARITY_PAGE = "parity.md"
PUBLISHED_PAGE = "published.md"
BACK = "[All studies](README.md)"
# The texts, by title: the address, and which experiments are from it.
TEXTS = {
    "A Neural Network in 13 lines of Python, part 2": (
        "https://iamtrask.github.io/2015/07/27/python-network-part2/",
        "the three-bit network and the 13-line network",
    ),
    "Neural Networks with Keras Cookbook": (
        "https://github.com/PacktPublishing/Neural-Networks-with-Keras-Cookbook",
        "y = 2x, and MNIST at three rates",
    ),
    "Modern Computer Vision with PyTorch": (
        "https://github.com/PacktPublishing/Modern-Computer-Vision-with-PyTorch",
        "y = 3x; its Chinese edition is the fourth text",
    ),
}


def parity_page(results: Results) -> str:
    """Write the page on NumPy compared with Keras as Markdown."""
    trained = {study: results[study] for study in ordered(results) if study in results}
    return _page(["# NumPy compared with Keras", "", BACK, "", *parity_lines(trained)])


def breaking_page(results: Results) -> str:
    """Write the page on where training breaks as Markdown."""
    return _page(["# Where training breaks, predicted and seen", "", BACK, "", *breaking_lines(results)])


def published_page(cells: Sequence[Cell], statements: Sequence[Statement], recorded_runs: Mapping[str, str]) -> str:
    """Write the page on the published texts as Markdown: their numbers and statements, and runs of their own length.

    Args:
        cells: the published numbers, each with the reproduced one.
        statements: the published statements with their verdicts.
        recorded_runs: notes of recorded runs by file stem.
    """
    lines = ["# The published texts", "", BACK, "", "The experiments come from four texts:", ""]
    lines += [f"- [{title}]({address}): {experiments}" for title, (address, experiments) in TEXTS.items()]
    lines += ["", "## Reproduction of the published numbers", "", *reproduction_lines(cells)]
    lines += ["## Qualitative claims in the texts", "", *statement_lines(statements), ""]
    for stem, note in recorded_runs.items():
        lines += [f"## Recorded: {stem}", ""]
        lines += ["A stored run, kept with the report; this pipeline run did not retrain it.", ""]
        lines += [f"![{stem}](recorded_{stem}.png)", ""]
        # The note is quoted. An empty line becomes `>`, without a trailing space.
        lines += [f"> {line}".rstrip() for line in note.splitlines()]
        lines.append("")
    return _page(lines)


def _page(lines: Sequence[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"
