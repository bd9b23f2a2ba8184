"""Norms that have no place in torch.nn, or are written there in a way that no runtime fuses."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang and Sennrich 2019).

    https://arxiv.org/abs/1910.07467. Written with a division: ONNX Runtime recognises this order
    and runs one SimplifiedLayerNormalization, which it does not for torch's own decomposition.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] in and out."""
        size = torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return x / size * self.weight

    def extra_repr(self) -> str:
        """The size, as torch prints it."""
        return f"{self.weight.shape[0]}, eps={self.eps}"
