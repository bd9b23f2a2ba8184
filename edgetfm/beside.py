"""Work in a thread of its own, which stops as soon as nobody wants what it gives."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Event
from types import TracebackType
from typing import Generic, Self, TypeVar

_STOP: ContextVar[Event | None] = ContextVar("stop", default=None)

_Given = TypeVar("_Given")


class Unwanted(Exception):
    """Nobody waits any more for what this thread works on."""


def still_wanted() -> None:
    """Raise Unwanted in a thread whose work was told to stop; to be called between its steps."""
    stop = _STOP.get()
    if stop is not None and stop.is_set():
        raise Unwanted


class Beside(Generic[_Given]):
    """A piece of work that is begun at once, beside the block that it is the context of.

    No thread outlives the block: where that fails or is interrupted, the work ends at its next
    `still_wanted`.
    """

    def __init__(self, work: Callable[[], _Given]) -> None:
        def stoppable() -> _Given:
            _STOP.set(self._stop)
            return work()

        self._stop = Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
        self._begun = self._pool.submit(stoppable)

    def result(self) -> _Given:
        """What the work gives, once it is done; its error if it fails."""
        given = self._begun.result()
        self._pool.shutdown()
        return given

    def stop(self, error: BaseException | None = None) -> None:
        """Have the work end, and wait until it has; how it failed is added to the error's notes."""
        self._stop.set()
        self._pool.shutdown()
        own = self._begun.exception()
        if error is not None and own not in (None, error) and not isinstance(own, Unwanted):
            error.add_note(f"what went on beside it failed as well: {own!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop(error)
