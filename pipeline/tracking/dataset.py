"""The data set of a point as MLflow shows it: plain values, made from the config and the checksums of the arrays.

No array is needed for it, so that a run that is written again from a point's folder names its data too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, TableData
from pipeline.config.schema import Config
from pipeline.system.files import short_hash

TAG = "data."
"""What the names of the tags begin with that hold the checksums of a point's arrays."""


@dataclass(frozen=True)
class Dataset:
    """The fields of an MLflow dataset; the last three are JSON.

    Attributes:
        name: the data set's, as in conf/data.
        digest: 16 hexadecimal digits. `cd data/prepared/NAME && sha256sum *.npy | sha256sum` begins with them.
        source_type: how `source` is to be read: `http`, `local`, or the kind of a package, `npm` or `debian`.
        source: where the data comes from: `url`, or `uri`.
        schema: columns with their types, as MLflow's `Schema.to_dict` has them.
        profile: numbers of rows, inputs and outputs (a table's) or classes, and how the SHA-256 of each array begins.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str


def dataset_of(config: Config, checksums: Mapping[str, str]) -> Dataset:
    """What a point was trained on.

    Args:
        config: the point's.
        checksums: SHA-256 by array name.
    """
    data = config.data
    columns: list[dict[str, Any]]
    profile: dict[str, Any]
    listed = "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums))
    source_type, source = _source(data)
    if isinstance(data, CurveData):
        columns, profile = _curve(data, config.dtype)
    else:
        columns, profile = _table(data, config.dtype) if isinstance(data, TableData) else _images(data, config.dtype)
    return Dataset(
        name=data.name,
        digest=short_hash(listed.encode()),
        source_type=source_type,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile | {f"sha256 of {name}": f"{checksums[name][:16]}..." for name in sorted(checksums)}),
    )


def checksums_in(tags: Mapping[str, str]) -> dict[str, str]:
    """The checksums of a point's arrays, SHA-256 by array name, from the tags of its run."""
    return {key.removeprefix(TAG): value for key, value in tags.items() if key.startswith(TAG)}


def _source(data: TableData | IdxData | CurveData) -> tuple[str, dict[str, str]]:
    """Where a data set comes from: the first place that is configured, or its own file for a table or a curve."""
    if isinstance(data, TableData | CurveData) or not data.sources:
        return "local", {"uri": f"conf/data/{data.name}.yaml"}
    first = data.sources[0]
    if first.kind in ("npz", "gzip_files"):
        return "http", {"url": first.location}
    return first.kind, {"uri": first.location}


def _number(dtype: str) -> str:
    """MLflow's name for a NumPy float."""
    return "float" if dtype == "float32" else "double"


def _table(data: TableData, dtype: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    widths = {"input": len(data.inputs[0]), "target": len(data.targets[0])}
    columns = [
        {"type": _number(dtype), "name": f"{kind}_{place}", "required": True}
        for kind, width in widths.items()
        for place in range(width)
    ]
    return columns, {"rows": len(data.inputs), "inputs": widths["input"], "outputs": widths["target"]}


def _curve(data: CurveData, dtype: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    described = {"expression": data.expression} if data.expression else {"points": len(data.points or ())}
    columns = [{"type": _number(dtype), "name": name, "required": True} for name in ("x", "height")]
    return columns, described | {"lowest": data.lowest, "highest": data.highest}


def _images(data: IdxData, dtype: str) -> tuple[list[dict[str, Any]], dict[str, int]]:
    pixels = {"type": "array", "items": {"type": _number(dtype)}, "name": "pixels", "required": True}
    return [pixels, {"type": "long", "name": "label", "required": True}], {"classes": data.classes}
