"""A bar on a terminal, a line a step in the log of long work."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from edgetfm.cli._progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar() as progress:
        progress("reading [bold]", 0, 0)
        progress("measuring", 1, 2)
        progress("measuring", 2, 2)
    written = terminal.getvalue()
    assert "reading [bold]" in written
    assert "measuring" in written


def test_a_log_gets_a_line_for_each_step_of_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    clock = iter([0.0, 1.0, 3.0, 3.0, 4.0, 4.0, 5.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress_bar() as progress:
        for step in ("reading", "measuring", "measuring", "rounding"):
            progress(step, 1, 2)
    lines = [line.split() for line in pipe.getvalue().splitlines()]
    assert [line[2] for line in lines] == ["measuring", "rounding"]


def test_a_log_names_the_first_step_once_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr("edgetfm.cli._progress.QUIET_SECONDS", 0.5)
    with progress_bar() as progress:
        progress("opening", 0, 0)
        progress("reading", 0, 0)
        until = time.monotonic() + 10
        while not pipe.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        progress("reading", 1, 2)
    assert [line.split()[2] for line in pipe.getvalue().splitlines()] == ["reading"]


def test_a_step_that_begins_while_another_is_written_has_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            if not writing.is_set():
                writing.set()
                more.wait(10)
            return super().write(text)

    writing, more = threading.Event(), threading.Event()
    pipe = Slow()
    monkeypatch.setattr(sys, "stderr", pipe)
    monkeypatch.setattr("edgetfm.cli._progress.QUIET_SECONDS", 0.05)
    with progress_bar() as progress:
        progress("reading", 0, 0)
        assert writing.wait(10)
        threading.Timer(0.1, more.set).start()
        progress("measuring", 0, 0)
    assert [line.split()[2] for line in pipe.getvalue().splitlines()] == ["reading", "measuring"]


def test_short_work_leaves_a_log_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_bar() as progress:
        progress("measuring", 1, 2)
    assert pipe.getvalue() == ""
