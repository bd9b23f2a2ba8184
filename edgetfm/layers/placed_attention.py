"""Attention whose queries and keys know where they are, and whose values do not.

Carion et al. 2020, https://arxiv.org/abs/2005.12872, appendix A.3: positions are added in every
layer, to what is compared and not to what is mixed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgetfm.layers.linear import Linear


class PlacedAttention(nn.Module):
    """`heads` queries of [batch, tokens, width] to keys and values of another set of tokens."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.key, self.value, self.out = (Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        places: Tensor,
        other: Tensor | None = None,
        other_places: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """`places` broadcasts to `x`, `other_places` to `other`; without these `x` itself is it.

        bias: [heads, tokens, other tokens], added to the scores.
        """
        other = x if other is None else other
        other_places = places if other_places is None else other_places
        query, key = self.q(x + places), self.key(other + other_places)
        query = self._by_head(query) * (x.shape[-1] // self.heads) ** -0.5
        scores = torch.matmul(query, self._by_head(key).transpose(-1, -2))
        scores = scores if bias is None else scores + bias
        weights = self.dropout(torch.softmax(scores, dim=-1))
        mixed = torch.matmul(weights, self._by_head(self.value(other)))
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(x.shape))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] to [batch, heads, tokens, size]."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
