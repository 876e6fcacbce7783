"""What a command was asked for: the configs that Hydra has composed, as typed ones without Hydra's own section."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.system.errors import LabError

# Imported with the first point: --help and completion must answer at once.
if TYPE_CHECKING:
    from pipeline.config.schema import Config


def environment_of(hydra: Any) -> dict[str, str]:
    """Return the variables that Hydra sets for a job."""
    return {str(name): str(value) for name, value in hydra.job.env_set.items()}


def hydra_alone(config: DictConfig) -> Any:
    """Return Hydra's own section of a config."""
    # As Hydra reads its section for a job: a value in it cannot refer to a key of the point.
    return OmegaConf.masked_copy(config, ["hydra"]).hydra


def without_hydra(config: DictConfig) -> DictConfig:
    """Return a copy of a config without Hydra's own section."""
    # A launcher passes complete configs, while Hydra removes its section before it calls a task.
    copy: DictConfig = pickle.loads(pickle.dumps(config))  # noqa: S301 - a copy, in a tenth of OmegaConf's time
    with open_dict(copy):
        del copy["hydra"]
    return copy


def read_asked(composed: DictConfig, configs: Sequence[Path], predicts: bool) -> Config:
    """Read the config of a point that a command was asked for.

    Args:
        composed: the config, without Hydra's own section.
        configs: the folders of Hydra's search path, with which the code of a model of one's own may lie.
        predicts: whether the command predicts, and does not train.

    Raises:
        LabError: the config is invalid, or asks for what the other command does.
    """
    config = _read(composed, configs)
    if config.breaking_rate and not predicts:
        raise LabError(
            "The rates at which networks break are looked for by another command.",
            expected="breaking_rate=false",
            received="breaking_rate=true",
            fix="run python -m pipeline.predict with the same arguments",
        )
    if predicts and (config.dry_run or config.budget is not None):
        raise LabError(
            "A prediction takes seconds, and trains nothing that could be planned or continued.",
            expected="dry_run=false budget=null",
            received=f"dry_run={str(config.dry_run).lower()} budget={config.budget}",
            fix="leave them out",
        )
    return config


def _read(composed: DictConfig, configs: Sequence[Path]) -> Config:
    from pipeline.config.own_code import code_folders, located
    from pipeline.config.own_folder import data_located
    from pipeline.config.own_model import KerasModel
    from pipeline.config.reading import read_config

    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    config = read_config(plain)
    folders = code_folders(configs)
    found: dict[str, Any] = {"data": data_located(config.data, folders)}
    if isinstance(config.model, KerasModel):
        found["model"] = located(config.model, folders)
    return config.model_copy(update=found)
