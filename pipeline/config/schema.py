"""The complete config of one grid point, typed and frozen; the only place that names its keys. See `reading.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pipeline.config.curve import Balls, CurveData
from pipeline.config.data import SEEDS, FileData, HeldBack, IdxData, ImageData, LibraryData, TableData, Task
from pipeline.config.defaults import ACTIVATIONS
from pipeline.config.fields import PositiveFloat, PositiveInt, Seconds, Section, Whole
from pipeline.config.map_axes import GridAxes
from pipeline.config.model import Model, Training
from pipeline.config.optimizer import Exponential, Optimizer, Schedule
from pipeline.config.own_model import KerasModel, section_kind

NO_CREDENTIALS = (
    "an address must not contain a user or a password; remove them and the @ from tracking.uri, and set "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
)

# A host, and perhaps a port and a path.
SERVER_ADDRESS = re.compile(r"https?://(\[[0-9a-f:.]+\]|[^\s/?#:\[\]]+)(:\d{1,5})?([/?#]\S*)?", re.IGNORECASE)

# A network; a network whose rate rises during the run and whose losses are recorded; a map of networks over two knobs;
# balls on a curve; a map of balls over rate and start. Each kind has an entry in studies/kinds.py, a module in
# diagnosis/ that judges it, and a trainer in backends/choose.py.
Kind = Literal["network", "range_test", "map", "balls", "basins"]

# The seeds of one point train together where they can, and each is a run in MLflow.
MOST_REPEATS = 1000
# Keys that are no settings of a training: what is asked, how the answer is shown, and how often it is repeated.
NO_SETTINGS = {"question", "report", "repeats", "repeats_split"}

Data = TableData | IdxData | CurveData | FileData | ImageData | LibraryData
# A dense network, or a Keras model of one's own, which has the key `_target_`.
AnyModel = Annotated[
    Annotated[Model, Tag("dense")] | Annotated[KerasModel, Tag("own")], Field(discriminator=Discriminator(section_kind))
]
Loss = Literal[
    "cross_entropy",
    "binary_cross_entropy",
    "mean_squared_error",
    "half_summed_squared_error",
    "mean_absolute_error",
    "huber",
    "curve_height",
]


def _number_or_auto(value: object) -> str:
    """Return the tag of an interval."""
    if value == "auto":
        return "auto"
    return NUMBER


# Epochs between records; `auto` chooses them so that a run has about 300 records. With tags, so that a wrong value is
# one problem, and not one for each of the two. The tag is not a key: it has a space.
NUMBER = "a number"
Interval = Annotated[
    Annotated[PositiveInt, Tag(NUMBER)] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_number_or_auto)
]
# The points whose weights are models in MLflow; `auto` chooses by their number.
Models = Literal["auto", "all", "best", "none"]


class Recording(Section):
    """The values of a training run that are recorded, and how often; and what is drawn of them, and kept as models."""

    metrics_every: Interval
    snapshots: Annotated[Whole, Field(ge=2)]
    weight_metrics: bool
    update_losses: bool
    curvature: bool = False
    direction_changes: bool
    table_epochs: Annotated[Whole, Field(ge=0)]
    figures: Literal["auto", "point", "sweep", "none"] = "auto"
    models: Models = "auto"


class Curvature(Section):
    """How the curvature of the loss is computed.

    Attributes:
        rows: the number of training rows that it is computed on, for training on minibatches: those of the first ones.
            A full batch has all rows.
        count: how many of the largest eigenvalues are recorded.
    """

    rows: PositiveInt = 2000
    count: Annotated[Whole, Field(ge=1, le=100)] = 1


class Report(Section):
    """How the points of a study are compared and shown; nothing here changes a point.

    Attributes:
        metric: the metric that judges, for instance `validation/accuracy`; null: the one that fits the task. With
            validation rows, one of test rows is told, and that of validation rows judges.
        size: the key that is "the size" in heat maps and sentences, besides the rate; null: `model.hidden_size`.
        picture: the picture of the study, if it is not that of its kind: `loss_landscape` draws the loss on a plane
            through the weights of each dense network (studies/landscapes.py).
        order: the place of the study among others in the report; studies of one place are sorted by name.
    """

    metric: Annotated[str, Field(pattern=r"^(train|validation|test)/[a-z0-9_]+$")] | None = None
    size: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[A-Za-z0-9_]+)*$")] | None = None
    picture: Literal["loss_landscape"] | None = None
    order: Annotated[Whole, Field(ge=0)] = 1000


class NumpyBackend(Section):
    """The NumPy backend; with CuPy as its array module it computes on a GPU."""

    name: Literal["numpy"]
    array_module: Literal["numpy", "cupy"]
    line_study_gradient: Literal["backpropagation", "finite_difference"]


class KerasBackend(Section):
    """The Keras backend; `jit_compile` compiles its training step with XLA."""

    name: Literal["keras"]
    line_study_gradient: Literal["backpropagation", "finite_difference"]
    jit_compile: bool


class Tracking(Section):
    """The store of MLflow runs: a local database, or a server at `uri`."""

    name: Literal["local", "server"]
    uri: str | None

    @model_validator(mode="after")
    def server_has_an_address(self) -> Tracking:
        """Check that a server, and only a server, has an address, and that it contains no password."""
        # First, and without repeating the address: logs would keep the password.
        if self.uri and "@" in self.uri:
            raise ValueError(NO_CREDENTIALS)
        if self.name == "server" and not self.uri:
            raise ValueError("a server needs an address, for instance tracking.uri=http://127.0.0.1:5000")
        if self.uri and "://" not in self.uri:
            raise ValueError(not_a_server(self.uri))
        if self.name == "local" and self.uri:
            if not is_server_address(self.uri):
                raise ValueError(not_a_server(self.uri))
            raise ValueError(f"only a server has an address: use tracking=server tracking.uri={self.uri}")
        return self


def is_server_address(uri: str) -> bool:
    """Whether a text is the address of a tracking server."""
    return SERVER_ADDRESS.fullmatch(uri) is not None


def not_a_server(uri: str) -> str:
    """Return the message about a text that is not the address of a tracking server."""
    return (
        f"expected the address of an MLflow server, such as http://127.0.0.1:5000, received {uri}; "
        "python -m pipeline.server starts one for several users or projects (deploy/README.md)"
    )


class Config(Section):
    """All settings of one grid point. `conf/config.yaml` documents the unit and the reason of each.

    A config that is trained has one repeat: `seeds` makes one for each seed of a config with several.
    """

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
    feature: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,99}$")] | None
    seed: Annotated[Whole, Field(ge=0, lt=SEEDS)]
    threads: PositiveInt | None = None
    repeats: Annotated[Whole, Field(ge=1, le=MOST_REPEATS)] = 1
    repeats_split: bool = False
    dtype: Literal["float32", "float64"]
    loss: Loss
    gradient: Literal["backpropagation", "finite_difference"]
    finite_difference_step: PositiveFloat
    data: Annotated[Data, Field(discriminator="kind")]
    model: AnyModel
    optimizer: Annotated[Optimizer, Field(discriminator="name")]
    schedule: Annotated[Schedule, Field(discriminator="name")]
    backend: Annotated[NumpyBackend | KerasBackend, Field(discriminator="name")]
    training: Training
    recording: Recording
    curvature: Curvature = Curvature()
    balls: Balls | None
    grid: GridAxes | None
    tracking: Tracking
    question: str | None = None
    report: Report = Report()
    results: str | None
    dry_run: bool
    force: bool
    breaking_rate: bool = False
    budget: Seconds | None = None

    def seeds(self) -> list[Config]:
        """Return the config for each of its repeats: with `seed`, `seed` + 1, ... and one repeat each.

        With `repeats_split` the split seed rises as well.
        """
        return [self._repeat(number) for number in range(self.repeats)]

    def _repeat(self, number: int) -> Config:
        # After the largest seed comes 0.
        changed: dict[str, Any] = {"seed": (self.seed + number) % SEEDS, "repeats": 1}
        if self.repeats_split and isinstance(self.data, HeldBack):
            changed["data"] = self.data.further_split(number)
        return self.model_copy(update=changed)

    @property
    def task(self) -> Task | None:
        """What a network predicts; None for a table, whose studies choose any loss, and for a curve."""
        return getattr(self.data, "task", None)

    @property
    def dense(self) -> Model:
        """The dense network of the point.

        Raises:
            TypeError: the model is a Keras model of one's own.
        """
        if isinstance(self.model, KerasModel):
            raise TypeError(f"{self.model.target_} does not make a dense network")
        return self.model

    @property
    def output_activation(self) -> str:
        """What makes outputs of the last layer's sums; for a model of one's own it follows from the loss."""
        if isinstance(self.model, KerasModel):
            return ACTIVATIONS.get(self.loss, "identity")
        return self.model.output_activation

    @property
    def kind(self) -> Kind:
        """The kind of the point. Only this property derives it from the keys; all other code reads the kind."""
        if self.balls is not None:
            return "balls"
        if self.grid is not None and self.data.kind == "curve":
            return "basins"
        if self.grid is not None:
            return "map"
        rises = isinstance(self.schedule, Exponential) and self.schedule.final > 1
        # Without the losses of its updates, a run with a rising rate is a network like any other.
        if rises and self.recording.update_losses:
            return "range_test"
        return "network"

    @field_validator("results")
    @classmethod
    def results_are_a_folder_of_their_own(cls, value: str | None) -> str | None:
        """Check that the path is not the project folder itself, and does not lead out of it with `..`."""
        if value is not None and (not Path(value).parts or ".." in Path(value).parts or "\0" in value):
            raise ValueError(f"expected a folder below the project, or an absolute path, received {value!r}")
        return value


def flatten(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield every setting of the config under its Hydra name, for instance ("optimizer.learning_rate", 0.1).

    The question, how the report shows its answer, and the repeats are no settings of a training.
    """

    def walk(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk((*path, key), inner)
        else:
            yield ".".join(path), value

    yield from walk((), config.model_dump(mode="json", exclude=NO_SETTINGS))
