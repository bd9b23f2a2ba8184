"""Multi-head self-attention of an encoder (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgetfm.layers.linear import Linear

MASKED = -1e4
"""Added to the score of a masked token: e^-10000 is 0 in every float type, and fp16 can hold it.

A quantizer that sees float32's lowest number instead loses its whole scale to it.
"""


def mask_bias(attention_mask: Tensor) -> Tensor:
    """What is added to the scores, [batch, 1, sequence, sequence]: 0 for a token, else MASKED.

    `attention_mask` is [batch, sequence], 1 or 0. Expanded over the queries once, because adding
    arrays of one shape is faster than broadcasting in every layer (2 % of an int8 encoder).
    """
    batch, sequence = attention_mask.shape
    kept = attention_mask.reshape(batch, 1, 1, sequence).to(torch.float32)
    return ((1.0 - kept) * MASKED).expand(batch, 1, sequence, sequence)


class SelfAttention(nn.Module):
    """Attention of [sequence, batch, width] to itself, over `heads` heads.

    Query, key and value come from one multiplication, in this order along the outputs. With the
    sequence first, the permutations before the two products are ones that ONNX Runtime merges
    into them (FusedMatMul with transposed batches): 3 % of an int8 encoder.

    head_size: the units of a head, if not width / heads. scale: of the scores, if not one over
    the root of a head's size.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_size: int | None = None,
        scale: float | None = None,
        qkv_bias: bool = True,
        out_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = width // heads if head_size is None else head_size
        self.scale = self.head_width**-0.5 if scale is None else scale
        inner = heads * self.head_width
        self.qkv = Linear(width, 3 * inner, bias=qkv_bias)
        self.out = Linear(inner, width, bias=out_bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """`seen` says what may be looked at, in the form that `mix` takes."""
        packed = self.qkv(x).reshape(*x.shape[:2], 3 * self.heads, self.head_width)
        query, key, value = packed.split(self.heads, dim=2)
        if self.scale != 1.0:
            query = query * self.scale
        mixed = self.mix(query, key, value, seen)
        together = self.heads * self.head_width
        out: Tensor = self.out(mixed.permute(2, 0, 1, 3).reshape(*x.shape[:2], together))
        return out

    def mix(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
        """[sequence, batch, heads, head width] each to [batch, heads, sequence, head width].

        `seen` is added to the scores and broadcasts to [batch, heads, sequence, sequence].
        """
        scores = torch.matmul(query.permute(1, 2, 0, 3), key.permute(1, 2, 3, 0))
        if seen is not None:
            scores = scores + seen
        weights = self.dropout(torch.softmax(scores, dim=-1))
        return torch.matmul(weights, value.permute(1, 2, 0, 3))

    def fold_scale(self) -> None:
        """Move 1/sqrt(head width) into the query's weights: one operation less for ever."""
        width = self.heads * self.head_width
        with torch.no_grad():
            self.qkv.weight[:, :width] *= self.scale
            if self.qkv.bias is not None:
                self.qkv.bias[:width] *= self.scale
        self.scale = 1.0


def fold_scales(module: nn.Module) -> None:
    """Fold the scale of every attention in `module`; its outputs stay the same up to rounding."""
    for part in module.modules():
        if isinstance(part, SelfAttention):
            part.fold_scale()
