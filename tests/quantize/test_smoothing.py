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
