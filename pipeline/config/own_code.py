"""Where the code of a model of one's own lies, and which of its modules its numbers depend on.

A module is looked for in the project's folder; then in the folder of `--config-dir` and in others of Hydra's search
path, and beside each of them that is named `conf`; then in the current directory; and among installed packages. Nothing
is imported here: a command that only plans must not wait for Keras.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config.own_model import KerasModel
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT, expanded


def code_folders(configs: Sequence[Path]) -> list[Path]:
    """Return the folders to look in, besides the project's.

    Args:
        configs: the folders of Hydra's search path, in its order.
    """
    folders = []
    for config in configs:
        folders.append(config)
        # The usual layout: mine/conf/model/net.yaml beside mine/net.py.
        if config.name == "conf":
            folders.append(config.parent)
    return [*folders, Path.cwd()]


def located(model: KerasModel, folders: Sequence[Path]) -> KerasModel:
    """Return the section with the folder that has the function's module, if it is neither the project's nor installed.

    Args:
        model: the section.
        folders: where to look besides the project, from `code_folders`.

    Raises:
        LabError: no folder has the module.
    """
    if model.folder_ is not None or _holds(PROJECT, model.module):
        return model
    found = next((folder for folder in folders if _holds(folder, model.module)), None)
    if found is not None:
        return model.model_copy(update={"folder_": str(found.resolve())})
    if _installed(model.module) is None:
        raise _no_module(model, [PROJECT, *folders])
    return model


def folder_of(model: KerasModel) -> Path:
    """Return the folder that the function's module is imported from.

    Raises:
        LabError: it does not have the module.
    """
    if model.folder_ is not None:
        folder = PROJECT / expanded(model.folder_, "model._folder_")
        if not _holds(folder, model.module):
            raise _no_module(model, [folder])
        return folder.resolve()
    if _holds(PROJECT, model.module):
        return PROJECT
    installed = _installed(model.module)
    if installed is None:
        raise _no_module(model, [PROJECT])
    return installed


def sources(model: KerasModel) -> dict[str, str]:
    """Return the source of the function's module and of those that it imports, by path from their folder.

    Modules of other folders, such as Keras, are left out. Of an installed package only its own modules count.

    Raises:
        LabError: the module is not there, a file cannot be read, or is not valid Python.
    """
    folder = folder_of(model)
    top = model.module.partition(".")[0]
    found: dict[str, str] = {}
    waiting = list(_files(folder, model.module))
    while waiting:
        file = waiting.pop()
        name = file.relative_to(folder).as_posix()
        if name in found or (_is_installed(folder) and Path(name).with_suffix("").parts[0] != top):
            continue
        found[name] = _read(file)
        for module in _imported(_parsed(file, found[name]), name):
            waiting += _files(folder, module)
    return found


def write_sources(found: Mapping[str, str], folder: Path) -> None:
    """Write modules that `sources` returned to a folder."""
    for name, source in found.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source, encoding="utf-8")


def _holds(folder: Path, module: str) -> bool:
    return _file_of(folder, module) is not None


def _file_of(folder: Path, module: str) -> Path | None:
    """Return the file of a module below a folder, `module.py` or the `__init__.py` of a package; None without one."""
    path = folder.joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file
    return None


def _files(folder: Path, module: str) -> Iterator[Path]:
    """Yield the files that importing a module runs: those of the packages around it, and its own."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        file = _file_of(folder, ".".join(parts[:length]))
        if file is not None:
            yield file


def _installed(module: str) -> Path | None:
    """Return the folder that an installed package is in; None if the module is not installed."""
    top = module.partition(".")[0]
    try:
        # Only the top: a name with dots would import the packages around it.
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    folder = file.parent.parent if spec.submodule_search_locations else file.parent
    if not _holds(folder, module):
        return None
    return folder


def _is_installed(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages")


def _imported(tree: ast.Module, name: str) -> Iterator[str]:
    """Yield the modules that a module may import; a name taken from a package may be a module of it."""
    package = Path(name).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else ()
            parts = [*around, *(node.module.split(".") if node.module else ())]
            if parts:
                yield ".".join(parts)
            yield from (".".join([*parts, alias.name]) for alias in node.names if alias.name != "*")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{file} cannot be read.", expected="Python code in UTF-8", received=str(error)) from None


def _parsed(file: Path, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise LabError(
            f"{file}, line {line}, is not valid Python.", received=getattr(error, "msg", str(error)), fix="correct it"
        ) from None


def _no_module(model: KerasModel, folders: Sequence[Path]) -> LabError:
    path = model.module.replace(".", "/")
    looked = dict.fromkeys(str(folder) for folder in folders)
    return LabError(
        f"model._target_={model.target_}: the module {model.module} was not found.",
        expected=f"{path}.py in one of {', '.join(looked)}, or an installed package",
        received="no such file",
        fix="correct _target_ in the file of conf/model, or name the folder: model._folder_=FOLDER",
    )
