"""One vector for a text, as sentence-transformers makes it."""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len", "weightedmean", "lasttoken")


def pool(hidden: Tensor, attention_mask: Tensor, how: str) -> Tensor:
    """[batch, sequence, width] -> [batch, width]; masked tokens do not count.

    `how` is one of POOLINGS: the mean of the tokens, the first token, the largest of each unit, the
    sum over the root of their number, the mean weighted by position, or the last token. What is
    masked stands at the end of a row.
    """
    if how == "cls":
        return hidden[:, 0]
    mask = attention_mask[:, :, None].to(hidden.dtype)
    if how == "max":
        return torch.amax(hidden + (mask - 1.0) * 1e9, dim=1)
    if how in ("weightedmean", "lasttoken"):
        place = torch.cumsum(mask, dim=1)  # 1, 2, ... for the tokens that count
        count = mask.sum(dim=1, keepdim=True)
        mask = mask * (place if how == "weightedmean" else (place == count).to(hidden.dtype))
    total = torch.matmul(mask.transpose(1, 2), hidden)[:, 0]
    number = mask.sum(dim=1).clamp(min=1e-9)
    return total / (number.sqrt() if how == "mean_sqrt_len" else number)


def normalize(vectors: Tensor) -> Tensor:
    """Each row divided by its length, [batch, width]."""
    length = (vectors * vectors).sum(dim=-1, keepdim=True).sqrt()
    return vectors / length.clamp(min=1e-12)
