"""Files of data in a folder of one's own: a relative path is looked for in the project, and then beside the config.

The folders are those in which a model's module is looked for (own_code.py): that of `--config-dir` and of others of
Hydra's search path, the folder around each that is named `conf`, and the current directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

from pipeline.config.schema import Data
from pipeline.system.project import PROJECT

# The keys of data sections that name a file or a folder of the user.
PATHS = ("path", "test_path")
AnyData = TypeVar("AnyData", bound=Data)


def data_located(data: AnyData, folders: Sequence[Path], project: Path = PROJECT) -> AnyData:
    """Return the section of a data set with the full path of each file that the project does not have.

    A path that leads to nothing stays as it is; who reads it says so.

    Args:
        data: the section.
        folders: where to look besides the project, from `own_code.code_folders`.
        project: the project's folder.
    """
    if data.kind not in ("file", "images"):
        return data
    found = {}
    for key in PATHS:
        path = getattr(data, key)
        # `~` begins the path of a home folder.
        if path is None or path.startswith("~") or (project / path).exists():
            continue
        places = [folder / path for folder in folders if (folder / path).exists()]
        if places:
            found[key] = str(places[0].resolve())
    # A copy has the type of its original, which mypy does not know of a union.
    return cast(AnyData, data.model_copy(update=found))
