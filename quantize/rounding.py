"""From float weights to int8: per-channel symmetric scales, and rounding that makes up for itself.

Compensated rounding is that of OBQ and GPTQ (Frantar et al., https://arxiv.org/abs/2210.17323):
the rows of a weight are rounded one after the other, and the error each makes in the output, on
the inputs that calibration saw, is taken over by the rows still to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Wide = NDArray[np.float64]

LARGEST = 127
"""Symmetric: -128 is not used, so that negation is exact."""

DAMPING = 0.05
"""Added to the inputs' mean power. Calibration has seen too few tokens to be trusted further: an
input that was silent by chance would be given everybody's errors, and be wrong when it wakes."""

_BLOCK = 128


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


def round_compensated(weight: Matrix, gram: Wide, noise: float) -> Quantized:
    """Round so that the output's error on the inputs behind `gram` is small.

    gram: mean over tokens of x^T x, [inputs, inputs], of the inputs as the weight sees them.
    noise: the variance that quantizing the activation adds to each input.
    """
    scale = channel_scale(weight)
    damping = noise + DAMPING * float(np.diag(gram).mean()) + 1e-12
    order = np.argsort(-np.diag(gram), kind="stable")  # large inputs first: most is left to adapt
    factor = _inverse_factor(gram[np.ix_(order, order)], damping)
    rest = weight[order].astype(np.float64)
    steps = np.empty_like(rest)
    for start in range(0, len(rest), _BLOCK):
        stop = min(start + _BLOCK, len(rest))
        errors = np.empty((stop - start, rest.shape[1]))
        for k in range(start, stop):
            steps[k] = np.clip(np.rint(rest[k] / scale), -LARGEST, LARGEST)
            errors[k - start] = (rest[k] - steps[k] * scale) / factor[k, k]
            rest[k + 1 : stop] -= np.outer(factor[k, k + 1 : stop], errors[k - start])
        rest[stop:] -= factor[start:stop, stop:].T @ errors
    values = np.empty(weight.shape, np.int8)
    values[order] = steps.astype(np.int8)
    return Quantized(values, scale)


def _inverse_factor(gram: Wide, damping: float) -> Wide:
    """The upper triangular U with U^T U = (gram + damping I)^-1."""
    damped = gram + damping * np.eye(len(gram))
    # With P the reversal of rows, chol(P A P) = P U' P for an upper U' with U' U'^T = A, and so
    # U'^-T is what is wanted: one factorization and one triangular solve, no inverse.
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return np.asarray(np.linalg.inv(upper))
