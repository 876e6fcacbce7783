"""Point identity. The signature of a point is a hash of everything that affects its results, as one canonical text.

Two points with the same signature are the same point, and are trained only once.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter

from pipeline.config.own_code import sources
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.system.engines import check_threads, keras_engine
from pipeline.system.files import short_hash, write_file

PACKAGE = Path(__file__).resolve().parent.parent
# Config keys that do not affect results: names, paths, the question and how it is reported, and `line_study_gradient`,
# which Hydra has already resolved into `gradient`. For the data, the signature covers the checksums of the arrays,
# regardless of their source.
NOT_SIGNED: dict[str, Any] = {
    "study": True,
    "feature": True,
    "tracking": True,
    "question": True,
    "curvature": True,
    "report": True,
    "repeats": True,
    "repeats_split": True,
    "results": True,
    "dry_run": True,
    "force": True,
    "breaking_rate": True,
    "budget": True,
    "threads": True,
    "recording": {"figures", "models"},
    "backend": {"line_study_gradient"},
    "model": {"folder_"},
    "data": {"name", "local_dir", "sources", "files", "path", "test_path"},
}
# Modules and folders whose code affects the results of both backends; the package of the backend is added to them.
# config/expressions.py and config/model.py compute; other config modules only hold values, which are signed themselves.
SIGNED_CODE = (
    "backends/choose.py",
    "backends/shared",
    "data/arrays.py",
    "data/validation.py",
    "config/expressions.py",
    "config/model.py",
)
# Modules in those folders that do not affect results: they convert trained weights to another format, or read it,
# or import code, which is signed itself.
NOT_SIGNED_MODULES = ("saving.py", "model_loader.py", "own_import.py", "own_loader.py")
# Checksums of syntax trees, by the checksum of their source.
KNOWN = TypeAdapter(dict[str, Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]])


def signed_text(config: Config, checksums: Mapping[str, str], row_shape: Sequence[int] | None = None) -> str:
    """Return canonical JSON of everything that affects a point's results: config, data, code and library versions.

    For a map, the axis values are included too. Neither key order nor 1 instead of 1.0 changes the text, because keys
    are sorted and the config has converted each value to its type.

    Args:
        config: the point's config.
        checksums: SHA-256 of each array of the data, by name.
        row_shape: shape of a row of the data, from `Arrays.row_shape`.

    Raises:
        LabError: the code of a model of one's own is missing, or is not valid Python; or Keras has no engine,
            or one whose threads cannot be set.
    """
    signed: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude=NOT_SIGNED),
        "data": dict(checksums),
        "source": source_checksums(*signed_folders(config)),
        "versions": {package: version(package) for package in computed_by(config)},
    }
    if isinstance(config.model, KerasModel):
        found = sources(config.model)
        # The function gets it, and the arrays, which are flat, do not tell.
        signed["row_shape"] = row_shape
        signed["own_code"] = {name: code_sha256(found[name]) for name in sorted(found)}
    if config.backend.name == "keras":
        check_threads(config.threads)
    threads = signed_threads(config)
    if threads is not None:
        signed["threads"] = threads
    if config.recording.curvature:
        signed["curvature"] = config.curvature.model_dump(mode="json")
    if config.grid is not None:
        # The config has only the ends and the length of an axis. The code that computes the values in between is not
        # signed, so the values are.
        signed["axes"] = {axis.knob: axis.values().tolist() for axis in config.grid.axes}
    return json.dumps(signed, sort_keys=True, indent=1, allow_nan=False) + "\n"


def signed_threads(config: Config) -> int | None:
    """Return the number of threads if a point is another one for it; None: it is one thread, or changes no result.

    How the engines of Keras split a sum depends on the number of threads. On NumPy it does not.
    """
    if config.backend.name != "keras" or config.threads == 1:
        return None
    return config.threads


def signature(config: Config, checksums: Mapping[str, str], row_shape: Sequence[int] | None = None) -> str:
    """Return the short hash of the signed text: 16 hexadecimal digits."""
    return short_hash(signed_text(config, checksums, row_shape).encode())


def computed_by(config: Config) -> list[str]:
    """List the packages whose code computes a point's numbers, by import name.

    Raises:
        LabError: KERAS_BACKEND names no engine that is installed.
    """
    # Both backends use NumPy to draw initial weights and minibatch order.
    names = ["numpy"]
    if config.recording.curvature:
        names.append("scipy")
    if config.backend.name == "keras":
        return [*names, "keras", keras_engine()]
    if getattr(config.backend, "array_module", None) == "cupy":
        names.append("cupy")
    # SciPy is listed only for points that use it, so that a new version of SciPy does not retrain all others.
    searches = config.optimizer.name in ("bfgs", "lbfgs", "annealing")
    splines = config.data.kind == "curve"
    error_function = config.dense.hidden_activation == "gelu"
    if (searches or splines or error_function) and "scipy" not in names:
        names.append("scipy")
    return names


@functools.cache
def version(package: str) -> str:
    """Return the major and minor version of an installed package, for instance 2.4.

    The patch version is ignored: we assume that patch releases compute the same numbers.

    Args:
        package: its import name; the distribution may have another name, as cupy-cuda12x has.
    """
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(package)
        if not distributions:
            # No error here: the code that imports the package will report it.
            return "not installed"
        installed = metadata.version(distributions[0])
    return ".".join(installed.split(".")[:2])


def signed_folders(config: Config) -> list[str]:
    """List the folders, besides `SIGNED_CODE`, whose code affects a point's results."""
    folders = [f"backends/{config.backend.name}"]
    # Only where it is recorded, so that a change of it does not retrain all others.
    if config.recording.curvature:
        folders.append("backends/curvature")
    return folders


