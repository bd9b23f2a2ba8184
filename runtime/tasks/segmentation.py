"""image-segmentation: the class of every pixel of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.runtime.maps import weights
from edgetfm.runtime.tasks._pictures import Size, run_pictures
from edgetfm.runtime.tasks._texts import Asked
from edgetfm.signature import Array


def segment_images(
    asked: Asked, images: Sequence[Any], *, batch_size: int = 1
) -> list[list[dict[str, Any]]]:
    """For each picture the classes it holds, each with its pixels.

    {"score": None, "label", "mask"}; mask is uint8 [height, width] of the picture, 255 where the
    class is and 0 elsewhere.
    """
    return [
        _classes(asked, class_map(outputs["logits"], size))
        for size, outputs in run_pictures(asked, images, batch_size=batch_size)
    ]


def _classes(asked: Asked, classes: Array) -> list[dict[str, Any]]:
    return [
        {
            "score": None,
            "label": asked.label(int(number)),
            "mask": np.where(classes == number, 255, 0).astype(np.uint8),
        }
        for number in np.unique(classes)
    ]


def class_map(logits: Array, size: Size) -> Array:
    """The likeliest class of each pixel, [*size], of logits [classes, height, width]."""
    rows, columns = (weights(a, b, "bilinear") for a, b in zip(logits.shape[1:], size, strict=True))
    best = np.full(size, -np.inf, np.float32)
    classes = np.zeros(size, np.int32)
    for number, of_class in enumerate(logits.astype(np.float32)):  # all at once would be large
        values = rows @ of_class @ columns.T
        better = values > best
        classes[better], best[better] = number, values[better]
    return classes
