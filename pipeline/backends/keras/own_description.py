"""Keras models of one's own as JSON: described when they are trained, and made again from that later."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras

from pipeline.backends.keras.own_import import importable, own_classes
from pipeline.backends.keras.own_model import variables
from pipeline.config.own_code import sources, write_sources
from pipeline.config.own_model import KerasModel


def description(model: KerasModel, made: keras.Model, shape: Sequence[int], outputs: int, dtype: str) -> str:
    """Return a model as JSON, from which `rebuilt` makes it again without weights; empty if it has no such form.

    With it is the code of the layers that Keras does not have, which may be another when the model is made again.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            described = {"input_shape": list(shape), "outputs": outputs, "model": json.loads(made.to_json())}
        if any(_foreign(described)):
            described["sources"] = sources(model)
        text = json.dumps(described)
        theirs = modules_of(text)
        again = _from_json(text, {name: found for name, found in own_classes().items() if name in theirs}, dtype)
    # What Keras raises for a layer without get_config, or with one that its constructor does not take.
    except (TypeError, ValueError, NotImplementedError, AttributeError, RuntimeError):
        return ""
    if [weight.shape for weight in variables(again)] != [weight.shape for weight in variables(made)]:
        return ""
    return text


def sources_of(text: str) -> dict[str, str]:
    """Return the code of a described model as it was when that was made, by path; none if all its layers are Keras'."""
    found: dict[str, str] = json.loads(text).get("sources", {})
    return found


def modules_of(text: str) -> dict[str, str]:
    """Return the module of each class in a described model that is of a person's own."""
    described = json.loads(text)
    files = described.get("sources", {})
    found = {}
    for name, module in _foreign(described):
        path = module.replace(".", "/")
        if f"{path}.py" in files or f"{path}/__init__.py" in files:
            found[name] = module
    return found


def rebuilt(model: KerasModel, text: str, dtype: str) -> keras.Model:
    """Make a model again from its description, without its weights.

    Layers that Keras does not have come from the code that was described, whatever has become of it since.

    Raises:
        LabError: this code fails.
    """
    modules = modules_of(text)
    if not modules:
        return _from_json(text, {}, dtype)
    with TemporaryDirectory() as folder:
        write_sources(sources_of(text), Path(folder))
        with importable(model.model_copy(update={"folder_": folder})):
            classes = {name: getattr(importlib.import_module(module), name) for name, module in modules.items()}
            return _from_json(text, classes, dtype)


def _from_json(text: str, classes: dict[str, Any], dtype: str) -> keras.Model:
    described = json.loads(text)
    made = keras.models.model_from_json(json.dumps(described["model"]), custom_objects=classes)
    made(keras.Input(tuple(described["input_shape"]), dtype=dtype))
    return made


def _foreign(described: Any) -> Iterator[tuple[str, str]]:
    """Yield the name and the module of each class in a described model that is not of Keras."""
    if isinstance(described, list):
        for item in described:
            yield from _foreign(item)
    elif isinstance(described, dict):
        module = str(described.get("module"))
        if "class_name" in described and "module" in described and not module.startswith(("keras", "builtins")):
            yield described["class_name"], module
        yield from _foreign(list(described.values()))
