"""Runtimes that cannot share a process with ours: each in a Python environment of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgetfm.runtime.remote import emulated, store


def missing(name: str, pins: str) -> Callable[[], str | None]:
    """What `Device.missing` says of a device with an environment."""

    def say() -> str | None:
        if store.has_python_environment(pins):
            return None
        return f"an environment with its own onnxruntime: edgetfm doctor --install {name}"

    return say


def bring(pins: str) -> Callable[[], None]:
    """Makes the environment."""
    return partial(store.bring_python_environment, pins)


def answer(pins: str, limit_s: float = emulated.LIMIT_S) -> Callable[[Path], None]:
    """Runs jobs in the environment, each within so many seconds."""

    def run(folder: Path) -> None:
        emulated.run([str(store.python_environment(pins))], folder, limit_s=limit_s)

    return run
