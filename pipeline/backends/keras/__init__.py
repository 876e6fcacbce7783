"""The same training through Keras 3, on the engine that KERAS_BACKEND names (TensorFlow by default).

Nothing outside this package imports keras. The environment variables below are read when keras is first imported, so
they are set here; a value that is already set is kept.
"""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

# Only fatal errors: otherwise every command would print TensorFlow's notes on the CPU and on missing GPUs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Points of several shapes compile a step each: TensorFlow would warn of that among the lines of a grid.
logging.getLogger("tensorflow").setLevel(logging.ERROR)
# Without oneDNN the order of summation is fixed, and training is no slower.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# By default JAX rounds float64 arrays to float32.
os.environ.setdefault("JAX_ENABLE_X64", "1")


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Suppress output to file descriptor 2, unless the block fails.

    TensorFlow's libraries write notes about missing GPUs while they are loaded, before they read their log level.
    They write from C++, so replacing `sys.stderr` would not catch them.
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
    import keras  # noqa: F401  imported for its side effects, before any module of this package needs it
