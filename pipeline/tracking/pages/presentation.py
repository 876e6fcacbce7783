"""Makes runs readable in MLflow: descriptions, colours, diagnosis, stepped images, data set, models, saved views."""

from __future__ import annotations

import logging
import shlex
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from PIL import Image

from pipeline.config.schema import Config
from pipeline.drawing.pixels import hexadecimal
from pipeline.points.point import POINTS, Point
from pipeline.points.reading import RunRecord, read_own_config
from pipeline.points.sweep_record import SweepRecord, all_sweeps
from pipeline.studies.experiments import question_of
from pipeline.studies.grids import by_backend
from pipeline.studies.images.stepped import image_keys, stepped_images
from pipeline.studies.kinds import headline, kind_of
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.failures import Apart, Failures, Parts
from pipeline.system.files import atomic_folder, explained, readable
from pipeline.system.own_folder import with_own_folder
from pipeline.system.wording import listed
from pipeline.tracking import limits
from pipeline.tracking.dataset import checksums_in, dataset_of
from pipeline.tracking.pages.descriptions import experiment_note, point_note, sweep_note
from pipeline.tracking.pages.labels import POINT_NAME, Labels
from pipeline.tracking.pages.repeats import result_of
from pipeline.tracking.pages.shown import joins
from pipeline.tracking.pages.views import NEWEST, own_views, view_tags
from pipeline.tracking.tracker import Tracker

log = logging.getLogger(__name__)

# Tags that MLflow's pages read, and the prefix of our experiment tags with the answer of each backend.
NOTE = "mlflow.note.content"
COLOUR = "mlflow.runColor"
RUN_NAME = "mlflow.runName"
# Tags for readers, which come first on the page of a run, because it is made with them.
RESULT = "result"
DIAGNOSIS = "diagnosis"
# The numbers of a diagnosis that depend on what the other points reached. A run cannot have them as metrics, which
# could not be corrected when the others are trained; its description has them in words.
OF_GROUP = ("epochs_needed", "epochs_to_low_loss")
NONE_YET = "none yet"
HEADLINE = "lab.headline."
# The part of a run that is its images, and the tag by which MLflow knows that it has some.
IMAGES = "images"
LOGGED_IMAGES = {"mlflow.loggedImages": "True"}


def point_tags(name: str, config: Config, shown: Labels) -> dict[str, str]:
    """Return the tags by which a person tells the run of a point from others: its names and its colour.

    Args:
        name: its full name.
        config: its config.
        shown: the labels of the points of its sweep.
    """
    return {
        RUN_NAME: limits.storable(shown.name(name), limits.LONGEST_NAME),
        POINT_NAME: name,
        COLOUR: hexadecimal(shown.colour(config)),
    }


def present_point(
    tracker: Tracker, run_id: str, parent: str | None, point: Point, run: RunRecord, parts: Parts
) -> None:
    """Write the human-readable parts of a complete point's run: diagnosis, data set, images.

    Args:
        tracker: the tracker of its experiment.
        run_id: the run of the point.
        parent: the run of its sweep; None for a single point.
        point: the trained point.
        run: the content of its run.json.
        parts: does each part on its own, and keeps the errors of those that failed.
    """
    ended = run.ended(point.history)

    def diagnosis() -> None:
        found = point.diagnosis.values
        values = {f"diagnosis/{name}": value for name, value in found.items() if name not in OF_GROUP}
        tracker.log_values(run_id, values, ended, _diagnosis_tags(tracker, parent, point, run))

    def images() -> None:
        # A card in MLflow shows the thumbnail. For stepped images half the size is enough; a figure keeps its full
        # size.
        reduction = 2
        if kind_of(point.config).figure:
            reduction = 1
        with explained(Path("folder for temporary files")), tempfile.TemporaryDirectory() as folder:
            image_files(Path(folder), _images(point, parts.apart), ended, reduction)
            tracker.log_folder(run_id, Path(folder))

    def dataset() -> None:
        tracker.log_dataset(run_id, dataset_of(point.config, checksums_in(run.tags), point.data))

    parts.do("diagnosis", diagnosis)
    parts.do("data set", dataset)
    parts.do(IMAGES, images)


def present_diagnosis(tracker: Tracker, run_id: str, parent: str | None, point: Point, run: RunRecord) -> None:
    """Write the diagnosis of a point as a tag, and with its evidence in the description of its run.

    The arguments are those of `present_point`.
    """
    tracker.tag(run_id, _diagnosis_tags(tracker, parent, point, run))


def _diagnosis_tags(tracker: Tracker, parent: str | None, point: Point, run: RunRecord) -> dict[str, str]:
    figures = None
    if parent is not None:
        figures = tracker.address(parent)
    notes: Sequence[str] = ()
    if point.data is not None:
        notes = point.data.notes
    note = point_note(point.config.study, point.diagnosis, run.overrides, figures, notes)
    note = with_own_folder(note, shlex.split(run.tags.get("command", "")))
    note += f"\n\nPoint: `{point.name}`"
    return {DIAGNOSIS: point.diagnosis.label, RESULT: result_of([point]), NOTE: note}


def _images(point: Point, apart: Apart) -> Iterable[tuple[str, int, Image.Image]]:
    """Yield key, step and image for the images of a point: one per recorded epoch, or a single figure instead."""
    key = kind_of(point.config).figure
    if key is None:
        yield from stepped_images(point.config, point.history, apart)
        return
    file = point.folder / "plots" / f"{key}.png"
    pictures = []
    with apart(key), readable(str(file), expected="the figure of the point", fix="retrain the point with force=true"):
        with Image.open(file) as picture:
            # Pillow loads pixels on first use, when the file would already be closed.
            picture.load()
        pictures.append(picture)
    yield from ((key, point.config.training.epochs, picture) for picture in pictures)


