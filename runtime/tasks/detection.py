"""object-detection: what is where in each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.runtime.tasks._pictures import Size, run_pictures
from edgetfm.runtime.tasks._texts import Asked, softmax
from edgetfm.signature import Array

Found = dict[str, Any]

_MOST = {"conditional_detr": 100, "dab-detr": 100, "deformable_detr": 100}
"""Model type -> the most proposals that transformers looks at; of others one a query."""


def detect_objects(
    asked: Asked, images: Sequence[Any], *, threshold: float = 0.5, batch_size: int = 1
) -> list[list[Found]]:
    """For each picture its objects of a score above `threshold`.

    {"score", "label", "box": {"xmin", "ymin", "xmax", "ymax"}}, in pixels of the picture.
    """
    return [
        _objects(asked, outputs["logits"], outputs["pred_boxes"], size, threshold)
        for size, outputs in run_pictures(asked, images, batch_size=batch_size)
    ]


def _objects(
    asked: Asked, logits: Array, boxes: Array, size: Size, threshold: float
) -> list[Found]:
    scores, labels, queries = _proposals(asked, logits)
    kept = scores > threshold
    corners = _corners(boxes[queries[kept]], size)
    return [
        {
            "score": float(score),
            "label": asked.label(int(label)),
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), map(int, box), strict=True)),
        }
        for score, label, box in zip(scores[kept], labels[kept], corners, strict=True)
    ]


def _proposals(asked: Asked, logits: Array) -> tuple[Array, Array, Array]:
    """Scores, classes and queries, as the model was trained.

    With one class more than there are labels, the last is nothing, and each query proposes its
    best other; else every class of every query is a proposal of its own, the best ones first.
    """
    queries, classes = logits.shape
    if asked.labels and classes == len(asked.labels) + 1:
        scores = softmax(logits)[:, :-1]
        return scores.max(-1), scores.argmax(-1), np.arange(queries)
    values = 0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float32).ravel()))
    most = _MOST.get(str(asked.config.get("model_type")), queries)
    best = np.argsort(-values, kind="stable")[:most]
    return values[best], best % classes, best // classes


def _corners(boxes: Array, size: Size) -> Array:
    """Left, top, right and bottom in pixels, cut to whole ones, [boxes, 4]."""
    height, width = size
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    scale = np.array([width, height, width, height], np.float32)
    return np.asarray((np.concatenate([low, high], -1) * scale).astype(np.int32))
