"""Validate the config that Hydra composed: return typed sections, or raise one message with all problems.

A key that is misspelled, of the wrong type or out of range never reaches training.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError, create_model

from pipeline.config.curve import CurveData
from pipeline.config.data import DescribedData, IdxData
from pipeline.config.defaults import resolved
from pipeline.config.fields import Section
from pipeline.config.model import Model
from pipeline.config.own_model import KerasModel, section_kind
from pipeline.config.rules import problems
from pipeline.config.schema import NUMBER, Config, Data, Tracking, is_server_address, not_a_server
from pipeline.config.task_rules import undrawn
from pipeline.system.errors import LabError
from pipeline.system.hints import nearest_key, nearest_option
from pipeline.system.project import expanded

# How to name a tracking server.
SERVER = "tracking=server tracking.uri=URL"
# How to ask for several splits.
SPLITS = "repeats=5 repeats_split=true"


def read_config(composed: Mapping[str, Any], trained: bool = False) -> Config:
    """Validate a resolved config that is given as plain containers.

    Args:
        composed: the config.
        trained: whether it is the config of a trained point. Only a point that is still to be trained has to follow the
            rules of the present version about what can be trained.

    Raises:
        LabError: the config is invalid. The message has a line for each problem: the key, what was expected and
            received, and for an unknown key a suggestion. Rules that need an invalid section are not checked.

    Example:
        >>> read_config(OmegaConf.to_container(composed, resolve=True)).optimizer.learning_rate
        0.1
    """
    if isinstance(composed, Mapping):
        composed = resolved(composed)
        if trained:
            composed = _as_trained(composed)
    try:
        config = Config.model_validate(composed)
    except ValidationError as error:
        # Sections without problems are still checked against each other, so one message can name everything.
        unread = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        found = [_described(problem, composed) for problem in error.errors()]
        if isinstance(composed, Mapping):
            sections = _read(composed, [name for name in Config.model_fields if name not in unread])
            found += problems(Config.model_construct(None, **dict(sections)), trained)
    else:
        found = problems(config, trained)
        if not found:
            return config
    raise _refusal(
        found, "fix the override or the conf/ file; `python -m pipeline.train --cfg job` prints the complete config"
    )


def _as_trained(composed: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of a trained point with what its version did not know: that no rows were held back."""
    data = composed.get("data")
    if not isinstance(data, Mapping) or data.get("kind") in ("table", "curve"):
        return composed
    return {**composed, "data": {"validation_share": 0, **data}}


def read_any_data(composed: DictConfig) -> Data:
    """Validate the `data` section.

    Raises:
        LabError: a key is unknown, missing or wrong.
    """
    data: Data = _read_one(composed, "data", "fix its conf/data file")
    return data


def read_data(composed: DictConfig, verb: str) -> IdxData | DescribedData:
    """Validate the `data` section of conf/data_stages.yaml.

    Args:
        composed: the config that Hydra composed.
        verb: the name of the stage, fetch or prepare, for the message about a data set that does not need it.

    Raises:
        LabError: a key is unknown, missing or wrong, or the data set is a table or a curve, which has no files.
    """
    data = read_any_data(composed)
    if not isinstance(data, IdxData | DescribedData):
        command = f"python -m pipeline.train data={data.name}"
        # `data=NAME` is not enough for a curve, which also needs balls and its own loss.
        if isinstance(data, CurveData):
            command = f"python -m pipeline.train experiment=curve_restarts data={data.name}"
        raise LabError(
            f"There is nothing to {verb} for {data.name}: its {data.kind} is in conf/data/{data.name}.yaml.",
            fix=f"train on it directly: {command}",
        )
    # The stages make paths from these names, which must not lead out of the data folder.
    names = [data.name]
    if isinstance(data, IdxData):
        names += [file.name for file in data.files.values()]
    for name in names:
        if name != Path(name).name or name == "..":
            raise LabError("A name in the data set's config is a path.", expected="a plain name", received=name)
    return data


def read_splits(composed: DictConfig, data: Data) -> int:
    """Return how many splits of a data set conf/data_stages.yaml asks for: one, or one for each repeat.

    Raises:
        LabError: a key is wrong, or all splits of the data set are the same.
    """
    plain = {name: composed[name] for name in ("repeats", "repeats_split")}
    try:
        asked: Any = _read(plain, list(plain))
    except ValidationError as error:
        raise _refusal([_described(problem, plain) for problem in error.errors()], SPLITS) from None
    if not asked.repeats_split:
        return 1
    found = list(undrawn(data))
    if found:
        raise _refusal(found, "leave out repeats_split=true")
    return int(asked.repeats)


def read_tracking(composed: DictConfig) -> Tracking:
    """Validate the `tracking` section.

    Raises:
        LabError: the section does not name a store.
    """
    tracking: Tracking = _read_one(composed, "tracking", SERVER)
    if tracking.uri is not None and not is_server_address(tracking.uri):
        raise _refusal([f"tracking.uri: {not_a_server(tracking.uri)}"], SERVER)
    return tracking


