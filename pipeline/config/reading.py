"""From what Hydra composed to typed sections, or to one message that says what is wrong with it.

A key that is misspelled, of the wrong type or out of range never reaches training.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, TableData
from pipeline.config.fields import Section
from pipeline.config.rules import check
from pipeline.config.schema import Config, Tracking
from pipeline.system.errors import LabError


def read_config(composed: Mapping[str, Any]) -> Config:
    """Validate a resolved config, given as plain containers.

    Raises:
        LabError: naming the key, what it must be, what it was, and the nearest name for an unknown key.
    """
    try:
        config = Config.model_validate(composed)
        check(config)
    except ValidationError as error:
        problems = [_describe(problem, composed) for problem in error.errors()]
    except ValueError as error:
        problems = [f"  {error}"]
    else:
        return config
    raise LabError(
        "The config cannot be used.\n" + "\n".join(problems),
        fix="mend the override or the conf/ file; `python -m pipeline.train --cfg job` prints the whole config",
    )


def _describe(problem: Mapping[str, Any], composed: Mapping[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    # A discriminated union puts the chosen member's tag behind the name of its key.
    section = composed.get(path[0]) if len(path) > 1 else None
    if isinstance(section, Mapping) and path[1] in (section.get("name"), section.get("kind")):
        del path[1]
    key = ".".join(path)
    if problem["type"] == "value_error":
        return f"  {key + ': ' if key else ''}{problem['ctx']['error']}"
    if problem["type"] == "extra_forbidden":
        # A key that exists, but not here, is no guess worth making.
        near = difflib.get_close_matches(path[-1], [key for key in _known_keys(Config) if key != path[-1]], n=1)
        return f"  {key}: no such key" + (f"; did you mean {'.'.join([*path[:-1], near[0]])}?" if near else "")
    if problem["type"].startswith("union_tag"):
        expected, received = problem["ctx"].get("expected_tags", "a name"), problem["ctx"].get("tag", "nothing")
        return f"  {key}.{problem['ctx']['discriminator'].strip(chr(39))}: expected {expected}, received {received!r}"
    received = "nothing" if problem["type"] == "missing" else repr(problem["input"])
    return f"  {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, received {received}"


def _known_keys(section: type[BaseModel]) -> list[str]:
    """Names of all keys of a section and of the sections in it."""
    names = list(section.model_fields)
    for field in section.model_fields.values():
        members = get_args(field.annotation) or (field.annotation,)
        for member in members:
            if isinstance(member, type) and issubclass(member, Section):
                names += _known_keys(member)
    return names


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


def read_tracking(composed: DictConfig) -> Tracking:
    """Validate the `tracking` section.

    Raises:
        LabError: it names no store.
    """
    section = OmegaConf.to_container(composed["tracking"], resolve=True, throw_on_missing=True)
    try:
        return Tracking.model_validate(section)
    except ValidationError as error:
        problems = "; ".join(str(problem["ctx"]["error"] if "ctx" in problem else problem["msg"])
                             for problem in error.errors())  # fmt: skip
        raise LabError("tracking names no store.", received=problems, fix="tracking=server tracking.uri=URL") from None
