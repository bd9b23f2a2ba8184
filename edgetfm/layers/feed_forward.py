"""The feed-forward block and the activations by their Hugging Face names."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgetfm.layers.linear import Linear


def gelu(x: Tensor) -> Tensor:
    """Gelu by the error function, in the order that ONNX Runtime recognises and fuses.

    torch's own decomposition multiplies by 0.5 first and stays five separate passes over x.
    """
    return (torch.erf(x / math.sqrt(2.0)) + 1.0) * x * 0.5


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """Linear, activation, linear: [..., width] -> [..., width] through `inner` units."""

    def __init__(self, width: int, inner: int, activation: str, *, bias: bool = True) -> None:
        super().__init__()
        self.up = Linear(width, inner, bias=bias)
        self.down = Linear(inner, width, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] in and out."""
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)): SwiGLU and its kin (Shazeer 2020).

    https://arxiv.org/abs/2002.05202. Gate and up come from one multiplication, in this order
    along the outputs.
    """

    def __init__(self, width: int, inner: int, activation: str, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = Linear(width, 2 * inner, bias=bias)
        self.down = Linear(inner, width, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] in and out."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(self.activation(gate) * up)
        return out
