"""The parts of a layer by the words that configs choose them with."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from edgetfm.layers.attention import SelfAttention, mask_bias
from edgetfm.layers.experts import MixtureOfExperts
from edgetfm.layers.feed_forward import FeedForward, GatedFeedForward
from edgetfm.layers.linear_attention import LinearSelfAttention
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.sparse_attention import SparseSelfAttention

ATTENTIONS = ("dense", "sparse", "linear")
FEED_FORWARDS = ("plain", "relu", "gelu", "swiglu", "moe")
"""plain: with the activation that the config names. moe: experts that are swiglu."""
NORMS = ("layer", "rms")
PLACES = ("post", "pre")


def make_norm(word: str, width: int, eps: float) -> nn.Module:
    """A norm of [..., width]: one of NORMS."""
    return nn.LayerNorm(width, eps=eps) if word == "layer" else RMSNorm(width, eps)


def make_feed_forward(
    word: str,
    width: int,
    inner: int,
    *,
    activation: str,
    experts: int,
    chosen: int,
    sequence_first: bool = False,
) -> nn.Module:
    """[..., width] in and out: one of FEED_FORWARDS. sequence_first: see `MixtureOfExperts`."""
    if word == "swiglu":
        return GatedFeedForward(width, inner, "silu")
    if word == "moe":
        return MixtureOfExperts(
            width,
            experts,
            chosen,
            lambda: GatedFeedForward(width, inner, "silu"),
            sequence_first=sequence_first,
        )
    return FeedForward(width, inner, activation if word == "plain" else word)


def make_attention(
    word: str, width: int, heads: int, *, window: int, dropout: float
) -> SelfAttention:
    """Attention of an encoder to itself, one of ATTENTIONS; it looks at what `seen_by` gives."""
    if word == "sparse":
        return SparseSelfAttention(width, heads, window=window, stride=window, dropout=dropout)
    if word == "linear":
        return LinearSelfAttention(width, heads)
    return SelfAttention(width, heads, dropout=dropout)


def seen_by(word: str, attention_mask: Tensor) -> Tensor:
    """What such an attention takes of a mask [batch, sequence]: all scores, or the mask itself."""
    return mask_bias(attention_mask) if word == "dense" else attention_mask


def around(
    x: Tensor, part: Callable[[Tensor], Tensor], norm: nn.Module, place: str, dropout: nn.Module
) -> Tensor:
    """`part` added to its input: of the normalized input (pre), or the sum normalized (post).

    Post as in Vaswani et al. 2017; pre as in Xiong et al. 2020, https://arxiv.org/abs/2002.04745,
    which trains without a warm-up, and whose last layer's sum is normalized once more.
    """
    out: Tensor = x + dropout(part(norm(x))) if place == "pre" else norm(dropout(part(x)) + x)
    return out
