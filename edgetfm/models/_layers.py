"""The layers of an encoder and a decoder (Vaswani et al. 2017), as several families stack them.

https://arxiv.org/abs/1706.03762.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgetfm.layers.attention import SelfAttention
from edgetfm.layers.cross_attention import CrossAttention
from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward
from edgetfm.layers.grouped_query import GroupedQueryAttention, Timeline
from edgetfm.layers.parts import around, make_feed_forward, make_norm
from edgetfm.models._family import Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._past import Past


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input, normalized before or after.

    c: has the words `norm` and `norm_place` of edgetfm.layers.parts, width, eps and dropout.
    """

    def __init__(self, c: Any, attention: SelfAttention, feed_forward: nn.Module) -> None:
        super().__init__()
        self.place = c.norm_place
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm = make_norm(c.norm, c.width, c.eps)
        self.feed_forward_norm = make_norm(c.norm, c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """`x` and what is seen of it are as the attention takes them."""

        def attention(taken: Tensor) -> Tensor:
            mixed: Tensor = self.attention(taken, seen)
            return mixed

        x = around(x, attention, self.attention_norm, self.place, self.dropout)
        return around(x, self.feed_forward, self.feed_forward_norm, self.place, self.dropout)


def feed_forward_of(c: Any, inner: int, *, sequence_first: bool = False) -> nn.Module:
    """What the words of a config choose: see `edgetfm.layers.parts`."""
    return make_feed_forward(
        c.feed_forward, c.width, inner,
        activation=c.activation, experts=c.experts, chosen=c.chosen, sequence_first=sequence_first,
    )  # fmt: skip


def last_norm(c: Any) -> nn.Module:
    """What stands behind the layers: nothing where each has normalized its own sum."""
    return make_norm(c.norm, c.width, c.eps) if c.norm_place == "pre" else nn.Identity()


def encoder_layers(
    c: Any, count: int, kind: type[SelfAttention] = SelfAttention, *, dropout: float = 0.0
) -> nn.ModuleList:
    """So many whose feed-forward is plain; dropout: of the scores.

    c: as of an `EncoderLayer`, with heads, inner and activation.
    """
    return nn.ModuleList(
        EncoderLayer(
            c,
            kind(c.width, c.heads, dropout=dropout),
            FeedForward(c.width, c.inner, c.activation),
        )
        for _ in range(count)
    )


class DecoderLayer(nn.Module):
    """Attention to the text so far, to the encoder's answer, and feed-forward.

    c: as of an `EncoderLayer`.
    """

    def __init__(
        self,
        c: Any,
        attention: GroupedQueryAttention,
        cross: CrossAttention,
        feed_forward: nn.Module,
    ) -> None:
        super().__init__()
        self.place = c.norm_place
        self.attention, self.cross, self.feed_forward = attention, cross, feed_forward
        self.attention_norm = make_norm(c.norm, c.width, c.eps)
        self.cross_norm = make_norm(c.norm, c.width, c.eps)
        self.feed_forward_norm = make_norm(c.norm, c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self,
        x: Tensor,
        number: int,
        past: Past,
        timeline: Timeline,
        masked: Tensor | None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """`x` is [batch, sequence, width]; number: of the layer.

        masked: added to the scores of the encoder's text; bias: to those of its own.
        """

        def attention(taken: Tensor) -> Tensor:
            own = past.own(number, self.attention.heads, self.attention.head_size)
            mixed: Tensor
            mixed, kept = self.attention(taken, timeline, own, None, bias)
            past.keep_own(number, kept)
            return mixed

        def cross(taken: Tensor) -> Tensor:
            mixed: Tensor = self.cross(taken, past.other(number, self.cross), masked)
            return mixed

        x = around(x, attention, self.attention_norm, self.place, self.dropout)
        x = around(x, cross, self.cross_norm, self.place, self.dropout)
        return around(x, self.feed_forward, self.feed_forward_norm, self.place, self.dropout)


def decoder_layer(c: Any, feed_forward: nn.Module) -> DecoderLayer:
    """A layer of a decoder whose scores are divided by the root of a head's size."""
    heads, size, scale = c.decoder_heads, c.head_size, c.head_size**-0.5
    return DecoderLayer(
        c,
        GroupedQueryAttention(
            c.width, heads, heads, size, scale=scale, qkv_bias=True, out_bias=True
        ),
        CrossAttention(c.width, heads, size, scale=scale),
        feed_forward,
    )


LAYER_NAMES = (
    Rename(r"\.self_attn_layer_norm\.", ".attention_norm."),
    Rename(r"\.encoder_attn_layer_norm\.", ".cross_norm."),
    Rename(r"(\.layers\.\d+)\.final_layer_norm\.", r"\1.feed_forward_norm."),
    Rename(r"\.self_attn\.out_proj\.", ".attention.out."),
    Rename(r"\.self_attn\.([qkv])_proj\.", r".attention.\1."),
    Rename(r"\.encoder_attn\.out_proj\.", ".cross.out."),
    Rename(r"\.encoder_attn\.q_proj\.", ".cross.q."),
    Rename(r"\.encoder_attn\.k_proj\.", ".cross.key."),
    Rename(r"\.encoder_attn\.v_proj\.", ".cross.value."),
    Rename(r"\.fc1\.", ".feed_forward.up."),
    Rename(r"\.fc2\.", ".feed_forward.down."),
)
"""What Hugging Face calls the weights of a layer."""

LAYER_SHAPES = (
    Pack(("q", "k", "v"), "qkv"),
    Pack(("key", "value"), "kv"),
    Transpose(r"(\.(q|kv|qkv|out|up|down)|^head)\.weight$"),
)
"""How they are stored here."""


HALVES = {
    "width": "d_model",
    "layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "inner": "encoder_ffn_dim",
    "decoder_inner": "decoder_ffn_dim",
}
"""Sizes of an encoder and a decoder by our names -> by Hugging Face's."""
_SIZES = {"vocabulary": "vocab_size", **HALVES}


def sizes_from_hf(read: Reader) -> dict[str, Any]:
    """What the configs of all models with these layers say alike; problems go to `read`."""
    read.refuse("is_encoder_decoder", allowed=(True, None))
    values: dict[str, Any] = {ours: read.size(theirs) for ours, theirs in _SIZES.items()}
    for heads in ("heads", "decoder_heads"):
        read.divides(_SIZES[heads], values[heads], "d_model", values["width"])
    hf: Mapping[str, Any] = read.config
    return values | {
        "scaled": bool(hf.get("scale_embedding")),
        "tied": hf.get("tie_word_embeddings") is not False,
        "activation": read.one_of("activation_function", ACTIVATIONS, "gelu"),
        "dropout": read.number("dropout", 0.1),
    }


def sizes_to_hf(c: Any) -> dict[str, Any]:
    """The inverse of `sizes_from_hf`."""
    return {theirs: getattr(c, ours) for ours, theirs in _SIZES.items()} | {
        "is_encoder_decoder": True,
        "scale_embedding": c.scaled,
        "tie_word_embeddings": c.tied,
        "activation_function": c.activation,
        "dropout": c.dropout,
    }
