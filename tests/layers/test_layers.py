from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.layers.attention import SelfAttention, fold_scales, mask_bias
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.pooling import POOLINGS, normalize, pool
from edgetfm.layers.positions import RelativeBias, distance_buckets, positions_past_padding


def test_folding_the_scale_changes_nothing_but_rounding() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(24, 3)
    torch.nn.init.normal_(attention.qkv.bias)  # type: ignore[arg-type]
    x = torch.randn(7, 2, 24)
    bias = mask_bias(torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]]))
    before = attention(x, bias)
    fold_scales(attention)
    assert attention.scale == 1.0
    torch.testing.assert_close(attention(x, bias), before, rtol=1e-6, atol=1e-6)
    fold_scales(attention)
    torch.testing.assert_close(attention(x, bias), before, rtol=1e-6, atol=1e-6)


def test_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(24, 3)
    x = torch.randn(7, 2, 24)
    q, k, v = (
        part.reshape(7, 2, 3, 8).permute(1, 2, 0, 3) for part in attention.qkv(x).split(24, dim=-1)
    )
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    wanted = attention.out(wanted.permute(2, 0, 1, 3).reshape(7, 2, 24))
    torch.testing.assert_close(attention(x), wanted, rtol=1e-5, atol=1e-6)


def test_masked_tokens_get_no_weight_even_in_half_precision() -> None:
    bias = mask_bias(torch.tensor([[1, 0]])).half()
    assert torch.isfinite(bias).all()
    assert torch.softmax(torch.tensor([-50.0, 50.0]) + bias[0, 0, 0].float(), 0)[1] == 0


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu", "tanh", "quick_gelu"])
def test_activations_are_transformers_own(name: str) -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 501)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.integers(2, 300))
def test_buckets_of_distances_are_transformers_own(limit: int) -> None:
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = torch.arange(1 - limit, limit)
    wanted = MPNetEncoder.relative_position_bucket(distances)
    assert torch.equal(distance_buckets(limit), wanted)


def test_relative_bias_depends_on_the_distance_only() -> None:
    bias = RelativeBias(heads=2, limit=40)(9)[0]
    assert bias.shape == (2, 9, 9)
    assert torch.equal(bias[:, :-1, :-1], bias[:, 1:, 1:])


def test_positions_are_counted_past_padding() -> None:
    ids = torch.tensor([[5, 6, 1, 7, 1, 1]])
    assert positions_past_padding(ids, 1).tolist() == [[2, 3, 1, 4, 1, 1]]


@pytest.mark.parametrize("how", POOLINGS)
def test_pooling_ignores_what_is_masked(how: str) -> None:
    hidden = torch.randn(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    spoiled = hidden.clone()
    spoiled[0, 3:] = 100.0
    assert torch.equal(pool(hidden, mask, how), pool(spoiled, mask, how))
    alone = pool(hidden[:1, :3], mask[:1, :3], how)
    torch.testing.assert_close(pool(hidden, mask, how)[:1], alone)
    places = torch.arange(1.0, 6.0)[:, None]
    wanted = {
        "mean": hidden[1].mean(0),
        "cls": hidden[1, 0],
        "max": hidden[1].amax(0),
        "mean_sqrt_len": hidden[1].sum(0) / 5**0.5,
        "weightedmean": (hidden[1] * places).sum(0) / 15,
        "lasttoken": hidden[1, 4],
    }[how]
    torch.testing.assert_close(pool(hidden, mask, how)[1], wanted)


def test_normalized_rows_have_length_one_and_zero_stays_zero() -> None:
    rows = normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-3, 0.0]]))
    assert rows[0].tolist() == pytest.approx([0.6, 0.8])
    assert rows[1].tolist() == [0.0, 0.0]
    assert math.isclose(float(rows[2].norm()), 1.0, rel_tol=1e-6)
