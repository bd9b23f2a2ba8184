"""T5's relative positions: a learned bias for every head and bucket of distances.

Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1. A text may be of any length:
beyond the furthest distance all share one bucket.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def buckets_of(distance: Tensor, buckets: int, furthest: int, *, one_sided: bool) -> Tensor:
    """The bucket of each distance, key - query, int64 in and out.

    Half of the buckets (all, if one_sided, where a key is never ahead) are for keys behind. Half
    of those have one distance each; larger ones share the rest logarithmically up to `furthest`.
    """
    share = buckets if one_sided else buckets // 2
    size = (-distance).clamp(min=0) if one_sided else distance.abs()
    exact = share // 2
    ratio = torch.log(size.clamp(min=1).float() / exact) / math.log(furthest / exact)
    shared = (exact + (ratio * (share - exact)).to(torch.int64)).clamp(max=share - 1)
    bucket = torch.where(size < exact, size, shared)
    return bucket if one_sided else bucket + (distance > 0).to(torch.int64) * share


class DistanceBias(nn.Module):
    """What is added to the scores of `queries` tokens over `keys` tokens, for every layer.

    The buckets of all distances up to the furthest are a table made once, so that a graph only
    looks them up. one_sided: a decoder's, whose tokens see none ahead.
    """

    buckets: Tensor

    def __init__(
        self, heads: int, buckets: int = 32, furthest: int = 128, *, one_sided: bool = False
    ) -> None:
        super().__init__()
        self.furthest, self.one_sided = furthest, one_sided
        self.weight = nn.Parameter(torch.empty(buckets, heads).normal_(std=0.02))
        distances = torch.arange(-furthest, 1 if one_sided else furthest + 1, device="cpu")
        table = buckets_of(distances, buckets, furthest, one_sided=one_sided)
        self.register_buffer("buckets", table, persistent=False)

    def forward(self, queries: int, keys: int) -> Tensor:
        """The bias [1, heads, queries, keys] of the last `queries` of `keys` tokens."""
        key = torch.arange(keys, device=self.weight.device)
        query = torch.arange(queries, device=self.weight.device) + (keys - queries)
        ahead = 0 if self.one_sided else self.furthest
        distance = (key[None, :] - query[:, None]).clamp(-self.furthest, ahead) + self.furthest
        by_distance = functional.embedding(self.buckets, self.weight).t()  # made on loading
        picked = torch.index_select(by_distance, 1, distance.reshape(-1))
        return picked.reshape(1, -1, queries, keys)
