"""Import the code of a model of one's own, and say with file and line what goes wrong in it."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from pipeline.config.own_code import folder_of
from pipeline.config.own_model import KerasModel
from pipeline.system.errors import LabError

PACKAGE = Path(__file__).resolve().parents[2]
# The folder that each module of a person's own was imported from: modules of two folders may have one name.
_imported_from: dict[str, Path] = {}


@contextmanager
def importable(model: KerasModel) -> Iterator[ModuleType]:
    """Import the module of a model's function; within the block its folder is the first of Python's path.

    Raises:
        LabError: the module was not found, it raises, or another module of that name is in use.
    """
    folder = folder_of(model)
    for name, other in list(_imported_from.items()):
        if other != folder:
            sys.modules.pop(name, None)
            del _imported_from[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    # A file may have been written since Python listed its folder.
    importlib.invalidate_caches()
    try:
        with explained(model, f"a module {model.module} that can be imported", "correct it"):
            module = importlib.import_module(model.module)
        file = Path(module.__file__ or "").resolve()
        if not file.is_relative_to(folder):
            raise LabError(
                f"model._target_={model.target_}: another module is already named {model.module}.",
                expected=f"a module of {folder}",
                received=str(file),
                fix="rename the file, and the module in _target_",
            )
        _note(set(sys.modules) - before, folder)
        yield module
    finally:
        sys.path.remove(str(folder))
        # The function may have imported more.
        _note(set(sys.modules) - before, folder)


def _note(names: set[str], folder: Path) -> None:
    """Note those of some imported modules that lie in a folder."""
    for name in names:
        if _is_theirs(getattr(sys.modules[name], "__file__", None) or "", folder):
            _imported_from[name] = folder


@contextmanager
def explained(model: KerasModel, expected: str, fix: str, otherwise: str | None = None) -> Iterator[None]:
    """Turn what a person's own code raises into a message with its file and line.

    Args:
        model: whose code it is.
        expected: what should have happened.
        fix: what to do.
        otherwise: the file and line to name if no line of that code led there; None: the exception is none of it.

    Raises:
        LabError: the block raised, and a line of the model's folder led there.
    """
    try:
        yield
    except (LabError, MemoryError):
        raise
    # sys.exit in that code must not end a sweep.
    except (Exception, SystemExit) as error:
        place = _place(error, folder_of(model)) or otherwise
        if place is None:
            raise
        raise LabError(
            f"{place}: {model.target_} fails.",
            expected=expected,
            received=f"{type(error).__name__}: {_essence(error)}",
            fix=fix,
        ) from error


def _place(error: BaseException, folder: Path) -> str | None:
    """Return the file and line of a person's own code that an exception came from; None if it came from elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_theirs(frame.filename, folder):
            return f"{frame.filename}, line {frame.lineno}"
    return None


def _is_theirs(file: str, folder: Path) -> bool:
    """Return whether a file is below a folder, and neither ours nor one of an environment inside it."""
    path = Path(file)
    if not file or path.is_relative_to(PACKAGE) or not path.is_relative_to(folder):
        return False
    return "site-packages" not in path.relative_to(folder).parts


def _essence(error: BaseException) -> str:
    """Return the line of an exception that says what is wrong; Keras puts another before it, and colours it."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).strip()
    lines = [line for line in text.splitlines() if line and not line.startswith("Exception encountered when calling")]
    return next(iter(lines), "no message")


def own_classes() -> dict[str, Any]:
    """Return the classes that Keras makes from JSON, by name, of all modules of a person's own that are imported."""
    kinds = (keras.layers.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer)
    return {
        key: value
        for name in _imported_from
        for key, value in vars(sys.modules.get(name, ModuleType(name))).items()
        if isinstance(value, type) and issubclass(value, kinds) and value.__module__ in _imported_from
    }


def defined(function: Any) -> str:
    """Return the file and line where a function is defined."""
    try:
        _, line = inspect.getsourcelines(function)
        return f"{inspect.getsourcefile(function)}, line {line}"
    except (OSError, TypeError):
        return str(getattr(function, "__module__", ""))
