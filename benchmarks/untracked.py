"""NumPy training with nothing around it: no folder, no MLflow, no pictures.

    python -m benchmarks.untracked [--images ROWS] [--rates POINTS] OVERRIDE ...

composes the config as `python -m pipeline.train` does, loads the data, trains, and prints as JSON the seconds of
training and the memory of the process in bytes, before the data was there and at its peak.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from benchmarks.measuring import NotMeasured
from pipeline.backends.numpy.training import train
from pipeline.backends.shared.history import History
from pipeline.config.reading import read_config
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.system.project import CONF, PROJECT

Train = Callable[[Sequence[Config], Arrays, Sequence[History], Callable[[int, float], None]], None]


def composed(*overrides: str) -> Config:
    """The config of a point, without Hydra's own part."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose("config", list(overrides)), resolve=True)
    return read_config(cast(dict[str, Any], plain))


def with_rates(config: Config, rates: Sequence[float]) -> list[Config]:
    """The same point at several learning rates."""
    optimizers = [config.optimizer.model_copy(update={"learning_rate": float(rate)}) for rate in rates]
    return [config.model_copy(update={"optimizer": optimizer}) for optimizer in optimizers]


def made_up_images(rows: int) -> Arrays:
    """Training rows as prepare leaves those of MNIST, all grey values alike often; no test rows."""
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (rows, 784), dtype=np.uint8)
    return Arrays(inputs, generator.integers(0, 10, rows), None, None, 10, {})


def train_points(train_backend: Train, points: Sequence[Config], arrays: Arrays) -> list[float]:
    """Train, and return when each recorded epoch had ended, in seconds since the start of training."""
    ends: list[float] = []
    started = time.perf_counter()
    histories = [History() for _ in points]
    train_backend(points, arrays, histories, lambda epoch, loss: ends.append(time.perf_counter() - started))
    return ends


def memory(line: str) -> int:
    """Bytes that this process has now (`VmRSS`) or had at most (`VmHWM`).

    Raises:
        NotMeasured: the system has no /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise NotMeasured("memory is measured on Linux only") from None
    [found] = [text for text in lines if text.startswith(f"{line}:")]
    return int(found.split()[1]) * 1024


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.untracked")
    parser.add_argument("--images", type=int, metavar="ROWS", help="made-up images in the place of the data")
    parser.add_argument("--rates", type=int, metavar="POINTS", help="so many learning rates from 0.001 to 1000")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    config = composed(*options.overrides)
    points = with_rates(config, np.logspace(-3, 3, options.rates).tolist()) if options.rates else [config]
    before = memory("VmRSS") if Path("/proc").exists() else 0
    arrays = made_up_images(options.images) if options.images else load(config.data, config.dtype, PROJECT)
    started = time.perf_counter()
    train_points(train, points, arrays)
    seconds = time.perf_counter() - started
    peak = memory("VmHWM") if before else 0
    json.dump({"seconds": seconds, "before": before, "peak": peak}, sys.stdout)


if __name__ == "__main__":
    main()
