"""Find columns that give the target away: equal to it, or the same classes by other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.checks import FEW_ROWS, LEAVE_OUT, Kind, Rows
from pipeline.system.errors import LabError


def check_leaks(rows: Rows, features: Mapping[str, Kind], targets: Sequence[str], classes: bool) -> None:
    """Refuse a column that says what a target is in each row that has a value in it.

    It is equal to the target, as a number or as text. Or it has the classes by other names: 0 and 1 for no and yes. A
    column with values in less than half of the rows, and other names in few rows, may agree by chance and pass.

    Args:
        rows: the rows; no target is missing in them.
        features: the columns to predict from, with their kinds.
        targets: the columns to predict.
        classes: whether the target is classes.

    Raises:
        LabError: one does.
    """
    for target in targets:
        wanted = rows.frame[target]
        for name, kind in features.items():
            column = rows.frame[name]
            present = column.notna().to_numpy()
            if 2 * np.count_nonzero(present) < len(present):
                continue
            if _equal(column[present], wanted[present], kind):
                agreement = f"equals the target {target}"
            elif classes and _same_classes(column[present], wanted[present]):
                agreement = f"names each class of the target {target} in its own way"
            else:
                continue
            first = int(np.flatnonzero(present)[0])
            where = "each row"
            if not present.all():
                where = f"each of its {np.count_nonzero(present):,} values"
            raise LabError(
                f"{rows.place(first, name)}: the column leaks, because it {agreement} in {where}.",
                expected="columns that are known before the target is",
                received=f"{column.iloc[first]} where the target is {wanted.iloc[first]}",
                fix=LEAVE_OUT,
            )


def _equal(column: Any, wanted: Any, kind: Kind) -> bool:
    import pandas as pd

    if kind == "category":
        return bool((column.astype(str) == wanted.astype(str)).all())
    as_number = pd.to_numeric(wanted, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.array_equal(column.to_numpy(dtype=np.float64, na_value=np.nan), as_number)


def _same_classes(column: Any, wanted: Any) -> bool:
    """Return whether two columns sort many rows into the same classes: both number them in the order of the rows."""
    if len(column) <= FEW_ROWS:
        return False
    return np.array_equal(_numbered(column), _numbered(wanted))


def _numbered(values: Any) -> NDArray[np.intp]:
    import pandas as pd

    numbers: NDArray[np.intp] = pd.factorize(values)[0]
    return numbers
