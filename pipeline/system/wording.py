"""Format numbers, lists and tables for messages, pages and figures."""

from __future__ import annotations

from collections.abc import Sequence


def short(value: float) -> str:
    """Format a number with four digits, or as a whole number from 1,000 to ten million, for instance `13,341`."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def three_digits(value: float) -> str:
    """Format a number with three digits, or as a whole number from 1,000 to ten million."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def roughly(value: float) -> str:
    """Format an extrapolated number with the two digits that are reliable, for instance `1,200`."""
    # The inner format rounds to two digits; the outer one writes them without an exponent.
    return f"{float(f'{value:.2g}'):,.0f}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 point` or `1,000 points`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"


def some(names: Sequence[str], most: int) -> str:
    """Name the first `most` of these names and count the rest, for instance `a, b and 3 more`."""
    named = ", ".join(names[:most])
    if len(names) > most:
        return f"{named} and {len(names) - most} more"
    return named


def shortened(text: str, width: int) -> str:
    """Return a text in at most `width` characters, with `...` in the middle for what is left out."""
    if len(text) <= width:
        return text
    # The end of a name tells it from others more often than its middle does.
    kept = max(0, width - 3)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"[:width]


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as the lines of a Markdown table; the first row is the header."""
    # A vertical bar within a cell would end the cell, so it is escaped.
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of equal length as a table for a terminal, with two spaces between the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def listed(names: Sequence[str]) -> str:
    """List names in a sentence: `a`, `a and b`, `a, b and c`."""
    *others, last = names
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


def paragraph(sentences: Sequence[str]) -> str:
    """Join sentences into a paragraph and capitalize the first letter of each."""
    # Not str.capitalize: it would make the rest of the sentence lower case.
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
