"""The typed view of a composed Hydra config: the only reader of key names.

`read_config` turns what Hydra composed into a frozen `Config`, or says in one message what is wrong with it.
A key that is misspelled, of the wrong type or out of range never reaches training.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.curve_sections import Balls, CurveData, check_curve
from pipeline.grid_axes import GridAxes, check_map
from pipeline.method_limits import check_array_module, check_method
from pipeline.model_sections import Model, Training, check_features
from pipeline.optimizer_sections import Optimizer, Schedule
from pipeline.sections import Number, PositiveFloat, PositiveInt, Section, Whole
from pipeline.system.errors import LabError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
RECORDS = 100_000
"""How often a run may be recorded; each record is some ten metrics in memory, in the journal and in MLflow."""
NO_CREDENTIALS = (
    "an address holds no user and no password; leave them and the @ out of tracking.uri, and set "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
)
IDX_ROLES = ("train_images", "train_labels", "test_images", "test_labels")


class TableData(Section):
    """A data set small enough to be written in its conf/data file."""

    kind: Literal["table"]
    name: str
    inputs: tuple[tuple[Number, ...], ...]
    targets: tuple[tuple[Number, ...], ...]

    @model_validator(mode="after")
    def rows_match(self) -> TableData:
        if len(self.inputs) != len(self.targets) or not self.inputs:
            raise ValueError(f"{len(self.inputs)} rows of inputs and {len(self.targets)} rows of targets")
        if len({len(row) for row in self.inputs}) > 1 or len({len(row) for row in self.targets}) > 1:
            raise ValueError("rows of different length")
        if not self.inputs[0] or not self.targets[0]:
            raise ValueError("rows without numbers")
        return self


class IdxFile(Section):
    """One unpacked IDX file: its name on disk and its checksum."""

    name: str
    sha256: Sha256


class Source(Section):
    """A place that has the data: an .npz by URL, gzipped IDX files by URL, or a package of npm or Debian.

    `members` names, for each role, the array (npz) or the path inside the package or below the URL.
    """

    kind: Literal["npz", "gzip_files", "npm", "debian"]
    location: str
    sha256: Sha256 | None = None
    members: dict[str, str]

    @model_validator(mode="after")
    def names_each_role(self) -> Source:
        if set(self.members) != set(IDX_ROLES):
            raise ValueError(f"members must name {', '.join(IDX_ROLES)}; got {', '.join(sorted(self.members))}")
        return self


class IdxData(Section):
    """Images and labels in the IDX format of MNIST."""

    kind: Literal["idx"]
    name: str
    classes: PositiveInt
    local_dir: str | None
    files: dict[str, IdxFile]
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def names_each_role(self) -> IdxData:
        if set(self.files) != set(IDX_ROLES):
            raise ValueError(f"files must name {', '.join(IDX_ROLES)}; got {', '.join(sorted(self.files))}")
        return self


class Recording(Section):
    metrics_every: PositiveInt
    snapshots: Annotated[Whole, Field(ge=2)]
    weight_metrics: bool
    update_losses: bool
    direction_changes: bool
    table_epochs: Annotated[Whole, Field(ge=0)]


class NumpyBackend(Section):
    name: Literal["numpy"]
    array_module: Literal["numpy", "cupy"]
    line_study_gradient: Literal["backpropagation", "finite_difference"]


class KerasBackend(Section):
    name: Literal["keras"]
    line_study_gradient: Literal["backpropagation", "finite_difference"]
    jit_compile: bool


class Tracking(Section):
    name: Literal["local", "server"]
    uri: str | None

    @model_validator(mode="after")
    def server_has_an_address(self) -> Tracking:
        if self.uri and "@" in self.uri:
            raise ValueError(NO_CREDENTIALS)  # without the address: configs, logs and tags would keep the password
        if self.name == "server" and not self.uri:
            raise ValueError("a server needs an address: tracking.uri=http://127.0.0.1:5000")
        if self.uri and "://" not in self.uri:
            raise ValueError(f"an address begins with http:// or https://; got {self.uri}")
        if self.name == "local" and self.uri:
            raise ValueError(f"an address belongs to a server: tracking=server tracking.uri={self.uri}")
        return self


class Config(Section):
    """Every knob of one grid point. `conf/config.yaml` gives each its unit and reason."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
    feature: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,99}$")] | None
    seed: Annotated[Whole, Field(ge=0, lt=2**32)]
    dtype: Literal["float32", "float64"]
    loss: Literal["mean_squared_error", "half_summed_squared_error", "cross_entropy", "curve_height"]
    gradient: Literal["backpropagation", "finite_difference"]
    finite_difference_step: PositiveFloat
    data: Annotated[TableData | IdxData | CurveData, Field(discriminator="kind")]
    model: Model
    optimizer: Annotated[Optimizer, Field(discriminator="name")]
    schedule: Annotated[Schedule, Field(discriminator="name")]
    backend: Annotated[NumpyBackend | KerasBackend, Field(discriminator="name")]
    training: Training
    recording: Recording
    balls: Balls | None
    grid: GridAxes | None
    tracking: Tracking
    results: str | None
    dry_run: bool
    force: bool

    @field_validator("results")
    @classmethod
    def results_are_a_folder_of_their_own(cls, value: str | None) -> str | None:
        if value is not None and (not Path(value).parts or ".." in Path(value).parts or "\0" in value):
            raise ValueError(f"expected a folder below the project, or an absolute path, received {value!r}")
        return value

    @model_validator(mode="after")
    def knobs_fit_together(self) -> Config:
        if self.training.epochs > RECORDS * self.recording.metrics_every:
            raise ValueError(
                f"recording.metrics_every: training.epochs={self.training.epochs} recorded every "
                f"{self.recording.metrics_every} are more than {RECORDS} records; "
                f"use at least {-(-self.training.epochs // RECORDS)}"
            )
        if self.backend.name == "keras" and self.gradient == "finite_difference":
            raise ValueError(
                "gradient: forward differences have no meaning for the Keras backend, which differentiates the loss "
                "itself; use gradient=backpropagation, or backend=numpy"
            )
        if (self.loss == "cross_entropy") != (self.model.output_activation == "softmax"):
            raise ValueError(
                "loss: cross_entropy and model.output_activation=softmax belong together; "
                f"got loss={self.loss} with output_activation={self.model.output_activation}"
            )
        if (self.loss == "cross_entropy") != (self.data.kind == "idx"):
            raise ValueError(
                "loss: cross_entropy is for data with class labels, the squared errors for data with numbers; "
                f"got loss={self.loss} with data={self.data.name}"
            )
        if self.recording.update_losses and self.training.batch_size is None:
            raise ValueError(
                "recording.update_losses: with a full batch an update is an epoch, and recording.metrics_every=1 keeps "
                "its loss; use recording.update_losses=false, or training.batch_size=256"
            )
        if isinstance(self.data, TableData) and (self.training.rows or len(self.data.inputs)) < len(self.data.inputs):
            raise ValueError(
                f"training.rows: a table is used whole, and {self.data.name} has {len(self.data.inputs)} rows; "
                f"received {self.training.rows}; take rows out of its file in conf/data"
            )
        check_features(self)
        check_method(self)
        check_array_module(self)
        check_map(self)
        check_curve(self)
        return self


