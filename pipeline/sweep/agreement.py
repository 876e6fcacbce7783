"""What all points of a sweep agree on, because a sweep has it only once, and where the sweeps of a command write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.system.errors import LabError

if TYPE_CHECKING:
    from pipeline.config.schema import Config, Tracking


@dataclass(frozen=True)
class Agreement:
    """What all points of a sweep agree on: the study, the store, the results folder, dry_run and force."""

    study: str
    tracking: Tracking
    results: str | None
    dry_run: bool
    force: bool


def agreement_of(config: Config) -> Agreement:
    """Return what a point agrees on with all others of its sweep."""
    return Agreement(config.study, config.tracking, config.results, config.dry_run, config.force)


class ResultsFolders:
    """The results folders of the sweeps of one command, of which none may replace another.

    Args:
        project: the project folder.
    """

    def __init__(self, project: Path) -> None:
        self._project = project
        # None: the sweep writes no results.
        self._folders: dict[Agreement, Path | None] = {}

    def add(self, sweep: Agreement, total: int | None) -> None:
        """Check that the results of a sweep can be written, before the first sweep trains, which may take hours.

        Args:
            sweep: what its points agree on; a sweep that was added before is not checked again.
            total: number of points of the command; None: further ones may follow.

        Raises:
            LabError: the results cannot be written, or would replace those of an earlier sweep; or further points could
                not be told from those of an earlier sweep.
        """
        # Not above: `--help` imports this module, and must answer at once.
        from pipeline.points.destination import results_folder

        if sweep in self._folders:
            return
        # While further points may follow, a sweep is known by its study and its store only.
        known = {(other.study, other.tracking) for other in self._folders}
        if total is None and (sweep.study, sweep.tracking) in known:
            raise LabError(
                "These points cannot share one sweep.",
                expected="the same results, dry_run and force for all points that come one after the other",
                received=f"results={sweep.results} dry_run={sweep.dry_run} force={sweep.force} after others",
                fix="run one command for each",
            )
        self._folders[sweep] = None
        if sweep.results is None:
            return
        folder = results_folder(sweep.results, self._project).resolve()
        if sweep.dry_run:
            return
        for other in self._folders.values():
            if other is not None and (folder.is_relative_to(other) or other.is_relative_to(folder)):
                raise LabError(
                    "Two sweeps of one command have one results folder, or one inside the other: the second would "
                    "replace the first.",
                    expected="a folder for each study, tracking store and value of force",
                    received=f"{folder} after {other}",
                    fix="name the folder by the study, results='results/${study}', or run one command for each",
                )
        self._folders[sweep] = folder
