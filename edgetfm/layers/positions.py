"""Where a token stands: absolute positions counted past padding, and bucketed distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def positions_past_padding(input_ids: Tensor, pad_token_id: int) -> Tensor:
    """Positions as fairseq counts them: tokens from pad_token_id + 1 on, padding at pad_token_id.

    [batch, sequence] int64 in and out.
    """
    real = input_ids.ne(pad_token_id).to(torch.int64)
    return real.cumsum(dim=1) * real + pad_token_id


def distance_buckets(limit: int, buckets: int = 32, furthest: int = 128) -> Tensor:
    """T5's bucket of every distance, key - query, from 1 - limit to limit - 1: [2 * limit - 1].

    Half of the buckets are for each direction; small distances have one each, larger ones share
    them logarithmically up to `furthest` (Raffel et al. 2020, https://arxiv.org/abs/1910.10683).
    """
    distance = torch.arange(1 - limit, limit, device="cpu")
    half = buckets // 2
    exact = half // 2
    size = distance.abs()
    ratio = torch.log(size.clamp(min=1).float() / exact) / math.log(furthest / exact)
    shared = (exact + (ratio * (half - exact)).to(torch.int64)).clamp(max=half - 1)
    return (distance > 0).to(torch.int64) * half + torch.where(size < exact, size, shared)


class RelativeBias(nn.Module):
    """A learned bias for every head and bucket of distances, shared by all layers.

    The buckets of all distances are a table made once; a graph only looks them up.
    """

    buckets: Tensor

    def __init__(self, heads: int, limit: int, buckets: int = 32) -> None:
        super().__init__()
        self.limit = limit
        self.weight = nn.Parameter(torch.empty(buckets, heads).normal_(std=0.02))
        self.register_buffer("buckets", distance_buckets(limit, buckets), persistent=False)

    def forward(self, length: int) -> Tensor:
        """The bias [1, heads, length, length]."""
        place = torch.arange(length, device=self.weight.device)
        distance = place[None, :] - place[:, None] + (self.limit - 1)
        by_distance = functional.embedding(self.buckets, self.weight)  # constants: made on loading
        return functional.embedding(distance, by_distance).permute(2, 0, 1)[None]
