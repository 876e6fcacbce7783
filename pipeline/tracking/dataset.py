"""The data set of a point as an MLflow dataset, made from the config and the checksums of the arrays.

It does not need the arrays themselves, so a run rebuilt from a point's folder also has its data set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, LibraryData, TableData
from pipeline.config.schema import Config, Data
from pipeline.data.description import DataDescription
from pipeline.system.files import short_hash
from pipeline.tracking.raw_rows import FLOATS, KINDS, optional

# Prefix of the run tags that hold the checksums of a point's arrays.
TAG = "data."

Columns = list[dict[str, Any]]
Profile = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """The fields of an MLflow dataset; the last three are JSON.

    Attributes:
        name: the name of the data set in conf/data.
        digest: the first 16 hexadecimal digits printed by `cd data/prepared/NAME && sha256sum *.npy | sha256sum`; for
            described data the list has one more line, with the description's checksum for data.json.
        source_type: the type of `source`: `http`, `local`, `library`, or the kind of a package, `npm` or `debian`.
        source: location of the data, as `url` or `uri`.
        schema: columns with their types, in the format of MLflow's `Schema.to_dict`.
        profile: numbers of rows, inputs and outputs for a table, or of classes, and the first digits of each SHA-256;
            for described data also its task, and what a person should know about it.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str


def dataset_of(config: Config, checksums: Mapping[str, str], description: DataDescription | None = None) -> Dataset:
    """Return the data set that a point was trained on.

    Args:
        config: the config of the point.
        checksums: SHA-256 of each array, by name.
        description: what the data is, if the config does not say it.
    """
    data = config.data
    # The output of `sha256sum`, with the files in the order in which a shell expands `*.npy`; see `Dataset.digest`.
    listed = "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums))
    source_type, source = _source(data)
    columns, profile = _columns_and_profile(data, FLOATS[config.dtype], description)
    # The first digits are enough to compare data sets on MLflow's page. The run's tags have the full checksums.
    sums = {f"sha256 of {name}": f"{checksums[name][:16]}..." for name in sorted(checksums)}
    return Dataset(
        name=data.name,
        digest=short_hash(listed.encode()),
        source_type=source_type,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile | sums),
    )


def checksums_in(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums in the tags of a run, SHA-256 by array name."""
    return {key.removeprefix(TAG): value for key, value in tags.items() if key.startswith(TAG)}


def _source(data: Data) -> tuple[str, dict[str, str]]:
    """Return the type and location of the first configured source or, for a table or curve, of its config file."""
    if isinstance(data, TableData | CurveData) or (isinstance(data, IdxData) and not data.sources):
        return "local", {"uri": f"conf/data/{data.name}.yaml"}
    if isinstance(data, LibraryData):
        return "library", {"uri": data.source}
    if not isinstance(data, IdxData):
        return "local", {"uri": data.path}
    first = data.sources[0]
    # MLflow can load data of the type `http`. It has no type for package registries, and shows those sources as text.
    if first.kind in ("npz", "gzip_files"):
        return "http", {"url": first.location}
    return first.kind, {"uri": first.location}


def _columns_and_profile(data: Data, number: str, description: DataDescription | None) -> tuple[Columns, Profile]:
    """Return the columns of a data set and its profile; `number` is MLflow's type for its floats."""
    if isinstance(data, CurveData):
        return _curve(data, number)
    if isinstance(data, TableData):
        return _table(data, number)
    if isinstance(data, IdxData):
        return _images(data, number)
    if description is None:
        return [], {"task": data.task}
    return _described(description)


def _table(data: TableData, number: str) -> tuple[Columns, Profile]:
    widths = {"input": len(data.inputs[0]), "target": len(data.targets[0])}
    columns = [
        {"type": number, "name": f"{kind}_{index}", "required": True}
        for kind, width in widths.items()
        for index in range(width)
    ]
    return columns, {"rows": len(data.inputs), "inputs": widths["input"], "outputs": widths["target"]}


def _curve(data: CurveData, number: str) -> tuple[Columns, Profile]:
    definition: Profile = {"points": len(data.points or ())}
    if data.expression:
        definition = {"expression": data.expression}
    columns = [{"type": number, "name": name, "required": True} for name in ("x", "height")]
    return columns, definition | {"lowest": data.lowest, "highest": data.highest}


def _images(data: IdxData, number: str) -> tuple[Columns, Profile]:
    pixels = {"type": "array", "items": {"type": number}, "name": "pixels", "required": True}
    return [pixels, {"type": "long", "name": "label", "required": True}], {"classes": data.classes}


def _described(data: DataDescription) -> tuple[Columns, Profile]:
    columns: Columns = [
        {"type": KINDS[column.kind], "name": column.name, "required": not optional(column)} for column in data.columns
    ]
    inputs = sum(column.width for column in data.columns)
    profile: Profile = {
        "task": data.task,
        "training rows": data.train_rows,
        "validation rows": data.validation_rows,
        "test rows": data.test_rows,
    }
    if not columns:
        columns = [{"type": "array", "items": {"type": "integer"}, "name": "pixels", "required": True}]
        inputs = math.prod(data.row_shape)
        profile["shape of a row"] = " x ".join(str(size) for size in data.row_shape)
    kind = "double"
    outputs = {"outputs": len(data.targets)}
    if data.task != "regression":
        kind = "string"
        outputs = {"classes": len(data.classes)}
    columns += [{"type": kind, "name": name, "required": True} for name in data.targets]
    profile |= {"inputs": inputs, **outputs}
    if data.notes:
        profile["notes"] = " ".join(data.notes)
    return columns, profile
