"""The metrics on MLflow's page of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.metrics import has_test_rows, has_validation_rows, judged_by, larger_is_better, metrics_of, told_by
from pipeline.config.schema import Config


@dataclass(frozen=True)
class Charts:
    """The metrics on MLflow's page of a study.

    Attributes:
        columns: the metrics in the table of runs.
        prefixes: prefixes of metrics whose charts are collapsed.
        judged: the metric used to compare final results.
        second: the metric that is plotted next to the training loss, and whether its axis is logarithmic.
        question: the heading above the figure of a map.
    """

    columns: Sequence[str]
    prefixes: Sequence[str]
    judged: str = "train/loss"
    second: tuple[str, bool] = ("train/mean_absolute_error", True)
    question: str = ""


# Networks on a table, whose loss judges.
TABLE_CHARTS = Charts(columns=("final/train/loss", "final/train/mean_absolute_error"), prefixes=("train",))
# Balls on a curve: the training loss is their mean height.
BALL_CHARTS = Charts(
    columns=("final/train/loss", "final/balls/settled_share"),
    prefixes=("train", "balls"),
    second=("balls/settled_share", False),
)
# Maps, of networks or of curves.
MAP_CHARTS = Charts(
    columns=("map/converged_share", "map/best_loss"),
    prefixes=("map",),
    question="Which pairs converge (blue)?",
)


def network_charts(config: Config) -> Charts:
    """Return the charts of a network: with what judges its task, and with what tells how good it is."""
    if config.report.metric is None and config.data.kind == "table":
        return TABLE_CHARTS
    judged = judged_by(config)
    second = judged
    if judged == "train/loss":
        # The loss of the training rows has its own chart.
        second = metrics_of(config)[1]
    prefixes = ["train"]
    if has_validation_rows(config.data):
        prefixes.append("validation")
    if has_test_rows(config.data):
        prefixes.append("test")
    columns = list(dict.fromkeys(("final/train/loss", f"final/{second}")))
    told = f"final/{told_by(config)}"
    if second == judged and told not in columns:
        columns.append(told)
    return Charts(columns, prefixes, judged, (second, not larger_is_better(second)))
