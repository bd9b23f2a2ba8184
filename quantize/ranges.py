"""The ranges of activations, from calibration data: what a static recipe spends its steps on.

Statistics are counts in a table of fixed size, filled item by item; tensors are never kept.
Padding does not enter, and neither do the sentinels that masks put into attention scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.progress import Progress, quiet
from edgetfm.quantize.histogram import Floats, Histogram
from edgetfm.quantize.items import Item, items
from edgetfm.quantize.pieces import Walk
from edgetfm.quantize.recipes import Ranges
from edgetfm.signature import Array, Feeds

PERCENTILE = 99.99
"""The share of values, in percent, that the range of `percentile` holds; half of the rest lies on
each side."""

SENTINEL = 1e3
"""An attention score of this size or more was put there by a mask. Masks are filled with -1e4 (and
have the score added), -1e9, -3.4e38 or -inf; scores that differ by 100 leave the smaller a weight
of 4e-44, so that no model has any use for real ones of 1000."""

HEADROOM = 0.5
"""A range is made wider by this share, divided by the root of the number of items: the fewer were
seen, the further the next one leaves what they had. Measured on MiniLM, pooled cosine of int8 with
a single text: mean 0.9948 and worst 0.974 without, 0.9970 and 0.986 with a half; at 4 texts a
quarter was best, at 150 nothing (a twentieth costs 0.0001)."""

_LEAST = 2.0**-100  # of high - low: the step of 16 bits is then still a normal float32
_PIECE = 24  # tensors observed together: their values for one item are in memory at once


@dataclass(frozen=True)
class Range:
    """What the steps of an activation cover, from low to high. low <= 0 <= high, low < high."""

    low: float
    high: float

    @classmethod
    def holding(cls, low: float, high: float) -> Range:
        """The smallest valid range that holds low, high and zero.

        Zero is in it so that it is represented exactly: padding of convolutions, ReLU's zeros and
        masks are zeros, and the zero point has to fit in the type. A tensor that was always zero
        gets a range of 1: any serves, but an empty one has no step.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            return cls(-1.0, 1.0)
        if high - low < _LEAST:
            return cls(low, low + 1.0) if low == high else cls(low - _LEAST, high + _LEAST)
        return cls(low, high)

    def grid(self, levels: int) -> tuple[np.float32, int]:
        """The step and the zero point of a grid of `levels` + 1 numbers from 0."""
        step = np.float32((self.high - self.low) / levels)
        return step, int(np.clip(np.rint(-self.low / float(step)), 0, levels))


def choose_range(
    seen: Histogram, method: Ranges, levels: int, *, headroom: float = HEADROOM
) -> Range:
    """The range for a tensor with these values, on a grid of `levels` + 1 numbers.

    headroom: by which share it is wider than what the method says, for a single item.
    """
    if not seen.total:
        return Range.holding(0.0, 0.0)
    low, high = _METHODS[method](seen, levels)
    wider = 1 + headroom / max(1, seen.items) ** 0.5
    return Range.holding(max(low, seen.low) * wider, min(high, seen.high) * wider)


def _min_max(seen: Histogram, levels: int) -> tuple[float, float]:
    return seen.low, seen.high


def _percentile(seen: Histogram, levels: int) -> tuple[float, float]:
    """Where PERCENTILE of the values lie; by rank, so that few values are never cut."""
    middles, counts = seen.bins()
    below = np.cumsum(counts)
    cut = int((100 - PERCENTILE) / 200 * seen.total)
    width = 2.0**seen.exponent / 2
    first = int(np.searchsorted(below, cut, side="right"))
    last = int(np.searchsorted(below, seen.total - cut, side="left"))
    return float(middles[first]) - width, float(middles[last]) + width


def _mse(seen: Histogram, levels: int) -> tuple[float, float]:
    """The range with the least mean squared error, of what is cut and of the steps.

    As OMSE (Choukroun et al., https://arxiv.org/abs/1902.06822), with both ends free: a grid of
    ends, then a finer one around the best. The error of a step is spread evenly over it; zeros
    have none, and where they are most of the values the others decide.
    """
    x, counts = seen.bins(zeros=False)
    n = counts.astype(np.float64)
    sums = [np.concatenate([[0.0], np.cumsum(n * x**k)]) for k in range(3)]

    def cut_below(ends: Floats) -> Floats:
        s0, s1, s2 = (s[np.searchsorted(x, ends)] for s in sums)
        return np.asarray(s2 - 2 * ends * s1 + ends**2 * s0)

    def cut_above(ends: Floats) -> Floats:
        at = np.searchsorted(x, ends, side="right")
        s0, s1, s2 = (s[-1] - s[at] for s in sums)
        return np.asarray(s2 - 2 * ends * s1 + ends**2 * s0)

    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    lows, highs = np.linspace(0, low, _ENDS), np.linspace(0, high, _ENDS)
    for _ in range(2):
        steps = (highs[None, :] - lows[:, None]) / levels
        error = cut_below(lows)[:, None] + cut_above(highs)[None, :] + n.sum() * steps**2 / 12
        i, j = np.unravel_index(int(error.argmin()), error.shape)
        best = float(lows[i]), float(highs[j])
        lows = np.clip(best[0] + np.linspace(-1, 1, _ENDS) * low / (_ENDS - 1), low, 0)
        highs = np.clip(best[1] + np.linspace(-1, 1, _ENDS) * high / (_ENDS - 1), 0, high)
    return best


