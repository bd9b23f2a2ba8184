"""depth-estimation: how far every pixel of each picture is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.runtime.maps import resized
from edgetfm.runtime.tasks._pictures import run_pictures
from edgetfm.runtime.tasks._texts import Asked
from edgetfm.signature import Array


def estimate_depth(
    asked: Asked, images: Sequence[Any], *, batch_size: int = 1
) -> list[dict[str, Array]]:
    """For each picture its depth at every pixel, [height, width] of the picture.

    {"predicted_depth": float32 in the model's unit, "depth": uint8 from 0 to 255, a picture}.
    """
    answers: list[dict[str, Array]] = []
    for size, outputs in run_pictures(asked, images, batch_size=batch_size):
        depth = resized(outputs["predicted_depth"], size, "bicubic")
        answers.append({"predicted_depth": depth, "depth": _shades(depth)})
    return answers


def _shades(depth: Array) -> Array:
    span = float(depth.max() - depth.min())
    share = (depth - depth.min()) / span if span else np.zeros_like(depth)
    return np.asarray((share * 255).astype(np.uint8))
