"""Positions as waves of many lengths, which serve texts longer than any in training.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST = 10_000.0
"""How many times the last wave is longer than the first."""


def sinusoids(length: int, width: int, *, to_the_last: bool = False) -> Tensor:
    """The positions 0 to length - 1, float32 [length, width]: sines, then cosines.

    The paper has each cosine beside its sine; a model does not know in what order its units are.
    Wave i of n is LONGEST^(i/n) times as long as the first, or, to_the_last, LONGEST^(i/(n-1)), as
    Whisper has them. Made in float64, because the angles of late positions are large.
    """
    waves = (width + 1) // 2
    share = torch.arange(waves, dtype=torch.float64, device="cpu")
    share = share / max(1, waves - 1) if to_the_last else 2 * share / width
    places = torch.arange(length, dtype=torch.float64, device="cpu")
    angles = places[:, None] * torch.exp(-math.log(LONGEST) * share)
    return torch.cat((angles.sin(), angles.cos()[:, : width // 2]), dim=1).float()


class SinusoidalPositions(nn.Module):
    """The rows of a table that is computed and not stored, as nn.Embedding's is learned."""

    table: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(length, width), persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        """int64 [...] to [..., width]."""
        return functional.embedding(places, self.table)
