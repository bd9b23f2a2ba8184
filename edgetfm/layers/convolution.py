"""A convolution over time as one product, which quantizers and every runtime know."""

from __future__ import annotations

import torch
from torch import Tensor

from edgetfm.layers.linear import Linear


class TimeConvolution(Linear):
    """Each frame of [batch, frames, inputs] with its two neighbours, every `stride`-th (1 or 2).

    Three frames stand beside each other, the earliest first, and go through one matrix,
    [3 * inputs, outputs]; before the first and behind the last are zeros. `frames` is even where
    the stride is 2. torch.nn.Conv1d of kernel 3 and padding 1 gives the same in the same time, but
    stays in float32 in an int8 graph: both of Whisper tiny's take 21 ms on one thread, and as
    products of int8 9.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__(3 * inputs, outputs)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """[batch, frames, inputs] to [batch, frames / stride, outputs]."""
        nothing = torch.zeros_like(x[:, :1])
        if self.stride == 1:
            before = torch.cat((nothing, x[:, :-1]), dim=1)
            behind = torch.cat((x[:, 1:], nothing), dim=1)
            return super().forward(torch.cat((before, x, behind), dim=-1))
        pairs = x.reshape(x.shape[0], x.shape[1] // 2, -1)
        before = torch.cat((nothing, pairs[:, :-1, x.shape[2] :]), dim=1)
        return super().forward(torch.cat((before, pairs), dim=-1))
