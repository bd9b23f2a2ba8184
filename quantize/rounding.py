"""From float weights to int8: per-channel symmetric scales, and rounding that makes up for itself.

Pair-safe weights are for x86 CPUs with AVX2 and without VNNI, whose kernels add two products, of
the inputs 2i and 2i + 1, in 16 bits: no activation overflows them.

Compensated rounding is that of OBQ and GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323):
the rows of a weight are rounded one after the other, and the error each makes in the output, on
the inputs that calibration saw, is taken over by the rows still to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

LARGEST = 127
"""Symmetric: -128 is not used, so that negation is exact."""

LARGEST_PAIR = 128
"""What two weights of one sign may add up to: 255 * 128 is within 16 bits, 255 * 129 is not."""

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


def channel_scale(weight: Matrix, *, pair_safe: bool = False) -> Matrix:
    """The step of each output channel, [outputs]; 1 for a channel of zeros."""
    step = np.abs(weight).max(axis=0) / LARGEST
    if pair_safe:
        step = np.maximum(step, largest_pair(weight) / LARGEST_PAIR)
    return np.asarray(np.where(step > 0, step, 1.0), np.float32)


def largest_pair(weight: NDArray[Any]) -> NDArray[Any]:
    """For each output, the most that two paired weights of one sign add up to, [outputs]."""
    pairs = _pairs(weight)
    if not len(pairs):
        return np.zeros(weight.shape[1], weight.dtype)
    up, down = pairs.clip(0).sum(axis=1), pairs.clip(None, 0).sum(axis=1)
    return np.asarray(np.maximum(up, -down).max(axis=0))


def round_nearest(weight: Matrix, *, pair_safe: bool = False) -> Quantized:
    """Each entry to the nearest step of its channel, or one further where pairs must be safe."""
    scale = channel_scale(weight, pair_safe=pair_safe)
    real = weight / scale
    steps = np.clip(np.rint(real), -LARGEST, LARGEST)
    if pair_safe:
        _mend(_pairs(steps), _pairs(real))
    return Quantized(steps.astype(np.int8), scale)


def _pairs(weight: NDArray[Any]) -> NDArray[Any]:
    """The paired rows, [pairs, 2, outputs]; the last of an odd number has no partner."""
    paired = len(weight) // 2
    return weight[: 2 * paired].reshape(paired, 2, weight.shape[1])


def _mend(pairs: Matrix, real: Matrix) -> None:
    """Take back, in place, the step by which rounding pushed a pair over: where it costs least."""
    for sign in (1, -1):
        over = ((sign * pairs).clip(0).sum(axis=1) - LARGEST_PAIR).clip(0)
        away = sign * (pairs - real)
        first = away[:, 0] >= away[:, 1]
        pairs[:, 0] -= sign * over * first
        pairs[:, 1] -= sign * over * ~first


class Compensation:
    """What rounding needs to know of an activation, for all the weights that read it.

    gram: mean over tokens of x^T x, [inputs, inputs], of the inputs as the weights see them; it
    is overwritten. noise: the variance that quantizing the activation adds to each input.
    """

    def __init__(self, gram: Matrix, noise: float) -> None:
        power = np.diag(gram).copy()
        gram[np.diag_indices_from(gram)] += noise + DAMPING * power.mean() + _TINY
        # Large inputs first: most is left to adapt.
        self._order = np.argsort(-power, kind="stable")
        self._factor = _inverse_factor(gram[np.ix_(self._order, self._order)])

    def round(self, weight: Matrix, *, pair_safe: bool = False) -> Quantized:
        """Round so that the output's error on the inputs behind the gram is small."""
        scale = channel_scale(weight, pair_safe=pair_safe)
        values = np.zeros(weight.shape, np.int8)

        def rounded(k: int, row: Matrix) -> Matrix:
            low, high = _room(values, k) if pair_safe else (-LARGEST, LARGEST)
            steps = np.clip(np.rint(row / scale), low, high)
            values[k] = steps
            return np.asarray(steps * scale, np.float32)

        self.sweep(weight, rounded)
        return Quantized(values, scale)

    def sweep(self, weight: Matrix, rounded: Callable[[int, Matrix], Matrix]) -> None:
        """Go through the inputs of a weight, each taking over the errors of those before.

        rounded(k, row): what input k becomes, [outputs], given what it should be by then.
        """
        order, factor = self._order, self._factor
        rest = weight[order]
        for start in range(0, len(rest), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(rest))
            errors = np.empty((stop - start, rest.shape[1]), np.float32)
            for k in range(start, stop):
                errors[k - start] = (rest[k] - rounded(int(order[k]), rest[k])) / factor[k, k]
                rest[k + 1 : stop] -= np.outer(factor[k, k + 1 : stop], errors[k - start])
            rest[stop:] -= factor[start:stop, stop:].T @ errors


def _room(values: NDArray[np.int8], row: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The bounds of each entry of a row beside its partner's; one not yet rounded is zero."""
    partner = row ^ 1
    beside = values[partner if partner < len(values) else row].astype(np.int16)
    low = np.maximum(-LARGEST, -LARGEST_PAIR - np.minimum(beside, 0))
    return low, np.minimum(LARGEST, LARGEST_PAIR - np.maximum(beside, 0))


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
