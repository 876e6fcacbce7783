"""The progress of a command: lines in a pipe, and the last line of a terminal."""

from __future__ import annotations

import logging
import logging.config
import re
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.system import last_line, terminal
from pipeline.system.bar import Bar, block
from pipeline.system.last_line import LAST_LINE, Step, doing

TYPICAL = "three_bits numpy: points 1, 3, 5, 7, 9, 11, 13 of 14"


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called by the test itself: the stream of its fixtures is another one."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step counts as long, and the thread that draws does nothing by itself."""
    monkeypatch.setattr(last_line, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(last_line, "TICK_SECONDS", 1e6)


# --- training


def test_plain_lines_have_points_epoch_and_loss(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_line, "TICK_SECONDS", 1e6)
    shown = terminal.TrainingProgress("mnist numpy: points 1-3 of 3", 20)
    shown(7, 0.25)
    LAST_LINE.refresh()
    monkeypatch.setattr(last_line, "pause", lambda elapsed: 0.0)
    LAST_LINE.refresh()
    LAST_LINE.refresh()
    shown.close()
    first, middle, again, last = capsys.readouterr().err.splitlines()
    assert first == "mnist numpy: points 1-3 of 3: 20 epochs"
    assert middle == "mnist numpy: points 1-3 of 3: epoch 7/20 loss 0.25"
    # An epoch that takes long is no silence.
    assert again == "mnist numpy: points 1-3 of 3: epoch 7/20 loss 0.25 (0 s)"
    assert last.startswith("mnist numpy: points 1-3 of 3: ")
    assert last.endswith(" s")


def test_a_worker_logs_lines_only_when_it_is_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "pause", lambda elapsed: 0.0)
    shown = terminal.TrainingProgress("mnist numpy", 20, bar=False)
    LAST_LINE.refresh()
    shown(7)
    shown.close()
    assert capsys.readouterr().err.splitlines()[:2] == ["mnist numpy: 20 epochs", "mnist numpy: epoch 7/20"]


def test_a_log_is_silent_for_3_seconds_in_the_first_minute_and_longer_later() -> None:
    assert [last_line.pause(elapsed) for elapsed in (0, 59, 600, 3600)] == [3.0, 3.0, 30.0, 180.0]


def test_a_stack_that_goes_on_says_after_how_many_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal.TrainingProgress("mnist numpy", 20, 7)
    shown(8, 0.25)
    shown.close()
    shown.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "mnist numpy: 20 epochs, resuming after 7"
    assert last.endswith(" s")


