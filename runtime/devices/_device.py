"""What a device is: a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgetfm.runtime.remote.checker import Partition

Proof = Literal["measured", "emulated", "static"]
"""What a run proves: answers and times; answers only; or neither, but what would be taken."""


@dataclass(frozen=True)
class Device:
    """One execution provider of onnxruntime, on this machine or where it is reached from here.

    extra: the pip extra that brings its onnxruntime into this process. missing: says what has to
    be there and is not, None when the device is ready; it never raises. prepare: runs once before
    a session is made. options: given to the provider. what: the device in words. target: the row
    of edgetfm.quantize.targets whose recipes suit it.

    answer: for devices outside this process, runs the job in a folder and leaves its result
    there; reach: how. predict: for those that are only looked at, what it would take of a graph
    whose free axes have these sizes. module: the Python one that brings the provider there.
    bring: gets what is missing, where that needs no one's leave. threads_option: the provider's
    own, for one that does not heed the session's threads. rows: the most rows of a batch it takes,
    None for any; fixed: whether it takes no free axes.
    """

    name: str
    provider: str
    extra: str
    missing: Callable[[], str | None]
    prepare: Callable[[], None] = lambda: None
    options: Mapping[str, Any] = field(default_factory=dict)
    what: str = ""
    target: str = ""
    proves: Proof = "measured"
    reach: str = "this process"
    answer: Callable[[Path], None] | None = None
    predict: Callable[[Path, Mapping[str, int]], Partition] | None = None
    module: str | None = None
    bring: Callable[[], None] | None = None
    threads_option: str = ""
    rows: int | None = None
    fixed: bool = False

    @property
    def is_here(self) -> bool:
        """Whether it runs in this process."""
        return self.answer is None and self.predict is None


def provided(provider: str, how: str) -> Callable[[], str | None]:
    """What `missing` says of a provider that the onnxruntime of this process has or has not."""

    def say() -> str | None:
        from edgetfm.errors import MissingExtra
        from edgetfm.runtime._ort import ort

        try:
            found = ort().get_available_providers()
        except MissingExtra:
            found = []
        return None if provider in found else f"an onnxruntime with {provider}: {how}"

    return say
