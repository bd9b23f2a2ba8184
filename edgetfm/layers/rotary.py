"""Rotary positions and how they are stretched (Su et al. 2021).

https://arxiv.org/abs/2104.09864
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SCALINGS = ("default", "dynamic", "linear", "llama3", "yarn")
"""The ways to stretch a context that `frequencies` knows, by their Hugging Face names."""

ROTARY_UNITS = 16
"""Units of a head that turns come in multiples of this: onnxruntime's GroupQueryAttention refuses
others on the CPU, and only when the graph runs."""


@dataclass(frozen=True)
class Rotary:
    """How far each pair of a head's units turns from one position to the next.

    base: pair i of n turns by base^(-i/n). scaling: one of SCALINGS. factor: how many times the
    context is longer than the `original` one. low, high: llama3's two wavelengths, as shares of
    the original context, or yarn's slow and fast turns in it. amplitude: what yarn multiplies
    the table by.
    """

    base: float = 10_000.0
    scaling: str = "default"
    factor: float = 1.0
    original: int = 0
    low: float = 1.0
    high: float = 4.0
    amplitude: float = 1.0

    def tables(self, size: int, length: int) -> tuple[Tensor, Tensor]:
        """cos and sin of every position's angles, float32 [length, size / 2] each."""
        places = torch.arange(length, dtype=torch.float32, device="cpu")
        angles = places[:, None] * self.frequencies(size)
        return angles.cos() * self.amplitude, angles.sin() * self.amplitude

    def frequencies(self, size: int) -> Tensor:
        """Radians a position for each pair of units of a head of this size, float32 [size / 2]."""
        pair = torch.arange(0, size, 2, dtype=torch.float32, device="cpu")
        plain = 1.0 / self.base ** (pair / size)
        if self.scaling == "linear":  # https://arxiv.org/abs/2306.15595
            return plain / self.factor
        if self.scaling == "llama3":
            return self._llama3(plain)
        if self.scaling == "yarn":
            return self._yarn(plain, size)
        # `dynamic` (NTK-aware) changes the base beyond the trained context only, where no table of
        # ours reaches.
        return plain

    def _llama3(self, plain: Tensor) -> Tensor:
        """Long waves stretched, short ones left, those between blended (Llama 3.1).

        https://arxiv.org/abs/2407.21783
        """
        turns = self.original * plain / (2 * math.pi)
        share = ((turns - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
        return (1.0 - share) * plain / self.factor + share * plain

    def _yarn(self, plain: Tensor, size: int) -> Tensor:
        """Pairs that turn often left, those that turn seldom stretched (Peng et al. 2023).

        https://arxiv.org/abs/2309.00071, section 3.2.
        """

        def pair(turns: float) -> float:
            """The pair that makes this many turns in the original context."""
            wave = self.original / (turns * 2 * math.pi)
            return size * math.log(wave) / (2 * math.log(self.base))

        first = max(math.floor(pair(self.high)), 0)
        last = float(min(math.ceil(pair(self.low)), size - 1))
        if first == last:
            last += 0.001
        place = torch.arange(size // 2, dtype=torch.float32, device="cpu")
        stretched = ((place - first) / (last - first)).clamp(0.0, 1.0)
        return plain / self.factor * stretched + plain * (1.0 - stretched)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each unit of the first half of a head with its partner in the second.

    x: [batch, heads, sequence, size]; cos, sin: [batch, sequence, size / 2].
    """
    one, two = x.chunk(2, dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((one * cos - two * sin, two * cos + one * sin), dim=-1)