_ENDS = 65


def _entropy(seen: Histogram, levels: int) -> tuple[float, float]:
    """The range, cut at one magnitude on both sides, that loses the least information.

    As TensorRT's calibrator (Migacz, "8-bit inference with TensorRT", GTC 2017): the divergence of
    Kullback and Leibler between the distribution with its tail put into the last bin, and the
    same in as many steps as the grid has up to that magnitude: half of them for values of both
    signs, all for those of one. Zeros are left out, as there: they would be all that counts.

    Where bins are no more than those steps, as for 16 bits, there is nothing to lose and nothing
    is cut; nor is it where values are too few to tell a distribution: calibrated on one short
    text, half of it would be cut.
    """
    low, high = -min(seen.low, 0.0), max(seen.high, 0.0)
    width = 2.0**seen.exponent

    def steps_to(stop: int) -> int:
        magnitude = stop * width
        span = min(magnitude, low) + min(magnitude, high)
        return max(1, round((levels + 1) * magnitude / span))

    middles, counts = seen.bins(zeros=False)
    places = np.floor(np.abs(middles) / width).astype(np.int64)
    sizes = np.bincount(places, weights=counts).astype(np.float64)
    if not sizes.size or sizes.sum() < _ENOUGH * steps_to(len(sizes)):
        return seen.low, seen.high
    best, least = len(sizes), np.inf
    for stop in range(len(sizes), 0, -max(1, len(sizes) // _CUTS)):
        if stop < (steps := steps_to(stop)):
            break
        divergence = _divergence(sizes, stop, steps)
        if divergence < least:
            best, least = stop, divergence
    magnitude = best * 2.0**seen.exponent
    return -magnitude, magnitude


_CUTS = 256  # magnitudes that are tried
_ENOUGH = 100  # values for each step


def _divergence(sizes: Floats, stop: int, steps: int) -> float:
    """KL(P || Q) of the first `stop` bins, Q being these in `steps` steps."""
    inner = sizes[:stop]
    wanted = inner.copy()
    wanted[-1] += sizes[stop:].sum()
    step = np.arange(stop) * steps // stop
    filled = inner > 0
    mass = np.bincount(step, weights=inner, minlength=steps)
    places = np.bincount(step, weights=filled, minlength=steps)
    got = np.where(filled, (mass / np.maximum(places, 1))[step], _RARE)
    real = wanted > 0
    p, q = wanted[real] / wanted.sum(), got[real] / got[real].sum()
    return float((p * np.log(p / q)).sum())


_RARE = 1e-4  # the count of a bin that Q misses: else one value in a bin of its own is never cut


_METHODS: dict[Ranges, Callable[[Histogram, int], tuple[float, float]]] = {
    "min-max": _min_max,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}


def observe_values(
    model: ir.Model,
    names: Sequence[str],
    feeds: Sequence[Feeds],
    *,
    masked: Collection[str] = (),
    progress: Progress = quiet,
) -> dict[str, Histogram]:
    """The values that these tensors have over all items; memory does not grow with their number.

    masked: tensors that may hold sentinels, which are left out. Raises DataError if there is no
    data, or if an item makes NaN, or Inf elsewhere than under a mask.
    """
    found = list(items(feeds))
    if not found:
        raise DataError("no calibration data: every item is empty or masked out")
    seen = {name: Histogram() for name in names}
    parts = [list(names[i : i + _PIECE]) for i in range(0, len(names), _PIECE)]
    with Walk(model, found, parts) as walk:
        for number in range(len(parts)):
            for done, (item, tensors) in enumerate(walk.piece(number)):
                for name, array in tensors.items():
                    seen[name].add(counted(item, name, array, masked=name in masked))
                progress("ranges", number * len(found) + done + 1, len(parts) * len(found))
    return seen


def counted(item: Item, name: str, array: Array, *, masked: bool) -> NDArray[np.float32]:
    """The values of one item that count, in a row: no padding, and no sentinels if `masked`."""
    values = _real_tokens(array, item).ravel()
    if np.isnan(values).any() or (not masked and np.isinf(values).any()):
        raise DataError(
            f"calibration item {item.number} makes NaN or Inf in {name}: "
            "look at the item, or at the model in float32"
        )
    values = values[np.abs(values) < SENTINEL] if masked else values
    return np.asarray(values, np.float32)


def _real_tokens(array: Array, item: Item) -> Array:
    """The tensor [1, ...] without what masked tokens inside of an item put into it.

    Tokens are on the first axis behind the batch that is as long as the item; scores [1, heads,
    tokens, tokens] have them twice.
    """
    mask = item.mask
    if mask is None or mask.all():
        return array
    axes = [axis for axis in range(1, array.ndim) if array.shape[axis] == len(mask)]
    twice = array.ndim == 4 and axes[-2:] == [2, 3]
    for axis in axes[-2:] if twice else axes[:1]:
        array = np.compress(mask, array, axis=axis)
    return array


def ranges_of(seen: Mapping[str, Histogram], method: Ranges, levels: int) -> dict[str, Range]:
    """The range of each tensor."""
    return {name: choose_range(values, method, levels) for name, values in seen.items()}
