"""The environment variables that libraries read. Those that would change numbers, pictures or records are fixed here.

Importing `pipeline` calls `apply`, before any library is imported. So it holds for every command, for the processes
that a command starts, and for workers on other machines, which never run a command. docs/machines.md has a table of
these variables.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable

from pipeline.system.engines import VARIABLE
from pipeline.system.errors import LabError

# Set to these values, whatever they were.
SET = {
    # A folder that cannot contain a keras.json, which would set number type, epsilon and axis order.
    "KERAS_HOME": os.devnull,
    # Without oneDNN the order of summation is fixed.
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Figures are drawn to files, in our style.
    "MPLBACKEND": "agg",
    "MATPLOTLIBRC": os.devnull,
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# Set only if the user has not set them.
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
# Removed: they change the numbers that TensorFlow and CuPy compute, or name another git repository.
REMOVED = (
    "CUPY_TF32",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_WORK_TREE",
    "NVIDIA_TF32_OVERRIDE",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_XLA_FLAGS",
)
# Every variable with one of these prefixes but the engine of Keras is removed, so that those of later versions are
# removed too, ...
PREFIXES = ("MLFLOW_", "_MLFLOW_", "KERAS_", "UVICORN_")
# ... unless it has one of these. They say who uses a tracking server and how to reach it, how long to wait, how often
# to try, in what pieces to transfer files, and how to reach artifacts in S3. The last three are only for
# `pipeline.server`.
KEPT = (
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE",
    "MLFLOW_DOWNLOAD_CHUNK_TIMEOUT",
    "MLFLOW_ENABLE_MULTIPART_",
    "MLFLOW_ENABLE_PROXY_MULTIPART_",
    "MLFLOW_HTTP_POOL_",
    "MLFLOW_HTTP_REQUEST_",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER",
    "MLFLOW_HTTP_TCP_KEEPALIVE",
    "MLFLOW_MULTIPART_",
    "MLFLOW_S3_",
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_SERVER_CERT_PATH",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_WORKSPACE",
    "MLFLOW_AUTH_ADMIN_",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_SERVER_",
)
# The names of this machine, for which no proxy is used.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Ray adds up to 68 bytes to TMPDIR for the name of a socket, which may have 103 bytes on macOS and 107 on Linux.
LONGEST_TMPDIR = 35
# What Python ignores unless it is told otherwise.
IGNORED_WARNINGS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def apply() -> None:
    """Fix the environment of this process and of those that it starts. A second call changes nothing."""
    for name in list(os.environ):
        if _is_removed(name):
            del os.environ[name]
    os.environ.update(SET)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _reach_this_machine_directly()
    if len(os.fsencode(os.environ.get("TMPDIR", ""))) > LONGEST_TMPDIR:
        os.environ.setdefault("RAY_TMPDIR", "/tmp")  # noqa: S108 - where Ray puts its files without TMPDIR
    _let_warnings_be_warnings()


def refuse_fixed(names: Iterable[str]) -> None:
    """Refuse variables that are fixed here, for `hydra.job.env_set`, which Hydra sets after `apply`.

    Raises:
        LabError: one of the names is fixed.
    """
    # The points are signed in the environment of the command, before these are set.
    fixed = sorted(name for name in names if name in SET or name == VARIABLE or _is_removed(name))
    if fixed:
        raise LabError(
            "hydra.job.env_set contains variables that have no effect here.",
            expected="other variables than those that would change numbers, pictures or records",
            received=", ".join(fixed),
            fix="leave them out; docs/machines.md lists them",
        )


def _is_removed(name: str) -> bool:
    if name == VARIABLE:
        return False
    return name in REMOVED or (name.startswith(PREFIXES) and not name.startswith(KEPT))


def _reach_this_machine_directly() -> None:
    """Exempt this machine from the proxies in the environment: 127.0.0.1 would be the proxy's own machine."""
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # A lone asterisk exempts all machines.
    if exempt.strip() != "*":
        names = [name.strip() for name in exempt.split(",") if name.strip()]
        exempt = ",".join([*names, *(name for name in LOOPBACK if name not in names)])
    # Some libraries read only one of the two.
    os.environ["no_proxy"] = exempt
    os.environ["NO_PROXY"] = exempt


def _let_warnings_be_warnings() -> None:
    """Undo PYTHONWARNINGS=error and -W error: a deprecation in a library must not end a command."""
    # Python accepts any abbreviation of "error".
    if any(option.strip().startswith("e") for option in sys.warnoptions):
        os.environ.pop("PYTHONWARNINGS", None)
        warnings.resetwarnings()
        for category in IGNORED_WARNINGS:
            warnings.simplefilter("ignore", category)
