"""The seeds of a requested point: a config for each, one score for all, and whether each of them is shown in detail."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from pipeline.config.schema import Config
from pipeline.points.repeats import SPLIT_SEED, seeds_of

log = logging.getLogger(__name__)

# The figures and the models of a small network take longer than its training, and nobody looks at those of many points.
MOST_IN_DETAIL = 8


class Score(float):
    """The score of a requested point, a number for any sweeper, with the scores of its seeds for one that needs them.

    Args:
        mean: the score.
        by_seed: the score of each seed, in their order; inf: it diverged, NaN: it failed.
    """

    by_seed: tuple[float, ...]

    def __new__(cls, mean: float, by_seed: Sequence[float] = ()) -> Score:
        """Make the number, and keep what the seeds scored."""
        score = super().__new__(cls, mean)
        score.by_seed = tuple(by_seed)
        return score


def repeated(config: Config, overrides: list[str]) -> list[tuple[Config, list[str]]]:
    """Return a config and its overrides for each of its seeds."""
    if config.repeats == 1:
        return [(config, overrides)]
    own = {"seed", "repeats"}
    if config.repeats_split:
        own.add(SPLIT_SEED)
    others = [one for one in overrides if one.lstrip("+").partition("=")[0] not in own]
    return [(one, [*others, *_own_overrides(one)]) for one in config.seeds()]


def _own_overrides(config: Config) -> list[str]:
    """Return the overrides that ask for one repeat alone."""
    seed, split_seed = seeds_of(config)
    overrides = [f"seed={seed}"]
    if config.repeats_split:
        overrides.append(f"{SPLIT_SEED}={split_seed}")
    # An experiment may set the repeats.
    return [*overrides, "repeats=1"]


def mean_score(scores: Sequence[float | None]) -> Score:
    """Return the score of a point from those of its seeds; None for a seed that failed.

    It is the mean over the seeds that trained, because a failure, such as a lack of memory, says nothing about the
    point. A seed that diverged does: its score is inf, and so is the mean. NaN if no seed trained.
    """
    by_seed = [math.nan if score is None else score for score in scores]
    trained = [score for score in scores if score is not None]
    if not trained:
        return Score(math.nan, by_seed)
    if len(trained) < len(scores):
        log.warning(f"The score of a point is the mean over {len(trained)} of its {len(scores)} seeds: others failed.")
    return Score(sum(trained) / len(trained), by_seed)


def for_number(config: Config, points: int | None) -> Config:
    """Return a config that says what is drawn, and which points have models, where it leaves that to their number.

    Args:
        config: the config of a point.
        points: the number of points of the command; None: they come one by one. A search may try hundreds, and what is
            drawn must not change on the way.
    """
    many = points is None or points > MOST_IN_DETAIL
    changed = {}
    if config.recording.figures == "auto":
        changed["figures"] = "sweep" if many else "point"
    if config.recording.models == "auto":
        changed["models"] = "best" if many else "all"
    return config.model_copy(update={"recording": config.recording.model_copy(update=changed)})