@functools.cache
def source_checksums(*folders: str) -> dict[str, str]:
    """Return the SHA-256 of the code of each module in `SIGNED_CODE` and in some folders, by module path."""
    files: set[Path] = set()
    for entry in (*SIGNED_CODE, *folders):
        path = PACKAGE / entry
        if path.suffix == ".py":
            files.add(path)
        else:
            files.update(path.rglob("*.py"))
    known = _read_known()
    before = dict(known)
    found = {}
    for file in sorted(file for file in files if file.name not in NOT_SIGNED_MODULES):
        content = file.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in known:
            known[sha256] = code_sha256(content.decode("utf-8"))
        found[file.relative_to(PACKAGE).as_posix()] = known[sha256]
    if known != before:
        _write_known(known)
    return found


def _known_file() -> Path:
    """Return the file of the checksums of syntax trees by those of sources: parsing all of them takes 0.15 s.

    Its name changes with what computes the checksums: Python, and this module.
    """
    computed_by = short_hash(f"{sys.version} {Path(__file__).read_text('utf-8')}".encode())
    return PACKAGE / "__pycache__" / f"signed_code.{computed_by}.json"


def _read_known() -> dict[str, str]:
    # Checksums that cannot be read are computed again.
    with suppress(OSError, ValueError):
        return KNOWN.validate_json(_known_file().read_bytes(), strict=True)
    return {}


def _write_known(known: dict[str, str]) -> None:
    if not sys.dont_write_bytecode:
        # A folder that cannot be written costs only time.
        with suppress(OSError):
            _known_file().parent.mkdir(exist_ok=True)
            write_file(_known_file(), lambda file: file.write_text(json.dumps(known), encoding="utf-8"))


@functools.cache
def code_sha256(source: str) -> str:
    """Return the SHA-256 of a module's syntax tree without docstrings.

    Comments, docstrings and layout therefore do not change the checksum.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    return hashlib.sha256(json.dumps(_canonical(ast.parse(source))).encode()).hexdigest()


def _canonical(node: object) -> object:
    """Convert a syntax tree to lists and strings that are identical across all supported Python versions.

    The output of `ast.dump` is not: newer versions omit empty fields, and have additional fields that are empty here.
    """
    if isinstance(node, list):
        return [_canonical(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    # Missing and empty fields are omitted, so that a Python version with additional fields gives the same result.
    fields = {name: _canonical(value) for name, value in ast.iter_fields(node) if value is not None}
    return [type(node).__name__, {name: value for name, value in fields.items() if value != []}]


def _joined(parts: list[ast.expr]) -> list[object]:
    """Return the parts of an f-string, with adjacent literals joined: Python 3.12 splits them at doubled braces."""
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
    """Whether a statement is a bare string literal, that is, documentation."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
