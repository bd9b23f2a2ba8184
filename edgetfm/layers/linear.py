"""The linear layer, stored the way a graph multiplies by it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """y = x @ weight + bias, with `weight` [inputs, outputs].

    torch.nn.Linear stores [outputs, inputs] and transposes at run time. Stored this way round a
    layer exports as MatMul with a constant and Add, which every quantizer and every runtime
    knows, and a checkpoint's weight is loaded as a transposed view instead of a copy.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs]."""
        y = torch.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """The sizes, as torch prints them."""
        inputs, outputs = self.weight.shape
        return f"{inputs}, {outputs}, bias={self.bias is not None}"
