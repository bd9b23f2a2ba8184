"""What a detector learns by: each thing is one query's, and the other queries find nothing.

Carion et al. 2020, https://arxiv.org/abs/2005.12872, section 3.1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgetfm.training.objectives._objective import IGNORED

CLASS, DISTANCE, OVERLAP = 2.0, 5.0, 2.0
"""The weights of the three parts of the loss, and of the cost that things are matched by."""
NOTHING = 0.1
"""The weight of a query that should find nothing: most of them."""


def set_loss(logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """The loss summed over the things of all pictures, each matched with the query that fits best.

    logits: [batch, queries, classes + 1]; boxes: [batch, queries, 4], centre and size as shares
    of a picture; labels: int64 [batch, most], IGNORED where there is no thing; wanted: their
    boxes, [batch, most, 4].
    """
    logits, boxes = logits.float(), boxes.float()
    rows, queries, things = match(logits, boxes, labels, wanted)
    targets = torch.full(logits.shape[:2], logits.shape[-1] - 1, device=logits.device)
    targets[rows, queries] = labels[rows, things]
    weights = torch.ones(logits.shape[-1], device=logits.device)
    weights[-1] = NOTHING
    classes = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), weights)
    got, right = boxes[rows, queries], wanted[rows, things]
    distance = functional.l1_loss(got, right, reduction="sum")
    overlap = (1 - generalized_iou(corners(got), corners(right))).sum()
    # The mean over queries, times the things: everything is summed over these.
    return CLASS * classes * max(1, len(rows)) + DISTANCE * distance + OVERLAP * overlap


@torch.no_grad()
def match(
    logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Picture, query and thing of each pair, by the Hungarian method: the cheapest of all ways."""
    from scipy.optimize import linear_sum_assignment

    held = labels != IGNORED
    share = logits.softmax(-1)[..., :-1]
    chosen = labels.clamp(min=0)[:, None].expand(-1, share.shape[1], -1)
    cost = -CLASS * share.gather(2, chosen)
    cost = cost + DISTANCE * torch.cdist(boxes, wanted, p=1)
    cost = cost - OVERLAP * generalized_iou(corners(boxes)[:, :, None], corners(wanted)[:, None])
    pairs, costs = [], cost.cpu().double().numpy()
    for i, (row, there) in enumerate(zip(costs, held.cpu().numpy(), strict=True)):
        things = np.flatnonzero(there)
        queries, found = linear_sum_assignment(row[:, things])
        pairs.append(np.stack([np.full_like(queries, i), queries, things[found]]))
    picture, query, thing = torch.from_numpy(np.concatenate(pairs, axis=1)).to(logits.device)
    return picture, query, thing


def corners(boxes: Tensor) -> Tensor:
    """Centre and size to left, top, right and bottom, [..., 4]."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def generalized_iou(one: Tensor, other: Tensor) -> Tensor:
    """From -1 for boxes far apart to 1 for equal ones, [...] of corners [..., 4].

    Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630.
    """
    low, high = (
        torch.maximum(one[..., :2], other[..., :2]),
        torch.minimum(one[..., 2:], other[..., 2:]),
    )
    both = (high - low).clamp(min=0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (one, other)]
    either = areas[0] + areas[1] - both
    least, most = (
        torch.minimum(one[..., :2], other[..., :2]),
        torch.maximum(one[..., 2:], other[..., 2:]),
    )
    around = (most - least).prod(-1)
    tiny = torch.finfo(both.dtype).eps
    return both / (either + tiny) - (around - either) / (around + tiny)