def test_training_that_fails_does_not_look_like_one_that_ended(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal.TrainingProgress("mnist numpy", 20)
    shown.close("failed after ")
    shown.close()
    assert re.fullmatch(r"mnist numpy: 20 epochs\nmnist numpy: failed after \d+\.\d s\n", capsys.readouterr().err)


def test_it_counts_blocks_too(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.TrainingProgress("a map", 7, 2, unit="block").close()
    assert capsys.readouterr().err.startswith("a map: 7 blocks, resuming after 2\n")


def test_a_bar_goes_on_where_training_does(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    shown = terminal.TrainingProgress("mnist numpy", 20, 7)
    shown(9, 0.25)
    shown.close()
    first, last = capsys.readouterr().err.removeprefix("\r").split("\r")
    assert re.fullmatch(r"mnist numpy \|█{10} {20}\| 7/20 00:00 so far *", first)
    assert re.fullmatch(r"mnist numpy \|█{13} {17}\| 9/20 00:00 left loss 0.25 *\n", last)


def test_a_bar_is_silenced_with_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on_a_terminal(monkeypatch)
    caplog.set_level(logging.WARNING, "pipeline")
    shown = terminal.TrainingProgress("mnist numpy", 20)
    shown(9, 0.25)
    shown.close()
    assert capsys.readouterr().err == ""


# --- the bar


@pytest.mark.parametrize(("width", "columns"), [(60, 22), (80, 30), (200, 40)])
def test_a_bar_keeps_its_share_whatever_its_label(width: int, columns: int) -> None:
    for label in ("a", TYPICAL, "x" * 300):
        line = Bar(label, 60000, 0, 25200, "loss 0.00123").line(width - 1, "#")
        assert len(line) <= width - 1
        assert len(re.findall(r"\|(.*)\|", line)[0]) == columns
        assert "25200/60000" in line
        assert "loss 0.00123" in line or width < 80


def test_a_label_is_shortened_in_the_middle() -> None:
    line = Bar(TYPICAL, 60000, 0, 25200, "loss 0.00123").line(79, "#")
    assert line.startswith("three_... of 14 |")


@given(
    st.text("abc: ", max_size=200),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.text("xyz ", max_size=60),
    st.integers(0, 200),
)
def test_a_bar_fits_its_line(label: str, done: int, total: int, note: str, width: int) -> None:
    line = Bar(label, total, 0, min(done, total), note).line(width, "#")
    counts = f"{min(done, total)}/{total}"
    assert len(line) <= width
    assert counts in line or width < len(counts)


def test_a_narrow_line_has_the_counts_before_the_label_and_the_label_before_a_bar() -> None:
    bar = Bar(TYPICAL, 60000, 0, 25200, "loss 0.00123")
    assert re.fullmatch(r"three.*of 14 \|#+ +\| 25200/60000", bar.line(45, "#"))
    assert bar.line(44, "#") == "three_bi...13 of 14 25200/60000 loss 0.00123"
    assert bar.line(27, "#") == "three_... of 14 25200/60000"
    assert bar.line(20, "#") == "25200/60000"
    assert bar.line(5, "#") == "25200"
    assert bar.line(0, "#") == ""


@pytest.mark.parametrize("columns", ["1", "11", "26", "27", "44", "45", "46"])
def test_training_goes_on_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", columns)
    shown = terminal.TrainingProgress(TYPICAL, 60000)
    shown(25200, 0.5)
    shown.close()
    drawn = re.split(r"[\r\n]", capsys.readouterr().err)
    assert max(map(len, drawn)) < int(columns)


def test_the_time_that_is_left_follows_from_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.system.bar.time.monotonic", lambda: 160.0)
    # 10 of the remaining 90 in a minute.
    assert " 20/100 08:00 left" in Bar("it", 100, 10, 20, began=100.0).line(79, "#")
    assert " 11/1000 16:29:00 left" in Bar("it", 1000, 10, 11, began=100.0).line(79, "#")
    # At the end, the time that it took.
    assert " 100/100 01:00" in Bar("it", 100, 10, 100, began=100.0).line(79, "#")
    assert Bar("it", 100, 10, 10, began=100.0).line(79, "#").rstrip().endswith("10/100 01:00 so far")


# --- steps


@pytest.mark.usefixtures("silent")
def test_a_step_is_one_line_that_is_drawn_again_and_then_erased(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    with doing("writing to MLflow", 48) as step:
        LAST_LINE.refresh()
        step.count(12, 48)
        LAST_LINE.refresh()
    first, second, *erased = capsys.readouterr().err.removeprefix("\r").split("\r")
    assert first.rstrip() == "writing to MLflow 0 of 48 (0 s)"
    assert second.rstrip() == "writing to MLflow 12 of 48 (0 s)"
    assert "".join(erased).strip() == ""
    assert "\n" not in "".join(erased)


@pytest.mark.usefixtures("silent")
def test_a_step_within_training_stands_in_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    with doing("all of it"):
        shown = terminal.TrainingProgress("mnist keras", 3)
        with doing("importing Keras"):
            pass
        shown.close()
    first, second, third, *_ = capsys.readouterr().err.removeprefix("\r").split("\r")
    assert "all of it" not in first
    assert second.rstrip().endswith("| 0/3 importing Keras")
    assert "importing" not in third


@pytest.mark.usefixtures("silent")
def test_a_step_has_lines_in_a_log_while_it_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with doing("drawing the figures"):
        LAST_LINE.refresh()
        LAST_LINE.refresh()
    with doing("writing to MLflow", 48) as step:
        LAST_LINE.refresh()
        step.count(12, 48)
        LAST_LINE.refresh()
        monkeypatch.setattr(last_line, "pause", lambda elapsed: 0.0)
        LAST_LINE.refresh()
        LAST_LINE.refresh()
    assert capsys.readouterr().err.splitlines() == [
        "drawing the figures",
        "writing to MLflow 0 of 48",
        "writing to MLflow 12 of 48",
        "writing to MLflow 12 of 48 (0 s)",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_short_step_is_not_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setattr(last_line, "QUIET_SECONDS", 1e6)
    with doing("reading mnist"):
        LAST_LINE.refresh()
    assert capsys.readouterr().err == ""


def test_a_thread_draws_while_a_step_lasts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    drawn = threading.Event()
    line = last_line.LastLine()
    monkeypatch.setattr(last_line, "LAST_LINE", line)
    monkeypatch.setattr(last_line, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(last_line, "QUIET_SECONDS", 0.0)

    def refresh() -> None:
        last_line.LastLine.refresh(line)
        drawn.set()

    monkeypatch.setattr(line, "refresh", refresh)
    with doing("reading mnist"):
        assert drawn.wait(60)
    assert "reading mnist" in capsys.readouterr().err


@pytest.mark.parametrize("long", [False, True])
def test_a_step_is_not_logged_while_another_thread_would_wait_for_the_line(
    monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """A thread that logs holds the lock of the handler when it asks for the line, so nobody may do it in reverse."""
    monkeypatch.setattr(last_line, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(last_line, "TICK_SECONDS", 1e6)
    line = last_line.LastLine()
    waited: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other = threading.Thread(target=line.write, args=(record.getMessage(),), daemon=True)
            other.start()
            other.join(10)
            waited.append(other.is_alive())

    handler = Handler()
    last_line.log.addHandler(handler)
    try:
        step = Step("importing keras", long=long)
        line.begin(step)
        line.refresh()
        line.end(step)
    finally:
        last_line.log.removeHandler(handler)
    assert waited == [False]


@pytest.mark.usefixtures("silent")
def test_the_line_is_drawn_while_the_log_is_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra sets it up for each job: meanwhile it holds the lock of all loggers, and waits for their handlers."""
    on_a_terminal(monkeypatch)
    waited: list[bool] = []

    def handler() -> logging.Handler:
        # Loggers forget what they know of their levels.
        logging.getLogger("nobody").setLevel(logging.INFO)
        other = threading.Thread(target=LAST_LINE.refresh, daemon=True)
        other.start()
        other.join(10)
        waited.append(other.is_alive())
        return logging.NullHandler()

    with doing("reading mnist"):
        logging.config.dictConfig(
            {"version": 1, "disable_existing_loggers": False, "handlers": {"none": {"()": handler}}}
        )
    assert waited == [False]
    assert "reading mnist" in capsys.readouterr().err


def test_a_step_that_a_worker_does_not_show(capsys: pytest.CaptureFixture[str], silent: None) -> None:
    with doing("reading mnist", shown=False) as step:
        step.count(1, 2)
        LAST_LINE.refresh()
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("silent")
def test_a_step_that_fails_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="no room"), doing("reading mnist"):
        raise OSError("no room")
    LAST_LINE.refresh()
    assert capsys.readouterr().err == ""


# --- messages


def test_a_message_has_a_line_of_its_own_above_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    shown = terminal.TrainingProgress("it", 3)
    shown(1, 0.5)
    logging.getLogger("pipeline.tracking").warning("MLflow is away.")
    shown.close()
    lines = re.split(r"[\r\n]", capsys.readouterr().err)
    assert "MLflow is away." in lines
    assert lines[-2].startswith("it |")


def test_a_bar_shows_only_what_the_terminal_can() -> None:
    assert block("utf-8") == "█"
    assert block("ascii") == block(None) == block("no-such-encoding") == "#"


def test_the_text_of_a_step_counts_what_is_counted() -> None:
    step = Step("writing to MLflow")
    assert step.text == "writing to MLflow"
    step.count(12, 4800)
    assert step.text == "writing to MLflow 12 of 4,800"
