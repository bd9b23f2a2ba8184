"""Segmentation: the class of every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgetfm.errors import DataError
from edgetfm.scoring.found import confusion, mean_iou
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.marked import GROUND
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._marked import MarkedObjective, pixels_of
from edgetfm.training.objectives._objective import IGNORED, Batch, Rows

MEASURE = "mean_iou"


class Segmentation(MarkedObjective):
    """Pictures with masks; the measure is the mean over classes of intersection over union."""

    measure = MEASURE
    processor = "SegformerImageProcessor"

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.labels = (GROUND, *self.pictures.labels)
        lacking = sum(m.classes is None for part in self.pictures.parts.values() for m in part)
        if lacking:
            raise DataError(
                f"{self.pictures.name} has {lacking} pictures without mask_file_name: the class of "
                "every pixel is what a segmenter learns"
            )

    def follows(self) -> Mapping[str, Any]:
        """The number of classes, the ground's included."""
        return {"labels": len(self.labels), "channels": 3}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Pictures; targets are the classes of their pixels, [batch, height, width]."""
        marked = self.chosen(part, rows, random)
        classes = np.stack([m.classes for m in marked if m.classes is not None])
        return Batch({"pixel_values": pixels_of(marked)}, classes.astype(np.int64))

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Cross entropy in nats, summed over pixels."""
        targets = torch.from_numpy(batch.targets).to(outputs["logits"].device)
        return functional.cross_entropy(
            self._logits(outputs, batch), targets, ignore_index=IGNORED, reduction="sum"
        )

    def judge(self, outputs: Mapping[str, Tensor], batch: Batch) -> list[np.ndarray[Any, Any]]:
        """Which classes were taken for which."""
        found = self._logits(outputs, batch).argmax(1).cpu().numpy()
        held = batch.targets != IGNORED
        return [confusion(batch.targets[held], found[held], len(self.labels))]

    def score(self, evidence: Sequence[np.ndarray[Any, Any]]) -> float:
        """The measure over all pixels."""
        return mean_iou(np.sum(evidence, axis=0))

    @staticmethod
    def _logits(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """One for each pixel, between those that the model gives."""
        logits, size = outputs["logits"].float(), batch.targets.shape[1:]
        if logits.shape[2:] == size:
            return logits
        return functional.interpolate(logits, size, mode="bilinear")
