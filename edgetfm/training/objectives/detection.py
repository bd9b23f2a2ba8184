"""Object detection: the things of each picture, a class and a box for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgetfm.errors import DataError
from edgetfm.scoring.found import Boxes, mean_average_precision
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._marked import MarkedObjective, pixels_of
from edgetfm.training.objectives._objective import IGNORED, Batch, Rows
from edgetfm.training.set_loss import set_loss

MEASURE = "map50"
OFTEN = 3
"""How many places of the picture are each thing's in training."""


class Detection(MarkedObjective):
    """Pictures with boxes; the measure is the mean average precision where half overlaps."""

    measure = MEASURE
    processor = "DetrImageProcessor"

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.labels = self.pictures.labels
        if not self.labels:
            raise DataError(f"{self.pictures.name} has no boxes with categories to learn from")
        self.most = max(len(m.labels) for part in self.pictures.parts.values() for m in part)

    def follows(self) -> Mapping[str, Any]:
        """The number of labels."""
        return {"labels": len(self.labels), "channels": 3}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Pictures; targets are labels, and beside the feeds stand the boxes."""
        marked = self.chosen(part, rows, random)
        labels = np.full((len(marked), self.most), IGNORED, np.int64)
        boxes = np.zeros((len(marked), self.most, 4), np.float32)
        for i, one in enumerate(marked):
            labels[i, : len(one.labels)], boxes[i, : len(one.labels)] = one.labels, one.boxes
        return Batch({"pixel_values": pixels_of(marked), "boxes": boxes}, labels)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """`set_loss` of the last layer, and in training of each layer before it.

        Where places answer too, several of them are each thing's: all around it learn what it is
        (Jia et al. 2022, https://arxiv.org/abs/2207.13080).
        """
        device = outputs["logits"].device
        labels = torch.from_numpy(batch.targets).to(device)
        boxes = torch.from_numpy(batch.feeds["boxes"]).to(device)
        loss = set_loss(outputs["logits"], outputs["pred_boxes"], labels, boxes)
        if "earlier_logits" in outputs:
            earlier = zip(outputs["earlier_logits"], outputs["earlier_boxes"], strict=True)
            loss = loss + sum(set_loss(*answer, labels, boxes) for answer in earlier)
        if "place_logits" in outputs:
            places = outputs["place_logits"], outputs["place_boxes"]
            labels, boxes = labels.repeat(1, OFTEN), boxes.repeat(1, OFTEN, 1)
            loss = loss + set_loss(*places, labels, boxes) / OFTEN
        return loss

    def judge(self, outputs: Mapping[str, Tensor], batch: Batch) -> list[tuple[Boxes, Boxes]]:
        """What each picture holds and what was found; every query proposes its best class."""
        scores, labels = outputs["logits"].float().softmax(-1)[..., :-1].max(-1)
        boxes = _pixels(outputs["pred_boxes"].float().cpu().numpy())
        wanted = _pixels(batch.feeds["boxes"])
        return [
            (
                Boxes(wanted[i][held], batch.targets[i][held]),
                Boxes(boxes[i], labels[i].cpu().numpy(), scores[i].cpu().numpy()),
            )
            for i, held in enumerate(batch.targets != IGNORED)
        ]

    def score(self, evidence: Sequence[tuple[Boxes, Boxes]]) -> float:
        """The measure over all pictures."""
        wanted, found = zip(*evidence, strict=True)
        return mean_average_precision(wanted, found)[MEASURE]


def _pixels(boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Centre and size as shares to left, top, width and height in thousandths of a picture."""
    return 1000.0 * np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1)
