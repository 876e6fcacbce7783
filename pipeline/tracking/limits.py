"""What MLflow accepts: the sizes of batches, names and texts. SQLite stores longer ones, PostgreSQL refuses them."""

from __future__ import annotations

import getpass

# Metrics and parameters per call.
BATCH = 1000
PARAMS_BATCH = 100
# Characters of the name of a run and of a user, of a parameter, and of the tags of runs and experiments.
LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_EXPERIMENT_TAG = 20_000


def storable(text: str, longest: int) -> str:
    """Return a text as every store accepts it: valid Unicode without NUL, truncated to `longest` characters."""
    # A command line need not be valid UTF-8; Python then holds it with surrogates, which no database stores.
    valid = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return valid[:longest]


def user_name() -> str:
    """Return the name of the user, which MLflow shows for a run."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in some containers
        return "unknown"
    return storable(name, LONGEST_NAME)
