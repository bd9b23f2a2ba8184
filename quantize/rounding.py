"""From float weights to int8: per-channel symmetric scales, and rounding that makes up for itself.

Compensated rounding is that of OBQ and GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323):
the rows of a weight are rounded one after the other, and the error each makes in the output, on
the inputs that calibration saw, is taken over by the rows still to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

LARGEST = 127
"""Symmetric: -128 is not used, so that negation is exact."""

DAMPING = 0.05
"""Added to the inputs' mean power. Calibration has seen too few tokens to be trusted further: an
input that was silent by chance would be given everybody's errors, and be wrong when it wakes."""

_AT_ONCE = 128
_TINY = 1e-12


@dataclass(frozen=True)
class Quantized:
    """An int8 weight [inputs, outputs] and its scale [outputs]."""

    values: NDArray[np.int8]
    scale: Matrix

    def dequantized(self) -> Matrix:
        """The float weight that it stands for."""
        return self.values.astype(np.float32) * self.scale


def channel_scale(weight: Matrix) -> Matrix:
    """The step of each output channel, [outputs]; 1 for a channel of zeros."""
    largest = np.abs(weight).max(axis=0)
    return np.asarray(np.where(largest > 0, largest / LARGEST, 1.0), np.float32)


def round_nearest(weight: Matrix) -> Quantized:
    """Each entry to the nearest step of its channel."""
    scale = channel_scale(weight)
    steps = np.clip(np.rint(weight / scale), -LARGEST, LARGEST)
    return Quantized(steps.astype(np.int8), scale)


class Compensation:
    """What rounding needs to know of an activation, for all the weights that read it.

    gram: mean over tokens of x^T x, [inputs, inputs], of the inputs as the weights see them; it
    is overwritten. noise: the variance that quantizing the activation adds to each input.
    order: in which inputs are rounded; left out, large ones first, since most is left to adapt.
    """

    def __init__(
        self, gram: Matrix, noise: float | Matrix, order: NDArray[np.intp] | None = None
    ) -> None:
        power = np.diag(gram).copy()
        gram[np.diag_indices_from(gram)] += noise + DAMPING * power.mean() + _TINY
        self.order = np.argsort(-power, kind="stable") if order is None else order
        self._factor = _inverse_factor(gram[np.ix_(self.order, self.order)])

    def round(self, weight: Matrix) -> Quantized:
        """Round so that the output's error on the inputs behind the gram is small."""
        scale = channel_scale(weight)
        values = np.empty(weight.shape, np.int8)

        def rounded(place: int, rows: Matrix) -> Matrix:
            steps = np.clip(np.rint(rows[0] / scale), -LARGEST, LARGEST)
            values[self.order[place]] = steps
            return np.asarray(steps * scale, np.float32)

        self.sweep(weight, rounded)
        return Quantized(values, scale)

    def sweep(
        self, weight: Matrix, rounded: Callable[[int, Matrix], Matrix], at_once: int = _AT_ONCE
    ) -> None:
        """Go through the inputs in order, each taking over the errors of those before.

        rounded(place, rows) is what input `order[place]` becomes, [outputs]; it is the first of
        `rows`, which are up to date to the next multiple of `at_once`.
        """
        factor, rest = self._factor, weight[self.order]
        for start in range(0, len(rest), at_once):
            stop = min(start + at_once, len(rest))
            errors = np.empty((stop - start, rest.shape[1]), np.float32)
            for k in range(start, stop):
                errors[k - start] = (rest[k] - rounded(k, rest[k:stop])) / factor[k, k]
                rest[k + 1 : stop] -= np.outer(factor[k, k + 1 : stop], errors[k - start])
            rest[stop:] -= factor[start:stop, stop:].T @ errors


def _inverse_factor(matrix: Matrix) -> Matrix:
    """The upper triangular U with U^T U = matrix^-1, for a positive definite matrix."""
    # With R the reversal of rows and columns, R chol(R A R) R is an upper V with V V^T = A, and
    # so U = V^-1: one factorization and one triangular inverse.
    upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1].copy()
    _invert_upper(upper)
    return upper


def _invert_upper(upper: Matrix) -> None:
    """Invert an upper triangular matrix in place, by halves: nearly all is matrix products."""
    size = len(upper)
    if size <= _AT_ONCE:
        upper[...] = np.linalg.inv(upper)
        return
    half = size // 2
    first, last, corner = upper[:half, :half], upper[half:, half:], upper[:half, half:]
    _invert_upper(first)
    _invert_upper(last)
    corner[...] = -(first @ corner @ last)
