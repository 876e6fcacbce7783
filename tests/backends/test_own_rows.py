"""From a CSV of 50,000 rows with texts, dates and missing values to the same network on both backends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from pipeline.backends.choose import trainer
from pipeline.backends.shared.history import History
from pipeline.config.reading import read_config
from pipeline.data.arrays import load
from pipeline.prepare import prepare
from pipeline.system.errors import LabError
from pipeline.system.project import CONF
from tests.support.own_data import file_data
from tests.support.trained import composed_by_hydra

ROWS = 50_000
KEYS: dict[str, Any] = {"target": "left", "task": "binary", "missing": "indicator"}
FEATURES = ["age", "income", "plan"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with rows.csv, in which a person leaves by age, income and plan."""
    folder = tmp_path_factory.mktemp("rows")
    random = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 90, ROWS).astype(float),
            "income": random.lognormal(8, 0.5, ROWS).round(2),
            "plan": random.choice(["basic", "family", "pro, yearly"], ROWS),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 2000, ROWS), unit="D"),
        }
    )
    sums = (frame["age"] - 50) / 20 - (frame["income"] - 3000) / 2000 + (frame["plan"] == "basic")
    frame["left"] = np.where(random.random(ROWS) < 1 / (1 + np.exp(-sums)), "yes", "no")
    frame.loc[random.random(ROWS) < 0.1, "age"] = np.nan
    frame.loc[random.random(ROWS) < 0.05, "plan"] = ""
    frame.to_csv(folder / "rows.csv", index=False)
    return folder


def test_a_column_of_dates_is_refused_by_its_name(project: Path) -> None:
    with pytest.raises(LabError, match=r"since") as raised:
        prepare(file_data("rows.csv", **KEYS), project)
    assert "exclude" in str(raised.value)


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-6), ("float64", 1e-12)])
def test_an_epoch_on_both_backends_ends_with_the_same_weights(project: Path, dtype: str, close: float) -> None:
    data = file_data("rows.csv", features=FEATURES, **KEYS)
    prepare(data, project)
    arrays = load(data, dtype, project)
    # Age and whether it is missing, income, and four plans, of which none is one.
    assert arrays.train_inputs.shape == (40_000, 7)
    found: dict[str, History] = {}
    for backend in ("numpy", "keras"):
        overrides = ["model.hidden_size=8", "training.batch_size=1000", "training.epochs=1", "optimizer=sgd"]
        composed = composed_by_hydra(CONF, [*overrides, f"dtype={dtype}", f"backend={backend}"])
        plain = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        point = read_config({**plain, "data": data.model_dump(mode="json")})
        found[backend] = History()
        trainer(point)([point], arrays, [found[backend]], lambda epoch, loss: None)
    ours, theirs = found["numpy"], found["keras"]
    for name, weights in ours.snapshots[1].items():
        np.testing.assert_allclose(weights, theirs.snapshots[1][name], rtol=0, atol=close, err_msg=name)
    for name, value in ours.final().items():
        assert theirs.final()[name] == pytest.approx(value, rel=1e-4 if dtype == "float32" else 1e-9), name
    assert ours.final()["train/baseline_loss"] == pytest.approx(0.69, abs=0.01)
