"""Write the file of a new study to start from, and tell DVC of it.

    python -m pipeline.study name=churn data=churn

The study is conf/experiment/NAME.yaml, with a grid and comments. conf/pipeline.yaml gets a line, by which `dvc repro`
trains it and writes its page of the report. With `--config-dir DIR` it is DIR/experiment/NAME.yaml, and DVC, which sees
nothing outside the project, is left out.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.study")

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipeline.config.curve import CurveData
from pipeline.config.data import IdxData, LibraryData, TableData
from pipeline.config.metrics import metric_that_fits
from pipeline.config.reading import read_any_data
from pipeline.config.schema import Data
from pipeline.system import cli
from pipeline.system.errors import LabError
from pipeline.system.files import explained, readable, write_file
from pipeline.system.project import CONF, expanded

# A name that is also one of a stage of DVC and of a folder.
NAME = r"[A-Za-z][A-Za-z0-9_-]{0,99}"
LISTS = "pipeline.yaml"
TEMPLATE = """\
# @package _global_
# A study to start from. Every key that is not here has the value in conf/config.yaml, which explains them all.
# To try it on few rows and values: {train} profile=small
# To train it: {train}
defaults:
  - override /data: {data} # the data set, {file}
  # - override /model: linear # without a hidden layer; then leave model.hidden_size out of the grid. All: conf/model/
  # - override /optimizer: sgd # conf/optimizer/

study: {name}
question: "What do the learning rate and the hidden size do to {data}?" # yours, in one sentence: it heads the page

report: # how the points are compared and shown
  order: 1000 # the place in the report; studies of one place are sorted by name
  # metric: {metric} # the metric that judges; without this line the one that fits what is predicted
  # size: model.hidden_size # the key that is "the size" in heat maps

training:
  epochs: 20 # passes over the training rows
  batch_size: {batch_size} # rows per update; null: all of them

hydra:
  mode: MULTIRUN
  sweeper:
    params: # the grid: keys with their values; every combination is a point
      optimizer.learning_rate: logspace(0.0001,1,9) # from 0.0001 to 1; or the values themselves: 0.001,0.01,0.1
      model.hidden_size: 16,64
"""


class Entry(NamedTuple):
    """A line for one of the lists in conf/pipeline.yaml."""

    heading: str
    line: str


def entries(name: str, option: str, data: Data) -> list[Entry]:
    """Return the lines by which DVC finds a study, and its data if that has to be prepared.

    Args:
        name: the name of the study.
        option: the name of the file of the data set.
        data: its config.

    Raises:
        LabError: the path of the data begins with a home folder that does not exist.
    """
    own_file = f"conf/data/{option}.yaml"
    if isinstance(data, TableData | CurveData):
        return [Entry("numpy_and_keras", f"{name}: {own_file}")]
    study = Entry("numpy_and_keras", f"{name}: data/prepared/{option}")
    if isinstance(data, IdxData) or (isinstance(data, LibraryData) and data.is_downloaded):
        return [Entry("fetched", f"- {option}"), Entry("prepared", f"{option}: data/raw/{option}"), study]
    if isinstance(data, LibraryData):
        # What is installed has no file here.
        return [Entry("prepared", f"{option}: {own_file}"), study]
    rows = _path(data.path, "data.path")
    test_path = getattr(data, "test_path", None)
    if test_path is None:
        return [Entry("prepared", f"{option}: {rows}"), study]
    files = f"{{rows: {rows}, test_rows: {_path(test_path, 'data.test_path')}}}"
    return [Entry("prepared_with_test_rows", f"{option}: {files}"), study]


def _path(path: str, key: str) -> str:
    """Return a path in quotes, without `~`, which DVC does not know."""
    return json.dumps(str(expanded(path, key)), ensure_ascii=False)


def with_entries(text: str, wanted: list[Entry]) -> tuple[str, list[Entry]]:
    """Add lines to the lists of conf/pipeline.yaml, at their ends; everything else in the text stays as it is.

    Args:
        text: the file.
        wanted: the lines; one that is there already is not added again.

    Returns:
        The new text, and the lines for which there is no list as this program writes it.

    Raises:
        ValueError: the text is not a mapping in YAML.
    """
    left = []
    for entry in wanted:
        if _has(text, entry):
            continue
        # A list is its heading and the indented lines below it.
        found = re.search(rf"^{entry.heading}:.*\n(?:[ ]+\S.*\n)*", text, re.MULTILINE)
        longer = text
        if found:
            # `{}` is a list without entries.
            members = re.sub(r"(?<=:) \{\}", "", found.group(), count=1)
            longer = f"{text[: found.start()]}{members}  {entry.line}\n{text[found.end() :]}"
        try:
            added = _has(longer, entry)
        except ValueError:
            added = False
        if added:
            text = longer
        else:
            left.append(entry)
    return text, left


def _has(text: str, entry: Entry) -> bool:
    """Whether a list has an entry with this name already.

    Raises:
        ValueError: the text is not a mapping in YAML.
    """
    try:
        lists = yaml.safe_load(text)
        added: Any = yaml.safe_load(entry.line)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(lists, dict):
        raise ValueError("not a mapping")
    members = lists.get(entry.heading)
    return isinstance(members, dict | list) and set(added) <= set(members)


def make_study(name: str, option: str, data: Data, conf: Path, own: Path | None = None) -> list[Entry]:
    """Write the file of a study, and add it to the lists for DVC.

    Args:
        name: the name of the study.
        option: the name of the file of the data set.
        data: its config.
        conf: the folder of the configs.
        own: the folder of `--config-dir`, which gets the file; DVC gets nothing then.

    Returns:
        The lines that the user has to add to conf/pipeline.yaml, because its lists have another form.

    Raises:
        LabError: there is such a study already, the data has no network, or a file cannot be read or written. Nothing
            has changed then.
    """
    _check(name, option, data)
    file = (own or conf) / "experiment" / f"{name}.yaml"
    # The project's own files come first where both folders have one.
    for existing in (conf / "experiment" / file.name, file):
        if existing.exists():
            raise LabError(
                f"The study {name} exists already.",
                expected="a new name",
                received=_shown(existing, conf),
                fix="edit that file, or choose another name",
            )
    content = _content(name, option, data, conf, own)
    if own is not None:
        _write(file, content)
        return []
    lists = conf / LISTS
    with readable(f"conf/{LISTS}", expected="the lists of studies in YAML", fix=f"restore conf/{LISTS} from git"):
        text, left = with_entries(lists.read_text(encoding="utf-8"), entries(name, option, data))
    _write(file, content)
    _write(lists, text)
    return left


def _content(name: str, option: str, data: Data, conf: Path, own: Path | None) -> str:
    """Return the text of the file of a study."""
    batch_size = "32"
    if isinstance(data, TableData):
        batch_size = "null"
    file = conf / "data" / f"{option}.yaml"
    if own is not None and not file.exists():
        file = own / "data" / file.name
    return TEMPLATE.format(
        name=name,
        data=option,
        file=_shown(file, conf),
        train=f"python -m pipeline.train {_folder_option(own)}experiment={name}",
        metric=metric_that_fits(data),
        batch_size=batch_size,
    )


def _write(file: Path, text: str) -> None:
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _shown(file: Path, conf: Path) -> str:
    """Return the path of a config file as the user knows it."""
    if file.is_relative_to(conf):
        return f"conf/{file.relative_to(conf)}"
    return str(file)


def _folder_option(own: Path | None) -> str:
    """Return the option that names a folder of one's own, as it is typed, with a space after it; empty without one."""
    if own is None:
        return ""
    return f"--config-dir {shlex.quote(str(own))} "


