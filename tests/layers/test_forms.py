"""The forms of a layer's parts: each is what its definition says, in PyTorch and as a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgetfm.export import to_onnx
from edgetfm.layers.attention import MASKED, SelfAttention, mask_bias
from edgetfm.layers.experts import MixtureOfExperts, balance_loss
from edgetfm.layers.feed_forward import GatedFeedForward
from edgetfm.layers.grouped_query import GroupedQueryAttention, Timeline, _whole
from edgetfm.layers.linear_attention import LinearSelfAttention
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.parts import around, make_feed_forward, make_norm
from edgetfm.layers.sparse_attention import SparseSelfAttention, sparse_pattern
from edgetfm.signature import TensorSpec

WIDTH, HEADS, WINDOW, STRIDE = 24, 3, 4, 8
SHAPES = ((1, 1), (1, 3), (3, 9), (2, 37), (2, 70))
"""(batch, sequence): less than a window, than a stride, than a chunk, and more."""

FORMS: dict[str, Any] = {
    "sparse": lambda: SparseSelfAttention(WIDTH, HEADS, window=WINDOW, stride=STRIDE),
    "sparse causal": lambda: SparseSelfAttention(
        WIDTH, HEADS, window=WINDOW, stride=STRIDE, causal=True
    ),
    "linear": lambda: LinearSelfAttention(WIDTH, HEADS),
    "linear causal": lambda: LinearSelfAttention(WIDTH, HEADS, causal=True),
}


def wide(module: nn.Module) -> nn.Module:
    """The module with weights so wide that what they do is seen."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def ragged(batch: int, sequence: int) -> tuple[Tensor, Tensor]:
    """[sequence, batch, width] and its mask; every second row is about half as long."""
    torch.manual_seed(batch * sequence)
    mask = torch.ones(batch, sequence, dtype=torch.int64)
    mask[1::2, (sequence + 1) // 2 :] = 0
    return torch.randn(sequence, batch, WIDTH), mask


def written_out(form: str, attention: Any, x: Tensor, mask: Tensor) -> Tensor:
    """What a form means: dense attention under the pattern, or the quadratic sum."""
    length, batch, _ = x.shape
    causal = form.endswith("causal")
    if form.startswith("sparse"):
        dense = SelfAttention(WIDTH, HEADS)
        dense.load_state_dict(attention.state_dict())
        unseen = ~sparse_pattern(length, WINDOW, STRIDE, causal=causal)
        out: Tensor = dense(x, unseen * MASKED + mask_bias(mask))
        return out
    query, key, value = (
        part.reshape(length, batch, HEADS, -1).permute(1, 2, 0, 3)
        for part in attention.qkv(x).split(WIDTH, -1)
    )
    weights = (functional.elu(query) + 1) @ (functional.elu(key) + 1).transpose(2, 3)
    weights = weights * mask[:, None, None]
    weights = weights.tril() if causal else weights
    mixed = weights / weights.sum(-1, keepdim=True) @ value
    out = attention.out(mixed.permute(2, 0, 1, 3).reshape(x.shape))
    return out


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=20)
@given(batch=st.integers(1, 3), sequence=st.integers(1, 140))
def test_a_form_is_what_its_definition_says_at_the_tokens_that_count(
    form: str, batch: int, sequence: int
) -> None:
    attention = wide(FORMS[form]())
    x, mask = ragged(batch, sequence)
    real = mask.t().bool()
    with torch.no_grad():
        torch.testing.assert_close(
            attention(x, mask)[real],
            written_out(form, attention, x, mask)[real],
            rtol=1e-4,
            atol=1e-5,
        )


