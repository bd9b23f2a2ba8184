"""Room for large arrays: in files without a name, so that they need no memory of their own."""

from __future__ import annotations

import functools
import tempfile
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 20
"""Arrays below this many bytes stay in memory."""


def space(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to be filled; a large one lies in a nameless file that goes when the array does."""
    if int(np.prod(shape)) * dtype.itemsize < SMALLEST:
        return np.empty(shape, dtype)
    _allow_files()
    with tempfile.TemporaryFile(prefix="edgetfm-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


MOST_FILES = 65_536


@functools.cache
def _allow_files() -> None:
    """As many open files as the system lets this process have: each array holds one open.

    A large model has more than the 256 or 1024 that processes start with.
    """
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
