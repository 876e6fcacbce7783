"""The signature of a point: a hash of everything that decides its numbers, written as one canonical text.

Two points with the same signature are the same point, and are trained once.
"""

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
# Config keys that do not decide numbers: names and paths, and `line_study_gradient`, whose value `gradient` holds once
# the config is composed. Of the data, the checksums of its arrays are signed instead, wherever the files came from.
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
# Modules and folders that decide numbers on either backend. The backend's own package is added to them.
DECIDING = (
    "backends/choose.py",
    "backends/shared",
    "data/arrays.py",
    "config/expressions.py",
    "config/model.py",
)
# Modules in those folders that decide no numbers: they convert trained weights to another format, or read it.
NOT_DECIDING = ("saving.py", "model_loader.py")


def signed_text(config: Config, checksums: Mapping[str, str]) -> str:
    """Return, as canonical JSON, the config, data, code and library versions that decide a point's numbers.

    For a map, the values of its axes are included. Neither the order of keys nor writing 1 for 1.0 changes the text:
    keys are sorted, and the config has typed its values.

    Args:
        config: the point's config.
        checksums: SHA-256 of each array of the data, by name.
    """
    decides: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude=NOT_SIGNED),
        "data": dict(checksums),
        "source": source_checksums(config.backend.name),
        "versions": {package: version(package) for package in computed_by(config)},
    }
    if config.grid is not None:
        # The config names an axis by its ends and count. The values are signed too, so that a change of the code that
        # spaces them, which is not signed itself, makes a different map.
        decides["axes"] = {axis.knob: axis.values().tolist() for axis in config.grid.axes}
    return json.dumps(decides, sort_keys=True, indent=1, allow_nan=False) + "\n"


def signature(config: Config, checksums: Mapping[str, str]) -> str:
    """Return the short hash of the signed text: 16 hexadecimal digits."""
    return short_hash(signed_text(config, checksums).encode())


def computed_by(config: Config) -> list[str]:
    """List the packages whose code computes a point's numbers, by import name."""
    # NumPy draws the initial weights and the order of minibatches for both backends.
    packages = ["numpy"]
    if config.backend.name == "keras":
        # Keras reads this variable when it is imported; importing it here, only to ask, would take seconds.
        engine = os.environ.get("KERAS_BACKEND") or "tensorflow"
        return [*packages, "keras", engine]
    if getattr(config.backend, "array_module", None) == "cupy":
        packages.append("cupy")
    # SciPy is signed only where the NumPy backend calls it: a new SciPy must not train every other point again.
    searches = config.optimizer.name in ("bfgs", "lbfgs", "annealing")
    splines = config.data.kind == "curve"
    error_function = config.model.hidden_activation == "gelu"
    if searches or splines or error_function:
        packages.append("scipy")
    return packages


@functools.cache
def version(package: str) -> str:
    """Return the major and minor version of an installed package, for instance 2.4.

    A patch release is taken to compute the same numbers.

    Args:
        package: its import name; the distribution may have another name, as cupy-cuda12x has.
    """
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(package)
        if not distributions:
            # No error here: the code that needs the package reports it when it imports the package.
            return "not installed"
        installed = metadata.version(distributions[0])
    return ".".join(installed.split(".")[:2])


@functools.cache
def source_checksums(backend: str) -> dict[str, str]:
    """Return the SHA-256 of the code of each module that decides a backend's numbers, by its path in the package."""
    files: set[Path] = set()
    for entry in (*DECIDING, f"backends/{backend}"):
        path = PACKAGE / entry
        if path.suffix == ".py":
            files.add(path)
        else:
            files.update(path.rglob("*.py"))
    deciding = sorted(file for file in files if file.name not in NOT_DECIDING)
    return {file.relative_to(PACKAGE).as_posix(): code_sha256(file.read_text("utf-8")) for file in deciding}


@functools.cache
def code_sha256(source: str) -> str:
    """Return the SHA-256 of what a module does: of its syntax tree without docstrings.

    Comments, docstrings and layout therefore do not count.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    return hashlib.sha256(json.dumps(_canonical(ast.parse(source))).encode()).hexdigest()


def _canonical(node: object) -> object:
    """Turn a syntax tree into lists and strings that are the same for every version of Python that runs the code.

    The text of `ast.dump` differs between versions: newer ones leave out empty fields, and add fields that are empty
    here.
    """
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    # Missing and empty fields are left out, so that a version of Python with more fields gives the same result.
    fields = {name: _canonical(value) for name, value in ast.iter_fields(node) if value is not None}
    return [type(node).__name__, {name: value for name, value in fields.items() if value != []}]


def _joined(parts: list[ast.expr]) -> list[object]:
    """Return the parts of an f-string, with neighbouring texts joined: Python 3.12 splits them at doubled braces."""
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
    """Whether a statement is a bare string, which documents the code above it and does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
