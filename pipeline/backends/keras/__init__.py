"""The same training through Keras 3, on whichever backend KERAS_BACKEND names (TensorFlow where it names none).

Nothing outside this package imports keras. The settings below are read when keras is first imported, so they stand
here; each can be overruled by the environment.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # as fast without, and without it sums keep their order
os.environ.setdefault("JAX_ENABLE_X64", "1")  # without it JAX rounds float64 runs to float32


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what is written to file descriptor 2 to itself, unless the block fails.

    TensorFlow's libraries write notes on missing GPUs while they are loaded, before they know their log level.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


with _silent_stderr():
    import keras  # noqa: F401
