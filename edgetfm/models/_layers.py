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
from edgetfm.models._family import Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._past import Past


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input, normalized before or after.

    kind: of its attention, which says in what order its axes are.
    """

    def __init__(self, c: Any, kind: type[SelfAttention] = SelfAttention) -> None:
        super().__init__()
        self.pre_norm = c.pre_norm
        self.attention = kind(c.width, c.heads)
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, masked: Tensor | None = None) -> Tensor:
        """`x` is [sequence, batch, width], or as `kind` takes it; `masked` is of the scores."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), masked))
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, masked)))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x


class DecoderLayer(nn.Module):
    """Attention to the text so far, to the encoder's answer, and feed-forward."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.pre_norm = c.pre_norm
        heads, size = c.decoder_heads, c.head_size
        self.attention = GroupedQueryAttention(
            c.width, heads, heads, size, scale=size**-0.5, qkv_bias=True, out_bias=True
        )
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.cross = CrossAttention(c.width, heads, size, scale=size**-0.5)
        self.cross_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.decoder_inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self, x: Tensor, number: int, past: Past, timeline: Timeline, masked: Tensor | None
    ) -> Tensor:
        """`x` is [batch, sequence, width]; `masked` is of the encoder's text."""
        own = past.own(number, self.attention.heads, self.attention.head_size)
        taken = self.attention_norm(x) if self.pre_norm else x
        mixed, kept = self.attention(taken, timeline, own, None)
        past.keep_own(number, kept)
        x = x + self.dropout(mixed)
        other = past.other(number, self.cross)
        if self.pre_norm:
            x = x + self.dropout(self.cross(self.cross_norm(x), other, masked))
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x)
            x = self.cross_norm(x + self.dropout(self.cross(x, other, masked)))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x


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


_SIZES = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "decoder_heads": "decoder_attention_heads",
    "inner": "encoder_ffn_dim",
    "decoder_inner": "decoder_ffn_dim",
}
"""Sizes by our names -> by Hugging Face's."""


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
