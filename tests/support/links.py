"""Links between Markdown files, as a code-hosting site resolves them."""

from __future__ import annotations

import re
from pathlib import Path


def links(file: Path) -> list[str]:
    """Return the relative links and pictures of a Markdown file."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def broken_links(file: Path) -> list[str]:
    """Return the links of a Markdown file to a file or a heading that does not exist."""
    broken = []
    for link in links(file):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    return broken


def _anchors(file: Path) -> set[str]:
    """Return the anchors of the headings: in lower case, without punctuation, with hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
