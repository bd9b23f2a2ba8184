"""Finished weights wait on disk: memory holds one at a time however large the model is."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 20
"""Arrays below this many bytes stay in memory."""


def spooled(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, mapped from a nameless temporary file that goes when the array does."""
    if array.nbytes < SMALLEST:
        return array
    with tempfile.TemporaryFile(prefix="edgetfm-") as file:
        mapped = np.memmap(file, dtype=array.dtype, mode="w+", shape=array.shape)
    mapped[...] = array
    mapped.flush()
    return mapped
