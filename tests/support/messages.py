"""All messages that a user can cause, read from the code: `python -m tests.support.messages > docs/messages.md`.

They are found in the syntax tree, so that none can be missing: each `LabError` and its subclasses, each `readable`,
which turns a damaged file into one, and each message that the checks of a config yield or raise.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.system.project import PROJECT

ERRORS = ("LabError", "DamagedError", "EngineError", "UnavailableError")
PACKAGES = {
    "config": "A config that cannot be trained",
    "data": "Data",
    "backends": "Training",
    "diagnosis": "Training",
    "points": "Points on disk",
    "sweep": "Sweeps and workers",
    "hydra_plugins": "Sweeps and workers",
    "tracking": "MLflow",
    "drawing": "Report",
    "studies": "Report",
    "report": "Report",
    "system": "Files and the command line",
}
COMMANDS = "Single commands"
HEAD = """\
# Messages

Every error message, as the code has it; `{name}` is what a message fills in, and `A | B` one of the two. A command that
fails prints one of them and exits with code 1. It never prints a traceback for something that you can fix.
Written by `python -m tests.support.messages`.
"""


@dataclass(frozen=True, order=True)
class Message:
    """One message: its section in the list, and its parts."""

    section: str
    happened: str
    expected: str = ""
    received: str = ""
    fix: str = ""

    def lines(self) -> list[str]:
        """Return the message as an entry of a list in Markdown."""
        parts = (("expected", self.expected), ("received", self.received), ("to do", self.fix))
        happened = self.happened.replace("*", r"\*")  # which would end the bold text
        return [f"- **{happened}**", *(f"  - {name}: {text}" for name, text in parts if text)]


def messages() -> list[Message]:
    """Return all messages, sorted by section and text."""
    files = [*(PROJECT / "pipeline").rglob("*.py"), *(PROJECT / "hydra_plugins").rglob("*.py")]
    return sorted({message for file in files for message in _of_file(file)})


def page() -> str:
    """Return the page docs/messages.md."""
    sections: dict[str, list[str]] = {}
    for message in messages():
        sections.setdefault(message.section, []).extend(message.lines())
    return HEAD + "".join(f"\n## {section}\n\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


def _of_file(file: Path) -> Iterator[Message]:
    path = file.relative_to(PROJECT)
    package = path.parts[0] if path.parts[0] == "hydra_plugins" else path.parts[1]
    section = PACKAGES.get(package, COMMANDS)
    tree = ast.parse(file.read_text("utf-8"))
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_text(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for message in _of_node(node, section, path):
            filled = {name: _text(part, constants) for name, part in message.items()}
            if re.sub(r"{[^}]*}", "", filled["happened"]).strip(" ."):  # it has text of its own
                yield Message(section, **filled)


def _of_node(node: ast.AST, section: str, path: Path) -> Iterator[dict[str, ast.expr]]:
    """Yield the parts of the messages that a node of a syntax tree creates."""
    if isinstance(node, ast.Yield) and path.name == "rules.py" and node.value is not None and _is_text(node.value):
        yield {"happened": node.value}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
        return
    named = {word.arg: word.value for word in node.keywords if word.arg in ("expected", "received", "fix")}
    if node.func.id in ERRORS:
        yield {"happened": node.args[0], **named}
    elif node.func.id == "readable":
        yield {"happened": ast.JoinedStr([node.args[0], ast.Constant(" cannot be read.")]), **named}
    elif node.func.id == "ValueError" and section == PACKAGES["config"]:
        yield {"happened": node.args[0]}


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    """Return the text of an expression; values that are filled in become a short name in braces."""
    text = functools.partial(_text, constants=constants)
    match node:
        case ast.Constant():
            return str(node.value).replace("\n", " ")
        case ast.JoinedStr():
            return "".join(text(part) for part in node.values)
        case ast.FormattedValue():
            return text(node.value)
        case ast.IfExp():
            return f"{text(node.body)} | {text(node.orelse)}"
        case ast.BinOp(op=ast.Add()) if _is_text(node.left) or _is_text(node.right):
            return text(node.left) + text(node.right)
        case ast.Call(func=ast.Name(id="str" | "repr" | "_typed"), args=[inner]):
            return text(inner)
        case ast.Name(id=name) if name in constants:
            return text(constants[name])
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return "{" + name + "}"
        case ast.Call(func=ast.Attribute(attr="join"), args=[ast.Name(id=name) | ast.Attribute(attr=name)]):
            return "{" + name + "}"
    return "{...}"


if __name__ == "__main__":
    print(page(), end="")
