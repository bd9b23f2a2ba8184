"""What a device is: a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Device:
    """One execution provider of onnxruntime on this machine.

    extra: the pip extra that brings it. missing: says what has to be there and is not, None when
    the device is ready; it never raises. prepare: runs once before a session is made.
    options: given to the provider.
    """

    name: str
    provider: str
    extra: str
    missing: Callable[[], str | None]
    prepare: Callable[[], None] = lambda: None
    options: Mapping[str, Any] = field(default_factory=dict)
