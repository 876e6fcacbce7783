"""The process of a sync reads its messages. test_sync_process.py tests complete commands."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from pipeline.tracking.sync import service as sync_service


def test_a_message_that_is_cut_short_is_ignored_and_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[dict[str, Any]] = []

    def ended(code: int) -> None:
        taken.append({"ended": code})

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"end": true')))
    monkeypatch.setattr(os, "_exit", ended)
    sync_service.listen(taken.append)
    assert taken == [{"a": 1}, {"ended": 1}]
