"""The `data` section of the config for a table, files, images and libraries; a curve is in `curve.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.fields import Fraction, Number, PositiveInt, Section, Share, Whole

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# The roles of the four files of a data set.
IDX_ROLES = ("train_images", "train_labels", "test_images", "test_labels")

# What a network predicts: one of several classes, one of two classes, or numbers.
Task = Literal["classification", "binary", "regression"]


def _is_column(value: object) -> object:
    # In YAML, on, yes and no are true and false, and a date without quotes is a date.
    if isinstance(value, bool) or not isinstance(value, str | int) or (isinstance(value, int) and value < 0):
        raise ValueError(
            f"expected the name of a column, or its number from 0, received {value!r}; a name such as on, yes or 1.5 "
            "needs quotes"
        )
    return value


def _are_columns(value: object) -> object:
    if isinstance(value, list | tuple) and value:
        return tuple(_is_column(one) for one in value)
    return _is_column(value)


def _is_list(value: object) -> object:
    if isinstance(value, str | int):
        return (value,)
    return value


# A column by its name, or by its number from 0 in a file without names.
ColumnName = Annotated[str | int, BeforeValidator(_is_column)]
# One column or several.
ColumnNames = Annotated[str | int | tuple[str | int, ...], BeforeValidator(_are_columns)]
# Any number of columns; one alone need not be a list.
ColumnList = Annotated[tuple[ColumnName, ...], BeforeValidator(_is_list)]
# A folder in data/ is named after the data set, so a name must not be a path.
DataName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
# The task of each data set that a library brings, as `LIBRARY:NAME`.
LIBRARY_TASKS: dict[str, Task] = {
    "sklearn:iris": "classification",
    "sklearn:digits": "classification",
    "sklearn:wine": "classification",
    "sklearn:breast_cancer": "binary",
    "sklearn:diabetes": "regression",
    "keras:mnist": "classification",
    "keras:fashion_mnist": "classification",
    "keras:cifar10": "classification",
    "keras:cifar100": "classification",
    "keras:california_housing": "regression",
    "keras:boston_housing": "regression",
}
# The data sets of Keras that are numbers; the others are images.
KERAS_TABLES = ("keras:california_housing", "keras:boston_housing")
# A sixth of 60,000 images are 10,000, as many as there are test images.
OF_IMAGES = 1 / 6
# A larger share, because tables are smaller: an accuracy of 80 % on 20 rows has a standard error of 9 points.
OF_ROWS = 0.2
# The number of different seeds.
SEEDS = 2**32


class HeldBack(Section):
    """The training rows that are held back: points are compared on them, so that test rows decide nothing.

    Attributes:
        validation_share: the share of the training rows that are validation rows instead, drawn at random, for classes
            with the share of each class; 0: no validation rows, so that points are compared on the test rows.
        split_seed: the seed of that draw. It is not the seed of the training.
    """

    validation_share: Share = OF_IMAGES
    split_seed: Whole = Field(default=1, ge=0, lt=SEEDS)

    def further_split(self, number: int) -> Self:
        """Return the same data with the split seed that is `number` after this one; after the largest comes 0."""
        return self.model_copy(update={"split_seed": (self.split_seed + number) % SEEDS})


class TableData(Section):
    """A data set that is small enough to be part of its conf/data file."""

    kind: Literal["table"]
    name: str
    inputs: tuple[tuple[Number, ...], ...]
    targets: tuple[tuple[Number, ...], ...]

    @model_validator(mode="after")
    def rows_match(self) -> TableData:
        """Check that inputs and targets have the same number of rows, and each of them rows of one length."""
        if len(self.inputs) != len(self.targets) or not self.inputs:
            raise ValueError(
                "expected the same number of rows of inputs and of targets, at least one, "
                f"received {len(self.inputs)} rows of inputs and {len(self.targets)} rows of targets"
            )
        if len({len(row) for row in self.inputs}) > 1 or len({len(row) for row in self.targets}) > 1:
            raise ValueError("expected rows of the same length, received rows of different lengths")
        if not self.inputs[0] or not self.targets[0]:
            raise ValueError("expected numbers in each row, received rows without numbers")
        return self


class IdxFile(Section):
    """One unpacked IDX file: its name on disk and its checksum."""

    name: str
    sha256: Sha256


class Source(Section):
    """A source of the data: an .npz file at a URL, gzipped IDX files below a URL, or a package of npm or Debian.

    `members` maps each role to the name of the array (npz), or to the path inside the package or relative to the URL.
    """

    kind: Literal["npz", "gzip_files", "npm", "debian"]
    location: str
    sha256: Sha256 | None = None
    members: dict[str, str]

    @model_validator(mode="after")
    def names_each_role(self) -> Source:
        """Check that `members` has each role, and no other key."""
        if set(self.members) != set(IDX_ROLES):
            raise ValueError(f"members must name {', '.join(IDX_ROLES)}; received {', '.join(sorted(self.members))}")
        return self


class IdxData(HeldBack):
    """Images and labels in the IDX format of MNIST."""

    kind: Literal["idx"]
    name: str
    classes: PositiveInt
    local_dir: str | None
    files: dict[str, IdxFile]
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def names_each_role(self) -> IdxData:
        """Check that `files` has each role, and no other key."""
        if set(self.files) != set(IDX_ROLES):
            raise ValueError(f"files must name {', '.join(IDX_ROLES)}; received {', '.join(sorted(self.files))}")
        return self

    @property
    def task(self) -> Task:
        """What a network predicts: one of the classes."""
        return "classification"


class Split(HeldBack):
    """How the rows of a data set are split into training, validation and test rows, and how their numbers are scaled.

    What is learned from data (means, deviations, categories) is learned from the training rows only.

    Attributes:
        test_share: the share of the rows that are test rows, drawn at random, for classes with the share of each class;
            0: no test rows.
        standardise: whether each column of numbers is moved and scaled to mean 0 and standard deviation 1.
    """

    test_share: Fraction = 0.2
    validation_share: Share = OF_ROWS
    standardise: bool = True


class FileData(Split):
    """Rows of one's own: CSV, TSV (also gzipped), Parquet, .npz or .npy.

    Attributes:
        path: the file, from the project's folder or absolute.
        target: the column to predict, or several columns of numbers.
        features: the columns to predict from; null: all others.
        exclude: columns that are neither predicted nor predicted from, such as the number of a customer.
        task: what is predicted.
        test_path: a file of test rows; the rows of `path` are then all training rows.
        split_column: a column that says which rows are test rows, `test` (or true, or 1) in it, and which are
            validation rows, `validation` in it; without the latter these are drawn.
        group_column: a column whose equal values stay together, on one side of the split.
        delimiter: what separates the columns of a text file; null: found.
        decimal: the decimal mark of a text file; null: found.
        missing: what becomes of a missing number: an error, a dropped row, the column's mean, or the mean with another
            column that says so. A missing text is a category of its own, except with `error` and `drop`.
        categories: what becomes of a column of text: a column of 0 and 1 for each of its values, or an error.
    """

    kind: Literal["file"]
    name: DataName
    path: str
    target: ColumnNames
    features: Annotated[ColumnList, Field(min_length=1)] | None = None
    exclude: ColumnList = ()
    task: Task
    test_path: str | None = None
    split_column: ColumnName | None = None
    group_column: ColumnName | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    missing: Literal["error", "drop", "mean", "indicator"] = "error"
    categories: Literal["one_hot", "error"] = "one_hot"

    @model_validator(mode="after")
    def rows_are_split_in_one_way(self) -> FileData:
        """Check that at most one key says which rows are test rows."""
        given = [key for key in ("test_path", "split_column", "group_column") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(
                f"expected at most one of test_path, split_column, group_column, received {', '.join(given)}"
            )
        return self


class ImageData(Split):
    """Images of one's own: an .npz with an array of images and one of labels, or a folder CLASS/*.png for each class.

    They are kept as bytes. A dense network sees them flattened, a Keras model as (height, width, channels).

    Attributes:
        path: the .npz or the folder, from the project's folder or absolute.
        inputs: the array of images in an .npz, (rows, height, width[, channels]).
        target: the array of labels in an .npz, (rows,).
        test_path: an .npz or a folder of test images; those of `path` are then all training images.
    """

    kind: Literal["images"]
    name: DataName
    path: str
    inputs: str = "x"
    target: str = "y"
    task: Literal["classification", "binary"] = "classification"
    test_path: str | None = None
    validation_share: Share = OF_IMAGES
    # Bytes are divided by 255 instead.
    standardise: Literal[False] = False


class LibraryData(Split):
    """A data set that a library brings: `sklearn:iris` is installed with it, `keras:cifar10` is downloaded.

    Images that are downloaded keep their published split into training and test rows.
    """

    kind: Literal["library"]
    name: DataName
    source: str

    @model_validator(mode="before")
    @classmethod
    def images_have_their_share(cls, given: Any) -> Any:
        """Hold back of images what is held back of images elsewhere, unless the config says something else."""
        if not isinstance(given, Mapping) or "validation_share" in given:
            return given
        source = str(given.get("source"))
        if not source.startswith("keras:") or source in KERAS_TABLES:
            return given
        return {**given, "validation_share": OF_IMAGES}

    @model_validator(mode="after")
    def is_known(self) -> LibraryData:
        """Check that the data set is one that this version reads."""
        if self.source not in LIBRARY_TASKS:
            raise ValueError(f"source: expected one of {', '.join(LIBRARY_TASKS)}, received {self.source}")
        return self

    @property
    def is_downloaded(self) -> bool:
        """Whether python -m pipeline.fetch has to download it."""
        return self.source.startswith("keras:")

    @property
    def task(self) -> Task:
        """What a network predicts."""
        return LIBRARY_TASKS[self.source]


# Data whose arrays python -m pipeline.prepare writes, with a description that travels with the model.
DescribedData = FileData | ImageData | LibraryData