def read_config(composed: Mapping[str, Any]) -> Config:
    """Validate a resolved config, given as plain containers.

    Raises:
        LabError: naming the key, what it must be, what it was, and the nearest name for an unknown key.
    """
    try:
        return Config.model_validate(composed)
    except ValidationError as error:
        raise LabError(
            "The config cannot be used.\n" + "\n".join(_describe(problem, composed) for problem in error.errors()),
            fix="mend the override or the conf/ file; `python -m pipeline.train --cfg job` prints the whole config",
        ) from None


def _describe(problem: Mapping[str, Any], composed: Mapping[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    # A discriminated union puts the chosen member's tag behind the name of its key.
    section = composed.get(path[0]) if len(path) > 1 else None
    if isinstance(section, Mapping) and path[1] in (section.get("name"), section.get("kind")):
        del path[1]
    key = ".".join(path)
    if problem["type"] == "value_error":
        return f"  {key + ': ' if key else ''}{problem['ctx']['error']}"
    if problem["type"] == "extra_forbidden":
        # A key that exists, but not here, is no guess worth making.
        near = difflib.get_close_matches(path[-1], [key for key in _known_keys(Config) if key != path[-1]], n=1)
        return f"  {key}: no such key" + (f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else "")
    if problem["type"].startswith("union_tag"):
        expected, received = problem["ctx"].get("expected_tags", "a name"), problem["ctx"].get("tag", "nothing")
        return f"  {key}.{problem['ctx']['discriminator'].strip(chr(39))}: expected {expected}, received {received!r}"
    received = "nothing" if problem["type"] == "missing" else repr(problem["input"])
    return f"  {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, received {received}"


def _known_keys(section: type[BaseModel]) -> list[str]:
    """Names of all keys of a section and of the sections in it."""
    names = list(section.model_fields)
    for field in section.model_fields.values():
        members = get_args(field.annotation) or (field.annotation,)
        for member in members:
            if isinstance(member, type) and issubclass(member, Section):
                names += _known_keys(member)
    return names


def flatten(config: Config) -> Iterator[tuple[str, Any]]:
    """Every leaf of the config under its Hydra name, for instance ("optimizer.learning_rate", 0.1)."""

    def walk(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            yield prefix, value

    yield from walk("", config.model_dump(mode="json"))
