"""How long work says how far it is: a callable that the command line draws as a bar."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total); total 0 means that it is not known."""


def quiet(what: str, done: int = 0, total: int = 0) -> None:
    """The progress of a library call: none."""
