"""Progress: bars on a terminal, a line for each step in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from edgetfm.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each step on stderr, gone when the work is done; in a log a line when it begins."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.SpinnerColumn(),
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(bar_width=24),
        rich.TimeElapsedColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        steps: dict[str, TaskID] = {}

        def show(what: str, done: int = 0, total: int = 0) -> None:
            if what not in steps:
                for earlier in steps.values():
                    bar.update(earlier, completed=1, total=1)
                steps[what] = bar.add_task(what, total=None)
            bar.update(steps[what], completed=done, total=total or None)

        yield show


def _lines() -> Progress:
    """Says each step when it begins, the first two seconds in silence: short work needs no log."""
    started = time.monotonic()
    last = ""

    def show(what: str, done: int = 0, total: int = 0) -> None:
        nonlocal last
        if what != last and time.monotonic() - started > QUIET_SECONDS:
            seconds = time.monotonic() - started
            click.echo(f"{seconds:6.0f} s  {what}", err=True)
        last = what

    return show


QUIET_SECONDS = 2.0
