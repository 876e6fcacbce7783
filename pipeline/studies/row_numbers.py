"""How many rows a metric of a point is a mean of."""

from __future__ import annotations

from pipeline.config.data import IdxData, TableData
from pipeline.points.point import Point

# Images in files of the IDX format, as in MNIST and in the data sets that were made to replace it. The points do not
# say their number.
IDX_TRAIN_ROWS = 60_000
IDX_TEST_ROWS = 10_000


def rows_of(point: Point, metric: str) -> int:
    """Return how many rows a metric such as `validation/accuracy` is measured on; 0 if that is unknown or none.

    Training rows are those that the point was trained on, with `training.rows` fewer than the data set has.
    """
    rows = metric.partition("/")[0]
    known = _of_data(point, rows)
    limit = point.config.training.rows
    if rows == "train" and limit is not None:
        return min(limit, known or limit)
    return known


def _of_data(point: Point, rows: str) -> int:
    """Return how many rows the data has of a kind: `train`, `validation` or `test`."""
    data = point.config.data
    if isinstance(data, TableData) and rows == "train":
        return len(data.inputs)
    if point.data is not None:
        return int(getattr(point.data, f"{rows}_rows", 0))
    if not isinstance(data, IdxData):
        return 0
    # As `data.validation.validation_rows` draws them.
    held_back = 0
    if data.validation_share > 0:
        held_back = max(1, round(data.validation_share * IDX_TRAIN_ROWS))
    return {"train": IDX_TRAIN_ROWS - held_back, "validation": held_back, "test": IDX_TEST_ROWS}.get(rows, 0)
