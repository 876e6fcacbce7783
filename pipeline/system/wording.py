"""How numbers, lists and tables are written, in messages, on pages and in figures."""

from __future__ import annotations

from collections.abc import Sequence


def short(value: float) -> str:
    """A number in few characters: four digits, or all of a whole part below ten million."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.4g}"


def roughly(value: float) -> str:
    """An extrapolated number to two digits, for instance `1,200`: it is not known better."""
    return f"{float(f'{value:.2g}'):,.0f}"


def some(names: Sequence[str], most: int) -> str:
    """The first of these names, and how many more there are, for instance `a, b and 3 more`."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows, the first of them the header, as lines of a Markdown table."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [head, "|" + " --- |" * len(rows[0]), *body]


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: columns of equal width, two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: `a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def paragraph(sentences: Sequence[str]) -> str:
    """Sentences one after the other, each with a capital letter."""
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)
