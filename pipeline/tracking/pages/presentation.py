"""What makes runs legible in MLflow: notes, colours, diagnosis, stepped images, data set, models, saved views."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from pipeline.config.schema import Config
from pipeline.drawing.axes import rate_colour
from pipeline.drawing.pixels import hexadecimal
from pipeline.points.point import POINTS, Point
from pipeline.points.reading import Run, read_own_config
from pipeline.points.sweep_record import SweepRecord, all_sweeps
from pipeline.studies.images.stepped import image_keys, stepped_images
from pipeline.studies.kinds import headline, kind_of
from pipeline.system.errors import DamagedError
from pipeline.system.files import explained, written_whole
from pipeline.tracking.dataset import checksums_in, dataset_of
from pipeline.tracking.models import log_models
from pipeline.tracking.pages.descriptions import experiment_note, point_note, sweep_note
from pipeline.tracking.pages.views import NEWEST, view_tags
from pipeline.tracking.tracker import Tracker

NOTE, COLOUR, HEADLINE = "mlflow.note.content", "mlflow.runColor", "lab.headline."
LOGGED_IMAGES = {"mlflow.loggedImages": "True"}
"""The tag by which MLflow knows that a run has images."""


def point_tags(config: Config, newest: bool) -> dict[str, str]:
    """Tags that a point's run has from its start: the colour of its rate, and whether the views show it."""
    return {COLOUR: hexadecimal(rate_colour(config.optimizer.learning_rate)), NEWEST: str(newest).lower()}


def present_point(tracker: Tracker, run_id: str, parent: str | None, point: Point, run: Run) -> None:
    """Write to a complete point's run what a person looks at.

    Args:
        tracker: of its experiment.
        run_id: its run.
        parent: the run of its sweep.
        point: trained.
        run: how it was trained.
    """
    found = point.diagnosis
    ended = point.history.metrics[-1].timestamp if point.history.metrics else run.started
    figures = None if parent is None else tracker.address(parent)
    tracker.log_values(run_id, {f"diagnosis/{name}": value for name, value in found.values.items()}, ended)
    tracker.log_dataset(run_id, dataset_of(point.config, checksums_in(run.tags)))
    note = point_note(point.config.study, found, run.overrides, figures)
    tags = {"diagnosis": found.label, NOTE: note} | LOGGED_IMAGES
    with explained(Path("folder for temporary files")), tempfile.TemporaryDirectory() as folder:
        image_files(Path(folder), _images(point), ended, 1 if kind_of(point.config).figure else 2)
        tracker.log_folder(run_id, Path(folder))
    log_models(tracker.client, tracker.experiment_id, run_id, point)
    tracker.tag(run_id, tags)


def _images(point: Point) -> Iterable[tuple[str, int, Image.Image]]:
    """Key, step and image: the stepped ones, or a figure in their place."""
    key = kind_of(point.config).figure
    if key is None:
        return stepped_images(point.config, point.history)
    with Image.open(point.folder / "plots" / f"{key}.png") as picture:
        picture.load()
    return [(key, point.config.training.epochs, picture)]


def image_files(folder: Path, images: Iterable[tuple[str, int, Image.Image]], ended: int, reduction: int) -> None:
    """Write the images of one point, and a small one of each, as files that MLflow takes for its own.

    With the folder's content at the root of a run's artifacts, and the tag `LOGGED_IMAGES`, a run has what
    `MlflowClient.log_image(key=..., step=...)` leaves. Writing twice gives the same names.

    Args:
        folder: gets a folder `images`, in place of the one that is there.
        images: key, step and image.
        ended: the time that MLflow shows for the images, milliseconds since 1970.
        reduction: how many times as wide an image is as its small one, which is the one that a card shows.

    Raises:
        OSError: they cannot be written.
    """
    with written_whole(folder / "images") as new:
        for key, step, image in images:
            name = f"{key}+step+{step}+timestamp+{ended}+{uuid.uuid5(uuid.NAMESPACE_OID, f'{key} {step}')}"
            image.save(new / f"{name}.png", compress_level=1)
            image.reduce(reduction).save(new / f"{name}+compressed.webp", method=0)


def present_sweep(
    tracker: Tracker, run_id: str | None, sweep: SweepRecord, points: Sequence[Point], newest: bool
) -> None:
    """Write the answer above a sweep's run, and above its experiment beside those of the other backends.

    Args:
        tracker: of the experiment.
        run_id: the sweep's run; None where a point is alone.
        sweep: what the command is.
        points: its complete ones, at least one.
        newest: whether it is the newest sweep of its backend, which the experiment's answer is.
    """
    answer = headline(points)
    if run_id is not None:
        note = sweep_note(sweep.study, answer, points, sweep.command, tracker.address(run_id))
        tracker.tag(run_id, {NOTE: note})
    grids = [run for run in tracker.runs() if run.tags.get("lab.role") == "sweep"]
    if not newest or (run_id is None and any(run.tags.get("backend") == sweep.backend for run in grids)):
        return  # the answer is that of a later sweep, or of a grid, which one more point does not replace
    told = {key: value for key, value in tracker.experiment_tags().items() if key.startswith(HEADLINE)}
    told |= {f"{HEADLINE}{sweep.backend}": answer}
    said = {key.removeprefix(HEADLINE): value for key, value in told.items()}
    tracker.tag_experiment(told | {NOTE: experiment_note(sweep.study, said)})


def present_study(tracker: Tracker, root: Path, sweep: SweepRecord, configs: Sequence[Config]) -> None:
    """Write the saved views of a study: of a command's points, and of the newest sweep of each other backend.

    Args:
        tracker: of the experiment.
        root: folder that holds .points/.
        sweep: what the command is.
        configs: of its points.
    """
    same = [one for _, one in all_sweeps(root) if (one.study, one.tracking) == (sweep.study, sweep.tracking)]
    newest = {one.backend: one for one in sorted(same, key=lambda one: one.when) if one.backend != sweep.backend}
    others = [config for one in newest.values() for config in _configs(root, one)]
    tracker.tag_experiment(view_tags([*configs, *others], image_keys, sweep.when))


def _configs(root: Path, sweep: SweepRecord) -> Iterator[Config]:
    """The configs of a sweep's points, as far as they are on disk."""
    for point in sweep.points:
        try:
            yield read_own_config(root / POINTS / point.signature)
        except DamagedError:  # not trained here, or damaged: told where its numbers are needed
            continue
