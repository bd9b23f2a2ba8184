"""Answers drawn on a copy of the picture: boxes with labels, classes and weights as tints."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.runtime.images import opened

if TYPE_CHECKING:
    from PIL.Image import Image

Colour = tuple[int, int, int]

TURN = 0.618034
"""Of the hue from one class to the next, the golden section: no two that follow are alike."""
TINT = 0.5
"""How much of an overlay is the class's colour."""
HOT = (255, 60, 0)
LEAST = 320
"""Pixels of the longer side: smaller pictures are drawn on larger, or no label could be read."""


def colour(number: int) -> Colour:
    """The colour of the number-th name that a picture holds, apart from those of its others."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + number * TURN) % 1.0, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def with_boxes(picture: Any, objects: Sequence[Mapping[str, Any]]) -> Image:
    """A copy in RGB with a frame around each object, its label and its score.

    objects: as object-detection answers, in pixels of the picture. A copy whose longer side is
    below LEAST is enlarged by a whole number.
    """
    from PIL import ImageDraw

    image, scale = _copy(picture)
    names = sorted({str(found["label"]) for found in objects})
    draw = ImageDraw.Draw(image)
    for found in sorted(objects, key=lambda o: float(o["score"])):
        box = found["box"]
        left, top, right, bottom = (scale * box[k] for k in ("xmin", "ymin", "xmax", "ymax"))
        shade = colour(names.index(str(found["label"])))
        draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=shade, width=2)
        words = f"{found['label']} {found['score']:.2f}"
        # Above the box, or inside of it where there is no room.
        place = draw.textbbox((left, top), words)
        height = place[3] - place[1] + 3
        at = (max(0, min(left, image.width - (place[2] - place[0]))), max(0, top - height))
        draw.rectangle(draw.textbbox(at, words), fill=shade)
        draw.text(at, words, fill=(0, 0, 0))
    return image


def with_classes(picture: Any, classes: Sequence[Mapping[str, Any]]) -> Image:
    """A copy in RGB with each class but the largest tinted, and a name for each tint.

    classes: as image-segmentation answers: label, and mask, uint8 [height, width] of the picture.
    """
    from PIL import Image, ImageDraw

    image, scale = _copy(picture)
    pixels = np.asarray(image).astype(np.float32)
    shares = [float((found["mask"] > 0).mean()) for found in classes]
    ground = int(np.argmax(shares)) if shares else -1
    shown = [found for i, found in enumerate(classes) if i != ground]
    for number, found in enumerate(shown):
        mask = np.kron(found["mask"] > 0, np.ones((scale, scale), bool))
        pixels[mask] = (1 - TINT) * pixels[mask] + TINT * np.array(colour(number))
    image = Image.fromarray(pixels.round().astype(np.uint8))
    draw, top = ImageDraw.Draw(image), 0
    for number, found in enumerate(shown):
        place = draw.textbbox((0, top), str(found["label"]))
        draw.rectangle(place, fill=colour(number))
        draw.text((0, top), str(found["label"]), fill=(0, 0, 0))
        top = int(place[3])
    return image


def with_heat(picture: Any, weights: NDArray[Any]) -> Image:
    """A copy in RGB, tinted where the weights [rows, columns] of its parts are large.

    The largest is HOT, the smallest leaves the picture as it is.
    """
    from PIL import Image

    image, _ = _copy(picture)
    shares = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-12)
    heat = Image.fromarray(np.rint(255 * shares).astype(np.uint8)).resize(image.size, 2)
    tint = TINT * np.asarray(heat, np.float32)[..., None] / 255
    pixels = np.asarray(image, np.float32) * (1 - tint) + np.array(HOT, np.float32) * tint
    return Image.fromarray(pixels.round().astype(np.uint8))


def _copy(picture: Any) -> tuple[Image, int]:
    image = opened(picture).convert("RGB")
    scale = max(1, -(-LEAST // max(image.size)))
    return image.resize((image.width * scale, image.height * scale), 0), scale
