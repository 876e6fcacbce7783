"""Rules about the data: the losses, output activations and metrics that fit it, and whether its rows are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.config.data import DescribedData, FileData, IdxData, ImageData
from pipeline.config.defaults import ACTIVATIONS
from pipeline.config.metrics import metrics_of
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config, Data, flatten
from pipeline.system.hints import nearest_key

# Losses of numbers.
ERRORS = ("mean_squared_error", "half_summed_squared_error", "mean_absolute_error", "huber")
# The losses that fit each task, and for data without a task its kind.
LOSSES_OF: dict[str, Sequence[str]] = {
    "classification": ("cross_entropy",),
    "binary": ("binary_cross_entropy", *ERRORS),
    "regression": ERRORS,
    "table": (*ERRORS, "binary_cross_entropy"),
    "curve": ("curve_height",),
}


def output_activation(config: Config) -> Iterator[str]:
    """Refuse an output activation that the loss is not defined for."""
    accepted = ["identity", "sigmoid"]
    if config.loss in ACTIVATIONS:
        accepted = [ACTIVATIONS[config.loss]]
    received = config.output_activation
    if received not in accepted:
        yield (
            f"model.output_activation: loss={config.loss} needs model.output_activation="
            f"{', or '.join(accepted)}; received {received}; model.output_activation=auto fits every loss"
        )


def loss_of_the_data(config: Config) -> Iterator[str]:
    """Refuse a loss that is not one of the task."""
    accepted = LOSSES_OF[config.task or config.data.kind]
    if config.loss not in accepted:
        what = f"data={config.data.name}, a {config.data.kind}"
        if config.task is not None:
            what = f"data={config.data.name}, whose task is {config.task}"
        yield (
            f"loss: {what}, needs loss={', or '.join(accepted)}; received {config.loss}; loss=auto fits every data set"
        )


def targets_of_the_loss(config: Config) -> Iterator[str]:
    """Refuse numbers that are no probabilities where the loss needs them; files are checked when they are prepared."""
    if config.loss != "binary_cross_entropy" or config.data.kind != "table":
        return
    wrong = next((y for row in config.data.targets for y in row if not 0 <= y <= 1), None)
    if wrong is not None:
        yield f"loss: binary_cross_entropy needs targets from 0 to 1; data={config.data.name} has {wrong:g}"


def judging_metric(config: Config) -> Iterator[str]:
    """Refuse a metric that the points will not have."""
    received = config.report.metric
    known = metrics_of(config)
    if received is not None and received not in known:
        yield f"report.metric: expected one of {', '.join(known)}; received {received}"


def known_size(config: Config) -> Iterator[str]:
    """Refuse a key as the size of the points that they do not have."""
    received = config.report.size
    if received is None:
        return
    # A section that is itself invalid is missing here, and stops the rule.
    for name in Config.model_fields:
        getattr(config, name)
    keys = [key for key, _ in flatten(config)]
    if received in keys:
        return
    near = nearest_key(received, keys)
    hint = "`--cfg job` prints every key"
    if near is not None:
        hint = f"did you mean report.size={near}?"
    yield f"report.size: expected a key of the config, model.hidden_size for instance; received {received}; {hint}"


def picture_of_networks(config: Config) -> Iterator[str]:
    """Refuse `report.picture` for points that are not dense networks."""
    if config.report.picture is None:
        return
    received = f"a {config.kind}"
    if isinstance(config.model, KerasModel):
        received = f"model={config.model.target_}"
    elif config.kind == "network":
        return
    yield (
        f"report.picture: {config.report.picture} needs a dense network; received {received}; report.picture=null "
        "draws what fits the study"
    )


def split_of_repeats(config: Config) -> Iterator[str]:
    """Refuse a split for each repeat where no rows are drawn."""
    if config.repeats_split:
        yield from undrawn(config.data)


def undrawn(data: Data) -> Iterator[str]:
    """Say why all splits of a data set are the same, if they are.

    Whether a column of a file marks the validation rows too, only its rows tell.
    """
    if not isinstance(data, IdxData | DescribedData):
        yield f"repeats_split: needs data of which rows are held back, such as mnist; {data.name} is a {data.kind}"
    elif data.validation_share == 0 and not _draws_test_rows(data):
        yield (
            "repeats_split: needs rows that are drawn, and without validation rows the split is given; received "
            "data.validation_share=0"
        )


def _draws_test_rows(data: IdxData | DescribedData) -> bool:
    if isinstance(data, IdxData) or data.test_share == 0:
        return False
    if isinstance(data, FileData):
        return data.test_path is None and data.split_column is None
    if isinstance(data, ImageData):
        return data.test_path is None
    # Images that are downloaded keep their published test rows.
    return not data.is_downloaded or data.task == "regression"


# How a study is reported.
RULES_OF_REPORTS = (judging_metric, known_size, picture_of_networks)
