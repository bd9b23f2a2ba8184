from __future__ import annotations

import numpy as np
import pytest

from edgetfm.quantize.rounding import (
    Compensation,
    _inverse_factor,
    channel_scale,
    round_nearest,
)


def test_nearest_rounding_errs_by_half_a_step_of_its_channel(rng: np.random.Generator) -> None:
    weight = (rng.normal(size=(40, 6)) * [1, 10, 100, 0.1, 1, 1]).astype(np.float32)
    quantized = round_nearest(weight)
    error = np.abs(quantized.dequantized() - weight)
    assert (error <= quantized.scale / 2 * 1.001).all()
    assert np.abs(quantized.values).max(axis=0).tolist() == [127] * 6


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.array([[0, 1], [0, 2]], np.float32)
    quantized = round_nearest(weight)
    assert quantized.dequantized()[:, 0].tolist() == [0, 0]
    assert np.isfinite(channel_scale(weight)).all()
    compensated = Compensation(np.eye(2, dtype="f4"), 0.0).round(weight)
    assert compensated.dequantized()[:, 0].tolist() == [0, 0]


def test_compensated_rounding_makes_a_smaller_error_on_correlated_inputs(
    rng: np.random.Generator,
) -> None:
    inputs = rng.normal(size=(2000, 24)) @ rng.normal(size=(24, 200))
    inputs += 0.1 * rng.normal(size=inputs.shape)
    weight = rng.normal(size=(200, 16)).astype(np.float32)
    gram = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    plain, made_up = round_nearest(weight), Compensation(gram.copy(), 0.0).round(weight)
    errors = [
        np.linalg.norm(inputs @ (weight - quantized.dequantized()))
        for quantized in (plain, made_up)
    ]
    assert errors[1] < 0.7 * errors[0]


def test_an_input_that_was_never_seen_keeps_its_weight(rng: np.random.Generator) -> None:
    """Errors must not be dumped on a silent input: it may wake."""
    inputs = rng.normal(size=(500, 8)).astype(np.float32)
    inputs[:, 3] = 0
    weight = rng.normal(size=(8, 5)).astype(np.float32)
    quantized = Compensation(inputs.T @ inputs / 500, 0.0).round(weight)
    assert np.abs(quantized.dequantized() - weight)[3] == pytest.approx(
        np.zeros(5), abs=float(quantized.scale.max())
    )


def test_the_same_inputs_give_the_same_bytes(rng: np.random.Generator) -> None:
    inputs = rng.normal(size=(300, 64)).astype("f4")
    weight = rng.normal(size=(64, 32)).astype(np.float32)
    once, again = (Compensation(inputs.T @ inputs, 1e-3).round(weight) for _ in range(2))
    assert once.values.tobytes() == again.values.tobytes()


@pytest.mark.parametrize("size", [5, 128, 300])
def test_the_factor_is_that_of_the_inverse(rng: np.random.Generator, size: int) -> None:
    inputs = rng.normal(size=(2 * size, size))
    matrix = (inputs.T @ inputs / size).astype(np.float32)
    factor = _inverse_factor(matrix)
    assert (np.tril(factor, -1) == 0).all()
    np.testing.assert_allclose(factor.T @ factor @ matrix, np.eye(size), atol=1e-3)
