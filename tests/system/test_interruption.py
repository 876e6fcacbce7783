"""Signals while points train: the first is postponed, and afterwards the handlers are restored.

A second Ctrl-C or SIGTERM ends at once. A notice that the end is near does not, however often it arrives.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pipeline.system.signals import (
    NOTICES,
    SERVER_SIGNALS,
    SIGNALS,
    collect_signals,
    handle_signals,
    ignore_notices,
    interrupt_on_signals,
    postpone_signals,
    raise_interrupt,
)


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


# --- notices: a closed terminal, and a cluster before its time limit


@pytest.fixture
def noticed() -> Iterator[None]:
    """Let notices raise KeyboardInterrupt, as a command does at its start."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in NOTICES}
    interrupt_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("noticed")
@pytest.mark.parametrize("number", NOTICES)
def test_a_notice_is_postponed_however_often_it_arrives(number: int) -> None:
    with postpone_signals() as asked:
        send(number)
        assert asked.is_set()
        send(number)
        send(signal.SIGTERM)
        send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)


@pytest.mark.usefixtures("noticed")
@pytest.mark.parametrize("number", NOTICES)
def test_a_notice_outside_the_block_interrupts_once(number: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        send(number)
    # What follows, such as closing the runs in MLflow, is not interrupted by the same notice.
    send(number)


@pytest.mark.usefixtures("noticed")
@pytest.mark.parametrize("number", NOTICES)
def test_a_command_that_is_ending_ignores_notices(number: int) -> None:
    ignore_notices()
    send(number)


@pytest.mark.usefixtures("noticed")
def test_under_nohup_training_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt_on_signals()
    send(signal.SIGHUP)
    with postpone_signals() as asked, handle_signals(raise_interrupt):
        send(signal.SIGHUP)
        assert not asked.is_set()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


@pytest.mark.usefixtures("noticed")
def test_a_notice_that_submitit_handles_is_left_to_it() -> None:
    heard = []
    signal.signal(signal.SIGUSR2, lambda number, _frame: heard.append(number))
    interrupt_on_signals()
    with handle_signals(raise_interrupt), postpone_signals() as asked:
        send(signal.SIGUSR2)
        assert not asked.is_set()
    ignore_notices()
    send(signal.SIGUSR2)
    assert heard == [signal.SIGUSR2] * 2