def _check(name: str, option: str, data: Data) -> None:
    """Check the name of a study, and that its data can be that of a network.

    Raises:
        LabError: they cannot be used.
    """
    # YAML reads some words as other values: `no` is false.
    if not re.fullmatch(NAME, name) or yaml.safe_load(name) != name:
        raise LabError(
            "A study cannot have this name.",
            expected="a letter, then letters, digits, _ and -, at most 100 in all",
            received=repr(name),
            fix="name=churn, for instance",
        )
    if isinstance(data, CurveData):
        raise LabError(
            f"{option} is a curve, on which balls roll and no network trains.",
            expected="the data set of a network",
            received="kind: curve",
            fix="copy conf/experiment/curve_restarts.yaml, and add a line to conf/pipeline.yaml below only_numpy",
        )
    if data.name != option:
        raise LabError(
            f"conf/data/{option}.yaml has another name than its data set.",
            expected=f"name: {option}",
            received=f"name: {data.name}",
            fix="give both one name",
        )


def study(config: DictConfig) -> None:
    """Write the file of the study, and print what it is and how it is trained."""
    if "data" not in config:
        options = ", ".join(sorted(file.stem for file in (CONF / "data").glob("*.yaml")))
        raise LabError(
            "Name the data set of the study.",
            expected=f"one of {options}, or a file of your own in conf/data",
            received="no data",
            fix="data=NAME, or: make study NAME=churn DATA=churn",
        )
    name = str(config.name)
    runtime = HydraConfig.get().runtime
    own = next((Path(source.path) for source in runtime.config_sources if source.provider == "command-line"), None)
    left = make_study(name, runtime.choices["data"], read_any_data(config), CONF, own)
    file = (own or CONF) / "experiment" / f"{name}.yaml"
    train = f"python -m pipeline.train {_folder_option(own)}experiment={name}"
    print(f"study: {_shown(file, CONF)}; write your question there")
    if own is not None:
        print(f"train it: {train}; then python -m pipeline.compare study={name} writes reports/studies/{name}.md")
        print(f"try it: {train} profile=small")
        return
    for entry in left:
        print(f"add to conf/{LISTS}, below {entry.heading}: {entry.line}")
    if not left:
        print(f"DVC: conf/{LISTS} lists it; `dvc repro page@{name}` trains it and writes reports/studies/{name}.md")
    print(f"try it: {train} profile=small")


if __name__ == "__main__":
    sys.exit(cli.run(study, "study"))
