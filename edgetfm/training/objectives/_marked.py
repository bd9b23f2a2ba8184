"""What detection and segmentation have in common: pictures with marks, mirrored in training."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.training.config import TrainConfig
from edgetfm.training.data.images import MEAN, STD, pixel_values
from edgetfm.training.data.marked import Marked, MarkedPictures, load_marked
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._objective import DataFacts, Rows

SAMPLES = 64
"""The most validation pictures in sample.npz, for calibration; test pictures are never there."""
EXAMPLES = 5


class MarkedObjective:
    """Pictures of one size; `processor` is the class that transformers knows them by."""

    processor = ""

    def __init__(self, config: TrainConfig) -> None:
        size = config.model.get("image_size")
        pair = tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None
        self.flip = config.flip
        self.pictures: MarkedPictures = load_marked(
            config.dataset, pair, config.seed, config.shares
        )
        pictures = self.pictures
        self.data = DataFacts.of(pictures.name, pictures.fingerprint, pictures.parts)

    def chosen(self, part: Part, rows: Rows, random: np.random.Generator | None) -> list[Marked]:
        """These rows of a part, in training mirrored at random."""
        found = [self.pictures.parts[part][row] for row in rows]
        return found if random is None else [mirrored(m, self.flip, random) for m in found]

    def lengths(self, part: Part) -> None:
        """All pictures are of one size."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """How pictures are made ready, validation pictures to calibrate on, a few to try."""
        sample = io.BytesIO()
        pixels: dict[str, Any] = {inputs[0]: pixels_of(self.pictures.parts["validation"][:SAMPLES])}
        np.savez(sample, **pixels)
        height, width = self.pictures.size
        made = {
            "image_processor_type": self.processor,
            "do_resize": True,
            "size": {"height": height, "width": width},
            "resample": 2,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [MEAN] * 3,
            "image_std": [STD] * 3,
            "do_pad": False,
        }
        return {
            "preprocessor_config.json": (json.dumps(made, indent=2) + "\n").encode(),
            "sample.npz": sample.getvalue(),
            **_examples(self.pictures.parts["test"][:EXAMPLES]),
        }


def pixels_of(marked: Sequence[Marked]) -> NDArray[np.float32]:
    """What a model takes, [count, 3, height, width]."""
    return pixel_values(np.stack([m.picture for m in marked]))


def mirrored(marked: Marked, flip: str, random: np.random.Generator) -> Marked:
    """The picture and its marks as seen in a mirror, or not: with `both`, on its head too."""
    sides = {"": (), "across": (1,), "both": (1, 0)}[flip]
    for axis in sides:
        if random.random() < 0.5:
            boxes = marked.boxes.copy()
            boxes[:, 1 - axis] = 1 - boxes[:, 1 - axis]
            classes = None if marked.classes is None else np.flip(marked.classes, axis)
            marked = Marked(np.flip(marked.picture, axis), marked.labels, boxes, classes)
    return marked


def _examples(marked: Sequence[Marked]) -> dict[str, bytes]:
    """Test pictures to try the model on; none without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    pictures = {}
    for number, one in enumerate(marked):
        buffer = io.BytesIO()
        Image.fromarray(one.picture).save(buffer, "PNG")
        pictures[f"examples/{number}.png"] = buffer.getvalue()
    return pictures
