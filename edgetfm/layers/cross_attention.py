"""Attention of a decoder to what an encoder made (Vaswani et al. 2017).

https://arxiv.org/abs/1706.03762. Keys and values are made once for a text and kept. In PyTorch
the attention is written out; in a graph it is one node, com.microsoft.MultiHeadAttention, which
takes keys and values by head as they are kept: on one thread a step over 1,500 frames takes 129
us with it and 158 us written out, and over 40 tokens 13 and 15.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgetfm.layers.attention import MASKED
from edgetfm.layers.grouped_query import Cache
from edgetfm.layers.linear import Linear


def cross_bias(encoder_attention_mask: Tensor, sequence: int) -> Tensor:
    """What is added to the scores, [batch, 1, sequence, encoder_sequence]: 0 or MASKED.

    `encoder_attention_mask` is [batch, encoder_sequence], 1 for a token. As a bias, because the
    node has no mask of keys in browsers (WebGPU).
    """
    batch, length = encoder_attention_mask.shape
    kept = encoder_attention_mask.reshape(batch, 1, 1, length).to(torch.float32)
    return ((1.0 - kept) * MASKED).expand(batch, 1, sequence, length)


class CrossAttention(nn.Module):
    """`heads` queries of [batch, sequence, width] to keys and values of another text.

    Keys and values come from one multiplication, in this order along the outputs. scale: of the
    scores.
    """

    def __init__(
        self, width: int, heads: int, head_size: int, *, scale: float, bias: bool = True
    ) -> None:
        super().__init__()
        self.heads, self.head_size, self.scale = heads, head_size, scale
        inner = heads * head_size
        self.q = Linear(width, inner, bias=bias)
        self.kv = Linear(width, 2 * inner, bias=bias)
        self.out = Linear(inner, width, bias=bias)

    def keys_values(self, hidden: Tensor) -> Cache:
        """What `forward` attends to, of an encoder's [batch, encoder_sequence, width]."""
        key, value = self.kv(hidden).chunk(2, dim=-1)
        return self._by_head(key), self._by_head(value)

    def forward(self, x: Tensor, kept: Cache, bias: Tensor | None = None) -> Tensor:
        """`kept` is [batch, heads, encoder_sequence, head_size] each, `bias` as `cross_bias`'s."""
        query = self.q(x)
        if torch.compiler.is_exporting():
            mixed = self._node(query, kept, bias)
        else:
            mixed = self._written_out(query, kept, bias)
        out: Tensor = self.out(mixed)
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """[batch, sequence, heads * size] -> [batch, heads, sequence, size]."""
        return x.reshape(*x.shape[:2], self.heads, self.head_size).transpose(1, 2)

    def _node(self, query: Tensor, kept: Cache, bias: Tensor | None) -> Tensor:
        """The operator that runtimes have, https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md."""
        masked = () if bias is None else (None, None, bias)
        mixed: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, *kept, *masked),
            {"num_heads": self.heads, "scale": self.scale},
            dtype=torch.float32,
            shape=list(query.shape),
            version=1,
        )
        return mixed

    def _written_out(self, query: Tensor, kept: Cache, bias: Tensor | None) -> Tensor:
        """softmax(QK^T * scale + bias) V, as the operator computes it."""
        keys, values = kept
        scores = torch.matmul(self._by_head(query), keys.transpose(-1, -2)) * self.scale
        if bias is not None:
            scores = scores + bias
        mixed = torch.matmul(torch.softmax(scores, dim=-1), values)
        return mixed.transpose(1, 2).reshape(query.shape)