def image_files(folder: Path, images: Iterable[tuple[str, int, Image.Image]], ended: int, reduction: int) -> None:
    """Write the images of a point, and a thumbnail of each, in the file layout that MLflow expects.

    Uploading the folder to the root of a run's artifacts, with the tag `LOGGED_IMAGES`, has the same result as
    `MlflowClient.log_image(key=..., step=...)`, which would need one request per image.

    Args:
        folder: the parent folder of `images`, which is created or replaced.
        images: key, step and image.
        ended: the time that MLflow shows for the images, in milliseconds since 1970.
        reduction: width of an image divided by the width of its thumbnail.

    Raises:
        OSError: the files cannot be written.
    """
    with atomic_folder(folder / "images") as new:
        for key, step, image in images:
            # MLflow's pages read key, step and time from the name. MLflow itself appends a random id; here the id is
            # derived from key and step, so that writing twice gives the same names.
            name = f"{key}+step+{step}+timestamp+{ended}+{uuid.uuid5(uuid.NAMESPACE_OID, f'{key} {step}')}"
            image.save(new / f"{name}.png", compress_level=1)
            image.reduce(reduction).save(new / f"{name}+compressed.webp", method=0)


def present_sweep(
    tracker: Tracker,
    run_id: str | None,
    sweep: SweepRecord,
    points: Sequence[Point],
    newest: bool,
    best: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the answer of a sweep to the description of its run and, next to other backends', of its experiment.

    Args:
        tracker: the tracker of the experiment.
        run_id: the run of the sweep; None for a single point.
        sweep: the record of the command.
        points: its complete points, at least one.
        newest: whether this is the newest sweep of its backend, whose answer the experiment shows.
        best: the name and the run of each seed of its best point, if only these have models.
    """
    if run_id is not None:
        note = sweep_note(sweep.study, points, sweep.command, tracker.address(run_id))
        if best:
            # Not a link to all models of the experiment: what was the best point before has models too.
            links = [f"[{name}](#/experiments/{tracker.experiment_id}/runs/{run})" for name, run in best]
            note += f" Models of the best point: {listed(links)}."
        tracker.tag(run_id, {NOTE: note})
    if not newest:
        return
    sweeps = [run for run in tracker.runs() if run.tags.get("lab.role") == "sweep"]
    # The answer of a single point does not replace the answer of a sweep.
    if run_id is None and any(run.tags.get("backend") == sweep.backend for run in sweeps):
        return
    headlines = {key: value for key, value in tracker.experiment_tags().items() if key.startswith(HEADLINE)}
    headlines |= {f"{HEADLINE}{name}": headline(members) for name, members in by_backend(points).items()}
    shown = {key.removeprefix(HEADLINE): value for key, value in headlines.items()}
    described = experiment_note(sweep.study, question_of(sweep.study, {sweep.backend: points}), shown)
    tracker.tag_experiment(headlines | {NOTE: described})


def present_study(tracker: Tracker, root: Path, sweep: SweepRecord, configs: Sequence[Config]) -> bool:
    """Write the saved views of a study, for a sweep and for the newest sweep of each other backend.

    Views that no longer apply are deleted.

    What cannot be read of another sweep is left out of the views with a warning.

    Args:
        tracker: the tracker of the experiment.
        root: folder that holds .points/.
        sweep: the record of the command.
        configs: the configs of its points.

    Returns:
        Whether the sweep joins what the views show of its own backend. Otherwise it takes its place.
    """
    unread = Failures()
    same = [one for _, one in all_sweeps(root, unread) if (one.study, one.tracking) == (sweep.study, sweep.tracking)]
    joined = joins(root, sweep, same)
    newest: dict[str, list[SweepRecord]] = {}
    # Oldest first.
    for one in sorted(same, key=lambda one: one.when):
        if one.key == sweep.key or (one.backend == sweep.backend and not joined):
            continue
        if joins(root, one, same):
            newest.setdefault(one.backend, []).append(one)
        else:
            newest[one.backend] = [one]
    others = [config for shown in newest.values() for one in shown for config in _configs(root, one, unread)]
    tags = view_tags([*configs, *others], image_keys, sweep.when, _diverged(tracker))
    tracker.tag_experiment(tags)
    # A server of an earlier version cannot delete the tag of an experiment.
    with suppress(LabError):
        tracker.delete_experiment_tags(own_views(tracker.experiment_tags()) - tags.keys())
    for message in unread.messages("could not be added to the saved views"):
        log.warning(message)
    return joined


def _diverged(tracker: Tracker) -> set[str]:
    """Return the backends of which points diverged that the views show."""
    shown = [run.tags for run in tracker.runs() if run.tags.get(NEWEST, "false") != "false"]
    return {tags.get("backend", "") for tags in shown if tags.get("outcome") == "diverged"}


def _configs(root: Path, sweep: SweepRecord, unread: Failures) -> Iterator[Config]:
    """Yield the configs of the points of a sweep that are on disk; `unread` gets those that may be intact."""
    for point in sweep.points:
        config = None
        # A point that is missing was trained on another machine. A damaged one is reported when its results are needed.
        with unread.apart(f"{sweep.name} {point.name}"), suppress(DamagedError):
            config = read_own_config(root / POINTS / point.signature)
        if config is not None:
            yield config
