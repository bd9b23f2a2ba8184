"""Ranges hold what they must whatever the values are, and statistics do not depend on the order."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetfm.errors import DataError
from edgetfm.quantize.histogram import BINS, Histogram
from edgetfm.quantize.items import Item, items
from edgetfm.quantize.ranges import (
    SENTINEL,
    Range,
    choose_range,
    counted,
    observe_values,
)
from edgetfm.quantize.recipes import Ranges

METHODS = get_args(Ranges)
LEVELS = (255, 65535)

finite = st.floats(-(2.0**100), 2.0**100, width=32)
values = arrays(np.float32, st.integers(0, 60), elements=finite)


def histogram(*parts: Any) -> Histogram:
    seen = Histogram()
    for part in parts:
        seen.add(np.asarray(part, "f4"))
    return seen


def rounded(x: Any, chosen: Range, levels: int) -> Any:
    step, zero = chosen.grid(levels)
    return (np.clip(np.rint(x / step) + zero, 0, levels) - zero) * step


@given(values)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("levels", LEVELS)
def test_a_range_is_finite_not_empty_and_holds_zero(method: Ranges, levels: int, x: Any) -> None:
    chosen = choose_range(histogram(x), method, levels)
    assert np.isfinite([chosen.low, chosen.high]).all()
    assert chosen.low <= 0 <= chosen.high
    assert chosen.low < chosen.high
    step, zero = chosen.grid(levels)
    assert np.float32(step) >= np.finfo(np.float32).tiny
    assert 0 <= zero <= levels
    assert rounded(np.float32(0), chosen, levels) == 0


@given(values)
@pytest.mark.parametrize("levels", LEVELS)
def test_min_max_rounds_every_value_seen_by_half_a_step_at_most(levels: int, x: Any) -> None:
    chosen = choose_range(histogram(x), "min-max", levels, headroom=0)
    step = float(chosen.grid(levels)[0])
    # The zero point is rounded too: an end may lie half a step outside.
    assert (np.abs(rounded(x.astype("f8"), chosen, levels) - x) <= step * 1.001).all()


@given(values, st.data())
def test_any_split_of_the_values_gives_the_same_counts(x: Any, data: Any) -> None:
    at = data.draw(st.integers(0, len(x)))
    whole = histogram(x)
    for merged in (histogram(x[:at], x[at:]), histogram(x[at:], x[:at])):
        assert merged.total == len(x)
        if len(x):
            assert merged.exponent == whole.exponent
        assert (merged.counts == whole.counts).all()
        assert (merged.low, merged.high) == (whole.low, whole.high)
        assert merged.zeros == (x == 0).sum()


@given(values)
def test_every_value_is_in_its_bin(x: Any) -> None:
    seen = histogram(x)
    middles, counts = seen.bins()
    width = 2.0**seen.exponent
    for value in x:
        near = np.abs(middles - value) <= width
        assert counts[near].sum() > 0
    assert len(seen.counts) == BINS


@pytest.mark.parametrize("method", METHODS)
def test_ranges_of_normal_values_are_near_the_best(method: Ranges) -> None:
    x = np.random.default_rng(0).normal(size=200_000).astype("f4")
    seen = histogram(*np.split(x, 100))
    errors = {
        m: np.square(rounded(x, choose_range(seen, m, 255, headroom=0), 255) - x).mean()
        for m in (method, "mse")
    }
    # What is best for normal values and 8 bits is known: a step of 0.031 (Max, 1960).
    assert errors["mse"] == pytest.approx(0.031**2 / 12, rel=0.25)
    assert errors["mse"] <= errors[method] * 1.01
    assert errors[method] < errors["mse"] * 2


def mostly_zeros(kind: str) -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=200_000).astype("f4")
    kept = rng.random(len(x)) < 0.01
    return {
        "ReLU": np.maximum(x, 0),
        "99 % zeros": x * kept,
        "99 % zeros, the rest positive": np.abs(x) * kept,
        "half zeros, long tail": np.where(x > 0, rng.exponential(size=len(x)), 0).astype("f4"),
    }[kind]


KINDS = ["ReLU", "99 % zeros", "99 % zeros, the rest positive", "half zeros, long tail"]


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_do_not_take_the_range_of_the_other_values(kind: str) -> None:
    x = mostly_zeros(kind)
    low, high = min(float(x.min()), 0.0), float(x.max())

    def error(chosen: Range) -> float:
        return float(np.square(rounded(x, chosen, 255) - x).mean())

    best = min(error(Range(low * cut, high * cut)) for cut in np.linspace(0.3, 1, 36))
    seen = histogram(*np.split(x, 100))
    assert error(choose_range(seen, "mse", 255, headroom=0)) < 1.04 * best
    assert error(choose_range(seen, "entropy", 255, headroom=0)) < 2 * best


def test_entropy_has_all_the_steps_for_values_of_one_sign() -> None:
    """As many as a grid twice as fine has for the same values with both signs."""
    x = np.abs(np.random.default_rng(0).standard_t(5, size=200_000)).astype("f4")
    both = choose_range(histogram(x, -x), "entropy", 511, headroom=0)
    coarse = choose_range(histogram(x, -x), "entropy", 255, headroom=0)
    above = choose_range(histogram(x), "entropy", 255, headroom=0)
    below = choose_range(histogram(-x), "entropy", 255, headroom=0)
    assert (above.low, above.high) == (0, both.high)
    assert (below.low, below.high) == (both.low, 0)
    assert both != coarse


def test_zeros_alone_are_no_reason_to_cut() -> None:
    x = np.concatenate([np.zeros(10**6), np.arange(-50, 200)]).astype("f4")
    for method in ("mse", "entropy"):
        chosen = choose_range(histogram(x), method, 255, headroom=0)
        assert (chosen.low, chosen.high) == pytest.approx((-50, 199), abs=1)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_a_single_outlier_is_cut_except_by_those_that_weigh_it(method: Ranges) -> None:
    x = np.random.default_rng(0).normal(size=100_000).astype("f4")
    x[7] = 1000
    assert choose_range(histogram(x), method, 255, headroom=0).high < 70
    for other in ("min-max", "mse"):
        assert choose_range(histogram(x), other, 255, headroom=0).high > 800


@pytest.mark.parametrize("method", METHODS)
def test_16_bits_lose_next_to_nothing(method: Ranges) -> None:
    x = np.random.default_rng(0).normal(size=50_000).astype("f4")
    chosen = choose_range(histogram(x), method, 65535, headroom=0)
    inside = (x > chosen.low) & (x < chosen.high)
    assert inside.mean() > 0.9995
    assert np.abs(rounded(x, chosen, 65535) - x)[inside].max() < 1e-4


def test_the_fewer_items_the_wider_the_range() -> None:
    x = np.linspace(-1, 2, 50, dtype="f4")
    one = choose_range(histogram(x), "min-max", 255)
    many = choose_range(histogram(*[x] * 100), "min-max", 255)
    assert (one.low, one.high) == (-1.5, 3.0)
    assert (many.low, many.high) == pytest.approx((-1.05, 2.1))


def test_a_constant_has_a_range_though_its_ends_are_equal() -> None:
    for value in (3.0, -3.0, 1e-30, 0.0):
        x = np.full(10, value, "f4")
        for method in METHODS:
            chosen = choose_range(histogram(x), method, 255)
            assert abs(float(rounded(x[0], chosen, 255)) - value) <= abs(value) / 100
    with np.errstate(all="ignore"):  # without the cure: the step of the range from 3 to 3
        naive = np.float32((3.0 - 3.0) / 255)
        assert not np.isfinite(np.float32(3.0) / naive)


def test_padding_and_sentinels_are_not_counted() -> None:
    mask = np.array([True, False, True])
    item = Item(1, {}, mask, 3)
    hidden = np.arange(6, dtype="f4").reshape(1, 3, 2)
    assert counted(item, "h", hidden, masked=False).tolist() == [0, 1, 4, 5]
    scores = np.arange(18, dtype="f4").reshape(1, 2, 3, 3)
    assert counted(item, "s", scores, masked=False).tolist() == [0, 2, 6, 8, 9, 11, 15, 17]
    scores[..., 2] = -3.4e38
    scores[..., 0, 0] = -np.inf
    assert counted(item, "s", scores, masked=True).tolist() == [6, 15]
    with pytest.raises(DataError, match="item 1 makes NaN or Inf in s"):
        counted(item, "s", scores, masked=False)
    assert SENTINEL < 1e4


def test_ragged_items_are_cut_before_they_run(builder: Any) -> None:
    b = builder(x=["n", "s"], attention_mask=["n", "s"])
    b("Mul", "x", b("Cast", "attention_mask", to=1), name="y")
    b("Add", "x", b.constant(np.float32(1)), name="z")
    x = np.array([[1, 2, 99], [3, 99, 99], [99, 99, 99], [4, 5, 6]], "f4")
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    feeds = [{"x": x, "attention_mask": mask}]
    assert [item.tokens for item in items(feeds)] == [2, 1, 3]
    seen = observe_values(b.model(z=["n", "s"]), ["z:0"], feeds)["z:0"]
    assert (seen.low, seen.high, seen.total, seen.items) == (2, 7, 6, 3)


def test_without_data_nothing_is_observed(builder: Any) -> None:
    b = builder(x=["n", 2])
    b("Relu", "x", name="y")
    with pytest.raises(DataError, match="no calibration data"):
        observe_values(b.model(y=["n", 2]), ["y:0"], [])
