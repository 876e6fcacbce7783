"""Small trained points for the tests of plots, comparison and reproduction: NumPy backend, no MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.backends.choose import trainer
from pipeline.backends.numpy.training import train
from pipeline.backends.shared.history import History
from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.reading import read_config
from pipeline.config.schema import Config, Tracking
from pipeline.data.arrays import Arrays, load
from pipeline.points.folder import PointFolder
from pipeline.points.identity import signature
from pipeline.points.point import Point, folder_name, outcome_of, point_name
from pipeline.points.reading import read_point
from pipeline.points.sweep_record import SweepPoint, SweepRecord, write_sweep
from pipeline.system.project import CONF


def config(*overrides: str) -> Config:
    """Compose a config without running an application; the same overrides give the same frozen object."""
    return _composed(CONF, overrides)


@cache
def _composed(conf: Path, overrides: tuple[str, ...]) -> Config:
    return read_config(composed(conf, overrides))


def composed(conf: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Let Hydra compose each choice of groups only once, which takes 0.1 s, and set the values in a copy of that."""
    groups = tuple(one for one in overrides if (conf / one.partition("=")[0]).is_dir())
    values = [one for one in overrides if one not in groups]
    try:
        whole = deepcopy(_of_groups(conf, groups))
        parsed = [_parsed(value) for value in values]
        ConfigLoaderImpl._apply_overrides_to_config(parsed, whole)  # noqa: SLF001 - saves composing again
    except (HydraException, OmegaConfBaseException):  # for Hydra's own message, and for overrides like +key
        whole = composed_by_hydra(conf, overrides)
    return cast(dict[str, Any], OmegaConf.to_container(whole, resolve=True))


@cache
def _of_groups(conf: Path, groups: tuple[str, ...]) -> DictConfig:
    return composed_by_hydra(conf, groups)


@cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


def composed_by_hydra(conf: Path, overrides: Sequence[str]) -> DictConfig:
    """Return the config that Hydra composes from all overrides."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("config", list(overrides))


def trained(*points: Config, arrays: Arrays | None = None) -> list[History]:
    """Train points of one shape as one stack."""
    histories = [History() for _ in points]
    own = trainer(points[0]) if points[0].optimizer.name in OWN_TRAINING else train
    data = (arrays or load(points[0].data, points[0].dtype, Path())).at_most(points[0].training.rows)
    own(points, data, histories, lambda epoch, loss: None)
    return histories


def sweep(common: Sequence[str], grid: Sequence[Sequence[str]], arrays: Arrays | None = None) -> list[Point]:
    """Train points one by one; each item of `grid` has a point's own overrides. They are not on disk."""
    points = []
    for own in grid:
        one = config(*common, *own)
        (history,) = trained(one, arrays=arrays)
        points.append(Point(point_name(one, own), Path(), one, history, outcome_of(history)))
    return points


def write_results(results: Path, study: str, backend: str, points: Sequence[Point]) -> list[Point]:
    """Write results/STUDY/BACKEND as a sweep does, and read the points back."""
    target = results / study / backend
    entries = []
    for point in points:
        sign = signature(point.config, {})
        folder = PointFolder(results.parent / "store", sign)
        folder.begin()
        folder.write_json("config.json", point.config.model_dump(mode="json"))
        folder.write_history(point.history)
        shutil.copytree(folder.complete(), target / folder_name(point.name))
        entries.append(SweepPoint(point.name, sign, folder_name(point.name)))
    local = Tracking(name="local", uri=None)
    write_sweep(target, SweepRecord("0" * 16, study, backend, True, "", local, {}, 0, points=entries))
    return [read_point(target / entry.folder, entry.name) for entry in entries]
