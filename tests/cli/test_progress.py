"""A bar on a terminal, nothing anywhere else."""

from __future__ import annotations

import io
import sys

import pytest

from edgetfm.cli._progress import progress_bar
from edgetfm.progress import quiet


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


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress_bar() as progress:
        assert progress is quiet
        progress("measuring", 1, 2)
    assert pipe.getvalue() == ""
