"""Keras models of one's own: import the function that makes one, call it, check what it returns, explain its errors.

Its weights start as the function makes them; `keras.utils.set_random_seed` with the run's seed comes before the call.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import keras

from pipeline.backends.keras.own_import import defined, explained, importable
from pipeline.config.own_model import KerasModel
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from pipeline.system.errors import LabError
from pipeline.system.hints import nearest_option


def make(model: KerasModel, config: Config, arrays: Arrays) -> keras.Model:
    """Call the function of a model of one's own, and check what it returns.

    Args:
        model: the function and its knobs.
        config: config of the point.
        arrays: the data, which gives `input_shape` and `outputs`.

    Returns:
        The model, from (rows, *input_shape) to sums (rows, outputs).

    Raises:
        LabError: the function cannot be imported or called, or what it returns does not fit the task.
    """
    shape = input_shape(arrays)
    knobs = model.knobs
    call = f"{model.function}{_signature(shape, arrays.outputs, knobs)}"
    expected = f"a keras.Model from {call}"
    with importable(model) as module, explained(model, expected, _fix(shape)):
        function = _function(model, module)
        _check_parameters(model, function, (shape, arrays.outputs), knobs)
        made = function(shape, arrays.outputs, **knobs)
        if not isinstance(made, keras.Model):
            raise _unfit(model, module, "does not return a model.", "a keras.Model", type(made).__name__)
        with explained(model, expected, _fix(shape), otherwise=defined(function)):
            sums = made(keras.Input(shape, dtype=config.dtype))
    _check_outputs(model, module, sums, arrays.outputs)
    _check_last_layer(model, module, made, config)
    return made


def input_shape(arrays: Arrays) -> tuple[int, ...]:
    """Return the shape of a row as such a model gets it: (height, width, channels) of an image, or (features,)."""
    if arrays.row_shape is None:
        return (arrays.features,)
    return arrays.row_shape


def around(made: keras.Model, shape: Sequence[int], last: str, dtype: str) -> list[Any]:
    """Return layers from flat rows (rows, features) to outputs, with a model of one's own between them.

    Args:
        made: the model.
        shape: shape of a row as it gets it.
        last: the activation that follows its sums.
        dtype: dtype of the inputs.
    """
    layers: list[Any] = [keras.Input((math.prod(shape),), dtype=dtype)]
    if len(shape) > 1:
        layers.append(keras.layers.Reshape(tuple(shape), dtype=dtype))
    layers.append(made)
    if last != "linear":
        layers.append(keras.layers.Activation(last, dtype=dtype))
    return layers


def variables(made: keras.Model) -> list[Any]:
    """Return the variables of a built model that have names: trained ones first, no seeds."""
    return [*made.trainable_variables, *made.non_trainable_weights]


def array_names(made: keras.Model) -> list[str]:
    """Return a name for each array of a built model, such as `conv2d/kernel`: trained ones first, each name once."""
    names: list[str] = []
    for variable in variables(made):
        name = variable.path
        inner = name.removeprefix(f"{made.name}/")
        if "/" in inner:
            name = inner
        number = 1
        while name in names:
            number += 1
            name = f"{inner}_{number}"
        names.append(name)
    return names


def _signature(shape: Sequence[int], outputs: int, knobs: dict[str, Any]) -> str:
    arguments = [f"input_shape={tuple(shape)}", f"outputs={outputs}"]
    arguments += [f"{name}={value!r}" for name, value in knobs.items()]
    return f"({', '.join(arguments)})"


def _fix(shape: Sequence[int]) -> str:
    if len(shape) == 1:
        return f"correct the function; a row of this data is {shape[0]} numbers, and no image"
    return "correct the function"


def _function(model: KerasModel, module: ModuleType) -> Callable[..., Any]:
    """Return the function of a model from its module.

    Raises:
        LabError: there is none.
    """
    function: object = getattr(module, model.function, None)
    if callable(function):
        return function
    received = f"{model.function} is of type {type(function).__name__}"
    fix = "correct _target_ in the file of conf/model"
    if function is None:
        received = "no such name"
        near = nearest_option(model.function, [name for name, value in vars(module).items() if callable(value)])
        if near:
            fix = f"did you mean model._target_={model.module}.{near}?"
    raise LabError(
        f"{module.__file__}, line 1: {model.module} has no function {model.function}.",
        expected=f"def {model.function}(input_shape, outputs, ...)",
        received=received,
        fix=fix,
    )


def _check_parameters(
    model: KerasModel, function: Callable[..., Any], fixed: tuple[Sequence[int], int], knobs: dict[str, Any]
) -> None:
    """Check that a function takes `input_shape`, `outputs` and each knob, and needs nothing else.

    Raises:
        LabError: it does not; for an unknown knob with the parameter that was probably meant.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*fixed, **knobs)
    except TypeError as error:
        names = list(signature.parameters)[2:]
        unknown = [name for name in knobs if name not in names]
        fix = "give each parameter without a default as a key of the file in conf/model"
        if unknown:
            fix = f"leave out {', '.join(unknown)}, or add it to the function"
            near = nearest_option(unknown[0], names)
            if near:
                fix = f"did you mean model.{near}?"
        raise LabError(
            f"{defined(function)}: {model.target_} does not take these knobs.",
            expected=f"{model.function}{signature}",
            received=f"{_signature(fixed[0], fixed[1], knobs)}: {error}",
            fix=fix,
        ) from None


def _check_outputs(model: KerasModel, module: ModuleType, sums: Any, outputs: int) -> None:
    shape = getattr(sums, "shape", None)
    if shape == (None, outputs):
        return
    received = f"{type(sums).__name__} of several outputs"
    if shape is not None:
        received = f"an output of shape {shape}"
    raise _unfit(
        model,
        module,
        "returns a model whose output does not fit the task.",
        f"one of shape (None, {outputs})",
        received,
    )


def _check_last_layer(model: KerasModel, module: ModuleType, made: keras.Model, config: Config) -> None:
    """Refuse a last activation if the loss applies one too: the gradient of the two is wrong, and nothing fails."""
    applied = config.output_activation
    last = _last_operation(made)
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    # A layer, or an operation of keras.ops, that is nothing but an activation.
    if type(last).__name__ in ("Softmax", "Sigmoid"):
        activation = type(last).__name__.lower()
    if applied != "identity" and activation in ("softmax", "sigmoid"):
        raise _unfit(
            model,
            module,
            f"returns a model that ends with {activation}.",
            f"sums, without a last activation: loss={config.loss} applies {applied}",
            f"activation={activation} in the last layer, {last.name}",
        )


def _last_operation(made: keras.Model) -> Any:
    """Return the layer or operation that a model ends with, also where that is inside another model."""
    last: Any = made
    while isinstance(last, keras.Model):
        inner = getattr(last, "operations", None) or last.layers
        if not inner:
            return last
        last = inner[-1]
    return last


def _unfit(model: KerasModel, module: ModuleType, problem: str, expected: str, received: str) -> LabError:
    function = getattr(module, model.function)
    return LabError(
        f"{defined(function)}: {model.target_} {problem}",
        expected=expected,
        received=received,
        fix="correct the function",
    )
