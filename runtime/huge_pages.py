"""Weights in pages of 2 MiB: a decoder reads all of them for each token, and looks up each page.

A processor remembers where some thousand pages are. Of 4 KiB each, these are a few MiB, and a
decoder of 80 MB in such pages is slower by a tenth to a third, by luck of where they lie. Linux
gives large pages to whoever asks (https://docs.kernel.org/admin-guide/mm/transhuge.html), and
onnxruntime does not ask; so what it allocated for a session is turned into large pages behind it.
Elsewhere, and where an administrator turned them off, nothing is done.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Region = tuple[int, int]
"""Where memory starts, and where it ends."""

PAGE = 1 << 21
LEAST = 16 << 20
"""Bytes that are worth it: fewer stay where the processor finds them."""

USUAL_STACK = 8 << 20
"""Bytes of a thread's stack where nothing limits it."""

_COLLAPSE = 25
"""MADV_COLLAPSE of Linux 6.1: now, and not when the kernel comes round to it."""
_MAPS = Path("/proc/self/maps")
_ALLOWED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@contextmanager
def in_huge_pages() -> Iterator[None]:
    """Memory that is allocated inside, and still there at the end, lies in large pages."""
    before = _anonymous()
    yield
    if before is not None:
        new = list(_without(_anonymous() or [], before))
        if sum(end - start for start, end in new) >= LEAST:
            for start, end in new:
                _collapse(start, end)


def _anonymous() -> list[Region] | None:
    """This process's own memory, in order; None where large pages are not to be had."""
    if sys.platform != "linux":
        return None
    try:
        if "[never]" in _ALLOWED.read_text():
            return None
        lines = [line.split(maxsplit=5) for line in _MAPS.read_text().splitlines()]
    except OSError:
        return None
    found, guarded = [], 0
    for place, rights, _, _, inode, *name in lines:
        start, end = (int(number, 16) for number in place.split("-"))
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            # Behind a guard begins a thread's stack, which would grow to all that it may take.
            start += _stack() if start == guarded else 0
            if start < end:
                found.append((start, end))
        guarded = end if rights == "---p" else 0
    return found


def _stack() -> int:
    """Bytes of a thread's stack."""
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return USUAL_STACK if soft == resource.RLIM_INFINITY else soft


def _without(regions: Iterable[Region], others: list[Region]) -> Iterator[Region]:
    """The parts of regions that no other covers; both in order, as their parts are."""
    first = 0
    for start, end in regions:
        while first < len(others) and others[first][1] <= start:
            first += 1
        at = first
        while at < len(others) and others[at][0] < end:
            low, high = others[at]
            if low > start:
                yield start, low
            start, at = max(start, high), at + 1
        if start < end:
            yield start, end


def _collapse(start: int, end: int) -> None:
    """Put the whole pages between these into large ones; the content stays as it is."""
    start, end = -(-start // PAGE) * PAGE, end // PAGE * PAGE
    if start >= end:
        return
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None, use_errno=True).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        # The first is for older kernels: their own thread comes by in time.
        advise(start, end - start, mmap.MADV_HUGEPAGE)
        advise(start, end - start, _COLLAPSE)
