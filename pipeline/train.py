"""Stage 3: train one point, or a grid of them.

python -m pipeline.train experiment=three_bits
python -m pipeline.train -m optimizer.learning_rate=0.001,0.01 model.hidden_size=32,128
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.project import PROJECT

if TYPE_CHECKING:
    import subprocess

    from pipeline.config import Config
    from pipeline.points.point import Outcome
    from pipeline.sweep.sweep import Sweep
    from pipeline.sweep.workers.distribution import Engine

_sweep: Sweep | None = None
_process: subprocess.Popen[bytes] | None = None


def train_point(composed: DictConfig) -> Outcome | None:
    """Hydra's task: one point, single or of a sweep that trains its points one by one."""
    hydra = HydraConfig.get()
    return _train([(composed, list(hydra.overrides.task))], 1 if hydra.mode == RunMode.RUN else None)[0]


def begin(composed: DictConfig) -> None:
    """What the stacked launcher calls with the first point of a sweep: MLflow is imported while Hydra composes."""
    _launch(_read(_without_hydra(composed)))


def train_all(composed: Sequence[DictConfig], engine: Engine | None = None) -> Sequence[Outcome | None]:
    """What our launchers call with all points of a sweep; their configs still hold Hydra's own part.

    Args:
        composed: a config for each point.
        engine: what runs workers, where the launcher has some.
    """
    requests = [(_without_hydra(config), list(config.hydra.overrides.task)) for config in composed]
    return _train(requests, len(requests), engine)


train_point.begin = begin  # type: ignore[attr-defined]
train_point.train_all = train_all  # type: ignore[attr-defined]


def _without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        return OmegaConf.masked_copy(config, [key for key in map(str, config) if key != "hydra"])


def _read(composed: DictConfig) -> Config:
    from pipeline.config import read_config

    plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    return read_config(plain)


def _launch(first: Config) -> None:
    """Start the mirror's process, unless it was started."""
    global _process
    from pipeline.mirror_process import launch

    if _process is None:
        _process = launch(first)


def _train(
    requests: Sequence[tuple[DictConfig, list[str]]], total: int | None, engine: Engine | None = None
) -> Sequence[Outcome | None]:
    global _sweep
    if not requests:
        raise LabError("The grid has no points.", received="a glob that nothing matches", fix="see --help")
    points = [(_read(composed), overrides) for composed, overrides in requests]
    _launch(points[0][0])
    from pipeline.sweep.sweep import Sweep  # takes a while, like the reading of the data; the process uses the time

    if _sweep is None:
        _sweep = Sweep(PROJECT, points[0][0], total, _process, engine)
    return _sweep.train_all(points)


def finish() -> None:
    """Close what the command opened.

    Raises:
        LabError: telling every point that failed.
    """
    try:
        if _sweep is not None:
            _sweep.finish()
    finally:
        if _process is not None:
            from pipeline.mirror_process import end

            end(_process)


if __name__ == "__main__":
    sys.exit(cli.run(train_point, "config", finish))
