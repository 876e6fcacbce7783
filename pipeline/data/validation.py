"""Draw validation rows from training rows: each class with its share, and none without a training row.

The draw is part of what a point computes: images of IDX files are drawn when they are loaded, so that the arrays that
`python -m pipeline.prepare` has written serve any share. It depends on NumPy alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import HeldBack
from pipeline.system.errors import LabError

# The second part of the key of the random stream. The draw of test rows has the seed alone.
STREAM = 1


def validation_rows(settings: HeldBack, rows: int, classes: NDArray[np.integer] | None = None) -> NDArray[np.bool_]:
    """Return which of the training rows become validation rows, (rows,).

    The rows are shuffled and then sorted by class. Of n rows in that order, the k validation rows are those at which
    floor(i k / n) increases, i = 1 ... n: they are spread evenly, so that each class has its share to within a row. The
    first row of each class is left out of this, and remains a training row.

    Args:
        settings: the share, and the seed of the draw.
        rows: number of training rows.
        classes: the class of each row as a number, (rows,); None: no classes.

    Raises:
        LabError: a class would be left without a training row.
    """
    drawn = np.zeros(rows, dtype=np.bool_)
    if settings.validation_share == 0:
        return drawn
    if classes is None:
        classes = np.zeros(rows, dtype=np.int64)
    order = np.random.default_rng([settings.split_seed, STREAM]).permutation(rows)
    order = order[np.argsort(classes[order], kind="stable")]
    _, firsts = np.unique(classes[order], return_index=True)
    candidates = np.delete(order, firsts)
    count = max(1, round(settings.validation_share * rows))
    if count > len(candidates):
        received = f"{rows:,} training rows"
        if len(firsts) > 1:
            received += f" of {len(firsts):,} classes"
        raise LabError(
            f"The training rows cannot be split with validation_share={settings.validation_share:g}.",
            expected="a validation row, and a training row of each class",
            received=received,
            fix="use another validation_share:, 0 for no validation rows, or add rows",
        )
    places = np.arange(len(candidates) + 1) * count // len(candidates)
    drawn[candidates[np.diff(places) > 0]] = True
    return drawn
