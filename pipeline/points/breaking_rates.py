"""The learning rates at which networks break, predicted and seen: what `pipeline.predict` writes for the report.

The file of a study lies beside its results folders, that of points without `results=` in .points/.breaking_rates/. It
has a row for each network and seed. A network is known by its settings, without the learning rate and without
what does not change its loss at the initial weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from pipeline.config.schema import NO_SETTINGS, Config
from pipeline.points.repeats import seeds_of
from pipeline.system.files import explained, readable, short_hash, write_file

# What the prediction for a network does not depend on; the training that is seen depends on its length as well.
NOT_OF_NETWORK: dict[str, Any] = {
    **dict.fromkeys(NO_SETTINGS, True),
    **dict.fromkeys(("study", "seed", "results", "dry_run", "force", "breaking_rate", "budget", "threads"), True),
    **dict.fromkeys(("tracking", "recording", "curvature", "backend", "gradient", "finite_difference_step"), True),
    "optimizer": {"learning_rate"},
    "training": {"epochs"},
    "data": {"split_seed"},
}
# The file beside results folders STUDY/BACKEND, and the folder of the files of studies that have none.
BESIDE_RESULTS = "breaking_rates.json"
BY_HAND = ".breaking_rates"
# By network, seed and split seed.
Key = tuple[str, int, int | None]


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class BreakingRate:
    """The learning rate at which a network breaks.

    Attributes:
        network: `network_of` its config.
        seed: its seed.
        split_seed: the seed of its split; None for data that is not split.
        batches: whether it trains on minibatches.
        method: the name of its optimizer.
        curvature: the largest eigenvalue of the Hessian at the initial weights, preconditioned for adaptive methods.
        predicted: the rate that follows; None if there is none.
        unclear: why there is none; empty if there is one.
        training: `training_of` the config whose training was looked at; empty if none was.
        holds: the largest rate tried there whose loss stayed at or below its start; None if there was none.
        breaks: the smallest rate tried there whose loss rose above its start; None if there was none.
    """

    network: str
    seed: int
    split_seed: int | None
    batches: bool
    method: str
    curvature: float | None
    predicted: float | None
    unclear: str = ""
    training: str = ""
    holds: float | None = None
    breaks: float | None = None

    @property
    def key(self) -> Key:
        """What tells it apart from others."""
        return self.network, self.seed, self.split_seed

    @property
    def unseen(self) -> BreakingRate:
        """The prediction alone."""
        return replace(self, training="", holds=None, breaks=None)


ROWS = TypeAdapter(list[BreakingRate])


def network_of(config: Config) -> str:
    """Return a hash of the settings on which the breaking rate of a network depends, without its seed."""
    settings = config.model_dump(mode="json", exclude=NOT_OF_NETWORK)
    return short_hash(json.dumps(settings, sort_keys=True).encode())


def key_of(config: Config) -> Key:
    """Return the key of a point."""
    return network_of(config), *seeds_of(config)


def training_of(config: Config) -> str:
    """Return a hash of what decides, for a network and a seed, at which rates its training breaks."""
    knobs = (config.backend.name, config.gradient, config.finite_difference_step, config.training.epochs)
    return short_hash(json.dumps([network_of(config), *knobs]).encode())


def file_for(results: Path) -> Path:
    """Return the file of the study that a results folder STUDY/BACKEND belongs to."""
    return results.parent / BESIDE_RESULTS


def file_by_hand(study: str, points: Path) -> Path:
    """Return the file of a study without results folders; `points` is the folder .points/."""
    return points / BY_HAND / f"{study}.json"


def read_breaking_rates(file: Path) -> dict[Key, BreakingRate]:
    """Read what was written for a study; nothing if there is no such file.

    Raises:
        LabError: the file cannot be read, or is damaged.
    """
    if not file.exists():
        return {}
    fix = "delete it, and run python -m pipeline.predict again"
    with readable(str(file), expected="breaking rates that pipeline.predict wrote", fix=fix):
        try:
            rows = ROWS.validate_json(file.read_bytes())
        except ValidationError as error:
            raise ValueError(f"its content has {error.error_count()} mistakes") from None
    return {row.key: row for row in rows}


def add_breaking_rates(file: Path, rows: Iterable[BreakingRate]) -> None:
    """Write rows to a file, in the place of those of the same networks and seeds.

    What was seen of these stays, if nothing new was.

    Raises:
        LabError: the file cannot be read or written.
    """
    known: Mapping[Key, BreakingRate] = read_breaking_rates(file)
    together = {**known}
    for row in rows:
        earlier = known.get(row.key)
        if earlier is not None and not row.training:
            together[row.key] = replace(row, training=earlier.training, holds=earlier.holds, breaks=earlier.breaks)
        else:
            together[row.key] = row
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(row) for row in together.values()], indent=1) + "\n"
        write_file(file, partial(_write, text=text))


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
