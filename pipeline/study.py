"""Write the file of a new study to start from, and tell DVC of it.

    python -m pipeline.study name=churn data=churn

The study is conf/experiment/NAME.yaml, with a grid and comments. conf/pipeline.yaml gets a line, by which `dvc repro`
trains it and writes its page of the report.
"""

from __future__ import annotations

if not __package__:
    raise SystemExit("error: this is a module; in the project's folder, type: python -m pipeline.study")

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

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
# To try it on few rows and values: python -m pipeline.train experiment={name} profile=small
# To train it: python -m pipeline.train experiment={name}
defaults:
  - override /data: {data} # conf/data/{data}.yaml
  # - override /model: linear # without a hidden layer; then leave model.hidden_size out of the grid. All: conf/model/
  # - override /optimizer: sgd # conf/optimizer/

study: {name}
question: "What do the learning rate and the hidden size do to {data}?" # yours, in one sentence: it heads the page

report: # how the points are compared and shown
  order: 1000 # the place in the report; studies of one place are sorted by name
  # metric: train/loss # the metric that judges; without this line the one that fits what is predicted
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


def entries(name: str, data: str, section: DictConfig) -> list[Entry]:
    """Return the lines by which DVC finds a study, and its data if that has to be prepared.

    Args:
        name: the name of the study.
        data: the name of the data set.
        section: its config.

    Raises:
        LabError: the path of the data begins with a home folder that does not exist.
    """
    own_file = f"conf/data/{data}.yaml"
    if section.kind == "table":
        return [Entry("numpy_and_keras", f"{name}: {own_file}")]
    study = Entry("numpy_and_keras", f"{name}: data/prepared/{data}")
    if section.kind == "idx":
        return [Entry("fetched", f"- {data}"), Entry("prepared", f"{data}: data/raw/{data}"), study]
    read = own_file
    # What a library brings has no file here.
    if section.get("path"):
        # DVC does not know `~`.
        read = str(expanded(str(section.path), "data.path"))
    return [Entry("prepared", f"{data}: {json.dumps(read, ensure_ascii=False)}"), study]


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
            longer = f"{text[: found.end()]}  {entry.line}\n{text[found.end() :]}"
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


def make_study(name: str, data: str, section: DictConfig, conf: Path) -> list[Entry]:
    """Write the file of a study, and add it to the lists for DVC.

    Args:
        name: the name of the study.
        data: the name of the data set, a file in conf/data/.
        section: its config.
        conf: the folder of the configs.

    Returns:
        The lines that the user has to add to conf/pipeline.yaml, because its lists have another form.

    Raises:
        LabError: there is such a study already, the data has no network, or a file cannot be read or written. Nothing
            has changed then.
    """
    _check(name, data, section)
    file = conf / "experiment" / f"{name}.yaml"
    lists = conf / LISTS
    if file.exists():
        raise LabError(
            f"The study {name} exists already.",
            expected="a new name",
            received=f"conf/experiment/{file.name}",
            fix="edit that file, or choose another name",
        )
    with readable(f"conf/{LISTS}", expected="the lists of studies in YAML", fix=f"restore conf/{LISTS} from git"):
        text, left = with_entries(lists.read_text(encoding="utf-8"), entries(name, data, section))
    batch_size = "null" if section.kind == "table" else "32"
    content = TEMPLATE.format(name=name, data=data, batch_size=batch_size)
    with explained(file):
        write_file(file, lambda temporary: temporary.write_text(content, encoding="utf-8"))
    with explained(lists):
        write_file(lists, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return left


def _check(name: str, data: str, section: DictConfig) -> None:
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
    if section.kind == "curve":
        raise LabError(
            f"{data} is a curve, on which balls roll and no network trains.",
            expected="the data set of a network",
            received="kind: curve",
            fix="copy conf/experiment/curve_restarts.yaml, and add a line to conf/pipeline.yaml below only_numpy",
        )
    if section.name != data:
        raise LabError(
            f"conf/data/{data}.yaml has another name than its data set.",
            expected=f"name: {data}",
            received=f"name: {section.name}",
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
    left = make_study(name, HydraConfig.get().runtime.choices["data"], config.data, CONF)
    print(f"study: conf/experiment/{name}.yaml; write your question there")
    for entry in left:
        print(f"add to conf/{LISTS}, below {entry.heading}: {entry.line}")
    if not left:
        print(f"DVC: conf/{LISTS} lists it; `dvc repro page@{name}` trains it and writes reports/studies/{name}.md")
    print(f"try it: python -m pipeline.train experiment={name} profile=small")


if __name__ == "__main__":
    sys.exit(cli.run(study, "study"))
