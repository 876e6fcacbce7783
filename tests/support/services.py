"""Skip or fail tests that need a service that is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip a test that needs something this machine lacks; with LAB_SERVICES=required, fail."""
    (pytest.fail if os.environ.get("LAB_SERVICES") == "required" else pytest.skip)(f"needs {what}")
