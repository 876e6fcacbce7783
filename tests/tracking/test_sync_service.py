"""What the process of a sync makes of what it is told. Whole commands with one: test_sync_process.py."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from pipeline.tracking.sync import service as sync_service


def test_a_message_that_breaks_off_is_not_taken_and_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    def ended(code: int) -> None:
        taken.append({"ended": code})

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"end": true')))
    monkeypatch.setattr(os, "_exit", ended)
    sync_service._listen(taken.append)
    assert taken == [{"a": 1}, {"ended": 1}]