def read_folder(composed: DictConfig, key: str, project: Path) -> Path:
    """Return the folder that a key names; a relative path is resolved against the project folder.

    Raises:
        LabError: the value is not a path.
    """
    value = composed[key]
    if not isinstance(value, str) or not value or "\0" in value:
        raise LabError(f"{key} is not a folder.", expected="a path", received=repr(value), fix=f"{key}=PATH")
    return project / expanded(value, key)


def _read_one(composed: DictConfig, name: str, fix: str) -> Any:
    """Validate one section of a config that lacks the others."""
    plain = {name: OmegaConf.to_container(composed[name], resolve=True, throw_on_missing=True)}
    try:
        return getattr(_read(plain, [name]), name)
    except ValidationError as error:
        raise _refusal([_described(problem, plain) for problem in error.errors()], fix) from None


def _read(composed: Mapping[str, Any], names: Collection[str]) -> Section:
    """Validate some sections of the config without the others; one that is missing has its default."""
    fields: dict[str, Any] = {name: (Config.model_fields[name].annotation, Config.model_fields[name]) for name in names}
    part = create_model("Part", __base__=Section, **fields)
    return part.model_validate({name: composed[name] for name in names if name in composed})


def _refusal(found: Collection[str], fix: str) -> LabError:
    return LabError("\n".join(["The config is invalid.", *(f"  {problem}" for problem in found)]), fix=fix)


def _described(problem: Mapping[str, Any], composed: Mapping[str, Any]) -> str:
    """Describe a problem that pydantic found, in one line."""
    path = [str(part) for part in problem["loc"]]
    # For a section that is a union, pydantic adds the name of the chosen member to the path; it is not a key.
    if len(path) > 1 and Config.model_fields[path[0]].discriminator:
        del path[1]
    or_auto = ""
    # Likewise for a number that may be `auto`.
    if path and path[-1] == NUMBER:
        del path[-1]
        or_auto = ", or auto"
    key = ".".join(path) or "config"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    if problem["type"] == "extra_forbidden":
        near = nearest_key(key, list(_keys(Config, composed)))
        if near is None:
            return f"{key}: no such key"
        return f"{key}: no such key; did you mean {near}?"
    if problem["type"].startswith("union_tag"):
        context = problem["ctx"]
        # Pydantic puts the key that chooses a section in quotes.
        tag = context["discriminator"].strip("'")
        expected = context.get("expected_tags", "a name")
        received = context.get("tag", "nothing")
        return f"{key}.{tag}: expected {expected}, received {received!r}"
    message = problem["msg"][0].lower() + problem["msg"][1:] + or_auto
    # The input of a missing key is the section around it.
    if problem["type"] == "missing":
        return f"{key}: {message}, received nothing"
    return f"{key}: {message}, received {problem['input']!r}{_meant(problem, key)}"


def _meant(problem: Mapping[str, Any], key: str) -> str:
    """Return the value that was probably meant instead of one that the key cannot have; empty if there is none."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    near = nearest_option(problem["input"], re.findall("'([^']+)'", problem["ctx"]["expected"]))
    if near is None:
        return ""
    return f"; did you mean {key}={near}?"


def _keys(section: type[Section], value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every key of a section and of the sections in it; a section that is null or missing has none.

    Args:
        section: class of the section.
        value: the composed values. Their kind or name chooses among several sections.
        prefix: the key of the section and a dot.
    """
    for name, field in section.model_fields.items():
        yield f"{prefix}{field.alias or name}"
        inner = value.get(name)
        if isinstance(inner, Mapping):
            for member in _members(field.annotation):
                if _chosen(member, inner):
                    yield from _keys(member, inner, f"{prefix}{name}.")


def _chosen(section: type[Section], value: Mapping[str, Any]) -> bool:
    """Return whether composed values are those of a section class."""
    if section in (Model, KerasModel) and (section is KerasModel) != (section_kind(value) == "own"):
        return False
    return all(value.get(tag) in choices for tag, choices in _tags(section).items())


def _members(kind: Any) -> list[type[Section]]:
    """Return the section classes that a key accepts; those inside a list or a dict are skipped."""
    kinds: tuple[Any, ...] = (kind,)
    if get_origin(kind) in (Union, UnionType):
        kinds = get_args(kind)
    # A member that another key than `kind` or `name` chooses is annotated with its tag.
    plain = [get_args(one)[0] if get_origin(one) is Annotated else one for one in kinds]
    return [one for one in plain if isinstance(one, type) and issubclass(one, Section)]


def _tags(section: type[Section]) -> dict[str, tuple[str, ...]]:
    """Return the keys that choose a section among several, each with the values that choose this one."""
    kinds = {name: section.model_fields[name].annotation for name in ("kind", "name") if name in section.model_fields}
    return {name: get_args(kind) for name, kind in kinds.items() if get_origin(kind) is Literal}