class Graph(nn.Module):
    """One attention as a graph's module."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"y": self.attention(x, attention_mask)}


@pytest.mark.parametrize(  # the others are in tests/models
    "form", [pytest.param("sparse causal", marks=pytest.mark.slow), "linear causal"]
)
def test_the_graph_of_a_form_is_its_module_at_shapes_it_was_not_traced_with(form: str) -> None:
    module = wide(Graph(FORMS[form]()))
    axes = ("sequence", "batch", WIDTH)
    inputs = (
        TensorSpec("x", "float32", axes),
        TensorSpec("attention_mask", "int64", ("batch", "sequence")),
    )
    graph = to_onnx(module, inputs, (TensorSpec("y", "float32", axes),))
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString())
    for batch, sequence in SHAPES:
        x, mask = ragged(batch, sequence)
        (got,) = session.run(None, {"x": x.numpy(), "attention_mask": mask.numpy()})
        with torch.no_grad():
            wanted = module(x, mask)["y"].numpy()
        assert np.abs(got - wanted).max() < 1e-5 * max(1.0, np.abs(wanted).max())


def test_a_sparse_text_is_the_same_whatever_its_padding() -> None:
    attention = wide(FORMS["sparse"]())
    x, _ = ragged(1, 11)
    padded = torch.cat((x, torch.randn(30, 1, WIDTH)))
    mask = (torch.arange(41) < 11).long()[None]
    torch.testing.assert_close(attention(padded, mask)[:11], attention(x), rtol=1e-4, atol=1e-5)


def test_a_stride_that_no_window_divides_is_refused() -> None:
    with pytest.raises(ValueError, match="stride is 6, expected a multiple of window"):
        SparseSelfAttention(WIDTH, HEADS, window=4, stride=6)


def test_a_sparse_place_sees_its_window_and_the_strided_ones_and_those_see_all() -> None:
    seen = sparse_pattern(20, 2, 8)
    assert seen[11].nonzero().flatten().tolist() == [0, 8, 9, 10, 11, 12, 13, 16]
    assert seen[8].all()
    assert not sparse_pattern(20, 2, 8, causal=True).triu(1).any()


@pytest.mark.parametrize("place", ["post", "pre"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer_is_torchs_own_encoder_layer(place: str, activation: str) -> None:
    theirs = wide(
        nn.TransformerEncoderLayer(
            WIDTH, HEADS, 40, activation=activation, norm_first=place == "pre", dropout=0.0
        )
    )
    attention = SelfAttention(WIDTH, HEADS)
    forward = make_feed_forward(activation, WIDTH, 40, activation="", experts=1, chosen=1)
    norms = [make_norm("layer", WIDTH, 1e-5) for _ in range(2)]
    state = theirs.state_dict()
    for ours, name in (
        (attention.qkv, "self_attn.in_proj_"),
        (attention.out, "self_attn.out_proj."),
        (forward.up, "linear1."),
        (forward.down, "linear2."),
    ):
        weights = {"weight": state[f"{name}weight"].t(), "bias": state[f"{name}bias"]}
        ours.load_state_dict(weights)  # type: ignore[operator, union-attr]
    for i, norm in enumerate(norms, start=1):
        norm.load_state_dict({n: state[f"norm{i}.{n}"] for n in ("weight", "bias")})
    x, mask = ragged(3, 9)
    y = around(x, lambda x: attention(x, mask_bias(mask)), norms[0], place, nn.Identity())
    y = around(y, forward, norms[1], place, nn.Identity())
    wanted = theirs(x, src_key_padding_mask=mask == 0)
    real = mask.t().bool()
    torch.testing.assert_close(y[real], wanted[real], rtol=1e-4, atol=1e-5)


def test_attention_is_torchs_multi_head_attention() -> None:
    theirs = wide(nn.MultiheadAttention(WIDTH, HEADS))
    ours = SelfAttention(WIDTH, HEADS)
    state = theirs.state_dict()
    ours.qkv.load_state_dict({"weight": state["in_proj_weight"].t(), "bias": state["in_proj_bias"]})
    ours.out.load_state_dict(
        {"weight": state["out_proj.weight"].t(), "bias": state["out_proj.bias"]}
    )
    x, mask = ragged(2, 9)
    wanted, _ = theirs(x, x, x, key_padding_mask=mask == 0)
    torch.testing.assert_close(ours(x, mask_bias(mask)), wanted, rtol=1e-4, atol=1e-5)


def test_the_rms_norm_is_torchs_own() -> None:
    ours, theirs = (wide(n) for n in (RMSNorm(WIDTH, 1e-6), nn.RMSNorm(WIDTH, 1e-6)))
    x = torch.randn(5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def experts(count: int, chosen: int) -> MixtureOfExperts:
    made = MixtureOfExperts(WIDTH, count, chosen, lambda: GatedFeedForward(WIDTH, 16, "silu"))
    wide(made)
    return made


@settings(deadline=None, max_examples=20)
@given(tokens=st.integers(1, 20), count=st.integers(1, 6), data=st.data())
def test_experts_are_the_sum_of_the_chosen_as_the_router_weighs_them(
    tokens: int, count: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(1, count))
    layer = experts(count, chosen)
    x = torch.randn(tokens, WIDTH)
    scores = torch.softmax(layer.router(x), dim=-1)
    least = scores.topk(chosen, dim=-1).values[:, -1:]
    weights = torch.where(scores >= least, scores, 0.0)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    wanted = sum(weights[:, i : i + 1] * e(x) for i, e in enumerate(layer.experts))
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_balance_of_experts_is_transformers_own_loss() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    layers = nn.ModuleList([experts(4, 2), experts(4, 2)]).train()
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    x = [torch.randn(2, 5, WIDTH) for _ in layers]
    for layer, tokens in zip(layers, x, strict=True):
        layer(tokens)
    logits = tuple(
        layer.router(tokens.flatten(0, 1)) for layer, tokens in zip(layers, x, strict=True)
    )
    for given_mask in (None, mask):
        wanted = load_balancing_loss_func(logits, 4, 2, given_mask)
        torch.testing.assert_close(balance_loss(layers, given_mask), wanted)


def test_a_balanced_use_of_experts_costs_least() -> None:
    layer = experts(4, 1).train()
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[:4] = 50 * torch.eye(4)
        spread, one = torch.zeros(1, 8, WIDTH), torch.zeros(1, 8, WIDTH)
        spread[0, torch.arange(8), torch.arange(8) % 4] = one[0, :, 2] = 1.0
        layer(spread)
        assert float(balance_loss(layer)) == pytest.approx(1.0)
        layer(one)
        assert float(balance_loss(layer)) == pytest.approx(4.0)


def test_padding_does_not_count_whichever_axis_is_first() -> None:
    torch.manual_seed(0)
    batch_first = experts(4, 2).train()
    sequence_first = MixtureOfExperts(
        WIDTH, 4, 2, lambda: GatedFeedForward(WIDTH, 16, "silu"), sequence_first=True
    )
    sequence_first.load_state_dict(batch_first.state_dict())
    x, mask = torch.randn(2, 5, WIDTH), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    batch_first(x)
    sequence_first.train()(x.transpose(0, 1))
    wanted = balance_loss(batch_first, mask)
    torch.testing.assert_close(balance_loss(sequence_first, mask), wanted)
    x[1, 2:] += 10.0
    batch_first(x)
    torch.testing.assert_close(balance_loss(batch_first, mask), wanted)


@torch.no_grad()
def test_a_decoders_experts_are_counted_at_its_own_tokens() -> None:
    torch.manual_seed(0)
    both = torch.nn.ModuleDict({"encoder": experts(4, 2), "decoder": experts(4, 2)}).train()
    source, target = torch.tensor([[1, 1, 1, 0, 0]]), torch.tensor([[1, 1, 1]])
    x, y = torch.randn(1, 5, WIDTH), torch.randn(1, 3, WIDTH)
    both["encoder"](x)
    both["decoder"](y)
    wanted = balance_loss(both, source, target)
    both["encoder"](torch.cat((x[:, :3], x[:, 3:] + 10.0), dim=1))
    torch.testing.assert_close(balance_loss(both, source, target), wanted)
    one = torch.nn.ModuleDict({"encoder": both["encoder"]})
    assert float(balance_loss(one, source)) != pytest.approx(float(wanted))


def test_a_model_without_experts_is_in_balance() -> None:
    assert float(balance_loss(nn.Linear(2, 2))) == 0.0


@settings(deadline=None, max_examples=10)
@given(sequence=st.integers(1, 12), share=st.sampled_from([1, 2, 4]))
def test_grouped_queries_are_torchs_own_causal_attention(sequence: int, share: int) -> None:
    attention: Any = wide(GroupedQueryAttention(WIDTH, 4, 4 // share, 6, scale=6**-0.5))
    x = torch.randn(2, sequence, WIDTH)
    nothing = torch.zeros(2, 4 // share, 0, 6)
    timeline = Timeline.of_mask(torch.ones(2, sequence, dtype=torch.int64))
    got, _ = attention(x, timeline, (nothing, nothing), None)
    sizes = [4 * 6, 24 // share, 24 // share]
    query, key, value = (
        part.reshape(2, sequence, -1, 6).transpose(1, 2)
        for part in attention.qkv(x).split(sizes, dim=-1)
    )
    mixed = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, enable_gqa=True
    )
    wanted = attention.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_whole_texts_in_half_of_the_bits_are_mixed_in_float32_on_a_cpu() -> None:
    """As near to float32 as the rounding of bfloat16, forwards and backwards, also by autocast."""
    attention: Any = wide(GroupedQueryAttention(WIDTH, 4, 2, 6, scale=6**-0.5))
    nothing = torch.zeros(2, 2, 0, 6)
    timeline = Timeline.of_mask(torch.ones(2, 9, dtype=torch.int64))
    x = torch.randn(2, 9, WIDTH)

    def gradients(half: bool) -> list[torch.Tensor]:
        attention.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            got, _ = attention(x, timeline, (nothing, nothing), None)
        assert got.dtype == (torch.bfloat16 if half else torch.float32)
        got.float().square().sum().backward()
        return [got.detach().float(), attention.qkv.weight.grad.clone()]

    for whole, half in zip(gradients(False), gradients(True), strict=True):
        assert (whole - half).norm() < 0.02 * whole.norm()
    query = torch.randn(1, 4, 9, 6).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = _whole(query, query, query, 0.5)
    full = query.float()
    exact = _whole(full, full, full, 0.5)
    assert torch.equal(mixed, exact.to(torch.bfloat16))
