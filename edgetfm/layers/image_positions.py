"""Positions in a picture as waves along its height and its width, for pictures of any size.

Carion et al. 2020, https://arxiv.org/abs/2005.12872, appendix A.4: half of the units tell the row,
half the column, each as in Vaswani et al. 2017. And where queries begin to look.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = 10_000.0
"""How many times the last wave is longer than the first."""
BEGIN = 0.25
"""The sides of the box that a query begins with, as shares of a picture's."""
ASIDE = 0.5
"""How far from the middle of its box a head looks at first, as a share of the box. The first head
looks at the middle, the others all around it."""


def waves(places: Tensor, width: int) -> Tensor:
    """[n] places, 1 for the whole of a side, to [n, width]: a cosine beside each sine."""
    units = torch.arange(width, dtype=torch.float32, device=places.device)
    lengths = LONGEST ** (2 * torch.div(units, 2, rounding_mode="floor") / width)
    angles = places[:, None] * (2 * math.pi) / lengths
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)


def grid_positions(rows: int, columns: int, width: int, like: Tensor) -> Tensor:
    """The positions of a grid, row by row, [rows * columns, width]; `width` is divisible by 4.

    like: a tensor on the device they are wanted on.
    """
    down, across = (
        # The divisor is a hair above the number of places, as the paper's code has it.
        waves(torch.arange(1, count + 1, device=like.device) / (count + 1e-6), width // 2)
        for count in (rows, columns)
    )
    half = width // 2
    both = (
        down[:, None].expand(rows, columns, half),
        across[None].expand(rows, columns, half),
    )
    return torch.cat(both, dim=-1).reshape(rows * columns, width)


def middles(rows: int, columns: int, like: Tensor) -> Tensor:
    """The middles (x, y) of a grid's places as shares of a picture, row by row, [places, 2]."""
    y, x = ((torch.arange(count, device=like.device) + 0.5) / count for count in (rows, columns))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def nearness(points: Tensor, reach: Tensor, rows: int, columns: int) -> Tensor:
    """What is added to scores so that places near a point count most, [..., places].

    points: [..., 2], x and y as shares of a picture; reach: [..., 2], the deviations of a bell
    around each as such shares. Gao et al. 2021, https://arxiv.org/abs/2101.07448, section 3.2.
    """
    y, x = ((torch.arange(count, device=points.device) + 0.5) / count for count in (rows, columns))
    across = ((points[..., :1] - x) / reach[..., :1]) ** 2
    down = ((points[..., 1:] - y) / reach[..., 1:]) ** 2
    apart = across[..., None, :] + down[..., :, None]
    return -0.5 * apart.flatten(-2)


def around(heads: int) -> Tensor:
    """Where each head looks, [heads, 2] in sides of a box: its middle, and all around that."""
    angles = torch.arange(heads - 1) * (2 * math.pi / max(1, heads - 1))
    ring = ASIDE * torch.stack([angles.cos(), angles.sin()], dim=1)
    return torch.cat([torch.zeros(1, 2), ring])


def begun(points: Tensor) -> Tensor:
    """Boxes around points, [n, 4] before the sigmoid."""
    return torch.logit(torch.cat([points, torch.full_like(points, BEGIN)], dim=1))


def grid(count: int) -> Tensor:
    """`count` points (x, y) spread evenly over a square of side 1, row by row, [count, 2]."""
    rows = round(count**0.5)
    sizes = [count // rows + (row < count % rows) for row in range(rows)]
    return torch.tensor(
        [
            ((column + 0.5) / size, (row + 0.5) / rows)
            for row, size in enumerate(sizes)
            for column in range(size)
        ]
    )
