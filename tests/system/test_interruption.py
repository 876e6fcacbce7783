"""Ctrl-C and SIGTERM: the first is postponed, the second is not, and afterwards the handlers are restored."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pipeline.system.signals import SERVER_SIGNALS, SIGNALS, collect_signals, postpone_signals, raise_interrupt


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[Any]]:
    """Set handlers of our own, so that a signal that is not caught fails the test and does not end the session."""
    before = {number: signal.signal(number, raise_interrupt) for number in SIGNALS}
    yield [signal.getsignal(number) for number in SIGNALS]
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    # Python handles it between two instructions of the main thread.
    time.sleep(0.01)


def now() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_only_sets_the_event(number: int, handlers: list[Any], capfd: pytest.CaptureFixture[str]) -> None:
    with postpone_signals() as asked:
        assert not asked.is_set()
        send(number)
        assert asked.is_set()
    assert asked.is_set()
    assert now() == handlers
    assert "press Ctrl-C again to stop at once" in capfd.readouterr().err


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_ends_the_block_at_once(first: int, second: int, handlers: list[Any]) -> None:
    reached = []

    def block() -> None:
        with postpone_signals() as asked:
            send(first)
            reached.append(asked)
            send(second)
            reached.append(asked)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert [asked.is_set() for asked in reached] == [True]
    assert now() == handlers


def _fail(error: BaseException) -> None:
    with postpone_signals():
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_handlers_are_restored_however_the_block_ends(error: BaseException, handlers: list[Any]) -> None:
    with suppress(type(error)):
        _fail(error)
    assert now() == handlers


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_the_block_a_signal_ends_at_once(number: int) -> None:
    with postpone_signals():
        pass
    with pytest.raises(KeyboardInterrupt):
        send(number)


def test_without_a_signal_the_event_is_not_set() -> None:
    with postpone_signals() as asked:
        pass
    assert not asked.is_set()


def test_in_another_thread_nothing_is_changed(handlers: list[Any]) -> None:
    seen = []

    def block() -> None:
        with postpone_signals() as asked:
            seen.append((asked.is_set(), now()))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [(False, handlers)]


@pytest.mark.parametrize("number", SERVER_SIGNALS)
def test_a_server_only_records_a_signal(number: int) -> None:
    before = signal.getsignal(number)
    with collect_signals() as noted:
        send(number)
        assert noted == [number]
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with collect_signals() as noted:
            send(signal.SIGHUP)
            assert noted == []
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
