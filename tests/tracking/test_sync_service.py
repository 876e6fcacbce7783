"""The process of a sync reads its messages. test_sync_process.py tests complete commands."""

from __future__ import annotations

import io
import logging
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


def test_warnings_are_shown_by_the_command() -> None:
    sent: list[dict[str, Any]] = []
    logger = logging.getLogger("pipeline.any")
    notices = sync_service.Notices(sent.append)
    logger.addHandler(notices)
    try:
        logger.warning("The store was %s.", "moved")
        logger.info("not shown")
    finally:
        logger.removeHandler(notices)
    assert sent == [{"notice": "The store was moved."}]
