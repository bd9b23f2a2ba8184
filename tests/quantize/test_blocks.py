from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.quantize.blocks import Blocks, Form, round_blocks, shared_size, unpacked
from edgetfm.quantize.rounding import Compensation

FORMS = [Form(bits, 16, symmetric) for bits in (4, 8) for symmetric in (True, False)]
EACH = pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f.bits}-{f.symmetric}")


@EACH
@pytest.mark.parametrize("inputs", [16, 40, 48])
def test_what_is_packed_is_what_is_meant(rng: np.random.Generator, form: Form, inputs: int) -> None:
    blocks = form.blocks(inputs)
    steps = rng.integers(0, form.largest + 1, (inputs, 5)).astype(np.uint8)
    scale = rng.uniform(0.1, 1, (blocks, 5)).astype(np.float32)
    zero = np.full((blocks, 5), form.middle, np.float32)
    if not form.symmetric:
        zero = rng.integers(0, form.largest + 1, (blocks, 5)).astype(np.float32)
    made = Blocks.pack(form, steps, scale, zero)
    assert made.packed.shape == (5, blocks, 16 * form.bits // 8)
    wide = [np.repeat(part, 16, axis=0)[:inputs] for part in (scale, zero)]
    np.testing.assert_array_equal(made.dequantized(), (steps - wide[1]) * wide[0])
    packed = made.packed_zero()
    if packed is None:
        assert form.symmetric
    else:
        assert packed.shape == (5, -(-blocks * form.bits // 8))
        np.testing.assert_array_equal(unpacked(packed, form.bits)[:, :blocks], zero.T)


@EACH
def test_each_block_has_a_scale_of_its_own(rng: np.random.Generator, form: Form) -> None:
    weight = rng.normal(size=(48, 6)) * np.repeat([1, 100, 0.01], 16)[:, None]
    rounded = round_blocks(weight.astype(np.float32), form).dequantized()
    for start in (0, 16, 32):
        part = slice(start, start + 16)
        error = np.linalg.norm(rounded[part] - weight[part]) / np.linalg.norm(weight[part])
        assert error < (0.12 if form.bits == 4 else 0.01)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_scale_with_the_smallest_error_is_taken(
    rng: np.random.Generator, symmetric: bool
) -> None:
    """One large weight would take the precision of the others; a heavy input keeps its own."""
    form = Form(4, 32, symmetric)
    weight = rng.normal(size=(32, 64)).astype(np.float32)
    weight[3] *= 4
    full = (weight.max(axis=0) - weight.min(axis=0)) / form.largest
    step = 2 * np.abs(weight).max(axis=0) / form.largest if symmetric else full
    plain = np.sqrt(32 * step**2 / 12)
    found = np.linalg.norm(round_blocks(weight, form).dequantized() - weight, axis=0)
    assert found.mean() < 0.97 * plain.mean()
    power = np.where(np.arange(32) == 3, 1000, 1).astype(np.float32)
    kept = round_blocks(weight, form, power).dequantized()
    other = round_blocks(weight, form).dequantized()
    assert np.abs(kept - weight)[3].mean() < 0.7 * np.abs(other - weight)[3].mean()


@EACH
def test_compensated_rounding_makes_a_smaller_error_on_correlated_inputs(
    rng: np.random.Generator, form: Form
) -> None:
    inputs = rng.normal(size=(2000, 24)) @ rng.normal(size=(24, 200))
    inputs += 0.1 * rng.normal(size=inputs.shape)
    weight = rng.normal(size=(200, 16)).astype(np.float32)
    gram = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    errors = [
        np.linalg.norm(inputs @ (weight - blocks.dequantized()))
        for blocks in (
            round_blocks(weight, form),
            round_blocks(weight, form, np.diag(gram), Compensation(gram.copy(), 0.0)),
        )
    ]
    assert errors[1] < 0.7 * errors[0]


def test_blocks_of_zeros_are_zero_whatever_they_are_asked_to_make_up_for(
    rng: np.random.Generator,
) -> None:
    weight = rng.normal(size=(32, 4)).astype(np.float32)
    weight[16:, 1] = 0
    inputs = rng.normal(size=(100, 32)).astype(np.float32)
    for form in FORMS:
        blocks = round_blocks(weight, form, None, Compensation(inputs.T @ inputs, 0.0))
        assert (blocks.dequantized()[16:, 1] == 0).all()
        assert blocks.scale[1, 1] == 0


@pytest.mark.parametrize(
    ("inputs", "size", "eight", "four", "shared"),
    [
        (384, 32, 32, 32, 32),
        (384, 256, 128, 128, 128),
        (128, 256, 128, 128, 128),
        (576, 128, 64, 128, 64),
        (576, 256, 64, 128, 64),
        (100, 32, 32, 32, None),
        (1000, 128, 128, 128, None),
        (65, 64, 32, 32, None),
        (16, 16, 16, 16, 16),
    ],
)
def test_blocks_shrink_where_padding_would_cost_more_than_what_is_kept_of_each(
    inputs: int, size: int, eight: int, four: int, shared: int | None
) -> None:
    assert Form(8, size, True).fitted(inputs).block_size == eight
    assert Form(4, size, True).fitted(inputs).block_size == four
    assert shared_size(inputs, size) == shared


@given(st.integers(0, 2**32 - 1), st.sampled_from([(4, 8), (8, 127)]))
def test_weights_on_the_grids_of_gguf_are_not_rounded_a_second_time(
    seed: int, kind: tuple[int, int]
) -> None:
    """Q4_0 and Q8_0 of ggml: 32 inputs share a scale of half precision, and the largest weight of
    a block is at the end of its grid."""
    bits, end = kind
    rng = np.random.default_rng(seed)
    scale = rng.uniform(1e-3, 1, (4, 1, 5)).astype(np.float16).astype(np.float32)
    steps = rng.integers(-end + (bits == 8), end, (4, 32, 5)).astype(np.float32)
    steps[:, 7] = -end
    signs = rng.choice([-1.0, 1.0], scale.shape).astype(np.float32)
    weight = np.ascontiguousarray((steps * scale * signs).reshape(128, 5))
    made = round_blocks(weight, Form(bits, 32, symmetric=True))
    assert (made.dequantized() == weight).all()
