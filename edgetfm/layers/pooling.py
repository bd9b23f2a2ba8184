"""One vector for a text, as sentence-transformers makes it."""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("mean", "cls", "max")


def pool(hidden: Tensor, attention_mask: Tensor, how: str) -> Tensor:
    """[batch, sequence, width] -> [batch, width]; masked tokens do not count.

    `how` is one of POOLINGS: the mean of the tokens, the first token, or the largest of each unit.
    """
    if how == "cls":
        return hidden[:, 0]
    mask = attention_mask[:, :, None].to(hidden.dtype)
    if how == "max":
        return torch.amax(hidden + (mask - 1.0) * 1e9, dim=1)
    total = torch.matmul(mask.transpose(1, 2), hidden)[:, 0]
    return total / mask.sum(dim=1).clamp(min=1e-9)


def normalize(vectors: Tensor) -> Tensor:
    """Each row divided by its length, [batch, width]."""
    length = (vectors * vectors).sum(dim=-1, keepdim=True).sqrt()
    return vectors / length.clamp(min=1e-12)
