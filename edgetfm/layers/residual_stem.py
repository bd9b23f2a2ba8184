"""A residual network as the stem of a model of pictures (He et al. 2015).

https://arxiv.org/abs/1512.03385. Batch normalization is learned with and then folded into the
convolutions: a graph has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

BLOCKS = ("basic", "bottleneck")
REDUCTION = 4
"""How much narrower the middle of a bottleneck is."""
EPS = 1e-5
MOMENTUM = 0.1


class BatchNorm(nn.Module):
    """[batch, channels, height, width] less the mean, over the deviation, of each channel.

    Of a batch in training, and of all batches seen then in use. torch.nn.BatchNorm2d also counts
    batches, which files of models with frozen norms do not hold.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """In training what is seen is remembered."""
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            MOMENTUM,
            EPS,
        )


class Convolution(nn.Module):
    """A convolution that keeps the size but for its stride, normalized, then ReLU if `active`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, active: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = BatchNorm(outputs)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        x = self.norm(self.convolution(x))
        return functional.relu(x) if self.active else x

    def fold_norm(self) -> None:
        """Move the norm into the weights: y = norm(w x) is (s w) x + (b - s m)."""
        norm = self.norm
        if not isinstance(norm, BatchNorm):
            return
        with torch.no_grad():
            scale = norm.weight / torch.sqrt(norm.running_var + EPS)
            self.convolution.weight *= scale[:, None, None, None]
            self.convolution.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
        self.norm = nn.Identity()


class Block(nn.Module):
    """Convolutions, added to their input."""

    def __init__(self, kind: str, inputs: int, outputs: int, stride: int, *, early: bool) -> None:
        super().__init__()
        if kind == "basic":
            parts = [
                Convolution(inputs, outputs, 3, stride),
                Convolution(outputs, outputs, 3, active=False),
            ]
        else:
            inner, strides = outputs // REDUCTION, (stride, 1) if early else (1, stride)
            parts = [
                Convolution(inputs, inner, 1, strides[0]),
                Convolution(inner, inner, 3, strides[1]),
                Convolution(inner, outputs, 1, active=False),
            ]
        self.parts = nn.Sequential(*parts)
        changes = inputs != outputs or stride != 1
        self.shortcut = (
            Convolution(inputs, outputs, 1, stride, active=False) if changes else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs, height, width] to [batch, outputs, height / stride, width / stride]."""
        return functional.relu(self.parts(x) + self.shortcut(x))


class ResidualStem(nn.Module):
    """A quarter of the size by a wide convolution and a pooling, then half of it by each stage.

    stem: the channels of the first convolution; widths, depths: of each stage the channels and
    the blocks; first: whether the first stage halves the size too; early: whether a bottleneck
    does so in its first convolution.
    """

    def __init__(
        self,
        channels: int,
        stem: int,
        widths: Sequence[int],
        depths: Sequence[int],
        kind: str,
        *,
        first: bool = False,
        early: bool = False,
    ) -> None:
        super().__init__()
        self.stem = Convolution(channels, stem, 7, 2)
        stages, inputs = [], stem
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = 2 if number or first else 1
            blocks = [Block(kind, inputs, width, stride, early=early)]
            blocks += [Block(kind, width, width, 1, early=early) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            inputs = width
        self.stages = nn.Sequential(*stages)

    def forward(self, pixels: Tensor) -> Tensor:
        """[batch, channels, height, width] to [batch, the last width, rows, columns]."""
        out: Tensor = self.stages(functional.max_pool2d(self.stem(pixels), 3, 2, 1))
        return out
