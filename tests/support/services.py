"""What the tests do where a part is missing that they need."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip a test that needs something this machine lacks; where all services are promised, fail."""
    (pytest.fail if os.environ.get("LAB_SERVICES") == "required" else pytest.skip)(f"needs {what}")
