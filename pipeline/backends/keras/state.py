"""Save a network in training as arrays, and restore it."""

from __future__ import annotations

import importlib
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

# Names of the arrays of a state. Keras recognises its own format by the end of the file's name, `.weights.h5`.
WEIGHTS = "weights.h5"
SEEDS = "seeds"
TORCH = "torch"


def state_of(network: Network) -> State:
    """Return the file that Keras' own checkpoint callback writes at the end of an epoch, as an array of bytes.

    It contains the weights, the network's scalars, and the optimizer's variables, including those that `Watched` adds.
    It does not contain metrics, which start at 0 with every batch, or the seeds, which are a separate array. On PyTorch
    the generator of the process is a third, which a dropout without a seed of its own draws from.

    Raises:
        LabError: the disk has no room for the file.
    """
    with _scratch_file() as file, explained(file):
        callback = keras.callbacks.ModelCheckpoint(file, save_weights_only=True, save_freq="epoch", verbose=0)
        callback.set_model(network)
        # Keras copies its variables in a way that NumPy 2 reports as deprecated, with a warning for each.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            # Any epoch will do: the callback only needs it for file names that contain one.
            callback.on_epoch_end(0, logs={})
        state = {WEIGHTS: np.frombuffer(file.read_bytes(), np.uint8)}
    if network.seeds:
        state[SEEDS] = np.stack([seed.numpy() for seed in network.seeds])
    if keras.config.backend() == TORCH:
        state[TORCH] = importlib.import_module(TORCH).get_rng_state().numpy()
    return state


def restore(network: Network, state: State) -> None:
    """Assign the variables of a state to a compiled network of the same config.

    Raises:
        ValueError: the state does not fit the network, or is damaged.
        LabError: the disk has no room for the file, or fails.
    """
    with _scratch_file() as file:
        with explained(file):
            file.write_bytes(state[WEIGHTS].tobytes())
        # If the optimizer's variables differ, Keras only warns, and leaves the new optimizer unchanged.
        with explained(file), warnings.catch_warnings(action="error", category=UserWarning):
            try:
                network.load_weights(file)
            except OSError as error:
                # h5py raises an OSError without a number for content that is not HDF5; a failing disk sets the number.
                if error.errno is None:
                    raise ValueError(str(error)) from None
                raise
    for variable, seed in zip(network.seeds, state.get(SEEDS, ()), strict=True):
        variable.assign(seed)
    if TORCH in state:
        torch = importlib.import_module(TORCH)
        torch.set_rng_state(torch.from_numpy(state[TORCH]))


@contextmanager
def _scratch_file() -> Iterator[Path]:
    """Yield the path of a file in a temporary folder, because Keras reads and writes weights only by path."""
    with explained(Path(gettempdir())):
        folder = TemporaryDirectory(prefix="learning-rate-lab-")
    with folder:
        yield Path(folder.name) / f"model.{WEIGHTS}"
