"""A network in training as arrays, and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import keras
import numpy as np

from pipeline.backends.contract import State
from pipeline.backends.keras.network import Network
from pipeline.system.files import explained

WEIGHTS, SEEDS = "weights.h5", "seeds"


def state_of(network: Network) -> State:
    """The file that Keras' own checkpoint callback writes at the end of an epoch, as bytes.

    It holds weights, the network's notes, and the optimizer's variables with those that `Watched` adds. It leaves out
    metrics, which start at 0 with every batch, and seeds, which stand beside it.

    Raises:
        LabError: there is no room for it.
    """
    with _scratch_file() as file, explained(file):
        callback = keras.callbacks.ModelCheckpoint(file, save_weights_only=True, save_freq="epoch", verbose=0)
        callback.set_model(network)
        # Keras copies its variables in a way that NumPy 2 calls deprecated, with a warning for each.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            callback.on_epoch_end(0, logs={})  # it asks for the epoch, which the file's name does not have
        state = {WEIGHTS: np.frombuffer(file.read_bytes(), np.uint8)}
    if network.seeds:
        state[SEEDS] = np.stack([seed.numpy() for seed in network.seeds])
    return state


def restore(network: Network, state: State) -> None:
    """Give a fresh, compiled network of the same config the variables of a state.

    Raises:
        ValueError: the state is not one of such a network.
        LabError: there is no room for it, or the disk fails.
    """
    with _scratch_file() as file:
        with explained(file):
            file.write_bytes(state[WEIGHTS].tobytes())
        # Keras would only warn of an optimizer with other variables, and leave the fresh one as it is.
        with explained(file), warnings.catch_warnings(action="error", category=UserWarning):
            try:
                network.load_weights(file)
            except OSError as error:
                if error.errno is None:  # h5py's word for content that is not HDF5
                    raise ValueError(str(error)) from None
                raise
    for variable, seed in zip(network.seeds, state.get(SEEDS, ()), strict=True):
        variable.assign(seed)


@contextmanager
def _scratch_file() -> Iterator[Path]:
    with explained(Path(gettempdir())):
        folder = TemporaryDirectory(prefix="learning-rate-lab-")
    with folder:
        yield Path(folder.name) / f"model.{WEIGHTS}"
