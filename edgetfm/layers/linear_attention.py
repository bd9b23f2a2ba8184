"""Attention whose cost grows with the text and not with its square.

Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236: with the feature map elu(x) + 1 in
place of softmax, keys and values are summed up once, for all queries.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgetfm.layers.attention import SelfAttention
from edgetfm.layers.sparse_attention import parts_of

CHUNK = 64
"""Tokens between which the causal form looks pair by pair; before them it looks at sums."""

_LEAST = 1e-6
"""What the weights of a query sum up to at least: a row of padding has none."""


class LinearSelfAttention(SelfAttention):
    """phi(q) (phi(k)^T v) / (phi(q) sum(phi(k))) with phi(x) = elu(x) + 1, O(n * d^2).

    `seen` is [batch, sequence], 1 for a token that counts. causal: a token sees none after it.
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(width, heads, dropout=dropout)
        self.scale = 1.0  # the feature map needs none
        self.causal = causal

    def mix(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
        """[sequence, batch, heads, head width] each to [batch, heads, sequence, head width]."""
        q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
        q, k = functional.elu(q) + 1.0, functional.elu(k) + 1.0
        if seen is not None:
            k = k * seen[:, None, :, None].to(k.dtype)
        # A value of ones beside the others sums up the weights.
        v = functional.pad(v, (0, 1), value=1.0)
        mixed = self._of_those_before(q, k, v) if self.causal else self._of_all(q, k, v)
        return mixed[..., :-1] / mixed[..., -1:].clamp(min=_LEAST)

    def _of_all(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.matmul(q, torch.matmul(k.transpose(2, 3), v))

    def _of_those_before(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[2]
        chunks = parts_of(length, CHUNK)
        room = chunks * CHUNK - length
        q, k, v = (
            functional.pad(x, (0, 0, 0, room)).reshape(*x.shape[:2], chunks, CHUNK, x.shape[3])
            for x in (q, k, v)
        )
        sums = torch.matmul(k.transpose(3, 4), v)
        before = torch.cumsum(sums, dim=2) - sums
        within = torch.matmul(q, k.transpose(3, 4)) * torch.ones(CHUNK, CHUNK).tril().to(q)
        mixed = torch.matmul(q, before) + torch.matmul(within, v)
        return mixed.flatten(2, 3)[:, :, :length]
