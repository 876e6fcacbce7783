"""What a Keras model of one's own cannot have, one line for each problem: features of dense networks and of NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.config.needs import typed
from pipeline.config.optimizer import OWN_TRAINING
from pipeline.config.schema import Config


def own_model(config: Config) -> Iterator[str]:
    """Refuse what only dense networks have, for a Keras model of one's own."""
    subject = "a Keras model of one's own"
    if config.backend.name != "keras":
        target = getattr(config.model, "target_", "")
        yield f"model: {target} makes a Keras model; use backend=keras; received backend={config.backend.name}"
    if config.data.kind == "curve":
        yield f"data: {subject} needs rows to train on, data=mnist or others; received {config.data.name}, a curve"
        return
    if config.optimizer.name in OWN_TRAINING:
        yield (
            f"optimizer: {subject} needs an optimizer that follows the gradient, optimizer=adam; "
            f"received {config.optimizer.name}"
        )
    if config.grid is not None:
        yield f"grid: {subject} needs grid=null, a map trains dense networks; received a map"
    if config.balls is not None:
        yield f"balls: must be null unless the data is a curve; received data={config.data.name}"
    for name in ("l1", "l2"):
        if getattr(config.training, name):
            yield (
                f"training.{name}: {subject} has its penalties in its layers (kernel_regularizer); "
                f"use training.{name}=0; received {typed(getattr(config.training, name))}"
            )
    if config.recording.weight_metrics:
        yield (
            f"recording.weight_metrics: {subject} has too many weights to record each; "
            "use recording.weight_metrics=false; snapshots keep all of them; received true"
        )
