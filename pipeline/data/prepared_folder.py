"""Where the arrays of a data set are: in data/prepared/NAME, and those of each further split in NAME@split-SEED.

`python -m pipeline.prepare` writes the split of the config, and the further ones with `repeats_split=true`. What is
learned from training rows, such as means and categories, belongs to a split, so each folder has its own data.json.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config.data import DescribedData, IdxData

PREPARED = Path("data") / "prepared"
# The name of a data set has no @, so that no other one has such a folder.
SPLIT = "@split-"


def folder_of_split(data: DescribedData, project: Path) -> Path:
    """Return the folder of data whose split is a further one."""
    return project / PREPARED / f"{data.name}{SPLIT}{data.split_seed}"


def prepared_folder(data: IdxData | DescribedData, project: Path) -> Path:
    """Return the folder of a data set: that of its split if there is one."""
    if isinstance(data, DescribedData):
        further = folder_of_split(data, project)
        if further.exists():
            return further
    return project / PREPARED / data.name


def prepare_command(data: IdxData | DescribedData, further: bool = False) -> str:
    """Return the command that prepares a data set, or its `further` splits too; how many, the user knows."""
    command = f"python -m pipeline.prepare data={data.name}"
    if further:
        command += " repeats=N repeats_split=true, with the repeats of this command as N"
    return command
