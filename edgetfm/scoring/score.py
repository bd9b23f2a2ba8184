"""The value of a metric, and how sure the difference of two values is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000
"""How often items are drawn anew to see how far a difference moves."""

Counts = NDArray[np.float64]
"""[items, k], or their sums [k]."""


def ratio(sums: Counts) -> float:
    """The first sum over the second; NaN where that is nothing."""
    return float(sums[0] / sums[1]) if sums[1] else math.nan


@dataclass(frozen=True)
class Score:
    """What a model is worth in a metric.

    counts: float64 [items, k], what each item adds, and total: the metric that their sums [k]
    give; None for metrics that are no such function.
    """

    value: float
    counts: Counts | None = None
    total: Callable[[Counts], float] = ratio

    @classmethod
    def of_counts(cls, counts: ArrayLike, total: Callable[[Counts], float] = ratio) -> Self:
        """The metric that the sums of these counts [items, k] give."""
        each = np.asarray(counts, np.float64)
        return cls(total(each.sum(0)), each, total)

    @classmethod
    def mean(cls, values: Iterable[float]) -> Self:
        """The mean of a number for each item."""
        return cls.of_counts([(value, 1.0) for value in values])

    def error_beside(self, other: Score) -> float | None:
        """The standard error of the difference from another model's score on the same items.

        By the paired bootstrap: both are judged on the same items, drawn anew a thousand times.
        Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004,
        https://aclanthology.org/W04-3250. None if either has no counts.
        """
        if self.counts is None or other.counts is None:
            return None
        number, random = len(self.counts), np.random.default_rng(0)
        differences = []
        for _ in range(DRAWS):
            times = np.bincount(random.integers(0, number, number), minlength=number)
            differences.append(self.total(times @ self.counts) - other.total(times @ other.counts))
        found = float(np.nanstd(differences)) if not np.isnan(differences).all() else math.nan
        return found if math.isfinite(found) else None
