"""The metrics that judge a network: which ones a task has, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, LibraryData, TableData, Task
from pipeline.config.schema import Config, Data

# Metrics by the last part of their name, `test/accuracy`: whether a larger value is better.
LARGER_IS_BETTER: Mapping[str, bool] = {
    "loss": False,
    "mean_absolute_error": False,
    "root_mean_squared_error": False,
    "accuracy": True,
    "balanced_accuracy": True,
    "auc": True,
    "r2": True,
}
# The metrics of each task besides the loss; the first one judges, unless `report.metric` names another.
OF_TASK: Mapping[Task, Sequence[str]] = {
    "classification": ("accuracy", "balanced_accuracy"),
    "binary": ("accuracy", "balanced_accuracy", "auc"),
    "regression": ("mean_absolute_error", "root_mean_squared_error", "r2"),
}
# Metrics as they are called in sentences and figures, in the order of a table's columns.
METRIC_NAMES: Mapping[str, str] = {
    "train/loss": "training loss",
    "validation/loss": "validation loss",
    "test/loss": "test loss",
    "train/accuracy": "training accuracy",
    "validation/accuracy": "validation accuracy",
    "test/accuracy": "test accuracy",
    "train/mean_absolute_error": "training mean absolute error",
    "validation/mean_absolute_error": "validation mean absolute error",
    "test/mean_absolute_error": "test mean absolute error",
    "train/root_mean_squared_error": "training root mean squared error",
    "validation/root_mean_squared_error": "validation root mean squared error",
    "test/root_mean_squared_error": "test root mean squared error",
    "train/r2": "training R2",
    "validation/r2": "validation R2",
    "test/r2": "test R2",
    "train/balanced_accuracy": "training balanced accuracy",
    "validation/balanced_accuracy": "validation balanced accuracy",
    "test/balanced_accuracy": "test balanced accuracy",
    "train/auc": "training AUC",
    "validation/auc": "validation AUC",
    "test/auc": "test AUC",
}
# Metrics that are no mean over rows. Minibatches, each with weights of its own, have none of them.
OF_ALL_ROWS = ("balanced_accuracy", "auc", "root_mean_squared_error", "r2")


def last_part(metric: str) -> str:
    """Return the name of a metric without its rows: `accuracy` of `test/accuracy`."""
    return metric.rpartition("/")[2]


def metric_name(metric: str) -> str:
    """Return a metric as it is called in sentences: `validation accuracy`."""
    return METRIC_NAMES.get(metric, metric.replace("/", " ").replace("_", " "))


def larger_is_better(metric: str) -> bool:
    """Whether a larger value of a metric is better; no for one that judges nothing, such as a norm."""
    return LARGER_IS_BETTER.get(last_part(metric), False)


def judges(metric: str) -> bool:
    """Whether a metric has a best value."""
    return last_part(metric) in LARGER_IS_BETTER


def best_of(metric: str, values: Iterable[float]) -> float:
    """Return the best of at least one value of a metric."""
    if larger_is_better(metric):
        return max(values)
    return min(values)


def has_test_rows(data: Data) -> bool:
    """Whether a data set has rows that are not trained on, as far as its config says."""
    if isinstance(data, TableData | CurveData):
        return False
    if isinstance(data, IdxData):
        return True
    if isinstance(data, LibraryData) and data.source.startswith("keras:"):
        return True
    named = (getattr(data, key, None) for key in ("test_path", "split_column"))
    return data.test_share > 0 or any(one is not None for one in named)


def has_validation_rows(data: Data) -> bool:
    """Whether some of the training rows are held back, so that points are compared without the test rows."""
    return not isinstance(data, TableData | CurveData) and data.validation_share > 0


def judged_by(config: Config) -> str:
    """Return the metric that points are compared and chosen by: `report.metric`, or else the one that fits the data.

    It is one of validation rows if there are any, also where `report.metric` names test rows: these tell how good the
    chosen point is, and would tell too much of it if they had chosen it.
    """
    chosen = config.report.metric
    if chosen is None:
        return metric_that_fits(config.data)
    if chosen.startswith("test/") and has_validation_rows(config.data):
        return f"validation/{last_part(chosen)}"
    return chosen


def told_by(config: Config) -> str:
    """Return the metric that tells how good a chosen point is: on test rows if there are any, else `judged_by`."""
    judged = judged_by(config)
    if judged.startswith("validation/") and has_test_rows(config.data):
        return f"test/{last_part(judged)}"
    return judged


def metric_that_fits(data: Data) -> str:
    """Return the accuracy for classes, otherwise the mean absolute error.

    It is that of validation rows if there are any, else of test rows, else of training rows.
    """
    rows = "train"
    if has_validation_rows(data):
        rows = "validation"
    elif has_test_rows(data):
        rows = "test"
    name = "mean_absolute_error"
    task: Task | None = getattr(data, "task", None)
    if task is not None:
        name = OF_TASK[task][0]
    return f"{rows}/{name}"


def metrics_of(config: Config) -> list[str]:
    """Return the metrics that `report.metric` can name, those of validation rows first, then those of test rows."""
    names = ["loss", *_of_data(config)]
    found = []
    if has_validation_rows(config.data):
        found += [f"validation/{name}" for name in names]
    if has_test_rows(config.data):
        found += [f"test/{name}" for name in names]
    if config.training.batch_size is not None:
        names = [name for name in names if name not in OF_ALL_ROWS]
    return [*found, *(f"train/{name}" for name in names)]


def _of_data(config: Config) -> Sequence[str]:
    """Return the metrics of a data set besides the loss."""
    data = config.data
    if isinstance(data, CurveData):
        return ()
    # Images of IDX files and tables have had these metrics from the first version on.
    if isinstance(data, IdxData):
        return ("accuracy",)
    if not isinstance(data, TableData):
        return OF_TASK[data.task]
    if config.output_activation == "sigmoid":
        return ("accuracy", "mean_absolute_error")
    return ("mean_absolute_error",)
