"""What makes two points the same point: everything that decides their numbers, as one canonical text and its hash."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.system.files import short_hash

PACKAGE = Path(__file__).resolve().parent.parent
NOT_SIGNED: dict[str, Any] = {
    "study": True,
    "feature": True,
    "tracking": True,
    "results": True,
    "dry_run": True,
    "force": True,
    "backend": {"line_study_gradient"},
    "data": {"name", "local_dir", "sources", "files"},
}
"""Keys that do not decide numbers: names and places, and `line_study_gradient`, which `gradient` has taken up.

Of the data the checksums of its arrays are signed, wherever they came from.
"""
DECIDING = (
    "backends/choose.py",
    "backends/shared",
    "data/arrays.py",
    "config/expressions.py",
    "config/model.py",
)
"""Modules and folders that decide numbers on either backend; all modules of the backend's own package come on top."""
NOT_DECIDING = ("saving.py", "model_loader.py")
"""Modules in those folders that decide no numbers: they write trained weights in another format, or read them."""


def signed_text(config: Config, checksums: Mapping[str, str]) -> str:
    """Canonical JSON of what decides a point's numbers: its config, its data, and the code and libraries that train it.

    For a map the values of its axes come on top. Keys are sorted and values typed, so that neither the order of keys
    nor 1 for 1.0 makes a difference.

    Args:
        config: the point's.
        checksums: SHA-256 by array name.
    """
    decides: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude=NOT_SIGNED),
        "data": dict(checksums),
        "source": source_checksums(config.backend.name),
        "versions": {package: version(package) for package in computed_by(config)},
    }
    if config.grid is not None:
        decides["axes"] = {axis.knob: axis.values().tolist() for axis in config.grid.axes}
    return json.dumps(decides, sort_keys=True, indent=1, allow_nan=False) + "\n"


def signature(config: Config, checksums: Mapping[str, str]) -> str:
    """Short hash of the signed text."""
    return short_hash(signed_text(config, checksums).encode())


def computed_by(config: Config) -> list[str]:
    """The packages whose code computes a point's numbers, by the names that they are imported under."""
    packages = ["numpy"]  # draws initial weights and the order of minibatches for either backend
    if config.backend.name == "keras":
        engine = os.environ.get("KERAS_BACKEND") or "tensorflow"  # Keras reads it when it is imported
        return [*packages, "keras", engine]
    if getattr(config.backend, "array_module", None) == "cupy":
        packages.append("cupy")
    searches = config.optimizer.name in ("bfgs", "lbfgs", "annealing")
    splines = config.data.kind == "curve"
    error_function = config.model.hidden_activation == "gelu"
    if searches or splines or error_function:
        packages.append("scipy")
    return packages


@functools.cache
def version(package: str) -> str:
    """Major and minor version of an installed package, for instance 2.4; a patch release computes the same numbers.

    Args:
        package: the name that it is imported under; it may come from a distribution of another name (cupy-cuda12x).
    """
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(package)
        if not distributions:
            return "not installed"  # whatever needs it says so when it is imported
        installed = metadata.version(distributions[0])
    return ".".join(installed.split(".")[:2])


@functools.cache
def source_checksums(backend: str) -> dict[str, str]:
    """SHA-256 of the code of each module that decides a backend's numbers, by its path in the package."""
    files: set[Path] = set()
    for place in (*DECIDING, f"backends/{backend}"):
        path = PACKAGE / place
        files.update([path] if path.suffix == ".py" else path.rglob("*.py"))
    deciding = sorted(file for file in files if file.name not in NOT_DECIDING)
    return {file.relative_to(PACKAGE).as_posix(): code_sha256(file.read_text("utf-8")) for file in deciding}


@functools.cache
def code_sha256(source: str) -> str:
    """SHA-256 of what a module does: its syntax tree without docstrings, so that comments and layout do not count.

    Raises:
        SyntaxError: it is not Python.
    """
    return hashlib.sha256(json.dumps(_canonical(ast.parse(source))).encode()).hexdigest()


def _canonical(node: object) -> object:
    """A syntax tree as lists and strings that are the same for every Python that can run the code.

    `ast.dump` is not: newer versions leave out empty fields, and add fields that are empty here.
    """
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    fields = {name: _canonical(value) for name, value in ast.iter_fields(node) if value is not None}
    return [type(node).__name__, {name: value for name, value in fields.items() if value != []}]


def _joined(parts: list[ast.expr]) -> list[object]:
    """The parts of an f-string, neighbouring texts as one: Python 3.12 cuts a text at each doubled brace."""
    joined: list[object] = []
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        joined += [text, _canonical(part)]
        text = ""
    return [*joined, text]


def _is_docstring(node: object) -> bool:
    """Whether a statement is a text on its own: it documents what stands above it, and does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
