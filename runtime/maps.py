"""Maps of numbers brought to another size, as torch's interpolate does without align_corners."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetfm.signature import Array

Floats = NDArray[np.float32]
How = Literal["bilinear", "bicubic"]

_A = -0.75
"""The constant of torch's cubic kernel (Keys 1981)."""


def resized(values: Array, size: tuple[int, int], how: How = "bilinear") -> Floats:
    """[height, width] as float32 [*size]. Nothing is smoothed where it becomes smaller."""
    rows, columns = (weights(a, b, how) for a, b in zip(values.shape, size, strict=True))
    return np.asarray(rows @ values.astype(np.float32) @ columns.T, dtype=np.float32)


def weights(old: int, new: int, how: How) -> Floats:
    """What each of `old` places gives each of `new` ones, [new, old]; the rows sum to 1.

    https://pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html
    """
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    if how == "bilinear":
        places = places.clip(min=0.0)
    first = np.floor(places).astype(int)
    share = places - first
    parts = {0: 1 - share, 1: share} if how == "bilinear" else _cubic(share)
    matrix = np.zeros((new, old), np.float32)
    for step, part in parts.items():
        np.add.at(matrix, (np.arange(new), (first + step).clip(0, old - 1)), part)
    return matrix


def _cubic(share: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """The four places around, and what each of them gives."""
    near = {step: np.abs(share - step) for step in (-1, 0, 1, 2)}
    return {
        step: (_A + 2) * x**3 - (_A + 3) * x**2 + 1
        if step in (0, 1)
        else _A * x**3 - 5 * _A * x**2 + 8 * _A * x - 4 * _A
        for step, x in near.items()
    }
