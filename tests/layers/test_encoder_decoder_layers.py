"""Cross-attention, biases of distances and sinusoids are those of torch and transformers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgetfm.layers.attention import SelfAttention
from edgetfm.layers.convolution import TimeConvolution
from edgetfm.layers.cross_attention import CrossAttention, cross_bias
from edgetfm.layers.relative_bias import DistanceBias
from edgetfm.layers.sinusoids import SinusoidalPositions, sinusoids
from edgetfm.layers.whole_attention import WholeAttention
from edgetfm.models._family import Unfold


def test_cross_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours = CrossAttention(24, 3, 8, scale=8**-0.5)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    with torch.no_grad():
        for bias in (ours.q.bias, ours.kv.bias, ours.out.bias):
            assert bias is not None
            bias.normal_()
        theirs.in_proj_weight.copy_(torch.cat((ours.q.weight, ours.kv.weight), dim=1).t())
        theirs.in_proj_bias.copy_(torch.cat((ours.q.bias, ours.kv.bias)))  # type: ignore[list-item]
        theirs.out_proj.weight.copy_(ours.out.weight.t())
        theirs.out_proj.bias.copy_(ours.out.bias)  # type: ignore[arg-type]
    x, hidden = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    mask = torch.tensor([[1] * 7, [1, 1, 1, 0, 0, 0, 0]])
    wanted, _ = theirs(x, hidden, hidden, key_padding_mask=mask == 0)
    got = ours(x, ours.keys_values(hidden), cross_bias(mask, 5))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 40), st.integers(0, 400), st.booleans(), st.sampled_from([(32, 128), (8, 20)])
)
def test_biases_of_distances_are_transformers_own(
    queries: int, past: int, one_sided: bool, sizes: tuple[int, int]
) -> None:
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    buckets, furthest = sizes
    config = T5Config(
        num_heads=3,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=furthest,
    )
    config.is_decoder = one_sided
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = DistanceBias(3, buckets, furthest, one_sided=one_sided)
    with torch.no_grad():
        ours.weight.copy_(theirs.relative_attention_bias.weight)
        got = ours(queries, past + queries)
        wanted = theirs.compute_bias(queries, past + queries, past_seen_tokens=past)
    seen = torch.arange(past + queries)[None] <= torch.arange(queries)[:, None] + past
    shown = seen if one_sided else torch.ones_like(seen)
    torch.testing.assert_close(got[..., shown], wanted[..., shown], rtol=0, atol=0)


@pytest.mark.parametrize("width", [32, 33])
def test_sinusoids_are_marians_own(width: int) -> None:
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    wanted = MarianSinusoidalPositionalEmbedding(700, width).create_weight()
    torch.testing.assert_close(sinusoids(700, width), wanted, rtol=0, atol=2e-7)
    places = torch.tensor([0, 5, 699])
    torch.testing.assert_close(SinusoidalPositions(700, width)(places), wanted[places])


def test_sinusoids_are_whispers_own_up_to_float32() -> None:
    from transformers.models.whisper.modeling_whisper import sinusoids as theirs

    wanted = theirs(1500, 64)  # angles in float32, up to 1500: 1e-4 away
    torch.testing.assert_close(sinusoids(1500, 64, to_the_last=True), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_over_time_is_torchs_own(stride: int) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv1d(6, 10, 3, stride=stride, padding=1)
    ours = TimeConvolution(6, 10, stride=stride)
    ours.load_state_dict(Unfold("weight")(dict(theirs.state_dict())))
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(ours(x.transpose(1, 2)).transpose(1, 2), theirs(x))


def test_attention_without_a_mask_is_attention() -> None:
    torch.manual_seed(0)
    ours, usual = WholeAttention(24, 3), SelfAttention(24, 3)
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(2, 7, 24)
    torch.testing.assert_close(ours(x), usual(x.transpose(0, 1)).transpose(0, 1))
    before = ours(x)
    ours.fold_scale()
    torch.testing.assert_close(ours(x), before, rtol=1e-5, atol=1e-6)
