"""Counts of the values of a tensor, in a table of fixed size however many there are.

A bin is a power of two wide and starts at a multiple of its width. When a value lies outside the
table, pairs of bins become one: exactly, so that the counts depend neither on the order in which
values came nor on how they were divided.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 8192
"""Half of them below zero. A tensor that uses an eighth of one half still has twice as many bins
as 8 bits have steps."""

_HALF = BINS // 2
_FINEST = -100
"""The exponent of the narrowest bin: all values below 2^-88 count as zeros, nearly."""


@dataclass
class Histogram:
    """The counts of finite values; low and high are the smallest and largest, exactly.

    exponent: bin i holds the values from (i - BINS / 2) * 2^exponent up to, without it, the next.
    zeros: how many are exactly zero, as ReLU makes them: no grid loses anything of these.
    items: how many items they came from.
    """

    exponent: int = _FINEST
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))
    low: float = np.inf
    high: float = -np.inf
    zeros: int = 0
    items: int = 0

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of one item, all of them finite."""
        if not values.size:
            return
        self.items += 1
        self.zeros += values.size - int(np.count_nonzero(values))
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._coarsen(_exponent_for(low, high))
        places = np.floor(np.ldexp(values.ravel().astype(np.float64), -self.exponent))
        self.counts += np.bincount(places.astype(np.int64) + _HALF, minlength=BINS)

    def bins(self, *, zeros: bool = True) -> tuple[Floats, Counts]:
        """The middles of the bins between the first and the last that hold something, and counts.

        A middle never lies outside the values that were seen. zeros: whether exact zeros count.
        """
        counts = self.counts
        if not zeros:
            counts = counts.copy()
            counts[_HALF] -= self.zeros
        used = counts.nonzero()[0]
        if not used.size:
            return np.zeros(0), np.zeros(0, np.int64)
        span = slice(int(used[0]), int(used[-1]) + 1)
        middles = np.ldexp(np.arange(BINS)[span] - _HALF + 0.5, self.exponent)
        return np.clip(middles, self.low, self.high), counts[span]

    def _coarsen(self, exponent: int) -> None:
        """Make pairs one until a bin is 2^exponent wide, if it is narrower."""
        while self.exponent < exponent:
            if not self.counts.any():
                self.exponent = exponent
                return
            paired = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[_HALF // 2 : _HALF // 2 + _HALF] = paired
            self.exponent += 1


def _exponent_for(low: float, high: float) -> int:
    """The exponent of the narrowest bins whose table holds both."""
    largest = max(abs(low), abs(high))
    if not largest:
        return _FINEST
    exponent = max(_FINEST, int(np.frexp(largest / _HALF)[1]) - 1)
    fits = max(np.floor(np.ldexp(high, -exponent)), -np.floor(np.ldexp(low, -exponent)) - 1) < _HALF
    return exponent if fits else exponent + 1
