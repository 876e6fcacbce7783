"""Which values of other keys a kind of training needs, and the check that they have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

from pipeline.config.schema import Config

# The accepted values of each key. For a section with a `kind` or a `name`, they are kinds or names.
Needs = dict[str, Sequence[object]]
NUMPY: Needs = {"backend": ["numpy"], "gradient": ["backpropagation"]}
FULL_BATCH: Needs = {"training.batch_size": [None]}
NO_PENALTY: Needs = {"training.l1": [0], "training.l2": [0]}
NO_CLIPPING: Needs = {"training.clip_value": [None], "training.clip_norm": [None]}
PLAIN_LAYERS: Needs = {"model.batch_normalization": [False], "model.dropout": [0], "model.drop_connect": [0]}
NO_RECORDS_OF_WEIGHTS: Needs = {
    "recording.weight_metrics": [False],
    "recording.direction_changes": [False],
    "recording.table_epochs": [0],
    "recording.curvature": [False],
}
# Keys that are by default what another one is, so that nobody may have typed them.
SAME_AS = {"recording.direction_changes": "recording.weight_metrics"}
METHOD: Needs = NUMPY | {"schedule": ["constant"], "recording.curvature": [False]} | NO_CLIPPING | PLAIN_LAYERS
MAP_OR_CURVE: Needs = NUMPY | FULL_BATCH | NO_PENALTY | NO_CLIPPING | PLAIN_LAYERS | NO_RECORDS_OF_WEIGHTS
MAP: Needs = MAP_OR_CURVE | {
    "loss": ["mean_squared_error", "half_summed_squared_error"],
    "model.further_hidden_sizes": [()],
    "model.hidden_activation": ["sigmoid", "relu"],
}
# A curve reads no key of `model`: they must be as in conf/model/linear.yaml, so that none seems to have an effect.
CURVE: Needs = MAP_OR_CURVE | {
    "model.hidden_size": [None],
    "model.further_hidden_sizes": [()],
    "model.hidden_activation": ["sigmoid"],
    "model.output_activation": ["identity"],
    "model.bias": [True],
    "model.initializer": ["constant"],
    "model.parametrization": ["standard"],
    "model.initial_weight": [0],
    "model.initial_bias": [0],
}


def unmet(config: Config, subject: str, needs: Needs) -> Iterator[str]:
    """Yield the keys that have none of the accepted values; missing sections are skipped."""
    refused: dict[str, object] = {}
    for key, accepted in needs.items():
        if key.partition(".")[0] not in config.model_fields_set:
            continue
        received = value_of(config, key)
        if received in accepted:
            continue
        refused[key] = received
        # One message for both.
        if refused.get(SAME_AS.get(key, "")) != received:
            fix = ", or ".join(typed(value) for value in accepted)
            yield f"{key}: {subject} needs {key}={fix}; received {typed(received)}"


def value_of(config: Config, key: str) -> object:
    """Return the value of a key; for a section, return its kind or its name."""
    value = attrgetter(key)(config)
    return getattr(value, "kind", getattr(value, "name", value))


def typed(value: object) -> str:
    """Format a value as it is typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str([*value])
    return str(value)
