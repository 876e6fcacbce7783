"""Points of a sweep are composed as Hydra composes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline.system.composing import Composer
from pipeline.system.project import CONF


@pytest.fixture
def hydra() -> Iterator[Hydra]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="train"):
        found = GlobalHydra.instance().hydra
        assert isinstance(found, Hydra)
        yield found
    GlobalHydra.instance().clear()


def sweep_of(hydra: Hydra, *typed: str) -> DictConfig:
    return hydra.config_loader.load_configuration("config", list(typed), RunMode.MULTIRUN)


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize(
    ("typed", "points"),
    [
        (
            ["experiment=three_bits", "hydra.verbose=true"],
            [["optimizer.learning_rate=1", "experiment=three_bits"], ["model.hidden_size=4", "experiment=three_bits"]],
        ),
        # A list of values, a choice of files, a new key, and one that is deleted.
        (["seed=1,2"], [["seed=1"], ["seed=2"]]),
        (
            ["optimizer=sgd,adam", "seed=3"],
            [["optimizer=sgd", "seed=3"], ["optimizer=adam", "seed=3", "optimizer.beta_1=0.8"]],
        ),
        (["+new=1,2"], [["+new=1"], ["+new=2", "~dry_run"]]),
        # The last of two values of one key counts, whether it was to be there before or not.
        (["++seed=3"], [["seed=1", "++seed=3"], ["++seed=3", "seed=1"]]),
        ([], [["report.order=1", "++report={order: 3}"], ["report={order: 1}", "++report.order=3"]]),
        # The sweeper leaves out what was typed for the sweep, or says it twice.
        (["seed=5", "study=other"], [["seed=6"], ["seed=7", "seed=8", "study=${data.name}"]]),
        (["seed=1"], [["seed=1", "hydra.job.config.override_dirname.kv_sep=-", "report.order=7"]]),
    ],
)
def test_points_are_those_of_hydra(hydra: Hydra, typed: list[str], points: list[list[str]]) -> None:
    sweep = sweep_of(hydra, *typed)
    composer = Composer(hydra.config_loader, sweep)
    for overrides in points:
        assert plain(composer.compose(overrides)) == plain(hydra.config_loader.load_sweep_config(sweep, overrides))


def test_a_point_does_not_change_the_next_one(hydra: Hydra) -> None:
    composer = Composer(hydra.config_loader, sweep_of(hydra))
    assert [composer.compose([text]).seed for text in ("seed=2", "dtype=float64", "seed=3")] == [2, 1, 3]


@pytest.mark.parametrize("override", ["sed=1", "optimizer=sgdd", "model.hidden_size=[1,", "seed=1,2"])
def test_an_error_has_the_words_of_hydra(hydra: Hydra, override: str) -> None:
    sweep = sweep_of(hydra)
    with pytest.raises(HydraException) as expected:
        hydra.config_loader.load_sweep_config(sweep, [override])
    with pytest.raises(HydraException) as received:
        Composer(hydra.config_loader, sweep).compose([override])
    assert str(received.value) == str(expected.value)


def test_a_missing_choice_is_an_error_for_a_point(tmp_path_factory: pytest.TempPathFactory) -> None:
    conf = tmp_path_factory.mktemp("conf")
    (conf / "config.yaml").write_text("defaults:\n  - _self_\n  - model: ???\nseed: 1\n")
    (conf / "model").mkdir()
    (conf / "model" / "mlp.yaml").write_text("hidden_size: 4\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf), version_base="1.3", job_name="train"):
        found = GlobalHydra.instance().hydra
        assert isinstance(found, Hydra)
        composer = Composer(found.config_loader, sweep_of(found))
        with pytest.raises(HydraException, match="You must specify 'model'"):
            composer.compose(["seed=2"])
        assert composer.compose(["model=mlp", "seed=2"]).model.hidden_size == 4
    GlobalHydra.instance().clear()
