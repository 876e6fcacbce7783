"""What makes two points the same point: everything that decides their numbers, as one canonical text and its hash."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.files import file_sha256, short_hash

PACKAGE = Path(__file__).resolve().parent
NOT_SIGNED: dict[str, Any] = {
    "study": True,
    "feature": True,
    "tracking": True,
    "results": True,
    "dry_run": True,
    "force": True,
    "backend": {"line_study_gradient"},
    "data": {"name", "local_dir", "sources", "files"},
}
"""Keys that do not decide numbers: names and places, and `line_study_gradient`, which `gradient` has taken up.

Of the data the checksums of its arrays are signed, wherever they came from.
"""
DECIDING = ("data.py", "history.py", "initial_weights.py", "parametrization.py", "schedules.py")
"""Modules that decide numbers on either backend; those of a backend's own package come on top."""
EXPORTING = "saving.py"
"""A backend's module that only writes trained weights in another format."""


def signed_text(config: Config, checksums: Mapping[str, str]) -> str:
    """Canonical JSON of what decides a point's numbers: its config, its data and the source of the modules that train.

    For Keras what it runs on comes on top, for a map the values of its axes. Keys are sorted and values typed, so that
    neither the order of keys nor 1 for 1.0 makes a difference.

    Args:
        config: the point's.
        checksums: SHA-256 by array name.
    """
    decides: dict[str, Any] = {
        "config": config.model_dump(mode="json", exclude=NOT_SIGNED),
        "data": dict(checksums),
        "source": source_checksums(config.backend.name),
    }
    if config.grid is not None:
        decides["axes"] = {axis.knob: axis.values().tolist() for axis in config.grid.axes}
    if config.backend.name == "keras":
        decides["engine"] = os.environ.get("KERAS_BACKEND") or "tensorflow"  # Keras reads it when it is imported
    return json.dumps(decides, sort_keys=True, indent=1, allow_nan=False) + "\n"


def signature(config: Config, checksums: Mapping[str, str]) -> str:
    """Short hash of the signed text."""
    return short_hash(signed_text(config, checksums).encode())


@functools.cache
def source_checksums(backend: str) -> dict[str, str]:
    """SHA-256 of each module that decides a backend's numbers, by its path in the package."""
    own = sorted(file for file in (PACKAGE / "backends" / backend).glob("*.py") if file.name != EXPORTING)
    files = [*(PACKAGE / name for name in DECIDING), *own]
    return {file.relative_to(PACKAGE).as_posix(): file_sha256(file) for file in files}
