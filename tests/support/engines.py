"""An engine without workers: it calls the task in this process, and loses units on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.system.errors import EngineError


class HereEngine:
    """An engine that runs all units in this process.

    Args:
        shared_disk: the launcher's setting of this name.
        lose: receives the number of the call and of the unit; returns whether that unit is lost before it starts.
    """

    name = "here"
    workers = 2

    def __init__(self, shared_disk: bool = True, lose: Callable[[int, int], bool] = lambda call, unit: False) -> None:
        self.shared_disk, self.lose = shared_disk, lose
        self.calls: list[int] = []

    def run(self, task: Callable[[DictConfig], Any], units: Sequence[str]) -> list[Any]:
        self.calls.append(len(units))
        returned, lost = [], 0
        for number, unit in enumerate(units):
            if self.lose(len(self.calls), number):
                lost += 1
                continue
            returned.append(task(OmegaConf.create({"unit": unit})))
        if lost:
            raise EngineError(f"{lost} units were lost.")
        return returned
