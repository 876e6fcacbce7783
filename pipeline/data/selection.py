"""Which columns of a file are inputs and targets, and which split its rows: the names in the config, looked up."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.data import ColumnName, FileData
from pipeline.data.files.source import Source
from pipeline.system.errors import LabError
from pipeline.system.wording import some

# How many names of columns a message lists.
MOST_NAMED = 20


@dataclass(frozen=True)
class Selection:
    """The columns of a file by their role.

    Attributes:
        features: the columns to predict from, in the order of the inputs.
        targets: the columns to predict.
        split: the column that says which rows are test rows, or None.
        group: the column whose equal values stay together, or None.
        labels: the columns whose values are names, whatever they look like: classes, sides of the split, groups.
    """

    features: tuple[str, ...]
    targets: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, each once."""
        others = [name for name in (self.split, self.group) if name is not None]
        return tuple(dict.fromkeys((*self.features, *self.targets, *others)))


def select(data: FileData, source: Source) -> Selection:
    """Look up the columns that a config names.

    Raises:
        LabError: the file lacks one of them, a column has two roles, or nothing is left to predict from.
    """
    asked = data.target
    if not isinstance(asked, tuple):
        asked = (asked,)
    targets = _found(source, "target", asked)
    if data.task != "regression" and len(targets) > 1:
        raise LabError(
            f"The task {data.task} has one target.",
            expected="target: with one column",
            received=", ".join(targets),
            fix="name one column, or use task: regression for several columns of numbers",
        )
    split = _one(source, "split_column", data.split_column)
    group = _one(source, "group_column", data.group_column)
    excluded = _found(source, "exclude", data.exclude)
    _check_excluded(excluded, {"target": targets, "split_column": (split,), "group_column": (group,)})
    if data.features is None:
        roles = {*targets, split, group, *excluded}
        features = tuple(name for name in source.names if name not in roles)
    else:
        features = _found(source, "features", data.features)
        _check_excluded(excluded, {"features": features})
    _check_features(source, features, (*targets, split))
    labels = [name for name in (split, group) if name is not None]
    if data.task != "regression":
        labels += targets
    return Selection(features, targets, split, group, tuple(dict.fromkeys(labels)))


def _check_excluded(excluded: Sequence[str], used: Mapping[str, Sequence[str | None]]) -> None:
    """Refuse to leave a column out that another key names.

    Args:
        excluded: the columns to leave out.
        used: the columns that each other key names.
    """
    for key, names in used.items():
        both = [name for name in excluded if name in names]
        if both:
            raise LabError(
                f"The column {both[0]} is in {key}: and in exclude:.",
                expected="each column in one of them",
                received=f"exclude: {some(excluded, MOST_NAMED)}",
                fix=f"remove {both[0]} from {key}: or from exclude:",
            )


def _check_features(source: Source, features: Sequence[str], others: Sequence[str | None]) -> None:
    """Refuse to predict from nothing, from the target itself, or from a column without a name."""
    if not features:
        raise LabError(
            f"{source.path} has no columns to predict from.",
            expected="at least one column besides the target",
            received=f"the columns {some(source.names, MOST_NAMED)}",
            fix="name them in features:, or correct target: or exclude:",
        )
    for name in features:
        if name in others:
            raise LabError(
                f"The column {name} leaks: it is in features: and is what is predicted or what splits the rows.",
                expected="features: without it",
                received=f"features: {some(features, MOST_NAMED)}",
                fix=f"remove {name} from features:",
            )
    if "" in features:
        raise LabError(
            f"{source.path}, row 1, column {source.names.index('') + 1}: a column without a name.",
            expected="a name for each column",
            received="an empty name; pandas writes one for an index",
            fix="write the file without its index (index=False), name the column, or leave it out: exclude: ['']",
        )


def _one(source: Source, key: str, name: ColumnName | None) -> str | None:
    """Return the column that a key names; None if it names none."""
    if name is None:
        return None
    return _found(source, key, (name,))[0]


def _found(source: Source, key: str, asked: Sequence[ColumnName]) -> tuple[str, ...]:
    """Return the columns that a key names; the name of an array stands for all of its columns.

    Raises:
        LabError: the file has no such column, or it is named twice.
    """
    found: list[str] = []
    for one in asked:
        name = str(one)
        if name not in source.names and name not in source.groups:
            raise _no_such_column(source, key, name)
        found += source.groups.get(name, (name,))
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise LabError(
            f"{key}: names the column {twice} twice.", expected="each column once", received=", ".join(map(str, asked))
        )
    return tuple(found)


def _no_such_column(source: Source, key: str, name: str) -> LabError:
    known = (*source.names, *source.groups)
    # Names differ in upper and lower case more often than in letters.
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    fix = f"correct {key}:"
    if near:
        fix = f"did you mean {key}: {by_lower[near[0]]}?"
    return LabError(
        f"{source.path}, row 1: no column {name}.",
        expected=f"one of {some(source.names, MOST_NAMED)}",
        received=f"{key}: {name}",
        fix=fix,
    )
