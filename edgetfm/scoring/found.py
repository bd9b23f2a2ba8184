"""How well things in pictures are found: mean average precision of boxes, mean IoU of pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import MissingExtra
from edgetfm.signature import Array


@dataclass(frozen=True)
class Boxes:
    """What is, or was found, in one picture.

    boxes: [n, 4], left, top, width and height; labels: [n], whole numbers; scores: [n], of what
    was found.
    """

    boxes: Array
    labels: Array
    scores: Array | None = None


def mean_average_precision(wanted: Sequence[Boxes], found: Sequence[Boxes]) -> dict[str, float]:
    """`map50` and `map`: the mean over classes of the average precision, as COCO counts it.

    Of boxes that overlap by half, and the mean over overlaps from 0.5 to 0.95; of the 100 best of
    a picture. pycocotools counts (https://cocodataset.org/#detection-eval). Both are 0 where
    nothing is to be found.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise MissingExtra("eval", "mean average precision") from error
    truth, answers = _annotations(wanted), _annotations(found)
    classes = sorted({a["category_id"] for a in truth})
    if not answers or not truth:
        return {"map50": 0.0, "map": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        held = COCO()
        held.dataset = {
            "info": {},
            "images": [{"id": i} for i in range(len(wanted))],
            "categories": [{"id": i} for i in classes],
            "annotations": truth,
        }
        held.createIndex()
        judge = COCOeval(held, held.loadRes(answers), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {"map50": float(judge.stats[1]), "map": float(judge.stats[0])}


def _annotations(pictures: Sequence[Boxes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures):
        for i, (box, label) in enumerate(zip(picture.boxes, picture.labels, strict=True)):
            row: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": number,
                "category_id": int(label),
                "bbox": [float(x) for x in box],
                "area": float(box[2] * box[3]),
                "iscrowd": 0,
            }
            if picture.scores is not None:
                row["score"] = float(picture.scores[i])
            rows.append(row)
    return rows


def confusion(wanted: Array, found: Array, classes: int) -> Array:
    """How many pixels of class i were found to be of class j, int64 [classes, classes]."""
    try:
        from sklearn.metrics import confusion_matrix
    except ImportError as error:
        raise MissingExtra("eval", "mean IoU") from error
    return np.asarray(
        confusion_matrix(wanted.ravel(), found.ravel(), labels=range(classes)), np.int64
    )


def mean_iou(confused: Array) -> float:
    """The mean over classes of intersection over union; of those that are there or were found."""
    both = np.diag(confused)
    either = confused.sum(0) + confused.sum(1) - both
    return float((both[either > 0] / either[either > 0]).mean())
