"""A point with several seeds as its run in MLflow knows it: by tags that name what its seeds share, and the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.system.files import short_hash
from pipeline.tracking.pages.labels import SEED, settings_of
from pipeline.tracking.sync.points import PointSync
from pipeline.tracking.tracked_run import TrackedRun

# Tags of the run: what its seeds share, the seeds, a hash of their attempts, and when the sweep was asked for.
KEY = "lab.repeats"
SEEDS = "lab.seeds"
ATTEMPTS = "lab.attempts"
ASKED = "lab.asked"
COMPLETE = "lab.complete"
# The tag by which the views find the runs of a backend.
BACKEND = "backend"


@dataclass(frozen=True)
class Seed:
    """A complete seed of a point: its name, its signature and attempt, and its sync if this sweep sends it."""

    name: str
    signature: str
    attempt: str
    sync: PointSync | None


@dataclass(frozen=True)
class RepeatedPoint:
    """A point with several seeds: what they share, its short name, its seeds, and the tags that place its run."""

    key: str
    name: str
    seeds: Sequence[Seed]
    tags: Mapping[str, str]

    @property
    def attempts(self) -> str:
        """A hash that is the same as long as no seed is added or trained again."""
        return short_hash(" ".join(sorted(f"{seed.signature} {seed.attempt}" for seed in self.seeds)).encode())

    @property
    def numbers(self) -> str:
        """The seeds, ascending."""
        found = (dict(settings_of(seed.name)).get(SEED, seed.signature) for seed in self.seeds)
        return " ".join(sorted(found, key=lambda text: (len(text), text)))

    def is_in(self, run: TrackedRun) -> bool:
        """Whether a run has all of these seeds as they are, and is complete."""
        return run.status == "FINISHED" and run.tags.get(COMPLETE) == self.attempts and "seeds" in run.metrics

    def replaces(self, run: TrackedRun) -> bool:
        """Whether a run is of some of these seeds, from no later command than this."""
        earlier = int(run.tags.get(ASKED, "0")) <= int(self.tags[ASKED])
        return earlier and set(run.tags.get(SEEDS, "").split()) <= set(self.numbers.split())
