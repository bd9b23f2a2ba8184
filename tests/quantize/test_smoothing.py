from __future__ import annotations

import numpy as np

from edgetfm.quantize.observe import Activation
from edgetfm.quantize.smoothing import (
    as_quantized,
    choose_smoothing,
    expected_range,
    smoothing_scale,
)


def activation(items: list[np.ndarray]) -> Activation:
    seen = Activation.empty(items[0].shape[1], gram=False)
    for rows in items:
        seen.add(rows.astype(np.float32))
    return seen


def test_an_outlier_channel_is_smoothed_and_the_error_shrinks(rng: np.random.Generator) -> None:
    x = rng.normal(size=(64, 32))
    x[:, 5] *= 60
    best = choose_smoothing(activation([x]), [rng.normal(size=(32, 8)).astype("f4")], (0.5, 0.75))
    assert best.alpha in (0.5, 0.75)
    assert best.scale[5] == best.scale.max() > 5
    assert best.gain > 4


def test_an_even_activation_is_hardly_worth_smoothing(rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, size=(64, 32))
    best = choose_smoothing(activation([x]), [rng.normal(size=(32, 8)).astype("f4")], (0.5, 0.75))
    assert best.gain < 1.2


def test_quiet_channels_are_not_magnified(rng: np.random.Generator) -> None:
    largest = rng.uniform(1, 2, 100).astype(np.float32)
    largest[:20] = 0.01
    scale = smoothing_scale(expected_range(largest), np.ones(100, np.float32), 0.9)
    assert scale.min() / np.median(scale) > 0.99


def test_a_channel_of_zeros_gets_a_finite_scale() -> None:
    scale = smoothing_scale(np.array([0, 1, 50], np.float32), np.array([1, 0, 1], np.float32), 0.75)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


def test_constant_activations_are_left_alone() -> None:
    seen = activation([np.zeros((5, 4))])
    best = choose_smoothing(seen, [np.ones((4, 2), np.float32)], (0.75,))
    assert (best.alpha, best.scale.tolist()) == (0.0, [1, 1, 1, 1])


def test_rounding_an_activation_errs_by_half_a_step_and_keeps_zero(
    rng: np.random.Generator,
) -> None:
    x = rng.uniform(-3, 9, size=(50, 20)).astype(np.float32)
    x[0, 0] = 0
    error = np.abs(as_quantized(x) - x)
    assert error.max() <= (x.max() - x.min()) / 255 * 0.51
    assert error[0, 0] == 0
    fine = np.abs(as_quantized(x, 65535) - x)
    assert fine.max() <= (x.max() - x.min()) / 65535 * 0.6


def test_16_bits_have_less_use_for_smoothing(rng: np.random.Generator) -> None:
    x = rng.normal(size=(64, 32))
    x[:, 5] *= 60
    weight = rng.normal(size=(32, 8)).astype("f4")
    eight, sixteen = (
        choose_smoothing(activation([x]), [weight], (0.5, 0.75), levels) for levels in (255, 65535)
    )
    assert eight.plain > 100 * sixteen.plain
    assert sixteen.gain < 2 < eight.gain


def test_the_best_strength_is_told_from_some_tokens_and_judged_on_all(
    rng: np.random.Generator,
) -> None:
    """Of 1024 tokens 256 rank the strengths: the gain is that of all of them, to the last digit."""
    weight = rng.normal(size=(32, 8)).astype("f4")
    x = rng.normal(size=(1024, 32))
    x[:, 5] *= 60
    items = np.split(x, 64)
    alone = [choose_smoothing(activation(items), [weight], (alpha,)) for alpha in (0.1, 0.5, 0.9)]
    best = choose_smoothing(activation(items), [weight], (0.1, 0.5, 0.9))
    assert best.error == min(one.error for one in alone)
    assert best.plain == alone[0].plain


def test_an_item_is_rounded_as_a_whole_though_few_of_its_tokens_rank(
    rng: np.random.Generator,
) -> None:
    """The token that makes a grid coarse need not be among those that are judged."""
    x = rng.normal(size=(1024, 32)).astype("f4")
    x[np.arange(1, 1024, 16), 5] *= 60  # one in each item, and never a fourth
    weight = rng.normal(size=(32, 8)).astype("f4")
    best = choose_smoothing(activation(np.split(x, 64)), [weight], (0.0, 0.5, 0.75))
    assert best.gain > 4
