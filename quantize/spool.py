"""Finished weights wait on disk: memory holds one at a time however large the model is."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = 1 << 20
"""Arrays below this many bytes stay in memory."""


def space(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to be filled; a large one lies in a nameless file that goes when the array does."""
    if int(np.prod(shape)) * dtype.itemsize < SMALLEST:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="edgetfm-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def spooled(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, on disk if it is large."""
    if array.nbytes < SMALLEST:
        return array
    mapped = space(array.shape, array.dtype)
    mapped[...] = array
    return mapped
