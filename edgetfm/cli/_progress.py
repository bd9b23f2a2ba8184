"""Progress on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgetfm.progress import Progress, quiet

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar for each step on stderr, gone when the work is done; nothing if it is no terminal."""
    if not sys.stderr.isatty():
        yield quiet
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
