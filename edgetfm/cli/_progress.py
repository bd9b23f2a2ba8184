"""Progress: bars on a terminal, a line for each step in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING

import click

from edgetfm.progress import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each step on stderr, gone when the work is done; in a log a line when it begins."""
    if not sys.stderr.isatty():
        with _lines() as show:
            yield show
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


@contextmanager
def _lines() -> Iterator[Progress]:
    """Says each step when it begins; in the first two seconds only the one that outlasts them."""
    started, lock = time.monotonic(), Lock()
    step = said = ""

    def say() -> None:
        nonlocal said
        with lock:
            now = step  # another may begin while this one is written
            if now != said:
                click.echo(f"{time.monotonic() - started:6.0f} s  {now}", err=True)
            said = now

    def show(what: str, done: int = 0, total: int = 0) -> None:
        nonlocal step
        step = what
        if step != said and time.monotonic() - started > QUIET_SECONDS:
            say()

    late = Timer(QUIET_SECONDS, say)
    late.daemon = True
    late.start()
    try:
        yield show
    finally:
        late.cancel()


QUIET_SECONDS = 2.0
"""Shorter work needs no log."""
