"""Makes runs readable in MLflow: descriptions, colours, diagnosis, stepped images, data set, models, saved views."""

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

# Tags that MLflow's pages read, and the prefix of our tags with the answer of each backend.
NOTE = "mlflow.note.content"
COLOUR = "mlflow.runColor"
HEADLINE = "lab.headline."
# The tag that tells MLflow that a run has images.
LOGGED_IMAGES = {"mlflow.loggedImages": "True"}


def point_tags(config: Config, newest: bool) -> dict[str, str]:
    """Return the tags of a point's run from its start: the colour of its rate, and whether the views show it."""
    return {COLOUR: hexadecimal(rate_colour(config.optimizer.learning_rate)), NEWEST: str(newest).lower()}


def present_point(tracker: Tracker, run_id: str, parent: str | None, point: Point, run: Run) -> None:
    """Write the diagnosis, data set, images, models and description of a complete point to its run.

    Args:
        tracker: the tracker of its experiment.
        run_id: the run of the point.
        parent: the run of its sweep; None for a single point.
        point: the trained point.
        run: how it was trained.
    """
    found = point.diagnosis
    # The time of the last metric instead of now, so that presenting a point twice writes the same.
    ended = run.started
    if point.history.metrics:
        ended = point.history.metrics[-1].timestamp
    figures = None
    if parent is not None:
        figures = tracker.address(parent)
    tracker.log_values(run_id, {f"diagnosis/{name}": value for name, value in found.values.items()}, ended)
    tracker.log_dataset(run_id, dataset_of(point.config, checksums_in(run.tags)))
    # MLflow's cards show the small image. Stepped images are drawn at twice that size; a figure fills a card whole.
    reduction = 2
    if kind_of(point.config).figure:
        reduction = 1
    with explained(Path("folder for temporary files")), tempfile.TemporaryDirectory() as folder:
        image_files(Path(folder), _images(point), ended, reduction)
        tracker.log_folder(run_id, Path(folder))
    log_models(tracker.client, tracker.experiment_id, run_id, point)
    note = point_note(point.config.study, found, run.overrides, figures)
    tracker.tag(run_id, {"diagnosis": found.label, NOTE: note} | LOGGED_IMAGES)


def _images(point: Point) -> Iterable[tuple[str, int, Image.Image]]:
    """Return key, step and image: the stepped images of a point, or the figure that replaces them."""
    key = kind_of(point.config).figure
    if key is None:
        return stepped_images(point.config, point.history)
    with Image.open(point.folder / "plots" / f"{key}.png") as picture:
        # Pillow reads the pixels only when they are needed, which would be after the file is closed.
        picture.load()
    return [(key, point.config.training.epochs, picture)]


def image_files(folder: Path, images: Iterable[tuple[str, int, Image.Image]], ended: int, reduction: int) -> None:
    """Write the images of a point, and a small version of each, as files that MLflow takes for its own.

    With the content of the folder at the root of a run's artifacts, and the tag `LOGGED_IMAGES`, a run has the same as
    after `MlflowClient.log_image(key=..., step=...)`, which would take one request per image.

    Args:
        folder: gets a folder `images`, which replaces an existing one.
        images: key, step and image.
        ended: the time that MLflow shows for the images, milliseconds since 1970.
        reduction: width of an image divided by the width of its small version.

    Raises:
        OSError: they cannot be written.
    """
    with written_whole(folder / "images") as new:
        for key, step, image in images:
            # MLflow's pages read key, step and time from the name. It ends with a random id in files that MLflow
            # writes; here the id follows from the rest, so that writing twice gives the same names.
            name = f"{key}+step+{step}+timestamp+{ended}+{uuid.uuid5(uuid.NAMESPACE_OID, f'{key} {step}')}"
            image.save(new / f"{name}.png", compress_level=1)
            image.reduce(reduction).save(new / f"{name}+compressed.webp", method=0)


def present_sweep(
    tracker: Tracker, run_id: str | None, sweep: SweepRecord, points: Sequence[Point], newest: bool
) -> None:
    """Write the answer of a sweep to the descriptions of its run and of its experiment.

    Args:
        tracker: the tracker of the experiment.
        run_id: the run of the sweep; None for a single point.
        sweep: the record of the command.
        points: its complete points, at least one.
        newest: whether it is the newest sweep of its backend, whose answer the experiment shows.
    """
    answer = headline(points)
    if run_id is not None:
        note = sweep_note(sweep.study, answer, points, sweep.command, tracker.address(run_id))
        tracker.tag(run_id, {NOTE: note})
    if not newest:
        return
    sweeps = [run for run in tracker.runs() if run.tags.get("lab.role") == "sweep"]
    # The answer of a single point does not replace the one of a whole sweep.
    if run_id is None and any(run.tags.get("backend") == sweep.backend for run in sweeps):
        return
    headlines = {key: value for key, value in tracker.experiment_tags().items() if key.startswith(HEADLINE)}
    headlines[f"{HEADLINE}{sweep.backend}"] = answer
    by_backend = {key.removeprefix(HEADLINE): value for key, value in headlines.items()}
    tracker.tag_experiment(headlines | {NOTE: experiment_note(sweep.study, by_backend)})


def present_study(tracker: Tracker, root: Path, sweep: SweepRecord, configs: Sequence[Config]) -> None:
    """Write the saved views of a study, for a sweep and for the newest sweep of each other backend.

    Args:
        tracker: the tracker of the experiment.
        root: folder that holds .points/.
        sweep: the record of the command.
        configs: the configs of its points.
    """
    same = [one for _, one in all_sweeps(root) if (one.study, one.tracking) == (sweep.study, sweep.tracking)]
    # Sorted by age, so that of several sweeps of a backend the newest one remains.
    newest = {one.backend: one for one in sorted(same, key=lambda one: one.when) if one.backend != sweep.backend}
    others = [config for one in newest.values() for config in _configs(root, one)]
    tracker.tag_experiment(view_tags([*configs, *others], image_keys, sweep.when))


def _configs(root: Path, sweep: SweepRecord) -> Iterator[Config]:
    """Yield the configs of those points of a sweep that are on disk."""
    for point in sweep.points:
        try:
            config = read_own_config(root / POINTS / point.signature)
        except DamagedError:
            # Trained on another machine, or damaged, which is reported where the results of the point are needed.
            continue
        yield config
