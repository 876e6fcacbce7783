"""What the two data stages, fetch and prepare, share: their config, and the check of a raw file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, TypeAdapter, ValidationError

from pipeline.config import IdxData, IdxFile, TableData
from pipeline.curve_sections import CurveData
from pipeline.data.raw import idx
from pipeline.system.errors import LabError

RAW = Path("data") / "raw"


def read_data(config: DictConfig, verb: str) -> IdxData:
    """Validate the `data` section of conf/data_stages.yaml.

    Args:
        config: what Hydra composed.
        verb: what the stage does, for the message about a data set that needs no stage.

    Raises:
        LabError: a key is unknown, missing or wrong, or the data set is a table or a curve in its conf file.
    """
    section = OmegaConf.to_container(config["data"], resolve=True, throw_on_missing=True)
    any_kind = Annotated[TableData | IdxData | CurveData, Field(discriminator="kind")]
    kinds: TypeAdapter[TableData | IdxData | CurveData] = TypeAdapter(any_kind)
    try:
        data = kinds.validate_python(section)
    except ValidationError as error:
        problems = [f"  {'.'.join(['data', *map(str, p['loc'][1:])])}: {p['msg']}" for p in error.errors()]
        raise LabError("\n".join(["The data set cannot be used.", *problems]), fix="mend its conf/data file") from None
    if isinstance(data, TableData | CurveData):
        study = "experiment=curve_restarts " if isinstance(data, CurveData) else ""
        raise LabError(
            f"There is nothing to {verb} for {data.name}: its {data.kind} is in conf/data/{data.name}.yaml.",
            fix=f"train on it at once: python -m pipeline.train {study}data={data.name}",
        )
    for name in (data.name, *(file.name for file in data.files.values())):
        if name != Path(name).name or name == "..":
            raise LabError("A name in the data set's conf file is a path.", expected="a plain name", received=name)
    return data


def mismatch(content: bytes, file: IdxFile) -> str:
    """Why an unpacked file is not the one that conf names, in one line; empty when it is."""
    received = hashlib.sha256(content).hexdigest()
    if received == file.sha256:
        return ""
    if looks_like_html(content):
        return f"an HTML page instead of {file.name}"
    try:
        idx.decode(content)
    except ValueError as error:
        return f"{file.name}: {error}"
    return f"{file.name}: SHA-256 is {received}, expected {file.sha256}"


def looks_like_html(content: bytes) -> bool:
    """Whether a download is a page: the answer of a captive portal, a proxy or a place that has moved."""
    return content.lstrip()[:1] == b"<"
